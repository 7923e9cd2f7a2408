"""The dress rehearsal: which calls that were made would the new documents refuse, though the old allowed them?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.model import Evidence, PolicyOutcome, RolePolicy
from bot.policy.language import Statement, parse
from bot.policy.patterns import expression, matches


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that was made: an action in full, and the ARN it was about where that is known."""

    action: str
    resource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What became of the calls. Calls that the old documents did not allow either are not counted as refused."""

    calls: int
    allowed: int  # by the old documents
    refused: tuple[Call, ...]  # no statement that allowed them allows them now
    unsure: tuple[Call, ...]  # one of several is gone: the conditions of the others decide


def rehearse(old: Sequence[RolePolicy], new: Sequence[PolicyOutcome], calls: Iterable[Call]) -> Rehearsal:
    """Say which of the recorded calls would be refused.

    A call keeps its fate where the same resources and conditions go on allowing its action, whatever its context was:
    so no context is needed, and no condition is guessed at.
    """
    before = [s for p in old for s in parse(p.text, p.name).statements]
    after = [s for o in new if o.text is not None for s in parse(o.text, o.name).statements]
    allowed = 0
    total = 0
    refused: list[Call] = []
    unsure: list[Call] = []
    for call in calls:
        total += 1
        if _denied(before, call):
            continue
        was = {s.scope() for s in before if s.allow and _speaks(s, call)}
        if not was:
            continue
        allowed += 1
        now = {s.scope() for s in after if s.allow and _speaks(s, call)}
        if not was & now:
            refused.append(call)
        elif was - now:
            unsure.append(call)
    return Rehearsal(calls=total, allowed=allowed, refused=tuple(refused), unsure=tuple(unsure))


def calls_of(evidence: Evidence, since: datetime) -> tuple[Call, ...]:
    """Return the calls that a last accessed report tells of: its actions with an attempt since then."""
    return tuple(
        Call(action=f"{service.namespace}:{use.action}")
        for service in evidence.services
        for use in service.actions
        if use.last_accessed is not None and use.last_accessed >= since
    )


def _denied(statements: Sequence[Statement], call: Call) -> bool:
    return any(not s.allow and "Condition" not in s.raw and _speaks(s, call) for s in statements)


def _speaks(statement: Statement, call: Call) -> bool:
    if any(matches(p, call.action) for p in statement.patterns) == statement.inverted:
        return False
    inverted = "NotResource" in statement.raw
    value = statement.raw["NotResource" if inverted else "Resource"]
    patterns = [value] if isinstance(value, str) else value
    if not call.resource:
        # Nobody knows what it was about: an Allow may be meant, a Deny is meant only where it is about everything.
        return statement.allow or (not inverted and "*" in patterns)
    return any(_about(p, call.resource) for p in patterns) != inverted


def _about(pattern: str, resource: str) -> bool:
    # A variable such as ${aws:username} may stand for anything.
    rule = re.sub(r"\$\{[^}]*\}", "*", pattern)
    return re.fullmatch(expression(rule), resource, re.DOTALL) is not None
