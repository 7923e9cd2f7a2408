"""What can go wrong on the way: replays, reconnects, shutdowns, lost answers; and that nothing goes unanswered."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from slack_bolt.async_app import AsyncApp

import bot.messages
import templates
from bot.errors import UnavailableError, UnknownOutcomeError
from handlers import Jobs, buttons, commands, register, warm_up
from handlers.http import KEPT, Seen
from tests.handlers.conftest import SECURITY, Stage

# -------------------- signed requests


def clicked(ts: str, user: str = "U0RITA") -> str:
    payload = {
        "type": "block_actions",
        "user": {"id": user, "team_id": "T0REFINE"},
        "team": {"id": "T0REFINE"},
        "channel": {"id": SECURITY},
        "container": {"type": "message", "message_ts": ts, "channel_id": SECURITY},
        "message": {"ts": ts},
        "trigger_id": "1.2.3",
        "actions": [{"type": "button", "action_id": "case:review", "block_id": "b", "value": "k1:1"}],
    }
    return urlencode({"payload": json.dumps(payload)})


async def send(stage: Stage, body: str, at: int | None = None, **headers: str) -> int:
    signed = stage.there.delivery.signed(body, at)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(stage.url, data=body.encode(), headers={**kind, **signed, **headers}) as answer,
    ):
        return answer.status


async def test_a_signed_request_is_taken_once(http_stage: Stage) -> None:
    body, at = clicked(await http_stage.card()), int(time.time())
    assert await send(http_stage, body, at) == 200
    await http_stage.idle()
    assert http_stage.desk.begun == 2  # drawing the card, and the click
    assert await send(http_stage, body, at) == 401
    at_once = await asyncio.gather(*(send(http_stage, body, at + 1) for _ in range(5)))
    assert sorted(at_once) == [200, 401, 401, 401, 401]
    await http_stage.idle()
    assert http_stage.desk.begun == 3
    assert await send(http_stage, body, at + 2) == 200  # the same click again is another request, signed anew


async def test_a_request_with_a_wrong_or_old_signature_is_refused_and_not_remembered(http_stage: Stage) -> None:
    body, now = clicked(await http_stage.card()), int(time.time())
    assert await send(http_stage, body, now, **{"X-Slack-Signature": "v0=" + "0" * 64}) == 401
    assert await send(http_stage, body, now - 400) == 401
    assert await send(http_stage, body, now, **{"X-Slack-Request-Timestamp": "yesterday"}) == 401
    assert http_stage.seen is not None
    assert len(http_stage.seen) == 0  # else anybody could fill the memory
    await http_stage.idle()
    assert http_stage.desk.begun == 1
    assert await send(http_stage, body, now) == 200


def test_a_request_is_remembered_for_as_long_as_its_signature_is_good_and_no_longer() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    seen = Seen(lambda: now)
    assert seen.first(b"a")
    now += timedelta(minutes=10)  # five ahead of us when it was signed, five behind now
    assert not seen.first(b"a")
    now += KEPT
    assert seen.first(b"b")
    assert seen.first(b"a")


# -------------------- sockets


async def test_two_connections_lose_no_click_while_slack_reconnects_them(socket_stage: Stage) -> None:
    stage = socket_stage
    ts = await stage.card()
    acks: list[bool] = []
    clicking = True

    async def reconnect() -> None:
        number = 0
        while clicking:
            number += 1
            await stage.there.disconnect(number=number % len(stage.there.sockets.connections))
            await asyncio.sleep(0.2)

    task = asyncio.create_task(reconnect())
    for _ in range(60):
        acks.append((await stage.there.click("U0RITA", ts, "case:explain")).ok)
        await asyncio.sleep(0.02)
    clicking = False
    await task
    await stage.idle()
    assert acks.count(True) == 60
    assert len(stage.told("U0RITA")) == 60


async def test_the_first_click_does_not_wait_for_slack_to_say_who_the_bot_is(socket_stage: Stage) -> None:
    ts = await socket_stage.card()
    socket_stage.there.fault("auth.test", "500", times=None)
    ack = await socket_stage.there.click("U0RITA", ts, "case:review")
    assert ack.ok
    await socket_stage.until(lambda: socket_stage.desk.rows["k1"].revision == 2)


@pytest.mark.parametrize("kind", ["500", "drop"])
async def test_a_bot_that_slack_does_not_know_does_not_start_to_take_clicks(socket_stage: Stage, kind: str) -> None:
    stage = socket_stage
    fresh = AsyncApp(client=stage.slack.client, request_verification_enabled=False)
    register(fresh, stage.desk, stage.jobs, stage.slack)
    stage.there.fault("auth.test", kind, times=None)
    with pytest.raises(UnavailableError):
        await warm_up(fresh)
    stage.there.clear_faults()
    await warm_up(fresh)


# -------------------- shutdown


async def test_a_job_under_way_is_finished_after_the_sockets_are_closed(socket_stage: Stage) -> None:
    stage = socket_stage
    ts = await stage.card()
    stage.desk.gate = asyncio.Event()
    assert (await stage.there.click("U0RITA", ts, "case:review")).ok
    for socket in stage.sockets:
        await socket.close_async()
    asyncio.get_running_loop().call_later(0.1, stage.desk.gate.set)
    await stage.jobs.drain(5)
    assert stage.desk.rows["k1"].state == "reviewing"
    assert len(stage.jobs) == 0


async def test_draining_waits_for_the_jobs_that_jobs_start() -> None:
    jobs, done = Jobs(), []

    async def child() -> None:
        await asyncio.sleep(0.05)
        done.append("child")

    async def parent() -> None:
        await asyncio.sleep(0.05)
        jobs.spawn(child())

    jobs.spawn(parent())
    await jobs.drain(5)
    assert done == ["child"]


async def test_draining_ends_in_time_and_cuts_off_what_does_not() -> None:
    jobs, ends = Jobs(), []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cut off")

    jobs.spawn(endless())
    await asyncio.wait_for(jobs.drain(0.05), 2)
    assert ends == ["cut off"]


async def test_a_job_that_crashes_is_logged_and_raises_into_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = Jobs()

    async def crash() -> None:
        raise RuntimeError("a bug")

    jobs.spawn(crash())
    await jobs.drain(1)
    assert "a bug" in capsys.readouterr().out


# -------------------- posts in doubt


async def test_a_post_whose_answer_was_lost_is_found_by_its_key_and_not_posted_twice(stage: Stage) -> None:
    payload = await stage.desk.card("k1")
    stage.there.fault("chat.postMessage", "lost_reply")
    with pytest.raises(UnknownOutcomeError):
        await stage.slack.post(SECURITY, payload, key="card/k1")
    ts = await stage.slack.find(SECURITY, "card/k1")
    assert [m["ts"] for m in stage.there.messages()] == [ts]
    stage.there.fault("chat.postMessage", "lost_reply")
    with pytest.raises(UnknownOutcomeError):
        await stage.slack.post(SECURITY, payload, ts, key="review/k1")
    reply = await stage.slack.find(SECURITY, "review/k1", ts)
    assert [m["ts"] for m in stage.there.thread(ts)] == [reply]


async def test_a_post_that_never_arrived_is_not_found(stage: Stage) -> None:
    stage.there.fault("chat.postMessage", "drop")
    with pytest.raises(UnknownOutcomeError):
        await stage.slack.post(SECURITY, await stage.desk.card("k1"), key="card/k1")
    assert await stage.slack.find(SECURITY, "card/k1") is None


async def test_a_post_is_found_among_hundreds(socket_stage: Stage) -> None:
    ts = await socket_stage.slack.post(SECURITY, await socket_stage.desk.card("k1"), key="card/k1")
    for number in range(450):
        socket_stage.there.say("U0ANN", f"chatter {number}")
    assert await socket_stage.slack.find(SECURITY, "card/k1") == ts


async def test_the_client_keeps_the_pace_that_slack_enforces(socket_stage: Stage) -> None:
    socket_stage.there.api.paced = True
    slack = type(socket_stage.slack)(socket_stage.slack.client, lambda: datetime.now(UTC), asyncio.sleep)
    await asyncio.gather(*(slack.post(SECURITY, {"text": f"{n}"}) for n in range(3)))
    assert [m["text"] for m in socket_stage.there.messages()] == ["0", "1", "2"]
    assert [m for m, _ in socket_stage.there.api.calls].count("chat.postMessage") == 3  # none of them refused


# -------------------- what is drawn is handled


def drawn_action_ids() -> Iterator[str]:
    """Yield every action id that templates and messages write down."""
    folders = [Path(templates.__file__).parent, Path(bot.messages.__file__).parent]
    for path in sorted(p for f in folders for p in f.rglob("*") if p.suffix in {".j2", ".py"}):
        yield from re.findall(r"""["'](?:case|review|modal|home|link):[a-z_]+["']""", path.read_text())


async def test_every_action_id_that_is_drawn_has_a_listener_of_its_own(stage: Stage) -> None:
    for quoted in {*drawn_action_ids(), *(f'"case:{b}"' for b in (*buttons.AT_ONCE, *buttons.ASKS, "explain", "open"))}:
        action_id = quoted.strip("\"'")
        body = {"type": "block_actions", "user": {"id": "U1"}, "actions": [{"action_id": action_id, "block_id": "b"}]}
        found = [
            listener.ack_function.__name__
            for listener in stage.app._async_listeners
            if await listener.async_matches(req=_request(body), resp=None)
        ]
        assert found[-1] == "press_other"
        assert len(found) == 2, (action_id, found)


def _request(body: dict[str, Any]) -> Any:
    from slack_bolt.request.async_request import AsyncBoltRequest

    return AsyncBoltRequest(mode="socket_mode", body=body)


@pytest.mark.parametrize("row", commands.HELP, ids=lambda row: row.usage)
def test_what_help_says_is_what_the_parser_takes(row: commands.Help) -> None:
    typed = row.usage.removeprefix("/refine").replace("[", "").replace("]", "")
    assert commands.parse(typed).verb is row.verb


def test_help_has_a_row_for_every_verb() -> None:
    assert {row.verb for row in commands.HELP} == set(commands.Verb)
