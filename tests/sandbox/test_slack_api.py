"""The Web API of the local Slack, called by the real slack_sdk: effects, and refusals by Slack's names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from sandbox.slack import LocalSlack
from sandbox.slack.seeds import BOT_USER, MORE_SCOPES, SCOPES
from tests.sandbox.slack_echo import REASON, Clock, actions, button, client, entry, modal, plain, section, select

C = "C0SECURITY"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def slack(clock: Clock) -> AsyncIterator[LocalSlack]:
    local = LocalSlack(now=clock, scopes=SCOPES | MORE_SCOPES)
    await local.start()
    yield local
    await local.stop()


@pytest.fixture
def web(slack: LocalSlack) -> AsyncWebClient:
    return client(slack)


async def refusal(call: Any) -> str:
    """Return the name of Slack's error."""
    with pytest.raises(SlackApiError) as caught:
        await call
    assert caught.value.response["ok"] is False
    return str(caught.value.response["error"])


# ---- tokens ----------------------------------------------------------------------------------------------------------


async def test_auth_test_says_who_the_bot_is_and_what_it_may(web: AsyncWebClient) -> None:
    said = await web.auth_test()
    assert (said["team_id"], said["user_id"], said["bot_id"]) == ("T0REFINE", "U0REFINE", "B0REFINE")
    assert set(said.headers["x-oauth-scopes"].split(",")) == SCOPES | MORE_SCOPES


async def test_tokens_are_checked(slack: LocalSlack) -> None:
    env = slack.bot_environment()
    assert await refusal(client(slack, "xoxb-other").auth_test()) == "invalid_auth"
    assert await refusal(AsyncWebClient(base_url=env["SLACK_API_URL"]).auth_test()) == "not_authed"
    assert await refusal(client(slack, env["SLACK_APP_TOKEN"]).auth_test()) == "not_allowed_token_type"
    assert await refusal(client(slack).apps_connections_open(app_token=env["SLACK_BOT_TOKEN"])) == (
        "not_allowed_token_type"
    )
    assert await refusal(client(slack).api_call("chat.sing")) == "unknown_method"


async def test_a_scope_that_is_missing_is_named() -> None:
    local = LocalSlack()
    await local.start()
    try:
        with pytest.raises(SlackApiError) as caught:
            await client(local).conversations_open(users=["U0ANN"])
    finally:
        await local.stop()
    answer = caught.value.response
    assert (answer["error"], answer["needed"]) == ("missing_scope", "im:write")
    assert set(answer["provided"].split(",")) == SCOPES
    assert answer.headers["x-accepted-oauth-scopes"] == "im:write"


async def test_arguments_are_merged_from_query_form_and_json(slack: LocalSlack) -> None:
    token = slack.bot_environment()["SLACK_BOT_TOKEN"]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        url = f"{slack.url}/api/chat.postMessage"
        for request in (
            session.post(url, params={"channel": C, "text": "query"}),
            session.post(url, data={"channel": C, "text": "form"}),
            session.post(url, params={"channel": C}, json={"text": "json"}),
            session.post(url, data={"channel": C, "text": "blocks", "blocks": '[{"type": "divider"}]'}),
        ):
            async with request as answer:
                assert (await answer.json())["ok"], await answer.text()
        async with session.post(url, data="{", headers={"Content-Type": "application/json"}) as answer:
            assert (await answer.json())["error"] == "invalid_json"
    assert [each["text"] for each in slack.messages()] == ["query", "form", "json", "blocks"]


# ---- messages --------------------------------------------------------------------------------------------------------


async def test_a_message_is_posted_updated_and_deleted(slack: LocalSlack, web: AsyncWebClient) -> None:
    posted = await web.chat_postMessage(channel=C, text="one", blocks=[section("one"), actions(button())])
    assert posted["message"]["blocks"][0]["block_id"]
    updated = await web.chat_update(channel=C, ts=posted["ts"], text="two", blocks=[section("two")])
    assert (updated["ts"], updated["text"]) == (posted["ts"], "two")
    (message,) = slack.messages()
    assert (message["user"], message["bot_id"], message["app_id"]) == (BOT_USER, "B0REFINE", "A0REFINE")
    assert message["blocks"][0]["text"]["text"] == "two"
    assert message["edited"]["user"] == BOT_USER
    await web.chat_delete(channel=C, ts=posted["ts"])
    assert slack.messages() == []


