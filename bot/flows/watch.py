"""Watch: what Access Analyzer lists becomes cases and cards. The list is the truth, and may be read at any time."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from bot import rules
from bot.errors import LostRaceError, NotFoundError, RefineError
from bot.flows.ports import Note
from bot.flows.world import World, thread
from bot.model import Case, CaseState, Finding, Role
from bot.policy import permits_summary
from bot.rules import Event

log = structlog.get_logger()

READS = 4  # roles read side by side at a first start
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
    new: list[str] = []
    for arn, listed in sorted(by_role.items()):
        findings = listed
        case = await world.store.case_of_role(arn)
        if case is None:
            new.append(arn)
            continue
        if not read.complete:
            # An analyzer that did not answer says nothing of its findings: those known of it stay.
            seen = {f.id for f in listed}
            findings = [*listed, *(f for f in case.findings if f.id not in seen)]
        if _ids(case.findings) != _ids(findings):
            case = await world.store.set_findings(case.id, _sorted(findings), rules.REFINE)
        if case.state is CaseState.RESOLVED:
            await world.store.move(case.id, Event.FOUND, by=rules.REFINE, sentence="", until=None)
    await _open(world, new, by_role)
    if read.complete:
        await _close(world, by_role.keys())
    world.poke()


def _ids(findings: Iterable[Finding]) -> set[tuple[str, str]]:
    return {(f.id, f.status) for f in findings}


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: (f.region, f.id)))


async def _open(world: World, arns: Sequence[str], by_role: dict[str, list[Finding]]) -> None:
    gate = asyncio.Semaphore(READS)

    async def look(arn: str) -> tuple[str, Role | None, str]:
        async with gate:
            try:
                return arn, await world.aws.role(arn), ""
            except NotFoundError:
                return arn, None, ""  # deleted, and Access Analyzer has not noticed yet: its next list will tell
            except RefineError as error:
                return arn, None, error.say()

    burst = len(arns) > world.settings.refine_burst
    roles = await asyncio.gather(*(look(arn) for arn in arns))
    ranked = sorted(
        (r for r in roles if r[1] is not None or r[2]), key=lambda r: _rank(world, r[1], by_role[r[0]]), reverse=True
    )
    opened: list[Case] = []
    for arn, role, sentence in ranked:
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


async def _close(world: World, active: Iterable[str]) -> None:
    alive = set(active)
    gone: list[Case] = []
    for offset in itertools.count(0, 200):  # read to the end first: closing a case moves it in the order
        page = await world.store.cases(limit=200, offset=offset, light=True)
        gone += [case for case in page if case.findings and case.role_arn not in alive]
        if len(page) < 200:
            break
    for case in gone:
        await world.store.set_findings(case.id, (), rules.REFINE)
        # Applied or under way, it takes no such news: it stays rollable, and its card shows that the findings are gone.
        with suppress(LostRaceError):
            await world.store.move(case.id, Event.RESOLVE, by=rules.REFINE, sentence="", until=None)


async def tick(world: World) -> None:
    """Do what time brings: expire, remind, wake the snoozed, end watches; and take up work that a crash left."""
    now = world.clock()
    for case in await world.store.cases(
        states={CaseState.WORKING, CaseState.APPLYING, CaseState.ROLLING_BACK}, limit=1000, light=True
    ):
        await world.engine.submit("work" if case.state is CaseState.WORKING else "drive", case.id)
    timed = {CaseState.WAITING, CaseState.SNOOZED, CaseState.ACCEPTED, CaseState.WATCHING}
    ends = {
        CaseState.WAITING: Event.EXPIRE,
        CaseState.SNOOZED: Event.REOPEN,
        CaseState.ACCEPTED: Event.REOPEN,
        CaseState.WATCHING: Event.WATCH_ENDED,
    }
    for case in await world.store.cases(states=timed, limit=1000, light=True):
        if case.until is None:
            continue
        try:
            if now >= case.until:
                notes = [thread(case.id, "expired", str(case.revision))] if case.state is CaseState.WAITING else []
                await world.store.move(
                    case.id, ends[case.state], by=rules.REFINE, revision=case.revision, until=None, notes=notes
                )
            elif case.state is CaseState.WAITING and now - case.updated_at >= timedelta(
                hours=world.settings.refine_reminder_hours
            ):
                # The key is the proposal's revision: one reminder each.
                await world.store.queue([thread(case.id, "reminder", str(case.revision))])
        except LostRaceError:
            continue
    world.poke()


async def weekly(world: World) -> None:
    """Queue the week's digest, once a week, whoever asks first."""
    year, week, day = world.clock().isocalendar()
    if day == 1:
        await world.store.queue([Note(kind="summary", name="weekly", key=f"weekly/{year}-{week:02}")])
