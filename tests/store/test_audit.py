"""The audit log: nobody rewrites it, and whoever goes around the bot to do so is found out."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from bot.errors import StoreError
from bot.model import UserId
from bot.rules import REFINE, Event
from tests import postgres
from tests.store import world
from tests.store.world import ANN, AT, KEY, Clock, applying, change, new_case, opened

pytestmark = pytest.mark.usefixtures("each_engine")
LAST = 12


async def written(path: Path) -> None:
    """Leave a log of twelve entries."""
    async with opened(path) as store:
        case = await applying(store)
        await store.begin(change(case))
        for n in range(LAST - 5):
            await store.record(case.id, UserId(f"U{n}"), "said", {"text": f"é {n}"})
        assert (await store.history(None, limit=1))[0].seq == LAST


def sql(path: Path, *statements: str) -> None:
    if world.POSTGRESQL:
        postgres.server().run(*statements, name=postgres.name_of(path))
        return
    with closing(sqlite3.connect(path / "bot.db")) as db, db:
        for each in statements:
            db.execute(each)


def behind_the_bots_back(path: Path, *statements: str) -> None:
    triggers = ("change ON audit", "truncate ON audit") if world.POSTGRESQL else ("update", "delete")
    sql(path, *(f"DROP TRIGGER audit_no_{each}" for each in triggers), *statements)


async def test_every_change_of_state_is_one_entry_of_a_whole_chain(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await new_case(store)
        clock.on(minutes=1)
        await store.move(case.id, Event.REVIEW, by=ANN, detail={"task": "t"})
        newest, oldest = await store.history(case.id)
        assert (oldest.seq, oldest.at, oldest.who, oldest.what, oldest.case_id) == (1, AT, REFINE, "opened", case.id)
        assert (newest.seq, newest.at, newest.who, newest.what) == (2, clock(), ANN, "review")
        assert newest.detail == (("from", "new"), ("revision", "2"), ("task", "t"), ("to", "working"))
        assert await store.verify_audit() is None


async def test_anybody_with_the_key_can_check_the_chain_as_it_is_documented(tmp_path: Path) -> None:
    await written(tmp_path)
    async with opened(tmp_path) as store:
        entries = reversed(await store.history(None))
    before = ""
    for e in entries:
        body = {"at": e.at.isoformat(), "case": e.case_id, "detail": dict(e.detail), "what": e.what, "who": e.who}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        before = hmac.new(KEY, f"{before}|{e.seq}|{text}".encode(), hashlib.sha256).hexdigest()
        assert e.mac == before


async def test_history_is_read_in_pages_newest_first(tmp_path: Path) -> None:
    await written(tmp_path)
    async with opened(tmp_path) as store:
        assert [e.seq for e in await store.history(None, limit=3)] == [12, 11, 10]
        assert [e.seq for e in await store.history(None, limit=3, before_seq=10)] == [9, 8, 7]
        assert [e.seq for e in await store.history(None, before_seq=2)] == [1]
        (case,) = await store.cases()
        assert len(await store.history(case.id)) == LAST
        other = await new_case(store, "arn:aws:iam::123456789012:role/Other")
        assert [e.what for e in await store.history(other.id)] == ["opened"]


@pytest.mark.parametrize("statement", ["UPDATE audit SET mac = 'x' WHERE seq = 3", "DELETE FROM audit WHERE seq = 3"])
async def test_the_database_itself_refuses_to_rewrite_an_entry(tmp_path: Path, statement: str) -> None:
    await written(tmp_path)
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException), match="append-only"):
        sql(tmp_path, statement)
    async with opened(tmp_path) as store:
        assert await store.verify_audit() is None


def forged(seq: int, mac: str) -> str:
    body = json.dumps({"at": AT.isoformat(), "case": None, "detail": {}, "what": "x", "who": "U"})
    return f"INSERT INTO audit (seq, case_id, body, mac) VALUES ({seq}, NULL, '{body}', '{mac}')"


def swap(a: int, b: int) -> list[str]:
    return [f"UPDATE audit SET seq = {to} WHERE seq = {of}" for of, to in ((a, 0), (b, a), (0, b))]


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["UPDATE audit SET body = replace(body, '\"U1\"', '\"U9\"') WHERE seq = 7"], 7),
        (["UPDATE audit SET body = body || ' ' WHERE seq = 1"], 1),
        (["UPDATE audit SET case_id = NULL WHERE seq = 5"], 5),
        (["UPDATE audit SET mac = (SELECT mac FROM audit WHERE seq = 3) WHERE seq = 4"], 4),
        (["DELETE FROM audit WHERE seq = 1"], 1),
        (["DELETE FROM audit WHERE seq = 6"], 6),
        (["DELETE FROM audit WHERE seq = 6", "UPDATE audit SET seq = seq - 1 WHERE seq > 6"], 6),
        (["DELETE FROM audit WHERE seq = 12"], 12),
        (["DELETE FROM audit"], 1),
        (["UPDATE audit SET seq = 13 WHERE seq = 12"], 12),
        ([forged(13, "0" * 64)], 13),
        ([forged(0, "0" * 64)], 1),
        ([forged(13, "0" * 64), "UPDATE audit_head SET seq = 13, mac = '" + "0" * 64 + "'"], 13),
        (swap(4, 5), 4),
        (swap(2, 11), 2),
        (["UPDATE audit_head SET seq = 11"], 13),
        (["UPDATE audit_head SET mac = ''"], 13),
        (["DELETE FROM audit_head"], 13),
    ],
)
async def test_what_is_changed_removed_inserted_or_moved_is_found_at_its_place(
    tmp_path: Path, statements: list[str], found: int
) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, *statements)
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == found


NOBODY = "0" * 64
HEADS = (
    "(SELECT mac FROM audit WHERE seq = 9)",  # the last mac that is left
    f"'{NOBODY}'",
    "''",
)


@pytest.mark.parametrize("mac", HEADS)
async def test_a_tail_cut_off_is_found_whatever_head_somebody_makes_without_the_key(tmp_path: Path, mac: str) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, "DELETE FROM audit WHERE seq > 9", f"UPDATE audit_head SET seq = 9, mac = {mac}")
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == 10
        for _ in range(3):
            await store.record(None, ANN, "said", {})  # what comes after does not heal it
            assert await store.verify_audit() == 10


async def test_a_log_that_was_emptied_is_no_new_log(tmp_path: Path) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, "DELETE FROM audit", "UPDATE audit_head SET seq = 0, mac = ''")
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == 1
        await store.record(None, ANN, "said", {})
        assert await store.verify_audit() == 1


async def test_log_and_head_of_an_earlier_moment_look_whole(tmp_path: Path) -> None:
    """The documented limit: a head noted outside of the database tells it."""
    await written(tmp_path)
    read = "SELECT mac FROM audit_head"
    if world.POSTGRESQL:
        [(old,)] = postgres.server().run(read, name=postgres.name_of(tmp_path))
    else:
        with closing(sqlite3.connect(tmp_path / "bot.db")) as db:
            [(old,)] = db.execute(read)
    async with opened(tmp_path) as store:
        await store.record(None, ANN, "said", {})
    put_back = f"UPDATE audit_head SET seq = {LAST}, mac = '{old}'"
    behind_the_bots_back(tmp_path, f"DELETE FROM audit WHERE seq > {LAST}", put_back)
    async with opened(tmp_path) as store:
        assert await store.verify_audit() is None


@pytest.mark.parametrize("body", ["[]", "5", '{"at": 5}', "{", "[" * 100_000, '{"case": ' + "9" * 5000 + "}"])
async def test_a_body_that_is_no_entry_is_named(tmp_path: Path, body: str) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, f"UPDATE audit SET body = '{body}' WHERE seq = 3")
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == 3
        with pytest.raises(StoreError, match="Entry 3"):
            await store.history(None)


@pytest.mark.parametrize("page", [1, 5, LAST - 1, LAST])
async def test_pages_of_the_log_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    monkeypatch.setattr("bot.store.audit._PAGE", page)
    await written(tmp_path)
    async with opened(tmp_path) as store:
        assert await store.verify_audit() is None
    behind_the_bots_back(tmp_path, "UPDATE audit SET mac = '' WHERE seq = 11")
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == 11


async def test_another_key_verifies_nothing(tmp_path: Path) -> None:
    await written(tmp_path)
    async with opened(tmp_path, audit_key=b"another") as store:
        assert await store.verify_audit() == 1


async def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.verify_audit() is None
        assert await store.history(None) == ()


async def test_nothing_is_done_where_it_cannot_be_recorded(tmp_path: Path) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, "DELETE FROM audit_head")
    async with opened(tmp_path) as store:
        (case,) = await store.cases()
        before = await store.case(case.id)
        with pytest.raises(StoreError, match="head of the audit log"):
            await store.move(case.id, Event.APPLY_FAILED, by=REFINE)
        assert await store.case(case.id) == before