async def test_an_update_without_blocks_keeps_them_and_an_empty_list_takes_them_away(
    slack: LocalSlack, web: AsyncWebClient
) -> None:
    ts = (await web.chat_postMessage(channel=C, text="one", blocks=[section("kept")]))["ts"]
    await web.chat_update(channel=C, ts=ts, text="two")
    assert slack.messages()[0]["blocks"][0]["text"]["text"] == "kept"
    await web.chat_update(channel=C, ts=ts, text="three", blocks=[])
    assert "blocks" not in slack.messages()[0]


async def test_threads_are_counted_and_broadcast(slack: LocalSlack, web: AsyncWebClient) -> None:
    root = (await web.chat_postMessage(channel=C, text="card"))["ts"]
    first = await web.chat_postMessage(channel=C, text="first", thread_ts=root)
    slack.say("U0RITA", "what is this?", thread_ts=root)
    await web.chat_postMessage(channel=C, text="loud", thread_ts=root, reply_broadcast=True)
    (card,) = slack.messages()
    assert [each["text"] for each in card["replies"]] == ["first", "what is this?", "loud"]
    assert (card["reply_count"], card["reply_users"]) == (3, [BOT_USER, "U0RITA"])
    assert card["latest_reply"] == card["replies"][-1]["ts"]
    history = await web.conversations_history(channel=C)
    assert [each["text"] for each in history["messages"]] == ["loud", "card"]
    replies = await web.conversations_replies(channel=C, ts=root)
    assert [each["text"] for each in replies["messages"]] == ["card", "first", "what is this?", "loud"]
    await web.chat_delete(channel=C, ts=root)
    assert slack.messages()[0]["subtype"] == "tombstone"
    assert await refusal(web.chat_update(channel=C, ts=root, text="x")) == "message_not_found"
    assert await refusal(web.chat_postMessage(channel=C, text="x", thread_ts=first["ts"])) == "cannot_reply_to_message"
    assert await refusal(web.chat_postMessage(channel=C, text="x", thread_ts="1.000001")) == "cannot_reply_to_message"


async def test_channels_are_checked(slack: LocalSlack, web: AsyncWebClient) -> None:
    assert await refusal(web.chat_postMessage(channel="C0NOWHERE", text="x")) == "channel_not_found"
    assert (await web.chat_postMessage(channel="#general", text="x"))["channel"] == "C0GENERAL"
    slack.workspace.channels["C0GENERAL"]["members"].discard(BOT_USER)
    assert await refusal(web.chat_postMessage(channel="C0GENERAL", text="x")) == "not_in_channel"
    assert await refusal(web.conversations_history(channel="C0GENERAL")) == "not_in_channel"
    assert (await web.conversations_info(channel="C0GENERAL"))["channel"]["is_member"] is False
    assert (await web.conversations_info(channel=C))["channel"]["is_ext_shared"] is False


async def test_a_bot_edits_its_own_messages_only(slack: LocalSlack, web: AsyncWebClient) -> None:
    theirs = slack.say("U0RITA", "hello")["ts"]
    assert await refusal(web.chat_update(channel=C, ts=theirs, text="x")) == "cant_update_message"
    assert await refusal(web.chat_delete(channel=C, ts=theirs)) == "cant_delete_message"
    assert await refusal(web.chat_update(channel=C, ts="1.000001", text="x")) == "message_not_found"


