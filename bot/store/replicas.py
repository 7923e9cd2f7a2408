"""Several bots on one PostgreSQL: all take clicks, one works. Whichever holds a lock of the server's is the leader.

The lock belongs to a session, and the server gives it back when the session ends: at once when its process dies, and
after `IDLE` seconds when it says nothing, being frozen or cut off (`idle_session_timeout`). There is no lease of our
own and no clock that two machines would have to agree on. Whoever was the leader and does not know better yet is held
back twice: `sure` refuses what goes to AWS and Slack once the last sign of life is too old for the lock to be certain,
and the store takes no write of an earlier term (`Store.during`).

Sessions need a direct connection, or a pooler in session mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import psycopg
import sqlalchemy as sa
import structlog

from bot.errors import StoreError
from bot.store import database, postgres
from bot.store.store import Store

log = structlog.get_logger()

IDLE: Final = 10.0  # seconds
BEAT: Final = 0.5

Work = Callable[[asyncio.Event], Awaitable[None]]
Hear = Callable[[str], Awaitable[None]]


class Replicas(Protocol):
    leading: bool

    async def run(self, work: Work, *, stop: asyncio.Event, hear: Hear) -> None:
        """Call `work` whenever this process is the one to work, and hear what others write, until `stop` is set.

        `work` gets an event that asks it to end, and is cancelled where another may have taken over already.
        """

    def sure(self) -> None:
        """Raise StoreError where another process may have taken over the work."""


class Alone:
    """The only process on its database: the lock on the file keeps all others out."""

    leading = False

    async def run(self, work: Work, *, stop: asyncio.Event, hear: Hear) -> None:
        del hear
        self.leading = True
        try:
            await work(stop)
        finally:
            self.leading = False

    def sure(self) -> None:
        return


class Several:
    """One of several processes on a PostgreSQL database."""

    def __init__(
        self,
        url: sa.URL,
        store: Store,
        *,
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
        beat: float = BEAT,
        idle: float = IDLE,
    ) -> None:
        # The server counts from the end of our last word, we from before its start: we give up long before it does.
        self._idle, self._sure = idle, idle / 2
        self._conninfo = postgres.driver_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._store = store
        self._monotonic = monotonic
        self._new_id = new_id
        self._beat = beat
        self._until = 0.0  # of `monotonic`: so long nobody else can be the leader
        self.leading = False

    def sure(self) -> None:
        if not self.leading or self._monotonic() >= self._until:
            raise StoreError(
                "This process may not go on: another replica of Refine may have taken over its work.",
                "The card shows where it stands in a moment.",
            )

    async def run(self, work: Work, *, stop: asyncio.Event, hear: Hear) -> None:
        while not stop.is_set():
            try:
                await self._attend(work, stop, hear)
            except (psycopg.Error, OSError, TimeoutError, StoreError) as error:
                log.warning("no session with the database", error=type(error).__name__)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 1.0)

    async def _attend(self, work: Work, stop: asyncio.Event, hear: Hear) -> None:
        session = await psycopg.AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            connect_timeout=5,
            tcp_user_timeout=5000,
            application_name="refine session",
            options=f"-c idle_session_timeout={int(self._idle * 1000)}",
        )
        ended = asyncio.Event()
        working: asyncio.Task[None] | None = None
        try:
            await session.execute(f"LISTEN {database.BELL}")
            while True:
                if working is None and not stop.is_set():
                    working = await self._try_to_lead(session, work, ended)
                elif working is not None:
                    asked = self._monotonic()
                    await asyncio.wait_for(session.execute("SELECT 1"), self._sure)
                    self._until = asked + self._sure
                if stop.is_set():
                    ended.set()
                if working is not None and working.done():
                    await working  # what went wrong there is for the caller to hear
                if stop.is_set() and (working is None or working.done()):
                    return
                async for note in session.notifies(timeout=self._beat):
                    await hear(note.payload)
        finally:
            # First the work, then the session with its lock: nobody else begins before this one has ended.
            ended.set()
            self.leading = False
            if working is not None and not working.done():
                working.cancel()
                await asyncio.wait([working])
            await session.close()

    async def _try_to_lead(
        self, session: psycopg.AsyncConnection[Any], work: Work, ended: asyncio.Event
    ) -> asyncio.Task[None] | None:
        asked = self._monotonic()
        answer = await asyncio.wait_for(
            session.execute("SELECT pg_try_advisory_lock(%s, %s)", (postgres.NAMESPACE, postgres.LEADING)), self._sure
        )
        if await answer.fetchone() != (True,):
            return None
        term = self._new_id()
        await self._store.lead(term)
        self._until = asked + self._sure
        self.leading = True
        log.info("leading", term=term)
        return asyncio.create_task(self._lead(term, work, ended))

    async def _lead(self, term: str, work: Work, ended: asyncio.Event) -> None:
        with self._store.during(term):
            await work(ended)


def replicas(
    url: str,
    store: Store,
    *,
    monotonic: Callable[[], float],
    new_id: Callable[[], str],
    beat: float = BEAT,
    idle: float = IDLE,
) -> Replicas:
    """Return what decides whether this process works.

    Args:
        url: of the database.
        store: on it.
        monotonic: seconds that never go back, and go on while the machine sleeps.
        new_id: makes the name of a term.
        beat: seconds between two signs of life; so often, too, a replica that waits looks whether it is its turn.
        idle: seconds without any after which the server takes the lock away.
    """
    parsed = database.read(url)
    if parsed.get_backend_name() == "sqlite":
        return Alone()
    return Several(parsed, store, monotonic=monotonic, new_id=new_id, beat=beat, idle=idle)
