"""Slack's signed requests over HTTP, each taken once.

Bolt checks signature and age (five minutes either way), but takes the same request twice: a copy of an approval would
be one. Source: https://docs.slack.dev/authentication/verifying-requests-from-slack
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response
from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest

log = structlog.get_logger()

PATH: Final = "/slack/events"
# A request stamped five minutes ahead is good for ten.
KEPT: Final = timedelta(minutes=11)


def signed_requests(web_app: web.Application, bolt_app: AsyncApp, *, clock: Callable[[], datetime]) -> Seen:
    """Add the route that Slack posts to; return what it remembers."""
    seen = Seen(clock)

    async def take(request: web.Request) -> web.Response:
        raw = await request.read()
        stamp = request.headers.get("X-Slack-Request-Timestamp", "")
        signature = request.headers.get("X-Slack-Signature", "")
        try:
            body = raw.decode()
        except UnicodeDecodeError:
            return _refused()
        if not (stamp.isascii() and stamp.isdecimal()):  # Bolt would answer 500
            return _refused()
        # The body is in the key, so that nobody can spend the signature of a request on its way.
        key = hashlib.sha256(f"{signature}\n{stamp}\n{body}".encode()).digest()
        if not seen.first(key):
            log.warning("replayed request refused")
            return _refused()
        answer = await bolt_app.async_dispatch(
            AsyncBoltRequest(body=body, query=request.query_string, headers=dict(request.headers))
        )
        if answer.status == 401:
            seen.forget(key)  # a wrong signature: remembering it would let anybody fill the memory
        return await to_aiohttp_response(answer)

    web_app.router.add_post(PATH, take)
    return seen


def _refused() -> web.Response:
    return web.json_response({"error": "invalid request"}, status=401)


class Seen:
    """Requests taken, for as long as their signatures are good."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, datetime] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def first(self, key: bytes) -> bool:
        """Remember the request, and tell whether it is the first of its kind."""
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if key in self._until:
            return False
        self._until[key] = now + KEPT
        return True

    def forget(self, key: bytes) -> None:
        self._until.pop(key, None)
