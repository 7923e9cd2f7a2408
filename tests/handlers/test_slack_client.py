"""The Slack client: what it sends, how it keeps Slack's pace, and what becomes of Slack's errors."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

import pytest

from bot.errors import (
    DeniedError,
    NotFoundError,
    RefineError,
    RefusedError,
    StaleError,
    ThrottledError,
    UnavailableError,
    UnknownOutcomeError,
)
from bot.messages.slack import SCOPES
from bot.messages.slack.client import TEXT
from bot.model import UserId
from tests.handlers.scripted import DROP, scripted

PAYLOAD = {"text": "Role open", "blocks": [{"type": "divider"}]}
LIMITED = (429, {"Retry-After": "7"}, {"ok": False, "error": "ratelimited"})


def refused(code: str, **more: Any) -> dict[str, Any]:
    return {"ok": False, "error": code, **more}


async def test_a_post_carries_its_key_and_lets_slack_parse_nothing() -> None:
    async with scripted() as (there, slack, _):
        there.always["chat.postMessage"] = {"ok": True, "ts": "1.5"}
        assert await slack.post("C1", {**PAYLOAD, "reply_broadcast": True}, "1.0", "card/k1") == "1.5"
        (sent,) = there.asked("chat.postMessage")
        assert sent["metadata"] == {"event_type": "refine", "event_payload": {"key": "card/k1"}}
        assert (sent["parse"], sent["unfurl_links"], sent["unfurl_media"]) == ("none", False, False)
        assert (sent["thread_ts"], sent["reply_broadcast"], sent["blocks"]) == ("1.0", True, PAYLOAD["blocks"])


async def test_text_is_cut_to_what_an_update_takes() -> None:
    async with scripted() as (there, slack, _):
        await slack.update("C1", "1.0", {"text": "x" * 9000, "blocks": []})
        (sent,) = there.asked("chat.update")
        assert len(sent["text"]) == TEXT
        assert sent["text"].endswith("…")
        assert sent["parse"] == "none"


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (refused("channel_not_found"), NotFoundError, "Invite the bot to the channel"),
        (refused("not_in_channel"), NotFoundError, "Invite the bot to the channel"),
        (refused("message_not_found"), NotFoundError, "gone from Slack"),
        (refused("is_archived"), NotFoundError, "archived"),
        (refused("invalid_auth"), DeniedError, "SLACK_BOT_TOKEN"),
        (refused("missing_scope", needed="chat:write"), DeniedError, "chat:write"),
        (refused("hash_conflict"), StaleError, "redrawn"),
        (refused("expired_trigger_id"), StaleError, "Press the button again"),
        (refused("invalid_blocks"), RefusedError, "invalid_blocks"),
        (refused("msg_too_long"), RefusedError, "msg_too_long"),
        ((500, {}, refused("internal_error")), UnavailableError, "no answer"),
        ((503, {}, "<html>busy</html>"), UnavailableError, "no answer"),
        (refused("fatal_error"), UnavailableError, "no answer"),
        ((200, {}, "<html>a login page</html>"), UnavailableError, "no answer"),
        (DROP, UnavailableError, "no answer"),
    ],
)
async def test_an_error_of_slack_becomes_one_of_ours_with_a_next_step(
    answer: Any, error: type[RefineError], says: str
) -> None:
    async with scripted() as (there, slack, _):
        there.always["chat.update"] = answer
        with pytest.raises(error) as caught:
            await slack.update("C1", "1.0", PAYLOAD)
        assert type(caught.value) is error
        assert says in caught.value.say()
        assert caught.value.next_step


async def test_where_a_payload_is_at_fault_is_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    async with scripted() as (there, slack, _):
        where = {"messages": ["[ERROR] too long [json-pointer:/blocks/3/text]"]}
        there.always["chat.update"] = refused("invalid_blocks", response_metadata=where)
        with pytest.raises(RefusedError):
            await slack.update("C1", "1.0", PAYLOAD)
        assert "/blocks/3/text" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer", [DROP, (500, {}, refused("internal_error")), (502, {}, "<html/>"), refused("fatal_error")]
)
async def test_a_post_without_an_answer_is_in_doubt_and_is_not_sent_again(answer: Any) -> None:
    async with scripted() as (there, slack, _):
        there.always["chat.postMessage"] = answer
        with pytest.raises(UnknownOutcomeError):
            await slack.post("C1", PAYLOAD, key="card/k1")
        assert len(there.asked("chat.postMessage")) == 1


@pytest.mark.parametrize("answer", [DROP, (503, {}, refused("service_unavailable"))])
async def test_a_redraw_without_an_answer_is_sent_again(answer: Any) -> None:
    async with scripted() as (there, slack, _):
        there.answers["chat.update"] = [answer, answer]
        await slack.update("C1", "1.0", PAYLOAD)
        assert len(there.asked("chat.update")) == 3


async def test_a_rate_limit_is_waited_out_for_as_long_as_slack_says() -> None:
    async with scripted() as (there, slack, time):
        there.answers["chat.postMessage"] = [LIMITED, LIMITED]
        there.always["chat.postMessage"] = {"ok": True, "ts": "1.5"}
        assert await slack.post("C1", PAYLOAD) == "1.5"
        assert time.slept == [7, 7]


async def test_a_rate_limit_beyond_patience_is_the_callers_to_plan() -> None:
    async with scripted() as (there, slack, time):
        there.always["chat.postMessage"] = (429, {"Retry-After": "600"}, refused("ratelimited"))
        with pytest.raises(ThrottledError):
            await slack.post("C1", PAYLOAD)
        assert time.slept == []
        there.always["chat.postMessage"] = LIMITED  # for ever
        with pytest.raises(ThrottledError):
            await slack.post("C1", PAYLOAD)


async def test_posts_to_one_channel_are_a_second_apart_in_order_and_another_channel_does_not_wait() -> None:
    async with scripted() as (there, slack, time):
        stamps: list[tuple[str, str, float]] = []
        start = time.now

        def took(arguments: dict[str, Any]) -> dict[str, Any]:
            stamps.append((arguments["channel"], arguments["text"], (time.now - start).total_seconds()))
            return {"ok": True, "ts": "1.0"}

        there.always["chat.postMessage"] = took
        await asyncio.gather(
            *(slack.post("C1", {"text": str(n)}) for n in range(4)), slack.post("C2", {"text": "elsewhere"})
        )
        first = [s for s in stamps if s[0] == "C1"]
        assert [s[1] for s in first] == ["0", "1", "2", "3"]
        assert all(b[2] - a[2] >= 1 for a, b in itertools.pairwise(first))
        assert next(s[2] for s in stamps if s[0] == "C2") == 0


async def test_one_message_is_edited_once_a_second_and_others_do_not_wait_for_it() -> None:
    async with scripted(spacing=1.0) as (there, slack, time):
        await slack.update("C1", "1.0", PAYLOAD)
        await slack.update("C1", "2.0", PAYLOAD)
        assert time.slept == []
        await slack.update("C1", "1.0", PAYLOAD)
        assert time.slept == [1.0]
        assert len(there.asked("chat.update")) == 3


async def test_a_redraw_that_somebody_waits_for_does_not_keep_the_pace_and_the_next_one_does() -> None:
    async with scripted(spacing=1.0) as (_, slack, time):
        await slack.update("C1", "1.0", PAYLOAD)
        await slack.update("C1", "1.0", PAYLOAD, at_once=True)
        assert time.slept == []
        await slack.update("C1", "1.0", PAYLOAD)
        assert time.slept == [1.0]


async def test_a_clock_set_back_does_not_hold_up_the_channel() -> None:
    async with scripted() as (_, slack, time):
        await slack.update("C1", "1.0", PAYLOAD)
        time.now = time.now.replace(year=2020)
        await slack.update("C1", "1.0", PAYLOAD)
        assert sum(time.slept) <= 1


def message(ts: str, key: str, user: str = "U0REFINE") -> dict[str, Any]:
    metadata = {"event_type": "refine", "event_payload": {"key": key}}
    return {"ts": ts, "user": user, "metadata": metadata}


async def test_a_post_is_found_by_its_key_on_a_later_page_and_only_if_it_is_the_bots() -> None:
    async with scripted() as (there, slack, _):
        pages = {
            None: {
                "ok": True,
                "messages": [{"ts": "9", "user": "U1", "text": "hello"}, message("8", "card/k1", user="U0EVIL")],
                "response_metadata": {"next_cursor": "more"},
            },
            "more": {"ok": True, "messages": [message("3", "card/k2"), message("2", "card/k1")]},
        }
        there.always["conversations.history"] = lambda arguments: pages[arguments.get("cursor")]
        assert await slack.find("C1", "card/k1") == "2"
        assert await slack.find("C1", "card/k9") is None
        assert there.asked("conversations.history")[0]["include_all_metadata"] == "1"


async def test_a_reply_is_looked_for_in_its_thread() -> None:
    async with scripted() as (there, slack, _):
        there.always["conversations.replies"] = {"ok": True, "messages": [message("2", "review/k1")]}
        assert await slack.find("C1", "review/k1", "1.0") == "2"
        assert there.asked("conversations.replies")[0]["ts"] == "1.0"
        assert not there.asked("conversations.history")


async def test_looking_for_a_post_fails_rather_than_saying_that_there_is_none() -> None:
    async with scripted() as (there, slack, _):
        there.always["conversations.history"] = refused("missing_scope", needed="channels:history")
        with pytest.raises(DeniedError, match="channels:history"):
            await slack.find("C1", "card/k1")


USER = {"id": "U1", "team_id": "T0REFINE", "name": "ann", "real_name": "Ann", "profile": {"display_name": ""}}


@pytest.mark.parametrize(
    ("facts", "marks"),
    [
        ({}, set()),
        ({"is_app_user": True}, set()),
        ({"deleted": True}, {"deleted"}),
        ({"is_bot": True}, {"bot"}),
        ({"is_workflow_bot": True}, {"bot"}),
        ({"is_restricted": True}, {"guest"}),
        ({"is_ultra_restricted": True}, {"guest"}),
        ({"is_invited_user": True}, {"guest"}),
        ({"is_stranger": True}, {"stranger"}),
        ({"team_id": "T0OTHER"}, {"stranger"}),
        ({"team_id": "E1", "enterprise_user": {"enterprise_id": "E1", "teams": ["T0REFINE"]}}, {"stranger"}),
    ],
)
async def test_a_person_is_marked_as_slack_knows_them(facts: dict[str, Any], marks: set[str]) -> None:
    async with scripted() as (there, slack, _):
        there.always["users.info"] = {"ok": True, "user": {**USER, **facts}}
        person = await slack.person(UserId("U1"))
        assert {k for k in ("deleted", "bot", "guest", "stranger") if getattr(person, k)} == marks
        assert person.name == "Ann"


async def test_a_member_of_our_workspace_of_an_enterprise_is_no_stranger() -> None:
    async with scripted() as (there, slack, _):
        there.always["auth.test"] = {**there.always["auth.test"], "enterprise_id": "E1"}
        there.always["users.info"] = {
            "ok": True,
            "user": {**USER, "team_id": "E1", "enterprise_user": {"enterprise_id": "E1", "teams": ["T0REFINE"]}},
        }
        person = await slack.person(UserId("W1"))
        assert not person.stranger
        assert person.team == await slack.team_id()


@pytest.mark.parametrize("code", ["user_not_found", "user_not_visible"])
async def test_whom_slack_does_not_show_is_a_stranger(code: str) -> None:
    async with scripted() as (there, slack, _):
        there.always["users.info"] = refused(code)
        assert (await slack.person(UserId("U1"))).stranger


async def test_a_person_that_cannot_be_looked_up_is_an_error_and_no_person() -> None:
    async with scripted() as (there, slack, _):
        there.always["users.info"] = (500, {}, refused("internal_error"))
        with pytest.raises(UnavailableError):
            await slack.person(UserId("U1"))


async def test_slackbot_is_a_bot() -> None:
    async with scripted() as (there, slack, _):
        there.always["users.info"] = {"ok": True, "user": {**USER, "id": "USLACKBOT"}}
        assert (await slack.person(UserId("USLACKBOT"))).bot


async def test_a_group_is_read_once_in_five_minutes_by_however_many_and_then_fails_closed() -> None:
    async with scripted() as (there, slack, time):
        there.always["usergroups.users.list"] = {"ok": True, "users": ["U1", "U2"]}
        answers = await asyncio.gather(*(slack.group_members("S1") for _ in range(50)))
        assert set(answers) == {frozenset({"U1", "U2"})}
        assert len(there.asked("usergroups.users.list")) == 1
        await time.sleep(299)
        await slack.group_members("S1")
        assert len(there.asked("usergroups.users.list")) == 1
        await time.sleep(2)
        there.always["usergroups.users.list"] = (500, {}, refused("internal_error"))
        with pytest.raises(UnavailableError):
            await slack.group_members("S1")


async def test_files_go_up_in_one_message_without_the_empty_ones() -> None:
    async with scripted() as (there, slack, _):
        there.always["files.getUploadURLExternal"] = {
            "ok": True,
            "upload_url": f"{there.url}/api/upload",
            "file_id": "F1",
        }
        there.always["files.completeUploadExternal"] = {"ok": True, "files": [{"id": "F1"}]}
        await slack.upload("C1", "1.0", [("a.json", b"{}", "A"), ("empty.csv", b"", "Empty")])
        await slack.upload("C1", "1.0", [("empty.csv", b"", "Empty")])
        (asked,) = there.asked("files.getUploadURLExternal")
        assert (asked["filename"], asked["length"]) == ("a.json", "2")
        (done,) = there.asked("files.completeUploadExternal")
        assert (done["channel_id"], done["thread_ts"]) == ("C1", "1.0")


async def test_an_upload_without_an_answer_is_in_doubt() -> None:
    async with scripted() as (there, slack, _):
        there.always["files.getUploadURLExternal"] = {
            "ok": True,
            "upload_url": f"{there.url}/api/upload",
            "file_id": "F1",
        }
        there.always["files.completeUploadExternal"] = DROP
        with pytest.raises(UnknownOutcomeError):
            await slack.upload("C1", "1.0", [("a.json", b"{}", "A")])
        assert len(there.asked("files.completeUploadExternal")) == 1


async def test_a_store_of_files_that_is_away_is_asked_again_later() -> None:
    async with scripted() as (there, slack, _):
        there.always["files.getUploadURLExternal"] = {
            "ok": True,
            "upload_url": f"{there.url}/api/upload",
            "file_id": "F1",
        }
        there.always["upload"] = (500, {}, "<html/>")
        with pytest.raises(UnavailableError):
            await slack.upload("C1", "1.0", [("a.json", b"{}", "A")])
        assert not there.asked("files.completeUploadExternal")


async def test_an_ephemeral_goes_to_the_channel_else_to_the_response_url_else_to_the_person() -> None:
    async with scripted() as (there, slack, _):
        there.always["chat.postMessage"] = {"ok": True, "ts": "1.0"}
        url = f"{there.url}/api/respond"
        await slack.ephemeral("C1", "U1", "hello", thread_ts="1.0", response_url=url)
        assert there.asked("chat.postEphemeral")[0]["thread_ts"] == "1.0"
        assert not there.asked("respond")
        there.always["chat.postEphemeral"] = refused("user_not_in_channel")
        await slack.ephemeral("C1", "U1", "hello", response_url=url)
        (answer,) = there.asked("respond")
        assert (answer["response_type"], answer["text"], answer["replace_original"]) == ("ephemeral", "hello", False)
        there.always["respond"] = (404, {}, "expired_url")
        await slack.ephemeral("C1", "U1", "hello", response_url=url)
        assert there.asked("chat.postMessage")[0]["channel"] == "U1"


async def test_a_home_drawn_meanwhile_is_told_so_that_it_can_be_drawn_again() -> None:
    async with scripted() as (there, slack, _):
        there.always["views.publish"] = refused("hash_conflict")
        with pytest.raises(StaleError):
            await slack.publish_home("U1", {"type": "home", "blocks": []}, "old")


async def test_no_error_and_no_log_line_holds_a_token_or_an_address_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with scripted() as (there, slack, _):
        there.always["chat.postEphemeral"] = refused("channel_not_found")
        there.always["respond-secret"] = DROP
        there.always["chat.postMessage"] = DROP
        with pytest.raises(RefineError) as caught:
            await slack.ephemeral("C1", "U1", "a private word", response_url=f"{there.url}/api/respond-secret")
        assert caught.value.__cause__ is None
        for word in ("xoxb-test", "respond-secret", "a private word"):
            assert word not in caught.value.say() + caplog.text


# -------------------- the doctor

CHANNEL = {"id": "C1", "name": "cloud-security", "is_member": True, "is_private": False}


def healthy(scopes: str = ",".join(SCOPES), **channel: Any) -> dict[str, Any]:
    who = {"ok": True, "team": "Acme", "team_id": "T0REFINE", "user": "refine", "user_id": "U0REFINE"}
    return {
        "auth.test": (200, {"X-OAuth-Scopes": scopes} if scopes else {}, who),
        "conversations.info": {"ok": True, "channel": {**CHANNEL, **channel}},
        "apps.connections.open": {"ok": True, "url": "ws://127.0.0.1/"},
        "usergroups.users.list": {"ok": True, "users": ["U1"]},
        "users.info": {"ok": True, "user": USER},
    }


async def test_the_doctor_finds_nothing_wrong_where_nothing_is() -> None:
    async with scripted() as (there, slack, _):
        there.always |= healthy()
        checks = await slack.checks("C1", "xapp-test", ("S1", "U1"))
        assert [c.state for c in checks] == ["ok"] * 6, checks


@pytest.mark.parametrize(
    ("broken", "state", "says"),
    [
        ({"auth.test": refused("invalid_auth")}, "fail", "SLACK_BOT_TOKEN"),
        (healthy("chat:write,commands"), "fail", "channels:history"),
        (healthy(""), "warn", "which scopes"),
        (healthy(is_member=False), "fail", "The bot is not in"),
        (healthy(is_ext_shared=True), "fail", "another organization"),
        (healthy(is_pending_ext_shared=True), "fail", "another organization"),
        (healthy(is_archived=True), "fail", "archived"),
        ({"conversations.info": refused("channel_not_found")}, "fail", "REFINE_CHANNEL C1"),
        ({"apps.connections.open": refused("invalid_auth")}, "fail", "SLACK_APP_TOKEN"),
        ({"usergroups.users.list": refused("missing_scope", needed="usergroups:read")}, "fail", "S1"),
        ({"usergroups.users.list": {"ok": True, "users": []}}, "fail", "empty or disabled"),
        ({"users.info": {"ok": True, "user": {**USER, "is_restricted": True}}}, "warn", "may not approve"),
    ],
)
async def test_the_doctor_names_what_is_wrong_and_what_to_do(broken: dict[str, Any], state: str, says: str) -> None:
    async with scripted() as (there, slack, _):
        there.always |= healthy() | broken
        bad = [c for c in await slack.checks("C1", "xapp-test", ("S1", "U1")) if c.state != "ok"]
        assert [c.state for c in bad] == [state], bad
        assert says in bad[0].sentence
        assert bad[0].todo


async def test_a_private_channel_needs_the_scopes_of_private_channels_and_not_the_others() -> None:
    async with scripted() as (there, slack, _):
        granted = ",".join(s for s in SCOPES if not s.startswith("channels:"))
        there.always |= healthy(granted, is_private=True)
        assert all(c.state == "ok" for c in await slack.checks("C1"))
        there.always |= healthy(granted)
        assert [c.state for c in await slack.checks("C1")].count("fail") == 1