async def test_bad_messages_are_refused_by_name_and_leave_nothing(slack: LocalSlack, web: AsyncWebClient) -> None:
    bad = {
        "no_text": {"text": " "},
        "invalid_blocks": {"text": "x", "blocks": [{"type": "nope"}]},
        "invalid_blocks_format": {"text": "x", "blocks": "[{"},
        "msg_blocks_too_long": {"text": "x", "blocks": [section("x" * 2900) for _ in range(5)]},
        "invalid_metadata_format": {"text": "x", "metadata": {"event_type": "card"}},
        "metadata_too_large": {"text": "x", "metadata": {"event_type": "card", "event_payload": {"a": "x" * 9000}}},
        "too_many_attachments": {"text": "x", "attachments": [{"color": "#d00000", "blocks": []}] * 101},
        "invalid_attachments": {"text": "x", "attachments": [{"color": "#d00000", "blocks": [{"type": "nope"}]}]},
    }
    for error, arguments in bad.items():
        assert await refusal(web.api_call("chat.postMessage", json={"channel": C, **arguments})) == error
    assert slack.messages() == []
    ts = (await web.chat_postMessage(channel=C, text="good"))["ts"]
    assert await refusal(web.chat_update(channel=C, ts=ts, text="x" * 4001)) == "msg_too_long"
    assert await refusal(web.chat_update(channel=C, ts=ts, text="x", blocks=[{"type": "nope"}])) == "invalid_blocks"
    assert (
        await refusal(web.chat_postEphemeral(channel=C, user="U0ANN", text="x", blocks=[{"type": "nope"}]))
        == "invalid_blocks"
    )
    assert slack.messages()[0]["text"] == "good"
    assert slack.ephemerals("U0ANN") == []


async def test_a_refusal_points_at_what_is_wrong(web: AsyncWebClient) -> None:
    with pytest.raises(SlackApiError) as caught:
        await web.chat_postMessage(channel=C, text="x", blocks=[section(), section("x" * 3001)])
    said = caught.value.response["response_metadata"]["messages"]
    assert said
    assert all("[json-pointer:/blocks/1]" in each for each in said)


async def test_metadata_comes_back_when_asked_for(slack: LocalSlack, web: AsyncWebClient) -> None:
    metadata = {"event_type": "refine", "event_payload": {"key": "card/1"}}
    ts = (await web.chat_postMessage(channel=C, text="x", metadata=metadata))["ts"]
    plainly = await web.conversations_history(channel=C)
    assert "metadata" not in plainly["messages"][0]
    whole = await web.conversations_history(channel=C, include_all_metadata=True)
    assert whole["messages"][0]["metadata"] == metadata
    await web.chat_update(channel=C, ts=ts, text="y")
    assert slack.messages()[0]["metadata"] == metadata
    await web.chat_update(channel=C, ts=ts, text="z", metadata={})
    assert "metadata" not in slack.messages()[0]


async def test_history_has_pages(web: AsyncWebClient) -> None:
    for number in range(5):
        await web.chat_postMessage(channel=C, text=str(number))
    texts: list[str] = []
    async for page in await web.conversations_history(channel=C, limit=2):
        texts += [each["text"] for each in page["messages"]]
    assert texts == ["4", "3", "2", "1", "0"]


async def test_an_ephemeral_message_is_for_one_person_in_the_channel(slack: LocalSlack, web: AsyncWebClient) -> None:
    await web.chat_postEphemeral(channel=C, user="U0RITA", text="only you", blocks=[section()])
    assert [each["text"] for each in slack.ephemerals("U0RITA")] == ["only you"]
    assert slack.ephemerals("U0ANN") == []
    assert slack.messages() == []
    slack.workspace.channels[C]["members"].discard("U0RITA")
    assert await refusal(web.chat_postEphemeral(channel=C, user="U0RITA", text="x")) == "user_not_in_channel"


async def test_an_ephemeral_reply_to_what_has_no_replies_is_shown_to_nobody(
    slack: LocalSlack, web: AsyncWebClient
) -> None:
    root = (await web.chat_postMessage(channel=C, text="card"))["ts"]
    await web.chat_postEphemeral(channel=C, user="U0RITA", text="lost", thread_ts=root)
    assert slack.ephemerals("U0RITA") == []
    assert [each["text"] for each in slack.workspace.unseen] == ["lost"]
    await web.chat_postMessage(channel=C, text="reply", thread_ts=root)
    await web.chat_postEphemeral(channel=C, user="U0RITA", text="seen", thread_ts=root)
    assert [(each["text"], each["thread_ts"]) for each in slack.ephemerals("U0RITA")] == [("seen", root)]


