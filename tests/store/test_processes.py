"""More than one process on a database, and processes that are killed in the middle of it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.errors import StoreError
from bot.model import CaseState
from tests.store.test_outbox import drain
from tests.store.world import Clock, new_case, opened, url, waiting

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def another(what: str, folder: Path, *arguments: object) -> AsyncIterator[Process]:
    """Start the other process and wait until it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.store.another", what, str(folder), *map(str, arguments)),
        stdin=PIPE,
        stdout=PIPE,
        cwd=ROOT,
        env={**os.environ, "TEST_DATABASE_URL": url(folder)},
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.usefixtures("each_engine")
async def test_of_fifty_approvals_from_two_processes_exactly_one_wins(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        async with another("approve", tmp_path, case.id) as one, another("approve", tmp_path, case.id) as two:
            said = b"".join([out for out, _ in await asyncio.gather(one.communicate(b"\n"), two.communicate(b"\n"))])
        lines = said.decode().splitlines()
        assert len(lines) == 50
        assert [w for w in lines if w != "lost"] == [f"won U0ANN {case.revision + 1}"]
        now = await store.case(case.id)
        assert (now.state, len(now.approvals)) == (CaseState.APPLYING, 1)
        assert await store.verify_audit() is None


async def test_a_second_process_is_refused_until_the_first_one_is_gone_however_it_went(tmp_path: Path) -> None:
    async with another("hold", tmp_path) as first:
        with pytest.raises(StoreError, match="Another Refine process"):
            async with opened(tmp_path):
                pass
        first.send_signal(signal.SIGKILL)
        await first.wait()
        async with opened(tmp_path) as store:
            await store.ping()


@pytest.mark.usefixtures("each_engine")
async def test_kill_9_in_the_middle_of_writing_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Case, audit log and outbox are of the same moment after each kill: all of a move is there, or nothing."""
    dice = random.Random(4)
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await new_case(store)
        await drain(store, clock)
    known = case.revision
    for _ in range(4):
        async with another("write", tmp_path, case.id) as writer:
            assert writer.stdout is not None
            first = await writer.stdout.readline()
            await asyncio.sleep(dice.uniform(0.0, 0.1))
            writer.kill()
            said = (first + await writer.stdout.read()).split(b"\n")
        acknowledged = max(int(line) for line in said[:-1])
        assert acknowledged > known
        async with opened(tmp_path, clock) as store:
            now = await store.case(case.id)
            assert now.revision in (acknowledged, acknowledged + 1)
            assert now.state is (CaseState.NEW if now.task == "" else CaseState.WORKING)
            assert await store.verify_audit() is None
            entries = await store.history(case.id, limit=10_000)
            assert [e.seq for e in entries] == list(range(now.revision, 0, -1))
            assert dict(entries[0].detail)["revision"] == str(now.revision)
            notes = [f"note/{n}" for n in range(known + 1, now.revision + 1)]
            assert await drain(store, clock) == [f"card/{case.id}", *notes]
        known = now.revision


async def test_a_full_disk_is_said_to_people_and_nothing_is_lost_when_there_is_room_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await new_case(store)
    async with another("fill", tmp_path, case.id) as process:
        said, _ = await process.communicate()
    full, whole = said.decode().splitlines()
    done = int(full.removeprefix("full after ").split(":")[0])
    assert done > 3
    assert "nothing was recorded" in full
    assert whole == "whole True"
    async with opened(tmp_path) as store:
        assert len(await store.history(case.id)) == done + 2
        assert await store.verify_audit() is None
