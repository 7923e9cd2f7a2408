"""What the page of the local Slack asks for over HTTP: state, changes, acts, faults; and how safely it is served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from sandbox.slack import LocalSlack, control
from tests.sandbox.slack_echo import REASON, Echo, actions, button, client, echo, entry, modal, option, section, select

C = "C0SECURITY"
Json = dict[str, Any]
Do = Callable[..., Awaitable[Json]]


@pytest.fixture
async def slack() -> AsyncIterator[LocalSlack]:
    local = LocalSlack()
    await local.start()
    yield local
    await local.stop()


@pytest.fixture
async def bot(slack: LocalSlack) -> AsyncIterator[Echo]:
    async with echo(slack) as running:
        yield running


@pytest.fixture
async def http(slack: LocalSlack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(slack.url) as session:
        yield session


@pytest.fixture
def do(http: aiohttp.ClientSession) -> Do:
    async def act(name: str, **more: Any) -> Json:
        async with http.post("/_sandbox/act", json={"do": name, "user": "U0ANN", **more}) as answer:
            return dict(await answer.json())

    return act


async def picture(http: aiohttp.ClientSession, user: str = "U0ANN") -> Json:
    async with http.get("/_sandbox/state", params={"user": user}) as answer:
        return dict(await answer.json())


async def test_the_state_is_what_this_person_sees(slack: LocalSlack, http: aiohttp.ClientSession) -> None:
    web = client(slack)
    root = (await web.chat_postMessage(channel=C, text="card", blocks=[section()]))["ts"]
    await web.files_upload_v2(content="{}", filename="a.json", channel=C, thread_ts=root)
    await web.chat_postMessage(channel=C, text="loud", thread_ts=root, reply_broadcast=True)
    await web.chat_postEphemeral(channel=C, user="U0ANN", text="only Ann")
    await web.chat_postMessage(channel="U0ANN", text="psst")
    state = await picture(http)
    assert state["team"] == {"id": "T0REFINE", "name": "Acme"}
    kinds = {each["id"]: each["kind"] for each in state["users"]}
    assert kinds == {
        "U0ANN": "approver",
        "U0BEN": "approver",
        "U0RITA": "requester",
        "U0GUS": "guest",
        "U0STAN": "stranger",
        "U0DORA": "deactivated",
        "U0ROBO": "bot",
        "U0REFINE": "bot",
    }
    assert [each["id"] for each in state["channels"]] == [C, "C0GENERAL", "D0ANN"]
    card, upload, loud = state["messages"][C]
    assert (card["reply_count"], card["broadcast"], upload["thread_ts"], loud["broadcast"]) == (2, False, root, True)
    (file_id,) = upload["files"]
    file = state["files"][file_id]
    assert (file["name"], file["mimetype"], file["size"]) == ("a.json", "application/json", 2)
    async with http.get(file["url"]) as answer:
        assert await answer.text() == "{}"
    assert [each["text"] for each in state["ephemerals"]] == ["only Ann"]
    assert (state["views"], state["home"]) == ([], None)
    others = await picture(http, "U0BEN")
    assert others["ephemerals"] == []
    assert "D0ANN" not in others["messages"]


async def test_changes_are_streamed(slack: LocalSlack, http: aiohttp.ClientSession) -> None:
    async with http.get("/_sandbox/events") as stream:
        assert stream.content_type == "text/event-stream"

        async def told() -> int:
            while True:
                line = (await asyncio.wait_for(stream.content.readline(), 5)).decode()
                if line.startswith("data: "):
                    return int(json.loads(line.removeprefix("data: "))["seq"])

        first = await told()
        slack.say("U0ANN", "one")
        slack.say("U0ANN", "two")
        while (seq := await told()) < slack.workspace.seq:
            pass
        assert seq == first + 2
        assert (await picture(http))["seq"] == seq


async def test_acts_on_messages(slack: LocalSlack, bot: Echo, do: Do) -> None:
    ts = (await bot.client.chat_postMessage(channel=C, text="card", blocks=[actions(button(), select())]))["ts"]
    where = {"channel": C, "ts": ts, "block_id": "do"}
    assert (await do("click", **where, action_id="go", element=button()))["ok"]
    assert bot.last["actions"][0]["value"] == "1:1"
    assert (await do("click", **where, action_id="pick", element=select(), selected=option("two")))["ok"]
    assert bot.last["actions"][0]["selected_option"] == option("two")
    assert (await do("message", channel=C, text="hello", thread_ts=ts))["ok"]
    assert [each["text"] for each in slack.thread(ts)] == ["hello"]
    assert (await do("command", channel=C, text="ApplicationRole"))["ok"]
    assert (bot.last["text"], bot.last["channel_id"]) == ("ApplicationRole", C)
    assert (await do("message_shortcut", channel=C, ts=ts, callback_id="refine_message"))["ok"]
    assert bot.last["type"] == "message_action"
    await bot.client.chat_postEphemeral(channel=C, user="U0ANN", text="x", blocks=[actions(button())])
    (ephemeral,) = slack.ephemerals("U0ANN")
    assert (await do("click_ephemeral", id=ephemeral["id"], block_id="do", action_id="go"))["ok"]
    assert not (await do("click_ephemeral", user="U0BEN", id=ephemeral["id"], action_id="go"))["ok"]
    assert (await do("dismiss", id=ephemeral["id"]))["ok"]
    assert slack.ephemerals("U0ANN") == []


async def test_acts_on_views(slack: LocalSlack, bot: Echo, http: aiohttp.ClientSession, do: Do) -> None:
    external = entry("role", {"type": "external_select", "action_id": "pick"}, optional=True)
    bot.answers["refine_role"] = bot.opens(modal(REASON, external, actions(button("modal:page"))))
    bot.answers["pick"] = {"options": [option("one")]}
    assert (await do("shortcut", callback_id="refine_role"))["ok"]
    (view,) = (await picture(http))["views"]
    typed = {"reason": {"text": {"type": "plain_text_input", "value": "half"}}}
    clicked = await do("click_view", view_id=view["id"], block_id="do", action_id="modal:page", values=typed)
    assert clicked["ok"]
    assert bot.last["view"]["state"]["values"]["reason"]["text"]["value"] == "half"
    offered = await do("suggest", view_id=view["id"], block_id="role", action_id="pick", text="o")
    assert offered["options"] == [option("one")]
    empty = {"reason": {"text": {"type": "plain_text_input", "value": ""}}}
    refused = await do("submit", view_id=view["id"], values=empty)
    assert (refused["ok"], list(refused["ack"]["errors"])) == (False, ["reason"])
    bot.answers["m"] = {"response_action": "errors", "errors": {"reason": "Say more."}}
    chosen = {"role": {"pick": {"type": "external_select", "selected_option": option("one")}}}
    answered = await do("submit", view_id=view["id"], values={**typed, **chosen})
    assert (answered["ok"], answered["ack"]["errors"]) == (True, {"reason": "Say more."})
    assert bot.last["view"]["state"]["values"]["role"]["pick"]["selected_option"] == option("one")
    assert (await do("close", view_id=view["id"]))["ok"]
    assert (await picture(http))["views"] == []
    assert (await do("open_home"))["ok"]
    assert bot.last["event"]["type"] == "app_home_opened"
    home = {"type": "home", "blocks": [actions(button(), {"type": "external_select", "action_id": "pick"})]}
    await bot.client.views_publish(user_id="U0ANN", view=home)
    assert (await do("suggest", block_id="do", action_id="pick", text="o"))["options"] == [option("one")]
    assert (await do("click_home", block_id="do", action_id="go"))["ok"]
    assert bot.last["view"]["type"] == "home"


@pytest.mark.parametrize(
    "act",
    [
        {"do": "dance"},
        {"do": "click", "channel": C, "ts": "1.0", "action_id": "go"},
        {"do": "click", "channel": C},
        {"do": "click_home", "action_id": "go"},
        {"do": "click_view", "view_id": "V0", "action_id": "go"},
        {"do": "command", "channel": "C0NO", "text": "x"},
        {"do": "message", "channel": C, "text": " "},
        {"do": "open_home", "user": "U0NOBODY"},
    ],
)
async def test_an_act_that_cannot_be_is_an_error_to_show(do: Do, act: Json) -> None:
    answer = await do(act["do"], **{key: value for key, value in act.items() if key != "do"})
    assert answer["ok"] is False
    assert answer["error"]


async def test_without_a_bot_the_clicker_is_told(do: Do) -> None:
    answer = await do("command", channel=C, text="x")
    assert (answer["ok"], answer["error"]) == (False, "Refine is not connected")


async def test_faults_are_set_and_cleared_over_http(slack: LocalSlack, http: aiohttp.ClientSession) -> None:
    rules = [{"method": "chat.postMessage", "kind": "429", "times": 1, "retry_after": 3}]
    async with http.post("/_sandbox/faults", json=rules) as answer:
        assert (await answer.json())["ok"]
    assert slack.faults.rules[0].retry_after == 3
    async with http.post("/_sandbox/faults", json=[{"method": "*", "kind": "meteor"}]) as answer:
        assert not (await answer.json())["ok"]
    async with http.delete("/_sandbox/faults") as answer:
        assert (await answer.json())["ok"]
    assert slack.faults.rules == []
    async with echo(slack):
        (old,) = slack.sockets.connections
        async with http.post("/_sandbox/faults", json=[{"kind": "disconnect", "reason": "warning"}]) as answer:
            assert (await answer.json())["ok"]
        await slack.until(lambda: slack.sockets.connections and old not in slack.sockets.connections)


async def test_the_page_is_served_with_a_strict_policy(
    slack: LocalSlack, http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html>")
    (page / "main.js").write_text("1")
    (page / "look.css").write_text("a{}")
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setattr(control, "PAGE", page)
    types = {"/": "text/html", "/page/main.js": "text/javascript", "/page/look.css": "text/css"}
    for path, content_type in types.items():
        async with http.get(path) as answer:
            assert (answer.status, answer.content_type) == (200, content_type)
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/page/none.js", "/page/..%2fsecret", "/page/%2e%2e/secret"):
        async with http.get(URL(slack.url + path, encoded=True)) as answer:
            assert answer.status == 404


async def test_another_sites_page_cannot_act(slack: LocalSlack, http: aiohttp.ClientSession) -> None:
    act = json.dumps({"do": "message", "user": "U0ANN", "channel": C, "text": "x"})
    async with http.post("/_sandbox/act", data=act, headers={"Content-Type": "text/plain"}) as answer:
        assert answer.status == 415
    assert slack.messages() == []
