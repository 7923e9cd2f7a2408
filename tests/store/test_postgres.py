"""What only PostgreSQL has: rights, replicas that take over from each other, and a server that goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner

from bot.__main__ import refine
from bot.errors import StoreError
from bot.rules import Event
from bot.store import Store, replicas
from bot.store.schema import metadata
from tests import postgres
from tests.store import world
from tests.store.test_processes import another
from tests.store.world import ANN, KEY, Clock, new_case, opened, url


@pytest.fixture(autouse=True)
def _on_postgresql(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(world, "POSTGRESQL", True)
    yield
    postgres.forget()


# -------------------- tables and rights


def test_the_migrated_schema_is_the_declared_one(tmp_path: Path) -> None:
    migrated = sa.create_engine(url(tmp_path).replace("postgresql:", "postgresql+psycopg:"))
    with migrated.connect() as one:
        assert compare_metadata(MigrationContext.configure(one, opts={"compare_type": True}), metadata) == []
    migrated.dispose()


async def test_bots_that_start_together_on_an_empty_database_make_the_tables_once(tmp_path: Path) -> None:
    made = postgres.server().create(postgres.name_of(tmp_path))

    async def one() -> None:
        async with Store.open(made, audit_key=KEY, clock=Clock(), new_id=str) as store:
            await store.ping()

    await asyncio.gather(*(one() for _ in range(4)))


@pytest.fixture
def as_the_bot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a database whose tables another user owns; made by the operator's command."""
    server = postgres.server()
    for role in ("refine_owner", "refine_bot"):
        server.run(f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    name = postgres.name_of(tmp_path)
    server.create(name)
    server.run(f'ALTER DATABASE "{name}" OWNER TO refine_owner')
    for variable in [v for v in os.environ if v.startswith(("SLACK_", "REFINE_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("REFINE_DATABASE_URL", server.url(name, "refine_owner"))
    result = CliRunner().invoke(refine, ["migrate", "--grant", "refine_bot"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "refine_bot" in result.output
    yield server.url(name, "refine_bot")
    server.drop(name)


async def test_the_bots_own_user_cannot_rewrite_the_audit_log_and_lacks_nothing_else(as_the_bot: str) -> None:
    async with Store.open(as_the_bot, audit_key=KEY, clock=Clock(), new_id=lambda: "case1") as store:
        case = await new_case(store)
        case = await store.move(case.id, Event.REVIEW, by=ANN)
        await store.set_flag("paused", "yes", ANN)
        assert await store.due(Clock()(), 5)
        assert await store.verify_audit() is None
        assert not await store.may_rewrite_audit()
    for forbidden in (
        "UPDATE audit SET body = '{}'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "DROP TABLE audit",
        "DELETE FROM audit_head",
        "CREATE TABLE mine (id int)",
    ):
        with psycopg.connect(as_the_bot) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(forbidden)  # type: ignore[call-overload]


async def test_the_owner_of_the_tables_is_known_to_be_able_to_rewrite_the_log(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert await store.may_rewrite_audit()


async def test_a_user_who_may_not_make_the_tables_is_told_who_has_to(tmp_path: Path) -> None:
    server = postgres.server()
    server.run("DO $$ BEGIN CREATE ROLE refine_bot LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    name = postgres.name_of(tmp_path)
    server.create(name)
    with pytest.raises(StoreError) as error:
        async with Store.open(server.url(name, "refine_bot"), audit_key=KEY, clock=Clock(), new_id=str):
            pass
    assert "refine migrate" in error.value.say()
    server.drop(name)


async def test_numbers_given_out_by_the_database_go_on_after_an_import(tmp_path: Path) -> None:
    async with opened(tmp_path / "old") as old, opened(tmp_path / "new") as new:
        await new_case(old)
        lines = [line async for line in old.dump()]
        await new.load(lines)
        await new_case(new, "arn:aws:iam::123456789012:role/Other")
        assert len(await new.due(Clock()(), 5)) == 2


async def test_a_sqlite_installation_moves_over_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.store.test_dump import filled

    clock = Clock()
    async with opened(tmp_path / "new") as new:
        monkeypatch.setattr(world, "POSTGRESQL", False)
        async with opened(tmp_path / "old", clock) as old:
            await filled(old, clock)
            lines = [line async for line in old.dump()]
            await new.load(lines)
            assert sorted([line async for line in new.dump()]) == sorted(lines)
            assert await new.cases() == await old.cases()
            assert await new.verify_audit() is None


async def test_a_text_that_cannot_be_stored_is_said_to_be_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await new_case(store)
        with pytest.raises(StoreError, match="characters that cannot be stored"):
            await store.move(case.id, Event.REVIEW, by=ANN, reason="a\0b")
        assert (await store.move(case.id, Event.REVIEW, by=ANN)).revision == 2


# -------------------- replicas


class Replica:
    """A replica in this process, whose work is to say that it is at it."""

    def __init__(self, folder: Path, store: Store, name: str) -> None:
        self.name = name
        self.store = store
        self.log: list[str] = []
        self.heard: list[str] = []
        self.ahead = 0.0  # seconds
        self.one = replicas.replicas(url(folder), store, monotonic=self._now, new_id=lambda: self.name, beat=0.05)
        self.stop = asyncio.Event()

    def _now(self) -> float:
        return time.monotonic() + self.ahead

    async def work(self, ended: asyncio.Event) -> None:
        self.log.append("begins")
        try:
            await ended.wait()
            self.log.append("ends")
        except asyncio.CancelledError:
            self.log.append("is cut off")
            raise

    async def hear(self, what: str) -> None:
        self.heard.append(what)

    async def run(self) -> None:
        await self.one.run(self.work, stop=self.stop, hear=self.hear)


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    async with opened(folder) as one, opened(folder) as other:
        first, second = Replica(folder, one, "first"), Replica(folder, other, "second")
        running = [asyncio.create_task(first.run())]
        await until(lambda: first.one.leading)
        running.append(asyncio.create_task(second.run()))
        try:
            yield first, second
        finally:
            first.stop.set()
            second.stop.set()
            await asyncio.gather(*running)


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not check():
            await asyncio.sleep(0.01)


async def test_one_works_and_another_takes_over_when_it_leaves(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        await asyncio.sleep(0.3)
        assert (first.log, second.log) == (["begins"], [])
        first.one.sure()
        with pytest.raises(StoreError, match="another replica"):
            second.one.sure()
        first.stop.set()
        await until(lambda: second.one.leading)
        assert (first.log, second.log) == (["begins", "ends"], ["begins"])
        with pytest.raises(StoreError, match="another replica"):
            first.one.sure()


async def test_a_leader_whose_session_the_server_ends_is_cut_off_and_another_works(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 2"
        postgres.server().run(kill, name=postgres.name_of(tmp_path))
        await until(lambda: first.log[-1] == "is cut off")
        await until(lambda: first.one.leading or second.one.leading)
        assert first.one.leading != second.one.leading


async def test_what_an_earlier_term_began_can_record_nothing_any_more(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        with first.store.during("first"):
            await first.store.record(None, ANN, "in time", {})
            await second.store.lead("second")
            with pytest.raises(StoreError, match="Another replica"):
                await first.store.record(None, ANN, "too late", {})
        await first.store.record(None, ANN, "a click", {})  # is nobody's term
        assert [e.what for e in await first.store.history(None)] == ["a click", "in time"]


async def test_a_leader_that_slept_is_not_sure_of_anything_before_the_server_says_so(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, _):
        first.one.sure()
        first.ahead = replicas.IDLE / 2
        with pytest.raises(StoreError, match="another replica"):
            first.one.sure()
        await asyncio.sleep(0.3)  # it is still the leader, and the server has said so
        first.one.sure()


async def test_each_hears_what_the_others_write_and_ask_for(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        await asyncio.sleep(0.2)
        first.heard.clear()
        await second.store.record(None, ANN, "said", {})
        await second.store.tell("drive/case1")
        await until(lambda: "drive/case1" in first.heard)
        assert "" in first.heard


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_process_that_is_killed_or_frozen_is_followed_by_another(tmp_path: Path, how: signal.Signals) -> None:
    """Killed: at once. Frozen: when the server has heard nothing of it for ten seconds; woken, it writes no more."""
    async with opened(tmp_path) as store:
        case = await new_case(store)
        async with another("lead", tmp_path, case.id) as process:
            assert process.stdout is not None
            second = Replica(tmp_path, store, "second")
            running = asyncio.create_task(second.run())
            await asyncio.sleep(0.2)
            assert second.log == []
            process.send_signal(how)
            began = time.monotonic()
            await until(lambda: second.one.leading)
            print(f"taken over after {how.name}: {time.monotonic() - began:.2f} s")
            at = (await store.history(None, limit=1))[0].seq
            if how is signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
                said = await asyncio.wait_for(process.stdout.read(), 20)
                assert said in {b"CancelledError\n", b"StoreError\n"}
            await process.wait()
            assert (await store.history(None, limit=1))[0].seq == at
            second.stop.set()
            await running


# -------------------- a server that goes away


async def test_a_server_that_crashes_costs_nothing_that_was_recorded_and_is_found_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await new_case(store)
        replica = Replica(tmp_path, store, "first")
        running = asyncio.create_task(replica.run())
        await until(lambda: replica.one.leading)
        postgres.server().crash()
        try:
            with pytest.raises(StoreError, match="does not answer"):
                await store.move(case.id, Event.REVIEW, by=ANN)
            await until(lambda: replica.log == ["begins", "is cut off"])
        finally:
            postgres.server().start()
        await until(lambda: replica.one.leading)
        assert (await store.move(case.id, Event.REVIEW, by=ANN)).revision == 2
        assert await store.verify_audit() is None
        replica.stop.set()
        await running


def test_the_url_of_the_database_is_never_repeated_in_an_error() -> None:
    with pytest.raises(StoreError) as error:
        asyncio.run(_ping("postgresql://refine:s3cret@127.0.0.1:1/none"))
    assert "s3cret" not in str(error.value.say())
    assert "does not answer" in str(error.value)


async def _ping(where: str) -> None:
    async with Store.open(where, audit_key=KEY, clock=Clock(), new_id=str) as store:
        await store.ping()
