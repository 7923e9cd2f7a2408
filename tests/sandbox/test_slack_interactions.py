"""Everything that people do in the local Slack reaches a real slack_bolt app, both ways, and its answers take effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook.async_client import AsyncWebhookClient

from sandbox.slack import LocalSlack, delivery
from sandbox.slack.delivery import NOT_CONNECTED, NOT_IN_TIME
from tests.sandbox.slack_echo import (
    REASON,
    Clock,
    Echo,
    actions,
    button,
    echo,
    entry,
    modal,
    option,
    plain,
    section,
    select,
)

C = "C0SECURITY"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def slack(clock: Clock) -> AsyncIterator[LocalSlack]:
    local = LocalSlack(now=clock)
    await local.start()
    yield local
    await local.stop()


@pytest.fixture(params=["socket", "http"])
async def bot(slack: LocalSlack, request: pytest.FixtureRequest) -> AsyncIterator[Echo]:
    async with echo(slack, request.param) as running:
        yield running


async def post(bot: Echo, *blocks: dict, **more: str) -> str:
    return str((await bot.client.chat_postMessage(channel=C, text="card", blocks=list(blocks), **more))["ts"])


# ---- clicks in messages ----------------------------------------------------------------------------------------------


async def test_a_click_looks_as_slacks_does(slack: LocalSlack, bot: Echo) -> None:
    ts = await post(bot, section(block_id="s"), actions(button(value="case:1")))
    ack = await slack.click("U0GUS", ts, "go")
    assert ack.ok
    assert ack.seconds < 1
    body = bot.last
    assert body["type"] == "block_actions"
    assert body["user"] == {"id": "U0GUS", "username": "gus", "name": "gus", "team_id": "T0REFINE"}
    assert body["team"] == {"id": "T0REFINE", "domain": "acme"}
    assert (body["api_app_id"], bool(body["token"])) == ("A0REFINE", True)
    assert body["container"] == {"type": "message", "message_ts": ts, "channel_id": C, "is_ephemeral": False}
    assert body["channel"] == {"id": C, "name": "cloud-security"}
    assert body["message"]["ts"] == ts
    assert body["message"]["blocks"][1]["block_id"] == "do"
    assert body["state"] == {"values": {}}
    assert body["response_url"].startswith(slack.url + "/respond/")
    (action,) = body["actions"]
    assert action.pop("action_ts")
    assert action == {
        "type": "button",
        "action_id": "go",
        "block_id": "do",
        "value": "case:1",
        "text": plain("Go"),
    }


async def test_a_stranger_comes_with_their_own_team(slack: LocalSlack, bot: Echo) -> None:
    await slack.click("U0STAN", await post(bot, actions(button())), "go")
    assert bot.last["user"]["team_id"] == "T0OTHER"
    assert bot.last["team"]["id"] == "T0REFINE"


async def test_a_click_in_a_thread_names_the_thread(slack: LocalSlack, bot: Echo) -> None:
    root = await post(bot, section())
    ts = await post(bot, actions(button()), thread_ts=root)
    await slack.click("U0ANN", ts, "go")
    assert bot.last["container"]["thread_ts"] == root
    assert bot.last["message"]["thread_ts"] == root


async def test_a_selection_comes_with_the_option_and_the_state(slack: LocalSlack, bot: Echo) -> None:
    overflow = {"type": "overflow", "action_id": "more", "options": [option("one")]}
    checks = {"type": "checkboxes", "action_id": "check", "options": [option("one"), option("two")]}
    ts = await post(bot, section(block_id="s", accessory=select()), actions(overflow, checks))
    await slack.click("U0ANN", ts, "pick", selected="two")
    assert bot.last["actions"][0]["selected_option"] == option("two")
    assert bot.last["state"]["values"]["s"]["pick"]["selected_option"] == option("two")
    assert bot.last["state"]["values"]["do"]["check"]["selected_options"] == []
    await slack.click("U0ANN", ts, "more", selected="one")
    assert bot.last["actions"][0]["selected_option"] == option("one")
    assert bot.last["state"]["values"]["s"]["pick"]["selected_option"] == option("two")
    await slack.click("U0ANN", ts, "check", selected=["one", "two"])
    assert [each["value"] for each in bot.last["actions"][0]["selected_options"]] == ["one", "two"]
    with pytest.raises(LookupError):
        await slack.click("U0ANN", ts, "pick", selected="three")


async def test_what_is_not_there_cannot_be_clicked(slack: LocalSlack, bot: Echo) -> None:
    ts = await post(bot, actions(button()), actions(button(value="2"), block_id="again"))
    for attempt in (
        slack.click("U0ANN", ts, "nothing"),
        slack.click("U0ANN", "1.000001", "go"),
        slack.click("U0ANN", ts, "go"),
        slack.submit("U0ANN"),
        slack.click_view("U0ANN", "go"),
    ):
        with pytest.raises(LookupError):
            await attempt
    assert bot.seen == []
    await slack.click("U0ANN", ts, "go", value="2")
    assert bot.last["actions"][0]["block_id"] == "again"


async def test_an_ephemeral_message_has_buttons_for_its_reader_alone(slack: LocalSlack, bot: Echo) -> None:
    await bot.client.chat_postEphemeral(channel=C, user="U0ANN", text="x", blocks=[actions(button())])
    (ephemeral,) = slack.ephemerals("U0ANN")
    with pytest.raises(LookupError):
        await slack.click("U0BEN", ephemeral["ts"], "go")
    assert (await slack.click("U0ANN", ephemeral["ts"], "go")).ok
    assert bot.last["container"]["is_ephemeral"] is True
    assert "message" not in bot.last
    respond = AsyncWebhookClient(bot.last["response_url"])
    assert (await respond.send(text="replaced", replace_original=True)).status_code == 200
    assert [each["text"] for each in slack.ephemerals("U0ANN")] == ["replaced"]
    assert (await respond.send(delete_original=True)).status_code == 200
    assert slack.ephemerals("U0ANN") == []


# ---- commands and shortcuts ------------------------------------------------------------------------------------------


async def test_a_command_is_delivered_and_answered_to_its_sender(slack: LocalSlack, bot: Echo) -> None:
    bot.answers["/refine"] = {
        "text": "Did you mean ApplicationRole?",
        "blocks": [section("or this"), actions(button())],
    }
    assert (await slack.command("U0RITA", "AplicationRole & <x> = ü")).ok
    body = bot.last
    assert (body["command"], body["text"]) == ("/refine", "AplicationRole & <x> = ü")
    assert (body["user_id"], body["user_name"], body["channel_id"], body["channel_name"], body["team_id"]) == (
        "U0RITA",
        "rita",
        "C0GENERAL",
        "general",
        "T0REFINE",
    )
    (shown,) = slack.ephemerals("U0RITA")
    assert (shown["channel"], shown["blocks"][0]["text"]["text"]) == ("C0GENERAL", "or this")
    assert (await slack.click("U0RITA", shown["ts"], "go", channel="C0GENERAL")).ok


async def test_a_command_may_be_answered_in_the_channel(slack: LocalSlack, bot: Echo) -> None:
    bot.answers["/refine"] = {"text": "for all", "response_type": "in_channel"}
    await slack.command("U0RITA", "status")
    assert [each["text"] for each in slack.messages("C0GENERAL")] == ["for all"]


async def test_a_useless_answer_is_not_ok(slack: LocalSlack, bot: Echo) -> None:
    bot.answers["/refine"] = {"text": "x", "blocks": [{"type": "nope"}]}
    ack = await slack.command("U0RITA", "status")
    assert not ack.ok
    assert "invalid_blocks" in ack.error
    assert slack.ephemerals("U0RITA") == []


async def test_shortcuts_open_modals(slack: LocalSlack, bot: Echo) -> None:
    bot.answers["refine_role"] = bot.opens(modal(REASON))
    assert (await slack.shortcut("U0RITA", "refine_role")).ok
    assert (bot.last["type"], bot.last["callback_id"]) == ("shortcut", "refine_role")
    assert slack.view("U0RITA")["callback_id"] == "m"
    ts = slack.say("U0RITA", "look at arn:aws:iam::1:role/x")["ts"]
    assert (await slack.message_shortcut("U0RITA", "refine_message", ts)).ok
    assert bot.last["type"] == "message_action"
    assert bot.last["message"]["text"] == "look at arn:aws:iam::1:role/x"
    assert (bot.last["channel"]["id"], bot.last["message_ts"]) == (C, ts)


# ---- modals ----------------------------------------------------------------------------------------------------------


async def opened(slack: LocalSlack, bot: Echo, view: dict, user: str = "U0ANN") -> None:
    bot.answers["/refine"] = bot.opens(view)
    assert (await slack.command(user, "")).ok
    assert slack.view(user) is not None


async def test_a_submission_carries_every_value(slack: LocalSlack, bot: Echo) -> None:
    multi = select(kind="multi_static_select")
    radio = select(kind="radio_buttons", initial_option=option("one"))
    who = {"type": "users_select", "action_id": "pick"}
    view = modal(
        REASON,
        entry("days", select()),
        entry("actions", multi),
        entry("mode", radio),
        entry("who", who, optional=True),
        private_metadata="case:1",
    )
    await opened(slack, bot, view)
    values = {("reason", "text"): "because", ("days", "pick"): "two", ("actions", "pick"): ["one", "two"]}
    assert (await slack.submit("U0ANN", values)).ok
    body = bot.last
    assert (body["type"], body["user"]["id"]) == ("view_submission", "U0ANN")
    assert (body["view"]["private_metadata"], body["view"]["callback_id"]) == ("case:1", "m")
    assert body["view"]["state"]["values"] == {
        "reason": {"text": {"type": "plain_text_input", "value": "because"}},
        "days": {"pick": {"type": "static_select", "selected_option": option("two")}},
        "actions": {"pick": {"type": "multi_static_select", "selected_options": [option("one"), option("two")]}},
        "mode": {"pick": {"type": "radio_buttons", "selected_option": option("one")}},
        "who": {"pick": {"type": "users_select", "selected_user": None}},
    }
    assert slack.view("U0ANN") is None


async def test_the_client_keeps_an_incomplete_form_to_itself(slack: LocalSlack, bot: Echo) -> None:
    short = entry("short", {"type": "plain_text_input", "action_id": "text", "max_length": 3}, optional=True)
    await opened(slack, bot, modal(REASON, short))
    heard = len(bot.seen)
    ack = await slack.submit("U0ANN", {("short", "text"): "four"})
    assert not ack.ok
    assert set(ack.body["errors"]) == {"reason", "short"}
    assert len(bot.seen) == heard
    assert slack.view("U0ANN") is not None


async def test_errors_keep_the_modal_open(slack: LocalSlack, bot: Echo) -> None:
    await opened(slack, bot, modal(REASON))
    bot.answers["m"] = {"response_action": "errors", "errors": {"reason": "Say more."}}
    ack = await slack.submit("U0ANN", {("reason", "text"): "x"})
    assert ack.ok
    assert ack.body["errors"] == {"reason": "Say more."}
    assert slack.view("U0ANN")["state"]["values"]["reason"]["text"]["value"] == "x"
    bot.answers["m"] = {"response_action": "errors", "errors": {"no such block": "x"}}
    assert not (await slack.submit("U0ANN")).ok


async def test_an_answer_may_update_push_and_clear(slack: LocalSlack, bot: Echo) -> None:
    await opened(slack, bot, modal(REASON))
    bot.answers["m"] = {"response_action": "update", "view": modal(REASON, section("sure?"), callback_id="m2")}
    assert (await slack.submit("U0ANN", {("reason", "text"): "x"})).ok
    assert slack.view("U0ANN")["callback_id"] == "m2"
    bot.answers["m2"] = {"response_action": "push", "view": modal(REASON, callback_id="m3")}
    assert (await slack.submit("U0ANN")).ok
    assert [each["callback_id"] for each in slack.workspace.stacks["U0ANN"]] == ["m2", "m3"]
    bot.answers["m3"] = {"response_action": "update", "view": {"type": "modal"}}
    assert not (await slack.submit("U0ANN", {("reason", "text"): "x"})).ok
    bot.answers["m3"] = {"response_action": "clear"}
    assert (await slack.submit("U0ANN")).ok
    assert slack.view("U0ANN") is None


async def test_closing_is_told_only_where_asked_for(slack: LocalSlack, bot: Echo) -> None:
    await opened(slack, bot, modal(REASON))
    heard = len(bot.seen)
    await slack.close("U0ANN")
    assert slack.view("U0ANN") is None
    assert len(bot.seen) == heard
    await opened(slack, bot, modal(REASON, notify_on_close=True))
    assert (await slack.close("U0ANN")).ok
    assert (bot.last["type"], bot.last["is_cleared"]) == ("view_closed", False)
    assert bot.last["view"]["callback_id"] == "m"


async def test_a_click_in_a_modal_carries_what_was_typed_and_may_push(slack: LocalSlack, bot: Echo) -> None:
    await opened(slack, bot, modal(REASON, actions(button("modal:page", "2"))))
    bot.answers["modal:page"] = bot.opens(modal(section(), callback_id="pushed"), "views_push")
    assert (await slack.click_view("U0ANN", "modal:page", values={("reason", "text"): "half a"})).ok
    body = bot.last
    assert body["container"] == {"type": "view", "view_id": body["view"]["id"]}
    assert body["view"]["state"]["values"]["reason"]["text"]["value"] == "half a"
    assert "message" not in body
    assert "response_url" not in body
    assert slack.view("U0ANN")["callback_id"] == "pushed"
    assert slack.view("U0ANN")["previous_view_id"] == body["view"]["id"]


async def test_suggestions_fill_an_external_select(slack: LocalSlack, bot: Echo) -> None:
    external = {"type": "external_select", "action_id": "pick", "min_query_length": 0}
    await opened(slack, bot, modal(entry("role", external), callback_id="ask"))
    with pytest.raises(LookupError):
        await slack.submit("U0ANN", {("role", "pick"): "one"})
    bot.answers["pick"] = {"options": [option("one")]}
    assert await slack.suggest("U0ANN", "pick", "on") == [option("one")]
    body = bot.last
    assert (body["type"], body["action_id"], body["block_id"], body["value"]) == (
        "block_suggestion",
        "pick",
        "role",
        "on",
    )
    assert (await slack.submit("U0ANN", {("role", "pick"): "one"})).ok
    assert bot.last["view"]["state"]["values"]["role"]["pick"]["selected_option"] == option("one")


async def test_too_many_suggestions_are_refused(slack: LocalSlack, bot: Echo) -> None:
    await opened(slack, bot, modal(entry("role", {"type": "external_select", "action_id": "pick"})))
    bot.answers["pick"] = {"options": [option(str(number)) for number in range(101)]}
    with pytest.raises(RuntimeError, match="invalid_options"):
        await slack.suggest("U0ANN", "pick", "x")


# ---- home ------------------------------------------------------------------------------------------------------------


async def test_opening_the_home_tab_is_an_event_and_its_buttons_work(slack: LocalSlack, bot: Echo) -> None:
    assert (await slack.open_home("U0RITA")).ok
    body = bot.last
    assert (body["type"], body["event"]["type"], body["event"]["user"], body["event"]["tab"]) == (
        "event_callback",
        "app_home_opened",
        "U0RITA",
        "home",
    )
    assert "view" not in body["event"]
    home = {"type": "home", "callback_id": "h", "blocks": [actions(button("home:page", "2"), select("home:filter"))]}
    await bot.client.views_publish(user_id="U0RITA", view=home)
    assert (await slack.click_view("U0RITA", "home:page")).ok
    assert (bot.last["container"]["type"], bot.last["view"]["type"]) == ("view", "home")
    assert (await slack.click_view("U0RITA", "home:filter", selected="two")).ok
    assert bot.last["view"]["state"]["values"]["do"]["home:filter"]["selected_option"] == option("two")
    await slack.open_home("U0RITA")
    assert bot.last["event"]["view"]["callback_id"] == "h"


async def test_an_event_that_is_not_acknowledged_comes_again(
    slack: LocalSlack, bot: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "ACK_SECONDS", 0.2)
    slack.delivery.retry_seconds = (0.0, 0.0, 0.3)
    bot.deaf = True
    assert not (await slack.open_home("U0ANN")).ok
    await slack.until(lambda: len(bot.seen) == 3)
    bot.deaf = False
    await slack.until(lambda: len(bot.seen) == 4)
    await slack.until(lambda: not slack.delivery.tasks)
    assert len({each["event_id"] for each in bot.seen}) == 1
    numbers = [int(each.get("x-slack-retry-num", ["0"])[0]) for each in bot.headers]
    assert numbers == [0, 1, 2, 3]


# ---- three seconds ---------------------------------------------------------------------------------------------------


async def test_a_click_that_is_not_acknowledged_fails_for_the_clicker(
    slack: LocalSlack, bot: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "ACK_SECONDS", 0.3)
    ts = await post(bot, actions(button()))
    bot.silent.add("go")
    ack = await slack.click("U0ANN", ts, "go")
    assert (ack.ok, ack.error) == (False, NOT_IN_TIME)
    assert 0.3 <= ack.seconds < 1


async def test_nobody_at_the_other_end(slack: LocalSlack) -> None:
    assert (await slack.command("U0ANN", "x")).error == NOT_CONNECTED
    slack.deliver_to("http://127.0.0.1:9/slack/events")
    assert (await slack.command("U0ANN", "x")).error == NOT_CONNECTED


async def test_a_request_with_a_wrong_signature_is_refused_by_bolt(slack: LocalSlack) -> None:
    async with echo(slack, "http") as bot:
        assert (await slack.command("U0ANN", "x")).ok
        slack.delivery.signing_secret = "another"
        ack = await slack.command("U0ANN", "x")
        assert not ack.ok
        assert "401" in ack.error
        assert len(bot.seen) == 1


# ---- response_url ----------------------------------------------------------------------------------------------------


async def test_a_response_url_answers_its_person(slack: LocalSlack, bot: Echo) -> None:
    ts = await post(bot, actions(button()))
    await slack.click("U0ANN", ts, "go")
    respond = AsyncWebhookClient(bot.last["response_url"])
    assert (await respond.send(text="for you")).body == "ok"
    assert [each["text"] for each in slack.ephemerals("U0ANN")] == ["for you"]
    assert (await respond.send(text="for all", response_type="in_channel")).status_code == 200
    assert [each["text"] for each in slack.messages()] == ["card", "for all"]
    assert (await respond.send(text="new card", replace_original=True, blocks=[section("new")])).status_code == 200
    assert slack.messages()[0]["blocks"][0]["text"]["text"] == "new"
    assert (await respond.send(text="x", blocks=[{"type": "nope"}])).status_code == 400
    assert (await respond.send(delete_original=True)).status_code == 200
    assert [each["text"] for each in slack.messages()] == ["for all"]


async def test_a_response_url_works_five_times_within_half_an_hour(slack: LocalSlack, bot: Echo, clock: Clock) -> None:
    await slack.command("U0ANN", "x")
    respond = AsyncWebhookClient(bot.last["response_url"])
    for number in range(5):
        assert (await respond.send(text=str(number))).status_code == 200
    used = await respond.send(text="6")
    assert (used.status_code, "used_url" in used.body) == (404, True)
    await slack.command("U0ANN", "x")
    clock.now += 30 * 60 + 1
    expired = await AsyncWebhookClient(bot.last["response_url"]).send(text="late")
    assert (expired.status_code, "expired_url" in expired.body) == (404, True)
    assert len(slack.ephemerals("U0ANN")) == 5


async def test_a_trigger_of_a_click_expires(slack: LocalSlack, bot: Echo, clock: Clock) -> None:
    await slack.command("U0ANN", "x")
    clock.now += 3.1
    with pytest.raises(SlackApiError, match="expired_trigger_id"):
        await bot.client.views_open(trigger_id=bot.last["trigger_id"], view=modal(REASON))


# ---- waiting ---------------------------------------------------------------------------------------------------------


async def test_until_returns_as_soon_as_it_is_so(slack: LocalSlack) -> None:
    async def later() -> None:
        await asyncio.sleep(0.05)
        slack.say("U0ANN", "hello")

    task = asyncio.create_task(later())
    start = asyncio.get_running_loop().time()
    (found,) = await slack.until(slack.messages)
    assert asyncio.get_running_loop().time() - start < 0.2
    assert found["text"] == "hello"
    await task
    with pytest.raises(TimeoutError, match="hello"):
        await slack.until(lambda: False, timeout=0.05)
