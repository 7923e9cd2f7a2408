"""The short form of `tests.torture`, fifty approvals at once, a restart in every state, and a database in trouble."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot import rules
from bot.durable import Engine
from bot.errors import StoreError, UnavailableError
from bot.flows import World, decide, drive, post, watch
from bot.model import Case, CaseId, CaseState, ChangeId, StepState, UserId
from bot.rules import REFINE, Event
from bot.store import Store
from sandbox.aws import LocalAws, start
from sandbox.aws.front import Front
from tests import lives, postgres, torture
from tests.lives import BEN, HUB
from tests.store.world import ANN, RITA, TEAM, Clock, applying, change, new_case, opened, proposal, yes
from tests.torture import Databases, Kill, Plan, Tap, Trial, in_force, tapped

pytestmark = pytest.mark.xdist_group("torture")


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    local = start(world=False)
    yield local
    local.stop()


@pytest.fixture(scope="module")
def sqlite(aws: LocalAws, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    return Databases.made("sqlite", tmp_path_factory.mktemp("template"), aws.url)


@pytest.fixture(scope="module", params=torture.ENGINES)
def databases(request: pytest.FixtureRequest, sqlite: Databases) -> Databases:
    return sqlite if request.param == "sqlite" else Databases(None)


# -------------------- kills, faults, edits

SMALL = ("aws", "full", "inline")  # six steps
SOME = {
    "killed after a write, in the middle of another, and of the rollback": Plan(
        SMALL, kills=(Kill(2, "write", "after"), Kill(2, "write", "before")), back=True
    ),
    "killed between the calls, while reads lag": Plan(SMALL, kills=(Kill(60, "call", "later", 0.01),), lag=0.4),
    "a version is made and nobody hears of it": Plan(("full",), fault=(2, "lost", False), back=True),
    "a write fails before its effect": Plan(("full",), fault=(2, "before", False)),
    "the last write is denied for good": Plan(SMALL, kills=(Kill(5, "write", "after"),), fault=(3, "denied", True)),
}


@pytest.mark.parametrize("name", SOME)
def test_a_change_ends_applied_or_taken_back_whatever_happens(name: str, aws: LocalAws, databases: Databases) -> None:
    tally = torture.Tally()
    Trial(aws, SOME[name], random.Random(1), databases, tally).run()
    assert tally.violations == []
    assert tally.counts["kills"] + tally.counts["faults"] >= 1


def test_a_replica_that_was_frozen_in_the_middle_is_followed_and_does_no_harm_when_it_wakes(aws: LocalAws) -> None:
    tally = torture.Tally()
    plan = Plan(SMALL, kills=(Kill(2, "write", "before", freeze=True),), back=True)
    Trial(aws, plan, random.Random(2), Databases(None), tally).run()
    assert tally.violations == []
    assert tally.counts["frozen"] == 2, "in the change and in the rollback"
    assert torture._spread_of(tally.took, "frozen")["most"] > lives.IDLE_SECONDS, "how long it took is known"


def test_a_database_that_is_away_for_a_while_holds_the_change_and_loses_nothing(aws: LocalAws, tmp_path: Path) -> None:
    case_id = _victim(aws, tmp_path, Databases(None), ("full", "inline", "inline_gone"))

    async def run(tap: Tap) -> str:
        async with lives.bot(tmp_path, aws.url, refine_settle_seconds=1.0) as world:
            await _approved(world, case_id)
            await world.engine.start()
            ticking = asyncio.create_task(lives.until_idle(world))
            while not any(c.operation in torture.WRITES for c in tap.calls):
                await asyncio.sleep(0.01)
            await asyncio.to_thread(postgres.server().crash)
            try:
                await world.store.record(case_id, BEN, "said", {})
                said = ""
            except StoreError as error:
                said = error.say()
            await asyncio.sleep(1.0)
            await asyncio.to_thread(postgres.server().start)
            await ticking
            await world.engine.stop()
            await _ends_applied(world, case_id, tap)
            return said

    with tapped(Tap()) as tap:
        said = asyncio.run(run(tap))
    assert "does not answer" in said
    assert "Refine goes on by itself" in said


def test_somebody_elses_edit_is_never_overwritten(aws: LocalAws, databases: Databases) -> None:
    tally = torture.Tally()
    Trial(aws, Plan(SMALL, edit_at=110), random.Random(110), databases, tally).run()
    assert tally.violations == []
    assert tally.counts["edits"] == 1


# Right after the copy was attached, in the words of `torture.edits`: the next write would be a version of Own.
RIGHT_THEN = {kind: Plan(("aws", "own"), edit_at=3, edit_of="write", edit_kind=kind) for kind in ("uncopy", "move")}


@pytest.mark.parametrize("kind", RIGHT_THEN)
def test_an_edit_between_a_copy_and_what_it_replaces_costs_nobody_anything(
    kind: str, aws: LocalAws, sqlite: Databases
) -> None:
    tally = torture.Tally()
    Trial(aws, RIGHT_THEN[kind], random.Random(1), sqlite, tally).run()
    assert tally.violations == []
    assert tally.counts["edits"] == 1
    assert tally.counts["failed" if kind == "move" else "taken_back"] == 1


@pytest.mark.parametrize(
    ("parts", "kind", "seen"),
    [
        (("aws",), "uncopy", "DetachRolePolicy took sqs:ListQueues, which is in use"),
        (("aws", "own"), "move", "CreatePolicyVersion changed Beside"),
    ],
)
async def test_the_judge_sees_what_a_single_write_takes_away(
    parts: tuple[str, ...],
    kind: str,
    seen: str,
    aws: LocalAws,
    sqlite: Databases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a driver that does not look at what a step relies on, nor at whose the policy is."""
    monkeypatch.setattr(rules, "hindrance", lambda *_: "")
    case_id = await asyncio.to_thread(_victim, aws, tmp_path, sqlite, parts)
    tap = Tap(edit=(3, "write", torture.edits(aws, random.Random(1), kind)))
    async with lives.bot(tmp_path, aws.url) as world:
        await _approved(world, case_id)
        with tapped(tap):
            await drive.drive(world, case_id)
    assert seen in tap.wrong