async def test_permalink_reaction_and_direct_message(slack: LocalSlack, web: AsyncWebClient) -> None:
    ts = (await web.chat_postMessage(channel=C, text="x"))["ts"]
    link = (await web.chat_getPermalink(channel=C, message_ts=ts))["permalink"]
    assert link == f"{slack.url}/archives/{C}/p{ts.replace('.', '')}"
    await web.reactions_add(channel=C, timestamp=ts, name="eyes")
    assert slack.messages()[0]["reactions"] == [{"name": "eyes", "users": [BOT_USER], "count": 1}]
    assert await refusal(web.reactions_add(channel=C, timestamp=ts, name="eyes")) == "already_reacted"
    direct = (await web.conversations_open(users=["U0RITA"]))["channel"]["id"]
    assert (await web.chat_postMessage(channel="U0RITA", text="psst"))["channel"] == direct
    assert [each["text"] for each in slack.messages(direct)] == ["psst"]
    assert await refusal(web.conversations_open(users=["U0DORA"])) == "user_disabled"


# ---- people ----------------------------------------------------------------------------------------------------------


async def test_each_kind_of_user_is_told_by_slacks_own_fields(web: AsyncWebClient) -> None:
    marks = {
        "U0ANN": {},
        "U0BEN": {},
        "U0RITA": {},
        "U0GUS": {"is_restricted": True},
        "U0STAN": {"is_stranger": True, "team_id": "T0OTHER"},
        "U0DORA": {"deleted": True},
        "U0ROBO": {"is_bot": True},
    }
    usual = {"is_restricted": False, "deleted": False, "is_bot": False, "team_id": "T0REFINE"}
    for user_id, flags in marks.items():
        user = (await web.users_info(user=user_id))["user"]
        assert {key: user.get(key) for key in {**usual, **flags}} == {**usual, **flags}
        assert "kind" not in user
    assert await refusal(web.users_info(user="U0NOBODY")) == "user_not_found"
    assert {each["id"] for each in (await web.users_list())["members"]} >= set(marks)


async def test_the_group_holds_those_too_who_must_be_refused(web: AsyncWebClient) -> None:
    assert (await web.usergroups_users_list(usergroup="S0APPROVERS"))["users"] == ["U0ANN", "U0BEN", "U0DORA", "U0GUS"]
    (group,) = (await web.usergroups_list(include_users=True))["usergroups"]
    assert (group["handle"], len(group["users"])) == ("refine-approvers", 4)
    assert await refusal(web.usergroups_users_list(usergroup="S0OTHER")) == "no_such_subteam"
    members: list[str] = []
    async for page in await web.conversations_members(channel=C, limit=3):
        members += page["members"]
    assert "U0STAN" in members
    assert "U0DORA" not in members


# ---- files -----------------------------------------------------------------------------------------------------------


