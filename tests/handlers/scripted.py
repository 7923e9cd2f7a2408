"""A Slack that says what it is told to: for the answers that a well-behaved one does not give on demand."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from bot.messages.slack import Slack, web_client

DROP = object()  # the connection ends without an answer
Answer = Any  # a JSON body, (status, headers, body), DROP, or a function of the arguments


class ScriptedSlack:
    """Answers each method from its queue, then with `ok`; remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.always: dict[str, Answer] = {
            "auth.test": {
                "ok": True,
                "team": "Acme",
                "team_id": "T0REFINE",
                "user": "refine",
                "user_id": "U0REFINE",
                "bot_id": "B0REFINE",
            }
        }
        self.url = ""

    def asked(self, method: str) -> list[dict[str, Any]]:
        return [a for m, a in self.calls if m == method]

    async def take(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        arguments: dict[str, Any] = dict(request.query)
        if request.content_type == "application/json":
            arguments |= await request.json()
        elif request.can_read_body:
            arguments |= dict(await request.post())
        self.calls.append((method, arguments))
        queue = self.answers[method]
        answer = queue.pop(0) if queue else self.always.get(method, {"ok": True})
        if callable(answer):
            answer = answer(arguments)
        if answer is DROP:
            assert request.transport is not None
            request.transport.close()
            await asyncio.sleep(0)
            return web.Response()
        status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if isinstance(body, str) else "application/json"
        return web.Response(status=status, headers=headers, text=text, content_type=kind)


class Time:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, tzinfo=UTC)
        self.slept: list[float] = []

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(handle: Callable[[web.Request], Any], path: str) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", path, handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scripted(time: Time | None = None, **options: Any) -> AsyncIterator[tuple[ScriptedSlack, Slack, Time]]:
    """Yield the scripted Slack, the bot's client of it, and their time."""
    time = time or Time()
    there = ScriptedSlack()
    async with serving(there.take, "/api/{method}") as url:
        there.url = url
        async with web_client("xoxb-test", base_url=f"{url}/api/", sleep=time.sleep) as client:
            yield there, Slack(client, time.clock, time.sleep, **options), time
