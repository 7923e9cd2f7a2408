"""Everything moves to an empty database and is the same there, to the byte; or nothing does."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import InputError, StoreError
from bot.model import StepState
from bot.rules import REFINE, Event
from bot.store import Store
from bot.store.schema import REVISION
from tests.store.test_outbox import Note
from tests.store.world import ANN, BEN, TWO, Clock, change, finding, new_case, opened, role, waiting, yes

pytestmark = pytest.mark.usefixtures("each_engine")

OTHER = "arn:aws:iam::210987654321:role/Other"


async def filled(store: Store, clock: Clock) -> None:
    """Use every table and every column."""
    case = await waiting(store)
    await store.approve(case.id, case.revision, yes(case), team=TWO)
    case = await store.approve(case.id, case.revision, yes(case, by=BEN, reason="é\u2028"), team=TWO)
    began = await store.begin(change(case))
    await store.mark(began.id, 1, StepState.DONE, "v2")
    await store.finish(began.id, "done")
    await store.move(
        case.id, Event.APPLIED, by=REFINE, role=role(), until=clock() + timedelta(microseconds=1), sentence='"\n'
    )
    (item, *_) = await store.due(clock())
    await store.sending(item.id)
    await store.later(item.id, clock() + timedelta(minutes=1), "slow down")
    other = await new_case(store, OTHER)
    await store.set_findings(other.id, [finding("f1", OTHER)], REFINE)
    await store.queue([Note(kind="summary", key="burst", args=(("opened", "2"),))])
    await store.set_flag("paused", "by Ann", ANN)
    await store.remember("why/1", "because")


async def dumped(store: Store) -> list[str]:
    return [line async for line in store.dump()]


async def everything(store: Store, clock: Clock) -> object:
    return (
        await store.cases(),
        await store.history(None),
        await store.due(clock() + timedelta(days=1)),
        await store.flag("paused"),
        await store.recall("why/1"),
    )


async def test_what_is_exported_and_imported_is_the_same_and_goes_on_from_there(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "old", clock) as old, opened(tmp_path / "new", clock) as new:
        await filled(old, clock)
        lines = await dumped(old)
        assert {json.loads(x).get("table") for x in lines} >= {
            "cases", "proposals", "approvals", "changes", "journal", "outbox", "flags", "kv", "audit", "audit_head",
        }  # fmt: skip
        assert await new.load(lines) == len(lines) - 2
        assert await dumped(new) == lines
        assert await everything(new, clock) == await everything(old, clock)
        assert await new.verify_audit() is None
        (case, *_) = await new.cases()
        before = await new.history(None, limit=1)
        await new.record(case.id, ANN, "said", {})
        await new.queue([Note(kind="summary", key="weekly")])
        assert (await new.history(None, limit=1))[0].seq == before[0].seq + 1
        assert await new.verify_audit() is None


async def test_an_export_is_of_one_moment(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "old", clock) as old, opened(tmp_path / "new", clock) as new:
        await filled(old, clock)
        whole = await dumped(old)
        lines = []
        async for line in old.dump():
            lines.append(line)
            if len(lines) % 5 == 0:
                await old.record(None, ANN, "said meanwhile", {})
        assert lines == whole
        await new.load(lines)
        assert await new.verify_audit() is None


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
async def test_rows_of_one_batch_and_of_several_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr("bot.store.dump._BATCH", 3)
    async with opened(tmp_path / "old") as old, opened(tmp_path / "new") as new:
        for n in range(rows):
            await old.remember(f"k{n}", str(n))
        await new.load(await dumped(old))
        assert [await new.recall(f"k{n}") for n in range(rows)] == [str(n) for n in range(rows)]


async def test_a_database_with_anything_in_it_is_not_imported_into(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "old", clock) as old, opened(tmp_path / "new", clock) as new:
        await filled(old, clock)
        await new.remember("k", "v")
        with pytest.raises(StoreError, match="something in this database"):
            await new.load(await dumped(old))
        assert await new.cases() == ()


BAD = {
    "cut off": lambda x: x[:-1],
    "cut in a line": lambda x: [*x[:-2], x[-2][:-5]],
    "a line is missing": lambda x: [*x[:3], *x[4:]],
    "a line is there twice": lambda x: [*x[:3], x[2], *x[3:]],
    "empty": lambda _: [],
    "no header": lambda x: x[1:],
    "another version": lambda x: [x[0].replace(REVISION, "0000"), *x[1:]],
    "another table": lambda x: [*x[:-1], '{"table": "users", "row": {}}', x[-1]],
    "another column": lambda x: [x[0], *(y.replace('"seq"', '"sequence"') for y in x[1:])],
    "not JSON": lambda x: [x[0], "nonsense", *x[1:]],
    "not an object": lambda x: [x[0], "[]", *x[1:]],
    "a name too few": lambda x: [x[0], *(y.replace('"value":', '"key2":') for y in x[1:])],
}


@pytest.mark.parametrize("name", list(BAD))
async def test_an_export_that_is_not_whole_leaves_the_database_empty(tmp_path: Path, name: str) -> None:
    clock = Clock()
    async with opened(tmp_path / "old", clock) as old, opened(tmp_path / "new", clock) as new:
        await filled(old, clock)
        lines = await dumped(old)
        with pytest.raises((InputError, StoreError)):
            await new.load(BAD[name](lines))
        assert (await new.cases(), await new.history(None), await new.verify_audit()) == ((), (), None)
        await new.load(lines)
        assert await everything(new, clock) == await everything(old, clock)