async def test_files_upload_v2_shares_files_in_a_thread(slack: LocalSlack, web: AsyncWebClient) -> None:
    root = (await web.chat_postMessage(channel=C, text="card"))["ts"]
    uploads = [
        {"content": '{"a": "ä"}', "filename": "DynamoDBAccess.json", "title": "DynamoDBAccess", "snippet_type": "json"},
        {"content": b"\x89PNG", "filename": "a.png", "title": "picture"},
    ]
    done = await web.files_upload_v2(file_uploads=uploads, channel=C, thread_ts=root, initial_comment="The documents")
    (reply,) = slack.thread(root)
    assert reply["text"] == "The documents"
    assert [each["id"] for each in reply["files"]] == [each["id"] for each in done["files"]]
    text, picture = slack.files()
    assert (text["name"], text["title"], text["mode"]) == ("DynamoDBAccess.json", "DynamoDBAccess", "snippet")
    assert text["content"].decode() == '{"a": "ä"}'
    assert text["shares"]["public"][C][0]["thread_ts"] == root
    async with aiohttp.ClientSession() as session:
        async with session.get(text["url_private"]) as answer:
            assert await answer.read() == text["content"]
            assert answer.content_type == "text/plain"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
        async with session.get(picture["url_private"]) as answer:
            assert answer.content_type == "image/png"
            assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_a_picture_in_blocks_has_to_be_there(slack: LocalSlack, web: AsyncWebClient) -> None:
    """An image that was uploaded, in any channel or none, and processed; shown in messages, dialogs and App Home."""
    done = await web.files_upload_v2(
        file_uploads=[{"content": b"\x89PNG", "filename": "a.png"}, {"content": "a,b", "filename": "a.csv"}]
    )
    png, csv = (each["id"] for each in done["files"])

    def picture(file: str, **more: Any) -> dict[str, Any]:
        return {"type": "image", "slack_file": {"id": file}, "alt_text": "a picture", **more}

    async def posted(block: dict[str, Any]) -> str:
        return await refusal(web.chat_postMessage(channel=C, text="x", blocks=[block]))

    ts = (await web.chat_postMessage(channel=C, text="x", blocks=[picture(png)]))["ts"]
    await web.chat_update(channel=C, ts=ts, text="x", blocks=[picture(png)])
    await web.views_publish(user_id="U0ANN", view={"type": "home", "blocks": [picture(png)]})
    for wrong in (
        picture("F0NOTTHERE"),
        picture(csv),
        picture(png, alt_text=""),
        picture(png, image_url="https://example.com/a.png"),
        {"type": "section", "text": {"type": "mrkdwn", "text": "x"}, "accessory": picture("F0NOTTHERE")},
        {"type": "context", "elements": [picture("F0NOTTHERE")]},
    ):
        assert await posted(wrong) == "invalid_blocks"
    home = {"type": "home", "blocks": [picture("F0NOTTHERE")]}
    assert await refusal(web.views_publish(user_id="U0ANN", view=home)) == "invalid_arguments"
    slack.api.processing_seconds = 60
    later = (await web.files_upload_v2(filename="b.png", content=b"\x89PNG"))["files"][0]["id"]
    assert await posted(picture(later)) == "invalid_blocks"


async def test_bad_uploads_are_refused(slack: LocalSlack, web: AsyncWebClient) -> None:
    assert await refusal(web.files_getUploadURLExternal(filename="a", length=0)) == "missing_argument"
    assert await refusal(web.files_getUploadURLExternal(filename="a", length=1, snippet_type="klingon")) == (
        "unknown_snippet_type"
    )
    assert await refusal(web.files_getUploadURLExternal(filename="a", length=1_000_001, snippet_type="json")) == (
        "snippet_too_large"
    )
    ticket = await web.files_getUploadURLExternal(filename="a", length=3)
    never_sent = [{"id": ticket["file_id"], "title": "a"}]
    assert await refusal(web.files_completeUploadExternal(files=never_sent, channel_id=C)) == "file_not_found"
    async with aiohttp.ClientSession() as session:
        async with session.post(ticket["upload_url"], data=b"four") as answer:
            assert answer.status == 400
        async with session.post(ticket["upload_url"], data=b"abc") as answer:
            assert answer.status == 200
    assert await refusal(web.files_completeUploadExternal(files=never_sent, channel_id="C0NO")) == "channel_not_found"
    assert slack.files() == []
    await web.files_completeUploadExternal(files=never_sent, channel_id=C)
    assert await refusal(web.files_completeUploadExternal(files=never_sent, channel_id=C)) == "file_not_found"


# ---- views -----------------------------------------------------------------------------------------------------------


async def test_a_trigger_works_once_and_for_three_seconds(slack: LocalSlack, web: AsyncWebClient, clock: Clock) -> None:
    trigger = slack.workspace.new_trigger("U0ANN")
    clock.now += 2.9
    view = (await web.views_open(trigger_id=trigger, view=modal(REASON)))["view"]
    assert slack.view("U0ANN")["id"] == view["id"]
    assert slack.view("U0BEN") is None
    assert await refusal(web.views_open(trigger_id=trigger, view=modal(REASON))) == "exchanged_trigger_id"
    late = slack.workspace.new_trigger("U0ANN")
    clock.now += 3.1
    assert await refusal(web.views_open(trigger_id=late, view=modal(REASON))) == "expired_trigger_id"
    assert await refusal(web.views_open(trigger_id="1.2.x", view=modal(REASON))) == "invalid_trigger_id"


