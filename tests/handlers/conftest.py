"""The stage: the local Slack, the real Bolt app with the real handlers, and a small desk behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp

from bot.messages.slack import Slack, web_client
from handlers import Jobs, register, warm_up
from handlers.http import Seen, signed_requests
from sandbox.slack import LocalSlack
from tests.handlers.small_desk import SmallDesk

SECURITY = "C0SECURITY"


@dataclass(kw_only=True)
class Stage:
    there: LocalSlack
    slack: Slack
    desk: SmallDesk
    jobs: Jobs
    app: AsyncApp
    sockets: list[AsyncSocketModeHandler]
    url: str = ""
    seen: Seen | None = None

    async def card(self, case_id: str = "k1") -> str:
        """Post a case's card, as the outbox would; return its ts."""
        return await self.slack.post(SECURITY, await self.desk.card(case_id))

    def told(self, user: str) -> list[str]:
        """What only this person was told, by any way but a dialog."""
        direct = self.there.workspace.messages.get("D" + user[1:], [])
        return [m["text"] for m in [*self.there.ephemerals(user), *direct]]

    def dialog(self, user: str) -> str:
        """The words of the person's top dialog, empty where there is none."""
        view = self.there.view(user)
        return words(view) if view else ""

    def on_home(self, user: str) -> str:
        home = self.there.home(user)
        return words(home) if home else ""

    async def until(self, condition: Callable[[], Any], timeout: float = 5) -> Any:
        return await self.there.until(condition, timeout)

    async def idle(self) -> None:
        """Wait until every job is done."""
        await asyncio.wait_for(self.jobs.drain(10), 11)


def words(view: dict[str, Any]) -> str:
    return " ".join(b["text"]["text"] for b in view["blocks"] if b["type"] == "section")


@asynccontextmanager
async def staged(way: str, connections: int = 2) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        there = LocalSlack()
        await there.start()
        stack.push_async_callback(there.stop)
        environment = there.bot_environment(way)
        client = await stack.enter_async_context(
            web_client(environment["SLACK_BOT_TOKEN"], environment["SLACK_API_URL"])
        )
        slack = Slack(client, lambda: datetime.now(UTC), asyncio.sleep, spacing=0)
        jobs, desk = Jobs(), SmallDesk()
        app = AsyncApp(
            client=client,
            signing_secret=environment.get("SLACK_SIGNING_SECRET"),
            request_verification_enabled=way == "http",
            raise_error_for_unhandled_request=True,
        )
        register(app, desk, jobs, slack)
        await warm_up(app)
        stage = Stage(there=there, slack=slack, desk=desk, jobs=jobs, app=app, sockets=[])
        stack.push_async_callback(jobs.drain, 5)
        if way == "http":
            stage.url, stage.seen = await _serve(stack, app)
            there.deliver_to(stage.url)
        else:
            for _ in range(connections):
                socket = AsyncSocketModeHandler(app, environment["SLACK_APP_TOKEN"], ping_interval=0.5)
                await socket.connect_async()
                stack.push_async_callback(socket.close_async)
                stage.sockets.append(socket)
        yield stage


async def _serve(stack: AsyncExitStack, app: AsyncApp) -> tuple[str, Seen]:
    web_app = web.Application()
    seen = signed_requests(web_app, app, clock=lambda: datetime.now(UTC))
    runner = web.AppRunner(web_app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events", seen


@pytest.fixture(params=["socket", "http"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with staged(request.param) as made:
        yield made


@pytest.fixture
async def socket_stage() -> AsyncIterator[Stage]:
    async with staged("socket") as made:
        yield made


@pytest.fixture
async def http_stage() -> AsyncIterator[Stage]:
    async with staged("http") as made:
        yield made
