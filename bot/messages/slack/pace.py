"""How often and how soon: what is sent again, and how far apart messages are."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp
from slack_sdk.http_retry import HttpRequest, HttpResponse, RetryState
from slack_sdk.http_retry.async_handler import AsyncRetryHandler

Clock = Callable[[], datetime]
Sleep = Callable[[float], Awaitable[None]]

SLOTS: Final = 1000  # paces that are remembered
# A second try of these could post twice, so nobody but the outbox may decide on it.
_ONCE: Final = frozenset({"chat.postMessage", "files.completeUploadExternal"})


class Again(AsyncRetryHandler):
    """Repeats what is safe to repeat: what Slack refused for its rate, and reads and redraws whose answer was lost.

    A wait longer than `patience` seconds is the caller's to plan.
    """

    def __init__(self, sleep: Sleep, patience: float) -> None:
        super().__init__(max_retry_count=3)
        self._sleep = sleep
        self._patience = patience

    async def _can_retry_async(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> bool:
        del state
        if response is not None and response.status_code == 429:
            return _retry_after(response.headers) <= self._patience
        if request.url.rsplit("/", 1)[-1] in _ONCE:
            return False
        if response is not None:
            return response.status_code in {500, 502, 503, 504}
        return isinstance(error, aiohttp.ServerConnectionError | aiohttp.ClientOSError)

    async def prepare_for_next_attempt_async(
        self,
        *,
        state: RetryState,
        request: HttpRequest,
        response: HttpResponse | None = None,
        error: Exception | None = None,
    ) -> None:
        del request, error
        limited = response is not None and response.status_code == 429
        state.next_attempt_requested = True
        await self._sleep(
            _retry_after(response.headers) if limited and response is not None else 0.2 * 2**state.current_attempt
        )
        state.increment_current_attempt()


def _retry_after(headers: Mapping[str, Any]) -> float:
    """Return the seconds of a Retry-After header; 1 where there is none or it is not a number."""
    for name, value in headers.items():
        if name.lower() == "retry-after":
            first = value[0] if isinstance(value, list) else value
            try:
                return max(0.0, float(first))
            except ValueError:
                break
    return 1.0


class Pace:
    """Turns at a key, at least `spacing` seconds apart, first come first served."""

    def __init__(self, clock: Clock, sleep: Sleep, spacing: float) -> None:
        self._clock = clock
        self._sleep = sleep
        self._spacing = timedelta(seconds=spacing)
        self._slots: OrderedDict[str, _Slot] = OrderedDict()

    @asynccontextmanager
    async def turn(self, key: str, *, wait: bool = True) -> AsyncIterator[None]:
        """Take a turn at the key, after those who asked before; without `wait`, as soon as they are through."""
        slot = self._slots.setdefault(key, _Slot())
        self._slots.move_to_end(key)
        self._forget()
        async with slot.lock:
            if slot.free is not None and wait:
                # Never more than one spacing, should the wall clock be set back.
                left = min(slot.free - self._clock(), self._spacing).total_seconds()
                if left > 0:
                    await self._sleep(left)
            try:
                yield
            finally:
                slot.free = self._clock() + self._spacing

    def _forget(self) -> None:
        while len(self._slots) > SLOTS:
            oldest = next(iter(self._slots.values()))
            if oldest.lock.locked():
                return
            self._slots.popitem(last=False)


class _Slot:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.free: datetime | None = None
