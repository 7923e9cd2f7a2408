"""Watch: what Access Analyzer lists becomes cases and cards. The list is the truth, and may be read at any time."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog

from bot import rules
from bot.errors import LostRaceError, NotFoundError, RefineError
from bot.flows import archive
from bot.flows.ports import Note
from bot.flows.world import World, thread
from bot.model import Case, CaseState, Finding, Role
from bot.policy import permits_summary
from bot.rules import Event

log = structlog.get_logger()

READS = 4  # roles read side by side at a first start
PAGE = 200  # cases read at once
SHOWN = 10  # rows of a burst's summary: the worst


async def watch(world: World) -> None:
    """Read the findings of every analyzer, open and close cases, and queue their cards."""
    read = await world.aws.findings()
    for problem in read.problems:
        log.warning("findings incomplete", problem=problem)
    by_role: dict[str, list[Finding]] = defaultdict(list)
    for finding in read.findings:
        if finding.status == "ACTIVE":
            by_role[finding.role_arn].append(finding)
    archived = {f.id for f in read.archived}
    new: list[str] = []
    for arn, active in sorted(by_role.items()):
        listed = active
        case = await world.store.case_of_role(arn)
        if case is None:
            new.append(arn)
            continue
        aside = archive.known(case, archived)
        if case.state in {CaseState.ACCEPTED, CaseState.SNOOZED}:
            case, listed = await archive.seen(world, case, active)
        listed = [*listed, *aside]
        if not read.complete:
            # An analyzer that did not answer says nothing of its findings: those known of it stay.
            seen = {f.id for f in listed}
            listed = [*listed, *(f for f in case.findings if f.id not in seen)]
        if _ids(case.findings) != _ids(listed):
            case = await world.store.set_findings(case.id, _sorted(listed), rules.REFINE)
        if case.state is CaseState.RESOLVED:
            await world.store.move(case.id, Event.FOUND, by=rules.REFINE, sentence="", until=None)
        await archive.settle(world, case)
    await _open(world, new, by_role)
    if read.complete:
        await _close(world, by_role.keys(), archived)
    world.poke()


def _ids(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(f.id, f.status) for f in findings}


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: (f.region, f.id)))


async def _open(world: World, arns: Sequence[str], by_role: dict[str, list[Finding]]) -> None:
    gate = asyncio.Semaphore(READS)

    async def look(arn: str) -> tuple[str, Role | None, str, tuple[int, int, str]]:
        role, why = None, ""
        async with gate:
            try:
                role = await world.aws.role(arn)
            except NotFoundError:
                pass  # deleted, and Access Analyzer has not noticed yet: its next list will tell
            except RefineError as error:
                why = error.say()
            # Aside, and one by one: a thousand of them are seconds in which no click would be taken.
            return arn, role, why, await asyncio.to_thread(_rank, world, role, by_role[arn])

    burst = len(arns) > world.settings.refine_burst
    roles = await asyncio.gather(*(look(arn) for arn in arns))
    ranked = sorted((r for r in roles if r[1] is not None or r[2]), key=lambda r: r[3], reverse=True)
    opened: list[Case] = []
    for arn, role, sentence, _ in ranked:
        findings = by_role[arn]
        case, created = await world.store.open_case(
            role_arn=arn,
            account=findings[0].account,
            findings=_sorted(findings),
            role=role,
            by=rules.REFINE,
            card=not burst,
            channel=world.settings.refine_channel,
        )
        if created:
            opened.append(case)
        if sentence:
            log.warning("role could not be read", role=arn, why=sentence)
    if burst and opened:
        # One summary first, then the worst cards at the outbox's pace; the others on demand: no channel is flooded.
        worst = opened[:SHOWN]
        cards = opened[: world.settings.refine_burst_cards]
        first = opened[0].id
        await world.store.queue(
            [
                Note(
                    kind="summary",
                    name="burst",
                    key=f"burst/{first}",
                    args=(("opened", str(len(opened))), ("worst", " ".join(c.id for c in worst))),
                ),
                *(Note(kind="card", name="card", key=f"card/{c.id}", case_id=c.id) for c in cards),
            ]
        )


def _rank(world: World, role: Role | None, findings: Sequence[Finding]) -> tuple[int, int, str]:
    public = any(p.kind.value == "public" for f in findings for p in f.principals)
    if role is None:
        return (int(public), 0, "")
    summary = permits_summary(role.policies, world.catalogue)
    return (int(public), summary.rank * 100_000 + summary.granted, role.name)


async def _close(world: World, active: Iterable[str], archived: Collection[str]) -> None:
    """Close the cases whose findings ended. One that is archived has not: Refine, or its acceptance, put it aside."""
    alive = set(active)
    for case in [case for case in await _all(world) if case.role_arn not in alive]:
        if not case.findings:
            await _resolve(world, case)
            continue
        aside = archive.known(case, archived)
        if aside:
            noted = case
            if _ids(case.findings) != _ids(aside):
                noted = await world.store.set_findings(case.id, _sorted(aside), rules.REFINE)
            await archive.settle(world, noted)
            continue
        if any(f.id in archived for f in case.findings) and world.clock() - case.updated_at < archive.LAG:
            continue  # re-opened a moment ago, and AWS's list does not show it yet
        # On disk before the findings go: what is closed later has to be told from a case that never had any.
        await world.store.remember(_ended_key(case), "yes")
        await _resolve(world, await world.store.set_findings(case.id, (), rules.REFINE))


async def _resolve(world: World, case: Case) -> None:
    """Close a case whose findings ended, now or at a later look: while it is busy it takes no such news, nor while what
    failed of it is in force. Applied, it stays rollable, and its card shows that the findings are gone.
    """
    if (case.state, Event.RESOLVE) not in rules.TRANSITIONS or not await world.store.recall(_ended_key(case)):
        return
    if case.state is CaseState.FAILED and rules.can_roll_back(await world.store.case(case.id)):
        return
    with suppress(LostRaceError):
        await world.store.move(case.id, Event.RESOLVE, by=rules.REFINE, revision=case.revision, sentence="", until=None)
        await world.store.remember(_ended_key(case), "")


def _ended_key(case: Case) -> str:
    return f"ended/{case.id}"


async def _all(world: World, states: Collection[CaseState] | None = None) -> list[Case]:
    """Return every case in the states, read to the end before anything moves: a case that moves changes the order."""
    found: list[Case] = []
    for offset in itertools.count(0, PAGE):
        page = await world.store.cases(states=states, limit=PAGE, offset=offset, light=True)
        found += page
        if len(page) < PAGE:
            break
    return found


async def tick(world: World) -> None:
    """Do what time brings: expire, remind, wake the snoozed, end watches; and take up work that a crash left."""
    now = world.clock()
    for case in await _all(world, rules.BUSY):
        await world.engine.submit("work" if case.state is CaseState.WORKING else "drive", case.id)
    timed = {CaseState.WAITING, CaseState.SNOOZED, CaseState.ACCEPTED, CaseState.WATCHING}
    ends = {
        CaseState.WAITING: Event.EXPIRE,
        CaseState.SNOOZED: Event.REOPEN,
        CaseState.ACCEPTED: Event.REOPEN,
        CaseState.WATCHING: Event.WATCH_ENDED,
    }
    for case in await _all(world, timed):
        if case.until is None:
            continue
        try:
            if now >= case.until:
                moved = await world.store.move(
                    case.id, ends[case.state], by=rules.REFINE, revision=case.revision, until=None, **_ended(case)
                )
                await archive.settle(world, moved)
            elif case.state is CaseState.WAITING:
                number = _reminders(now - case.updated_at, timedelta(hours=world.settings.refine_reminder_hours))
                if number:  # of those that are due, the last: an absence is not made up for
                    await world.store.queue([thread(case.id, "reminder", f"{case.revision}-{number}")])
        except LostRaceError:
            continue
    world.poke()


def _ended(case: Case) -> dict[str, Any]:
    """Return what `move` is told of a case whose time is over."""
    if case.state is CaseState.WAITING:
        return {"notes": [thread(case.id, "expired", str(case.revision))]}
    if case.state is CaseState.WATCHING:
        return {}
    what = "acceptance" if case.state is CaseState.ACCEPTED else "snooze"
    why = f"Its {what} ended on {case.until:%Y-%m-%d}."
    return {"reason": "", "sentence": why, "notes": [archive.back(case, why)]}


def _reminders(waited: timedelta, pause: timedelta) -> int:
    """Return how many reminders are due by now, where each pause is twice the one before: after 4, 12, 28 hours."""
    return int(math.log2(waited / pause + 1)) if waited > timedelta() else 0


async def weekly(world: World) -> None:
    """Queue the week's digest, once a week, whoever asks first."""
    year, week, day = world.clock().isocalendar()
    if day == 1:
        await world.store.queue([Note(kind="summary", name="weekly", key=f"weekly/{year}-{week:02}")])
