"""Work that goes on after Slack has its acknowledgement: kept alive, its errors logged, waited for at shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


class Jobs:
    """The running jobs. Bolt keeps track of none: without this, a shutdown would cut an approval in two."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start the work and return at once; it never raises into the caller."""
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)  # the event loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  # how long to wait is the caller's to say
        """Wait for the jobs, those that they start too, for `timeout` seconds; then cancel what is left."""
        end = asyncio.get_running_loop().time() + timeout
        while self._tasks and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        late = tuple(self._tasks)
        for task in late:
            task.cancel()
        if late:
            log.warning("jobs cut off", count=len(late))
            await asyncio.gather(*late, return_exceptions=True)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("job crashed")
