"""Many cases at a glance, for App Home and the week's digest: which come first, whose turn it is, what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from bot import rules
from bot.errors import NotAllowedError
from bot.flows.world import World
from bot.messages import Glance
from bot.messages.lists import CHANGED, OPEN, PAGE
from bot.model import Case, CaseState, Person, UserId
from bot.policy import permits_summary

RANKED = 500  # cases put in the order of their risk; beyond them, the latest first
LATELY = timedelta(days=30)
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A page of cases, which one it is, how many there are, and what stands above them."""

    cases: tuple[Case, ...]
    page: int
    total: int
    glance: Glance


async def page(world: World, person: Person, number: int, view: str) -> Shown:
    """Return a page of what `view` names: a key of `messages.lists.VIEWS`, or a state; open cases for anything else."""
    counts = await world.store.counts()
    waiting = await world.store.cases(states={CaseState.WAITING}, limit=RANKED, light=True, oldest=True)
    mine = await _mine(world, person, waiting)
    states: Collection[CaseState] | None = OPEN
    if view in set(CaseState):
        states = {CaseState(view)}
    elif view == "changes":
        states = CHANGED
    elif view == "every":
        states = None
    total = len(mine) if view == "mine" else sum(n for s, n in counts.items() if states is None or s in states)
    number = max(0, min(number, (max(total, 1) - 1) // PAGE))
    at = number * PAGE
    if view == "mine":
        found: tuple[Case, ...] = mine[at : at + PAGE]
    elif states == OPEN and at + PAGE <= RANKED:
        found = (await _by_risk(world, OPEN))[at : at + PAGE]
    else:
        oldest = view == CaseState.WAITING
        found = await world.store.cases(states=states, limit=PAGE, offset=at, light=True, oldest=oldest)
    cases = tuple([await world.store.case(c.id) for c in found])
    glance = Glance(
        mine=len(mine),
        longest=waiting[0] if waiting else None,
        ever=await world.store.tally(),
        lately=await world.store.tally(world.clock() - LATELY),
        worst={c.id: (await _rank(world, c))[2] for c in cases},
    )
    return Shown(cases=cases, page=number, total=total, glance=glance)


async def _mine(world: World, person: Person, waiting: Collection[Case]) -> tuple[Case, ...]:
    """Return the waiting cases that the person may approve: not those that they proposed, or approved already."""
    team = await world.team()
    if person.id not in team.approvers:
        return ()
    mine: list[Case] = []
    for light in waiting:
        known = world.asked.get(light.id)
        if known is None or known[0] != light.revision:
            case = await world.store.case(light.id)
            by = case.proposal.proposed_by if case.proposal else UserId("")
            known = world.asked[light.id] = (light.revision, by, frozenset(a.by for a in case.approvals))
        _, by, approved = known
        if person.id not in approved and not (team.four_eyes and person.id == by):
            mine.append(light)
    try:
        rules.may_look(person, team)
    except NotAllowedError:
        return ()
    return tuple(mine)


async def _by_risk(world: World, states: Collection[CaseState]) -> tuple[Case, ...]:
    light = await world.store.cases(states=states, limit=RANKED, light=True)
    ranks = {c.id: await _rank(world, c) for c in light}
    return tuple(sorted(light, key=lambda c: (_is_public(c), ranks[c.id][1]), reverse=True))


def _is_public(case: Case) -> bool:
    return any(p.kind.value == "public" for f in case.findings for p in f.principals)


async def _rank(world: World, case: Case) -> tuple[int, int, str]:
    """Return the case's revision, how much its role can do, and the worst of it in words; remembered by revision."""
    known = world.ranks.get(case.id)
    if known is None or known[0] != case.revision:
        role = (await world.store.case(case.id)).role
        known = (case.revision, 0, "")
        if role is not None:
            summary = await asyncio.to_thread(permits_summary, role.policies, world.catalogue)
            known = (case.revision, summary.rank * 100_000 + summary.granted, summary.worst)
        world.ranks[case.id] = known
    return known


async def week(world: World) -> Glance:
    """Return what the week's digest says beside the counts."""
    waiting = await world.store.cases(states={CaseState.WAITING}, limit=1, oldest=True)
    since = world.clock() - WEEK
    return Glance(
        mine=0,
        longest=waiting[0] if waiting else None,
        ever=await world.store.tally(),
        lately=await world.store.tally(since),
        worst={},
    )
