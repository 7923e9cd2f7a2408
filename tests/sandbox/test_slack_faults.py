"""Faults of the local Slack, as the real SDK meets them; and that two sockets lose no click while Slack refreshes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler

from sandbox.slack import LocalSlack, delivery
from sandbox.slack.delivery import NOT_CONNECTED, NOT_IN_TIME
from tests.sandbox.slack_echo import Echo, actions, button, client, echo

C = "C0SECURITY"


@pytest.fixture
async def slack() -> AsyncIterator[LocalSlack]:
    local = LocalSlack()
    await local.start()
    yield local
    await local.stop()


async def post(slack: LocalSlack) -> str:
    said = await client(slack).chat_postMessage(channel=C, text="card", blocks=[actions(button())])
    return str(said["ts"])


# ---- the Web API -----------------------------------------------------------------------------------------------------


async def test_429_says_when_to_come_back(slack: LocalSlack) -> None:
    slack.fault("chat.postMessage", "429", retry_after=7)
    with pytest.raises(SlackApiError) as caught:
        await post(slack)
    assert caught.value.response.status_code == 429
    assert caught.value.response["error"] == "ratelimited"
    assert caught.value.response.headers["Retry-After"] == "7"
    assert slack.messages() == []
    await post(slack)
    assert len(slack.messages()) == 1


async def test_the_sdk_waits_and_comes_back(slack: LocalSlack) -> None:
    slack.fault("chat.postMessage", "429", times=2, retry_after=0)
    web = client(slack, None, AsyncRateLimitErrorRetryHandler(max_retry_count=3))
    await web.chat_postMessage(channel=C, text="third time")
    assert [each["text"] for each in slack.messages()] == ["third time"]


async def test_500_is_an_error_without_effect(slack: LocalSlack) -> None:
    slack.fault("*", "500", times=None)
    for _ in range(2):
        with pytest.raises(SlackApiError) as caught:
            await post(slack)
        assert caught.value.response.status_code == 500
    slack.clear_faults()
    assert slack.messages() == []
    await post(slack)


@pytest.mark.parametrize(("kind", "effects"), [("drop", 0), ("lost_reply", 1)])
async def test_a_broken_connection_may_hide_an_effect(slack: LocalSlack, kind: str, effects: int) -> None:
    slack.fault("chat.postMessage", kind)
    with pytest.raises(aiohttp.ClientError):
        await post(slack)
    assert len(slack.messages()) == effects


async def test_slow_comes_late(slack: LocalSlack) -> None:
    slack.fault("chat.postMessage", "slow", seconds=0.3)
    start = asyncio.get_running_loop().time()
    await post(slack)
    assert asyncio.get_running_loop().time() - start >= 0.3


async def test_a_fault_is_for_its_method_alone(slack: LocalSlack) -> None:
    slack.fault("chat.update", "500")
    ts = await post(slack)
    with pytest.raises(SlackApiError):
        await client(slack).chat_update(channel=C, ts=ts, text="x")
    with pytest.raises(ValueError, match="no fault"):
        slack.fault("chat.update", "meteor")


async def test_uploads_break_too(slack: LocalSlack) -> None:
    slack.fault("upload", "drop")
    with pytest.raises(aiohttp.ClientError):
        await client(slack).files_upload_v2(content="x", filename="x.txt", channel=C)
    assert slack.messages() == []


async def test_the_pace_of_one_message_a_second_and_channel(slack: LocalSlack) -> None:
    slack.api.paced = True
    await post(slack)
    await client(slack).chat_postMessage(channel="C0GENERAL", text="another channel")
    with pytest.raises(SlackApiError) as caught:
        await post(slack)
    assert caught.value.response.headers["Retry-After"] == "1"
    await asyncio.sleep(1.0)
    await post(slack)
    assert len(slack.messages()) == 2


# ---- sockets ---------------------------------------------------------------------------------------------------------


async def test_each_payload_goes_to_one_of_the_connections(slack: LocalSlack) -> None:
    async with echo(slack, sockets=2) as bot:
        ts = await post(slack)
        assert len(slack.sockets.connections) == 2
        acks = await asyncio.gather(*(slack.click("U0ANN", ts, "go") for _ in range(20)))
        assert all(each.ok for each in acks)
        assert len(bot.seen) == 20
    await slack.until(lambda: not slack.sockets.connections)


async def test_a_ticket_opens_one_connection(slack: LocalSlack) -> None:
    opened = await client(slack).apps_connections_open(app_token=slack.bot_environment()["SLACK_APP_TOKEN"])
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(opened["url"]) as ws:
            hello = await ws.receive_json()
            assert (hello["type"], hello["num_connections"]) == ("hello", 1)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(opened["url"])


async def test_after_a_refresh_the_sdk_is_on_a_new_connection(slack: LocalSlack) -> None:
    async with echo(slack) as bot:
        ts = await post(slack)
        (old,) = slack.sockets.connections
        await slack.disconnect()
        await slack.until(lambda: slack.sockets.connections and old not in slack.sockets.connections)
        assert (await slack.click("U0ANN", ts, "go")).ok
        (old,) = slack.sockets.connections
        await slack.disconnect("warning")
        await slack.until(lambda: slack.sockets.connections and old not in slack.sockets.connections)
        assert (await slack.click("U0ANN", ts, "go")).ok
        assert len(bot.seen) == 2


async def test_two_sockets_lose_no_click_while_slack_refreshes_them(slack: LocalSlack) -> None:
    """One after the other is told to refresh, as Slack does, while sixty clicks come."""
    async with echo(slack, sockets=2) as bot:
        ts = await post(slack)
        seen_sockets = set(slack.sockets.connections)

        async def refresh() -> None:
            while True:
                await slack.disconnect(number=0)
                await slack.until(lambda: sum(not each.draining for each in slack.sockets.connections) == 2)
                seen_sockets.update(slack.sockets.connections)

        refreshing = asyncio.create_task(refresh())
        for _ in range(60):
            ack = await slack.click("U0ANN", ts, "go")
            assert ack.ok, ack
        refreshing.cancel()
        assert len(seen_sockets) > 10
        assert len(bot.seen) == 60


async def test_one_socket_is_not_there_while_slack_refreshes_it(slack: LocalSlack) -> None:
    async with echo(slack) as bot:
        ts = await post(slack)
        await slack.disconnect()
        assert (await slack.click("U0ANN", ts, "go")).error == NOT_CONNECTED
        await slack.until(lambda: any(not each.draining for each in slack.sockets.connections))
        assert (await slack.click("U0ANN", ts, "go")).ok
        assert len(bot.seen) == 1


async def test_a_slow_socket_uses_up_the_three_seconds(slack: LocalSlack, monkeypatch: pytest.MonkeyPatch) -> None:
    async with echo(slack) as bot:
        ts = await post(slack)
        slack.fault("socket", "slow", seconds=0.2)
        ack = await slack.click("U0ANN", ts, "go")
        assert ack.ok
        assert ack.seconds >= 0.2
        monkeypatch.setattr(delivery, "ACK_SECONDS", 0.1)
        slack.fault("socket", "slow", seconds=0.2)
        assert (await slack.click("U0ANN", ts, "go")).error == NOT_IN_TIME
        assert len(bot.seen) == 1


async def test_a_connection_that_breaks_loses_the_click_and_comes_back(
    slack: LocalSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "ACK_SECONDS", 0.3)
    bot = Echo(slack)
    handler = AsyncSocketModeHandler(bot.app, slack.bot_environment()["SLACK_APP_TOKEN"], ping_interval=0.1)
    await handler.connect_async()
    try:
        ts = await post(slack)
        slack.fault("socket", "drop")
        assert (await slack.click("U0ANN", ts, "go")).error == NOT_IN_TIME
        await slack.until(lambda: slack.sockets.connections)
        assert (await slack.click("U0ANN", ts, "go")).ok
        assert len(bot.seen) == 1
    finally:
        await handler.close_async()