async def test_a_view_is_updated_by_id_and_hash(slack: LocalSlack, web: AsyncWebClient) -> None:
    opened = (await web.views_open(trigger_id=slack.workspace.new_trigger("U0ANN"), view=modal(REASON)))["view"]
    second = modal(REASON, entry("days", select(initial_option=select()["options"][0])), private_metadata="1:2")
    updated = (await web.views_update(view_id=opened["id"], hash=opened["hash"], view=second))["view"]
    assert (updated["id"], updated["private_metadata"]) == (opened["id"], "1:2")
    assert updated["state"]["values"]["days"]["pick"]["selected_option"]["value"] == "one"
    stale = web.views_update(view_id=opened["id"], hash=opened["hash"], view=modal(REASON))
    assert await refusal(stale) == "hash_conflict"
    assert await refusal(web.views_update(view_id="V0NO", view=modal(REASON))) == "not_found"
    assert len(slack.view("U0ANN")["blocks"]) == 2


async def test_what_was_typed_stays_when_a_view_is_updated(slack: LocalSlack, web: AsyncWebClient) -> None:
    opened = (await web.views_open(trigger_id=slack.workspace.new_trigger("U0ANN"), view=modal(REASON)))["view"]
    slack.acts.fill(slack.workspace.stacks["U0ANN"][0], {"reason": {"text": "because"}})
    updated = await web.views_update(view_id=opened["id"], view=modal(section("new"), REASON))
    assert updated["view"]["state"]["values"]["reason"]["text"]["value"] == "because"


async def test_views_are_stacked_three_high(slack: LocalSlack, web: AsyncWebClient) -> None:
    def trigger() -> str:
        return slack.workspace.new_trigger("U0ANN")

    assert await refusal(web.views_push(trigger_id=trigger(), view=modal(REASON))) == "not_found"
    root = (await web.views_open(trigger_id=trigger(), view=modal(REASON, external_id="one")))["view"]
    assert await refusal(web.views_push(trigger_id=trigger(), view=modal(REASON, external_id="one"))) == (
        "duplicate_external_id"
    )
    pushed = (await web.views_push(trigger_id=trigger(), view=modal(REASON)))["view"]
    assert (pushed["root_view_id"], pushed["previous_view_id"]) == (root["id"], root["id"])
    await web.views_push(trigger_id=trigger(), view=modal(REASON))
    assert await refusal(web.views_push(trigger_id=trigger(), view=modal(REASON))) == "push_limit_reached"


async def test_bad_views_are_refused_and_keep_their_trigger(slack: LocalSlack, web: AsyncWebClient) -> None:
    trigger = slack.workspace.new_trigger("U0ANN")
    without_submit = {key: value for key, value in modal(REASON).items() if key != "submit"}
    with pytest.raises(SlackApiError) as caught:
        await web.views_open(trigger_id=trigger, view=without_submit)
    assert caught.value.response["error"] == "invalid_arguments"
    assert "submit" in str(caught.value.response["response_metadata"]["messages"])
    home = {"type": "home", "blocks": [section()]}
    assert await refusal(web.views_open(trigger_id=trigger, view=home)) == "invalid_arguments"
    big = modal(REASON, private_metadata="x" * 251_000)
    assert await refusal(web.views_open(trigger_id=trigger, view=big)) == "view_too_large"
    await web.views_open(trigger_id=trigger, view=modal(REASON))


async def test_the_home_tab_is_published_per_person_with_a_hash(slack: LocalSlack, web: AsyncWebClient) -> None:
    home = {"type": "home", "blocks": [section("one")]}
    first = (await web.views_publish(user_id="U0ANN", view=home))["view"]
    assert slack.home("U0ANN")["id"] == first["id"]
    assert slack.home("U0BEN") is None
    second = (await web.views_publish(user_id="U0ANN", view=home, hash=first["hash"]))["view"]
    assert second["id"] == first["id"]
    assert await refusal(web.views_publish(user_id="U0ANN", view=home, hash=first["hash"])) == "hash_conflict"
    assert await refusal(web.views_publish(user_id="U0NO", view=home)) == "invalid_arguments"
    bad = {"type": "home", "title": plain("x"), "blocks": [section()]}
    assert await refusal(web.views_publish(user_id="U0ANN", view=bad)) == "invalid_arguments"