def test_the_judge_sees_a_lost_document_though_somebody_edits(
    aws: LocalAws, sqlite: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torture, "texts_in_journal", lambda _: set())
    tally = torture.Tally()
    Trial(aws, Plan(("full",), edit_at=2, edit_of="write", edit_kind="add"), random.Random(1), sqlite, tally).run()
    assert len(tally.violations) == 1
    assert "lost 1 documents" in tally.violations[0]


def test_a_fault_that_never_comes_about_is_counted(aws: LocalAws, sqlite: Databases) -> None:
    tally = torture.Tally()
    plan = Plan(("inline",), kills=(Kill(9, "write", "before"),), read=(999, "lost"), edit_at=999)
    Trial(aws, plan, random.Random(1), sqlite, tally).run()
    assert tally.violations == []
    assert [tally.counts[f"unmet_{what}"] for what in ("kills", "faults", "edits")] == [1, 1, 1]


def test_the_trials_can_fail(aws: LocalAws, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another text than the approved one is in force, and the trial has to see it."""
    trial = Trial(aws, Plan(("aws", "inline", "inline_gone")), random.Random(1), databases, tally := torture.Tally())
    plain = trial._check

    def check(case: Case, *, back: bool) -> None:
        aws._role(HUB, "Victim").policies["Trails"] = "{}"
        plain(case, back=back)

    monkeypatch.setattr(trial, "_check", check)
    trial.run()
    assert len(tally.violations) == 1
    assert "said applied, and is not" in tally.violations[0]


# -------------------- many people at once


def _victim(aws: LocalAws, folder: Path, databases: Databases, parts: tuple[str, ...]) -> CaseId:
    """Return the case of a role whose proposal waits for approval."""
    aws.reset(world=False)
    aws.report_seconds = 0.0
    for name, data in torture.role_of(parts).items():
        aws.add_role(name, data)
    databases.prepare(folder)

    async def propose() -> CaseId:
        async with lives.bot(folder, aws.url) as world:
            return await lives.proposed(world, aws._role(HUB, "Victim").arn)

    return asyncio.run(propose())


def _at_once(folder: Path, aws: LocalAws, case_id: CaseId, acts: list[tuple[str, int]]) -> list[tuple[str, str, str]]:
    manager = torture._context.Manager()
    gate, said = manager.Barrier(len(acts)), manager.Queue()
    processes = [
        torture._context.Process(target=lives.approve, args=(folder, aws.url, case_id, act, times, gate, said))
        for act, times in acts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    told = [said.get() for _ in range(said.qsize())]
    manager.shutdown()
    return told


def _case(folder: Path, aws: LocalAws, case_id: CaseId) -> Case:
    async def read() -> Case:
        async with lives.bot(folder, aws.url) as world:
            assert await world.store.verify_audit() is None
            return await world.store.case(case_id)

    return asyncio.run(read())


def test_fifty_approvals_at_once_over_four_processes_are_one_change(
    aws: LocalAws, databases: Databases, tmp_path: Path
) -> None:
    case_id = _victim(aws, tmp_path, databases, ("inline", "inline_gone"))
    with tapped(Tap()) as tap:
        told = _at_once(tmp_path, aws, case_id, [("approve", 13), ("approve", 13), ("approve", 12), ("approve", 12)])
    assert len(told) == 50
    assert Counter(code for _, code, _ in told)["won"] == 1
    # Where the database is too busy to say who was first, that is said.
    assert {s for _, code, s in told if code not in {"won", "store"} and "Too late" not in s} == set()
    assert sum("Too late" in s for *_, s in told) >= 40
    writes = [c.operation for c in tap.calls if c.operation in torture.WRITES]
    assert sorted(writes) == ["DeleteRolePolicy", "PutRolePolicy"]
    case = _case(tmp_path, aws, case_id)
    assert (case.state, len(case.approvals)) == (CaseState.WATCHING, 1)


@pytest.mark.parametrize(
    "acts",
    [
        [("approve", 8), ("decline", 8), ("adjust", 8), ("expire", 1)],
        [("adjust", 8), ("expire", 1), ("decline", 1), ("approve", 1)],
    ],
)
def test_of_approve_decline_adjust_and_expire_at_once_one_wins_and_the_others_are_told(
    aws: LocalAws, databases: Databases, tmp_path: Path, acts: list[tuple[str, int]]
) -> None:
    case_id = _victim(aws, tmp_path, databases, ("inline",))
    before = in_force(aws)
    first = _case(tmp_path, aws, case_id)
    told = _at_once(tmp_path, aws, case_id, acts)
    (winner,) = [act for act, code, _ in told if code == "won"]
    assert len(told) == sum(times for _, times in acts)
    assert {s for _, code, s in told if code not in {"won", "store"} and "Too late" not in s} == set()
    case = _case(tmp_path, aws, case_id)
    ends = {
        "approve": {CaseState.WATCHING},
        "decline": {CaseState.DECLINED},
        "adjust": {CaseState.WAITING, CaseState.NOTHING},
        "expire": {CaseState.EXPIRED},
    }
    assert case.state in ends[winner]
    assert first.proposal is not None
    if case.state is CaseState.WAITING:  # adjusted: the new one waits, with no yes to it, and the old one is over
        assert case.proposal is not None
        assert (case.proposal.supersedes, case.approvals) == (first.proposal.id, ())
        assert (case.proposal.settings.window_days, case.proposal.reason) == (30, "The yearly restore.")
    assert (in_force(aws) == before) is (winner != "approve")


# -------------------- the database in trouble


async def _approved(world: World, case_id: CaseId) -> None:
    case = await world.store.case(case_id)
    await decide.approve(world, case_id, case.revision, BEN, "go")


async def _ends_applied(world: World, case_id: CaseId, tap: Tap) -> None:
    case = await world.store.case(case_id)
    assert case.state is CaseState.WATCHING, case.sentence
    assert await world.store.verify_audit() is None
    effects = Counter(c.key() for c in tap.calls if c.effect and c.operation in torture.WRITES)
    assert set(effects.values()) == {1}


@pytest.mark.parametrize("patience", [30.0, 0.2])
def test_a_database_that_another_process_holds_for_seconds_holds_the_change_and_loses_nothing(
    patience: float, aws: LocalAws, sqlite: Databases, tmp_path: Path
) -> None:
    case_id = _victim(aws, tmp_path, sqlite, ("full", "inline", "inline_gone"))

    def hold(held: threading.Event) -> None:
        other = sqlite3.connect(tmp_path / "bot.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        held.set()
        time.sleep(2.0)
        other.execute("ROLLBACK")
        other.close()

    async def run(tap: Tap) -> list[str]:
        async with lives.bot(tmp_path, aws.url, patience=patience, refine_settle_seconds=1.0) as world:
            await _approved(world, case_id)
            await world.engine.start()
            ticking = asyncio.create_task(lives.until_idle(world))
            while not any(c.operation in torture.WRITES for c in tap.calls):
                await asyncio.sleep(0.01)
            held = threading.Event()
            threading.Thread(target=hold, args=(held,), daemon=True).start()
            await asyncio.to_thread(held.wait)
            try:
                await world.store.record(case_id, BEN, "said", {})
                said = []
            except StoreError as error:
                said = [error.say()]
            await ticking
            await world.engine.stop()
            await _ends_applied(world, case_id, tap)
            return said

    with tapped(Tap()) as tap:
        said = asyncio.run(run(tap))
    assert (said == []) is (patience > 2)
    assert all("locked by another process" in s for s in said)


def test_a_full_disk_is_said_and_the_change_goes_on_where_there_is_room_again(
    aws: LocalAws, sqlite: Databases, tmp_path: Path
) -> None:
    case_id = _victim(aws, tmp_path, sqlite, ("aws", "full", "inline"))

    async def approve() -> None:
        async with lives.bot(tmp_path, aws.url) as world:
            await _approved(world, case_id)

    asyncio.run(approve())
    manager = torture._context.Manager()
    said = manager.Queue()
    with tapped(Tap()) as tap:
        process = torture._context.Process(target=lives.live_without_room, args=(tmp_path, aws.url, said))
        process.start()
        process.join(100)
    assert process.exitcode == 0
    assert "so nothing was recorded" in said.get(timeout=5)
    assert said.get(timeout=5) == "applying", "it stopped in the middle of the change"
    manager.shutdown()

    async def check() -> None:
        async with lives.bot(tmp_path, aws.url) as world:
            await _ends_applied(world, case_id, tap)

    asyncio.run(check())


# -------------------- a restart in every state


async def _bring(store: Store, clock: Clock, state: CaseState) -> Case:
    """Bring a new case to the state, on the way that the flows take."""
    day = clock.now + timedelta(days=1)
    arn = f"arn:aws:iam::{HUB}:role/{state.value}"
    match state:
        case CaseState.NEW:
            return await new_case(store, arn)
        case CaseState.WORKING | CaseState.CANNOT_TELL | CaseState.NOTHING:
            case = await new_case(store, arn)
            case = await store.move(case.id, Event.PROPOSE, by=ANN, task='{"do":"propose"}', resume=case.state)
            events = {CaseState.CANNOT_TELL: Event.CANNOT_TELL, CaseState.NOTHING: Event.NOTHING_TO_TRIM}
            return await store.move(case.id, events[state], by=REFINE) if state in events else case
        case CaseState.SNOOZED | CaseState.ACCEPTED:
            case = await new_case(store, arn)
            event = Event.SNOOZE if state is CaseState.SNOOZED else Event.ACCEPT
            return await store.move(case.id, event, by=ANN, until=day)
        case CaseState.RESOLVED:
            case = await new_case(store, arn)
            return await store.move(case.id, Event.RESOLVE, by=REFINE)
        case CaseState.WAITING | CaseState.DECLINED | CaseState.EXPIRED | CaseState.STALE:
            case = await new_case(store, arn)
            case = await store.move(case.id, Event.PROPOSE, by=RITA, task="{}", resume=CaseState.NEW)
            case = await store.move(
                case.id, Event.PROPOSED, by=REFINE, asked_by=RITA, proposal=proposal(case), until=day
            )
            events = {
                CaseState.DECLINED: Event.DECLINE,
                CaseState.EXPIRED: Event.EXPIRE,
                CaseState.STALE: Event.WENT_STALE,
            }
            return await store.move(case.id, events[state], by=ANN, until=None) if state in events else case
    case = await applying(store, arn)
    if state is CaseState.APPLYING:
        return case
    done = await store.begin(change(case))
    for step in done.steps if state is not CaseState.FAILED else done.steps[:1]:
        await store.mark(done.id, step.number, StepState.DONE, "v2")
    if state is CaseState.FAILED:
        return await store.move(case.id, Event.APPLY_FAILED, by=REFINE, sentence="It stopped.")
    case = await store.move(case.id, Event.APPLIED, by=REFINE, until=day)
    if state is CaseState.WATCHING:
        return case
    if state is CaseState.DONE:
        return await store.move(case.id, Event.WATCH_ENDED, by=REFINE, until=None)
    case = await store.move(case.id, Event.ROLL_BACK, by=ANN)
    if state is CaseState.ROLLING_BACK:
        return case
    back = await store.begin(change(case, ChangeId(f"{done.id}-back1"), kind="rollback", undoes=done.id))
    for step in back.steps:
        await store.mark(back.id, step.number, StepState.DONE)
    return await store.move(case.id, Event.ROLLED_BACK, by=REFINE)


@asynccontextmanager
async def _woken(folder: Path, clock: Clock, driven: list[tuple[str, str]]) -> AsyncIterator[World]:
    """The bot right after a start, without AWS: its flows only say that they were started."""
    async with opened(folder, clock) as store:
        engine = Engine()

        def flow(name: str) -> Any:
            async def run(key: str) -> None:
                driven.append((name, key))

            return run

        for name in ("work", "drive"):
            engine.register(name, flow(name))
        ids = itertools.count()
        yield World(
            store=store,
            aws=None,
            slack=lives.People(),
            engine=engine,
            settings=lives.settings(folder),
            catalogue=lives.CATALOGUE,
            clock=clock,
            new_id=lambda: f"id{next(ids)}",
            sleep=asyncio.sleep,
        )


def _pressable(card: dict[str, Any]) -> list[str]:
    return [e["action_id"] for b in card["blocks"] if b["type"] == "actions" for e in b["elements"]]


ENDS = {
    CaseState.WAITING: CaseState.EXPIRED,
    CaseState.SNOOZED: CaseState.NEW,
    CaseState.ACCEPTED: CaseState.NEW,
    CaseState.WATCHING: CaseState.DONE,
}


@pytest.mark.parametrize("state", CaseState)
async def test_after_a_restart_card_buttons_and_timers_are_right_however_the_clock_jumped(
    state: CaseState, tmp_path: Path
) -> None:
    clock = Clock()
    driven: list[tuple[str, str]] = []
    async with opened(tmp_path, clock) as store:
        case = await _bring(store, clock, state)
        assert case.state is state
    clock.on(days=-30)  # somebody sets the clock back while the bot is down
    async with _woken(tmp_path, clock, driven) as world:
        await world.engine.start()
        await watch.tick(world)
        await world.engine.stop()
        again = await world.store.case(case.id)
        assert (again.state, again.revision) == (state, case.revision), "no timer may fire early"
        name = {CaseState.WORKING: "work", CaseState.APPLYING: "drive", CaseState.ROLLING_BACK: "drive"}.get(state)
        assert driven == ([(name, case.id)] if name else []), "what was under way is taken up at once"
        assert _pressable(await post.card(world, again)) == [f"case:{b}" for b in rules.buttons(again)]
        if state is not CaseState.RESOLVED:
            due = [i.key for i in await world.store.due(clock(), 50)]
            assert due == [f"card/{case.id}"], "the card is drawn now, not when the clock is back where it was"
    clock.on(days=32)  # and now a day after every end
    async with _woken(tmp_path, clock, driven) as world:
        await watch.tick(world)
        later = await world.store.case(case.id)
        assert later.state is ENDS.get(state, state)
        assert _pressable(await post.card(world, later)) == [f"case:{b}" for b in rules.buttons(later)]
        await watch.tick(world)
        assert (await world.store.case(case.id)).revision == later.revision, "each timer fires once"
        assert await world.store.verify_audit() is None


# -------------------- what else may come between


async def test_a_change_that_came_to_nothing_does_not_cost_the_way_back_of_the_one_before_it(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await _bring(store, clock, CaseState.WATCHING)
        first = case.change
        assert first is not None
        for event in (Event.WENT_STALE, Event.APPLY_FAILED):
            case = await store.move(case.id, Event.PROPOSE, by=RITA, task="{}", resume=case.state)
            case = await store.move(case.id, Event.PROPOSED, by=REFINE, asked_by=RITA, proposal=proposal(case))
            case = await store.approve(case.id, case.revision, yes(case), team=TEAM)
            clock.on(minutes=1)
            begun = await store.begin(replace(change(case), at=clock()))
            if event is Event.APPLY_FAILED:  # its one step was taken back
                await store.mark(begun.id, 1, StepState.DONE, "v3")
                back = await store.begin(
                    replace(change(case, f"{begun.id}-back9", kind="rollback", undoes=begun.id, steps=1), at=clock())
                )
                await store.mark(back.id, 1, StepState.DONE)
                await store.finish(back.id, "done")
                await store.finish(begun.id, "taken back")
            await store.move(case.id, event, by=REFINE)
            case = await store.case(case.id)
            assert case.change == first
            assert rules.Button.ROLL_BACK in rules.buttons(case)
        await store.move(case.id, Event.ROLL_BACK, by=ANN)
        back = await store.begin(change(case, f"{first.id}-back1", kind="rollback", undoes=first.id))
        for step in back.steps:
            await store.mark(back.id, step.number, StepState.DONE)
        await store.finish(back.id, "done")
        case = await store.move(case.id, Event.ROLLED_BACK, by=REFINE)
        assert not rules.can_roll_back(await store.case(case.id))


class Away(lives.People):
    """Slack, while it does not answer who is in the group of approvers."""

    away = True
    members = frozenset({ANN, BEN})

    async def group_members(self, group_id: str) -> frozenset[UserId]:
        if self.away:
            raise UnavailableError("Slack is away.")
        return self.members


async def test_a_pause_and_an_absent_slack_hold_a_change_where_it_is_and_decide_nothing(
    aws: LocalAws, sqlite: Databases, tmp_path: Path
) -> None:
    case_id = await asyncio.to_thread(_victim, aws, tmp_path, sqlite, ("full", "inline", "inline_gone"))
    people = Away()
    async with lives.bot(tmp_path, aws.url, refine_approvers="S0APPROVERS") as world:
        world.slack = people
        people.away = False
        await _approved(world, case_id)
        people.away = True
        with tapped(Tap()) as tap:
            await drive.drive(world, case_id)
            assert not any(c.operation in torture.WRITES for c in tap.calls)
            assert (await world.store.case(case_id)).state is CaseState.APPLYING
            people.away = False
            loop = asyncio.get_running_loop()

            def pause() -> str:
                asyncio.run_coroutine_threadsafe(_pause(world), loop).result()
                return "pause||"

            tap.edit = (60, "call", pause)
            await drive.drive(world, case_id)
            case = await world.store.case(case_id)
            assert case.state is CaseState.APPLYING
            assert 0 < case.steps_done < 4, "it stopped in the middle"
            await decide.pause(world, BEN, on=False)
            await drive.drive(world, case_id)
            await _ends_applied(world, case_id, tap)


async def _pause(world: World) -> None:
    await decide.pause(world, BEN, on=True)


class Then(Tap):
    """AWS is away for readers right after a write had its effect and lost its reply."""

    aws: LocalAws

    def act(self, front: Front, operation: str, hit: Any, go: Callable[[], Any]) -> Any:
        answer = super().act(front, operation, hit, go)
        if self.faulted:
            self.faulted = 0
            self.aws.fault("GetRole", "error_before")
        return answer


async def test_a_write_of_unknown_outcome_is_taken_back_too(aws: LocalAws, sqlite: Databases, tmp_path: Path) -> None:
    """The bot stops right after a lost reply; when it is back, the approver is none any more."""
    case_id = await asyncio.to_thread(_victim, aws, tmp_path, sqlite, ("full", "inline"))
    before = in_force(aws)
    people = Away()
    people.away = False
    tap = Then(fault=(2, "lost", False))
    tap.aws = aws
    async with lives.bot(tmp_path, aws.url, refine_approvers="S0APPROVERS", refine_settle_seconds=1.0) as world:
        world.slack = people
        await _approved(world, case_id)
        with tapped(tap):
            await drive.drive(world, case_id)
        case = await world.store.case(case_id)
        assert (case.state, case.steps_done) == (CaseState.APPLYING, 1)
        assert in_force(aws) != before
        aws.clear_faults()
        people.members = frozenset({ANN})
        await drive.drive(world, case_id)
        case = await world.store.case(case_id)
        assert case.state is CaseState.FAILED
        assert "not enough valid approvals" in case.sentence
        assert "as if nothing had been written" in case.sentence
        assert in_force(aws) == before


async def test_evidence_from_after_now_is_not_believed_to_be_fresh(
    aws: LocalAws, sqlite: Databases, tmp_path: Path
) -> None:
    """The clock was set back after the proposal: the report is read anew, and what was used meanwhile is seen."""
    case_id = await asyncio.to_thread(_victim, aws, tmp_path, sqlite, ("inline",))
    before = in_force(aws)
    async with lives.bot(tmp_path, aws.url, clock=lambda: lives.now() - timedelta(days=3)) as world:
        aws.use("Victim", "cloudtrail:CreateTrail")
        await _approved(world, case_id)
        await drive.drive(world, case_id)
        case = await world.store.case(case_id)
        assert case.state is CaseState.STALE
        assert "cloudtrail:CreateTrail was used" in case.sentence
        assert in_force(aws) == before
