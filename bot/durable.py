"""Runs flows in this process, one at a time for each name and key.

Nothing is remembered here. The row in the store is the truth, a flow may be started any number of times, and the clock
submits every unfinished case again (`flows.watch.tick`): whatever a crash or an error leaves is taken up from there.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable

import structlog

from bot.errors import RefineError

log = structlog.get_logger()

Flow = Callable[[str], Awaitable[None]]
Job = tuple[str, str]  # a flow's name and its key


class Engine:
    """See `register`, `submit`, `start` and `stop`.

    Args:
        elsewhere: told of a job that is submitted while this engine is not started, where another process has the one
            that is; None: the job waits for the start.
    """

    def __init__(self, elsewhere: Callable[[str, str], Awaitable[None]] | None = None) -> None:
        self._elsewhere = elsewhere
        self._context = contextvars.copy_context()
        self._flows: dict[str, Flow] = {}
        self._running: dict[Job, asyncio.Task[None]] = {}
        self._asked: dict[Job, None] = {}  # in the order of asking: before the start, or while the same job ran
        self._open = False

    def register(self, name: str, flow: Flow) -> None:
        """Name a flow; it is called with the key."""
        self._flows[name] = flow

    async def submit(self, name: str, key: str) -> None:
        """Start the flow soon; where it runs already, once more afterwards.

        Before `start` and after `stop` it waits, here or `elsewhere`.

        Raises:
            LookupError: no flow has this name.
        """
        if name not in self._flows:
            raise LookupError(f"no flow is registered as {name!r}")
        job = (name, key)
        if self._open and job not in self._running:
            self._run(job)
        elif self._open or self._elsewhere is None:
            self._asked[job] = None
        else:
            await self._elsewhere(name, key)

    async def start(self) -> None:
        """Run what is submitted, from now on in the context of this call, whoever submits it."""
        self._context = contextvars.copy_context()
        self._open = True
        asked, self._asked = self._asked, {}
        for job in asked:
            self._run(job)

    async def stop(self, patience: float = 20.0) -> None:
        """Let what runs come to its end, for so many seconds, then cancel it; it is taken up at the next start."""
        self._open = False
        tasks = list(self._running.values())
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _run(self, job: Job) -> None:
        task = self._running[job] = asyncio.create_task(
            self._call(*job), name="/".join(job), context=self._context.copy()
        )
        task.add_done_callback(lambda _: self._ended(job))

    def _ended(self, job: Job) -> None:
        del self._running[job]
        if self._open and job in self._asked:
            del self._asked[job]
            self._run(job)

    async def _call(self, name: str, key: str) -> None:
        with structlog.contextvars.bound_contextvars(flow=name, key=key):
            try:
                await self._flows[name](key)
            except asyncio.CancelledError:
                log.warning("flow cancelled")
                raise
            except RefineError as error:
                log.warning("flow stopped", error=error.say(), code=error.code)
            except Exception:  # whatever it is, the others go on, and the clock starts this one again
                log.exception("flow crashed")
