"""Another process on the same database, for the tests: `python -m tests.store.another WHAT DIRECTORY …`.

Each act that the store has acknowledged is a line on standard output; a line on standard input starts it.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from pathlib import Path

import structlog

from bot.errors import StaleError, StoreError
from bot.model import CaseId, UserId
from bot.rules import Event
from bot.store import replicas
from tests.store.test_outbox import Note
from tests.store.world import ANN, TEAM, opened, url, yes


def say(what: object) -> None:
    print(what, flush=True)


async def approve(path: Path, case_id: str) -> None:
    """Approve the waiting proposal as twenty-five people at once; say who won."""
    async with opened(path, alone=False) as store:
        case = await store.case(CaseId(case_id))
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)

        async def one(by: UserId) -> None:
            try:
                moved = await store.approve(case.id, case.revision, yes(case, by), team=TEAM)
                say(f"won {by} {moved.revision}")
            except StaleError:
                say("lost")

        await asyncio.gather(*(one(u) for u in (ANN,) * 25))


async def write(path: Path, case_id: str) -> None:
    """Move a case to and fro for ever, with a note each time; say each revision once it is stored."""
    async with opened(path) as store:
        case = await store.case(CaseId(case_id))
        say("ready")
        while True:
            event = Event.REVIEW if case.task == "" else Event.REVIEWED
            case = await store.move(
                case.id,
                event,
                by=ANN,
                revision=case.revision,
                task="on" if event is Event.REVIEW else "",
                sentence="x" * 20_000,  # several pages of the file
                notes=[Note(key=f"note/{case.revision + 1}", case_id=case.id)],
            )
            say(case.revision)


async def fill(path: Path, case_id: str) -> None:
    """Record until the file may not grow any more, then make room and go on."""
    async with opened(path) as store:
        say("ready")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
        done = 0
        try:
            while True:
                await store.record(CaseId(case_id), ANN, "said", {"text": "x" * 20_000})
                done += 1
        except StoreError as error:
            say(f"full after {done}: {error.say()}")
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await store.record(CaseId(case_id), ANN, "said", {"text": "room"})
        say(f"whole {await store.verify_audit() is None}")


async def hold(path: Path) -> None:
    """Keep the database for this process."""
    async with opened(path):
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)


async def lead(path: Path, case_id: str) -> None:
    """Work as the leader, recording all the time, until that is refused."""

    stop = asyncio.Event()

    async def work(_: asyncio.Event) -> None:
        say("ready")
        try:
            while True:
                await store.record(CaseId(case_id), ANN, "said", {})
                await asyncio.sleep(0.01)
        except (StoreError, asyncio.CancelledError) as error:
            say(type(error).__name__)
            stop.set()
            raise

    async with opened(path) as store:
        one = replicas.replicas(url(path), store, monotonic=time.monotonic, new_id=lambda: "first")
        await one.run(work, stop=stop, hear=_deaf)


async def _deaf(_: str) -> None:
    return


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:]))
