"""Where the store works: a thread with an event loop of its own.

A transaction is dozens of turns between an event loop and the database's thread. In a loop that is busy with people and
with AWS each of them waits for its turn, with the one write lock held; here nobody else is in the line.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")


class Place:
    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._live, name="store", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def run(self, work: Awaitable[T]) -> asyncio.Future[T]:
        """Start the work over there, in a copy of this context, and return what it will come to, for this loop."""

        async def whole() -> T:
            return await work

        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(whole(), self._loop))

    def _live(self) -> None:
        asyncio.run(self._until_over())

    async def _until_over(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        await self._over.wait()
