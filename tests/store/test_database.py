"""The file: one bot at a time, a schema without drift, and errors that say what a person can do."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import traceback
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import bot.store
from bot.errors import ConfigError, StoreError
from bot.model import ActionVerdict, CaseId, CaseState, Verdict
from bot.rules import REFINE, Event
from bot.store import Store
from bot.store.schema import REVISION, metadata, proposals
from tests.store.test_outbox import Note
from tests.store.world import ANN, Clock, ask, new_case, opened, proposal, url


async def test_a_second_bot_on_the_same_file_is_refused_and_commands_are_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as bot_:
        with pytest.raises(StoreError, match="Another Refine process is using this database"):
            async with opened(tmp_path):
                pass
        async with opened(tmp_path, alone=False) as command:
            await command.set_flag("paused", "by hand", REFINE)
        assert await bot_.flag("paused") == "by hand"
    async with opened(tmp_path) as next_bot:
        assert await next_bot.flag("paused") == "by hand"


async def test_what_is_stored_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "deep"
    async with opened(path) as store:
        await new_case(store)
        for each in (path, *path.iterdir()):
            if each.name != "lock":
                assert not stat.S_IMODE(each.stat().st_mode) & 0o077, each.name


async def test_a_commit_is_on_disk_before_it_is_reported(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with closing(sqlite3.connect(tmp_path / "bot.db")) as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    # synchronous belongs to a connection: 2 is FULL
    async with opened(tmp_path) as store:
        assert await ask(store, sa.text("PRAGMA synchronous")) == 2
        assert await ask(store, sa.text("PRAGMA foreign_keys")) == 1


async def test_the_migrated_schema_is_the_declared_one(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    migrated = sa.create_engine(f"sqlite:///{tmp_path / 'bot.db'}")
    declared = sa.create_engine("sqlite://")
    metadata.create_all(declared)
    with migrated.connect() as one, declared.connect() as two:
        assert compare_metadata(MigrationContext.configure(one, opts={"compare_type": True}), metadata) == []
        a, b = sa.inspect(one), sa.inspect(two)
        for table in metadata.tables:
            assert a.get_pk_constraint(table) == b.get_pk_constraint(table)
            assert a.get_check_constraints(table) == b.get_check_constraints(table)
            assert [(c["name"], c["nullable"], c["default"]) for c in a.get_columns(table)] == [
                (c["name"], c["nullable"], c["default"]) for c in b.get_columns(table)
            ]


def test_the_newest_migration_is_the_one_that_is_asked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(bot.store.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


async def test_an_older_database_is_brought_up_to_date_and_counts_what_its_proposals_take_away(
    each_engine: str, tmp_path: Path
) -> None:
    named = (
        ("s3:GetObject", Verdict.UNUSED, False),
        ("s3:PutObject", Verdict.STALE, False),
        ("s3:Lis", Verdict.USED, True),
    )
    actions = tuple(ActionVerdict(action=a, verdict=v, kept=k, reason='"kept":false') for a, v, k in named)
    async with opened(tmp_path) as store:
        case = await store.move((await new_case(store)).id, Event.PROPOSE, by=ANN, task="{}", resume=CaseState.NEW)
        made = proposal(case)
        made = replace(made, trim=replace(made.trim, actions=actions))
        await store.move(case.id, Event.PROPOSED, by=REFINE, proposal=made)
        assert await ask(store, sa.select(proposals.c.removed)) == 2
    older = sa.create_engine(url(tmp_path).replace("postgresql:", "postgresql+psycopg:"))
    with older.begin() as connection:
        connection.execute(sa.text("ALTER TABLE proposals DROP COLUMN removed"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    older.dispose()
    async with opened(tmp_path) as store:
        assert await ask(store, sa.select(proposals.c.removed)) == 2
        assert (await store.case(case.id)).proposal == made


async def test_commands_that_start_together_on_a_new_file_make_it_once(tmp_path: Path) -> None:
    async def one() -> None:
        async with opened(tmp_path, alone=False) as store:
            await store.ping()

    await asyncio.gather(*(one() for _ in range(4)))


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "bot.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="another version"):
        async with opened(tmp_path):
            pass


async def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "bot.db").write_bytes(b"these are not the tables that you look for" * 100)
    with pytest.raises(StoreError, match="does not work"):
        async with opened(tmp_path):
            pass


async def test_a_place_that_cannot_be_written_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        async with opened(tmp_path / "file"):
            pass


@pytest.mark.parametrize("url", ["mysql://db/refine", "sqlite://", "sqlite:///:memory:", "nonsense"])
async def test_another_database_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="REFINE_DATABASE_URL"):
        async with Store.open(url, audit_key=b"k", clock=Clock(), new_id=str):
            pass


async def test_a_database_locked_by_another_process_is_said_to_be_and_is_used_again_afterwards(tmp_path: Path) -> None:
    async with opened(tmp_path, patience=0.2) as store:
        case = await new_case(store)
        with closing(sqlite3.connect(tmp_path / "bot.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await store.move(case.id, Event.REVIEW, by=ANN)
            assert await store.case(case.id) == case  # reading goes on
            other.execute("ROLLBACK")
        assert (await store.move(case.id, Event.REVIEW, by=ANN)).revision == 2


async def test_writers_of_one_process_wait_for_one_another_as_long_as_it_takes(tmp_path: Path) -> None:
    async with opened(tmp_path, patience=0.01) as store:
        await asyncio.gather(*(store.record(None, ANN, "said", {"n": str(n)}) for n in range(60)))
        assert len(await store.history(None, limit=100)) == 60


async def test_no_error_of_the_library_gets_out_and_none_repeats_what_was_stored(tmp_path: Path) -> None:
    secret = "the words of a person"
    async with opened(tmp_path) as store:
        with pytest.raises(StoreError) as caught:
            await store.queue([Note(key="k", case_id=CaseId("nobody"), args=(("text", secret),))])
        assert secret not in "".join(traceback.format_exception(caught.value))
        case = await new_case(store)
        with pytest.raises(StoreError, match="cannot be stored"):
            await store.move(case.id, Event.REVIEW, by=ANN, reason="\ud800")
        await store.ping()


async def test_a_file_taken_away_under_a_running_bot_is_an_error_for_people(tmp_path: Path) -> None:
    async with opened(tmp_path / "data") as store:
        await new_case(store)
        shutil.rmtree(tmp_path / "data")
        await store.place.run(store._database.reader.dispose())  # as after a while: connections are made anew
        with pytest.raises(StoreError):
            await store.ping()


async def test_a_call_whose_caller_is_cancelled_holds_nothing_up(tmp_path: Path) -> None:
    async with opened(tmp_path, patience=0.5) as store:
        case = await new_case(store)
        for n in range(40):
            tasks = [asyncio.create_task(store.record(case.id, ANN, "said", {"n": str(n)})) for _ in range(4)]
            tasks += [asyncio.create_task(store.case(case.id)) for _ in range(2)]
            await asyncio.sleep(n * 0.0004)  # at a different point each time
            for task in tasks:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [a for a in answers if isinstance(a, StoreError)]
            assert not store.calls  # whoever was cancelled has waited
        await store.record(case.id, ANN, "said", {})
        assert await store.verify_audit() is None


async def test_closing_waits_for_calls_that_nobody_waits_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await new_case(store)
        task = asyncio.create_task(store.record(case.id, ANN, "last words", {}))
        await asyncio.sleep(0)
        for _ in range(2):  # the second one interrupts the wait that the first one began
            task.cancel()
            await asyncio.sleep(0)
    async with opened(tmp_path) as store:
        assert [e.what for e in await store.history(case.id)] == ["last words", "opened"]
