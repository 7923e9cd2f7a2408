"""The checker: proves of old and new documents that nothing is granted anew and nothing used is lost.

It shares nothing with the trimming code but the parser and the comparison of patterns, and trusts no catalogue for the
first proof: patterns are compared as languages, so even an action that nobody knows yet is covered.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bot.errors import PolicyError
from bot.model import Outcome, PolicyOutcome, Proof, RolePolicy
from bot.policy.catalogue import Catalogue
from bot.policy.language import Statement, inside, matches, meets, parse


def check(
    old: Sequence[RolePolicy],
    new: Sequence[PolicyOutcome],
    must_keep: Collection[str],
    catalogue: Catalogue | None = None,
) -> Proof:
    """Return what can be proved of the new documents against the old ones.

    `must_keep` are full names of actions that every statement which allowed them has to go on allowing. The catalogue
    is not needed: it is taken so that callers need not know.
    """
    del catalogue
    access: list[str] = []
    lost: list[str] = []
    before = {p.key: parse(p.text, p.name).statements for p in old}
    for outcome in new:
        if outcome.source not in before:
            access.append(f"{outcome.name} comes from no old policy")
    for policy in old:
        mine = [o for o in new if o.source == policy.key]
        if not mine:
            access.append(f"{policy.name} is missing from the proposal")
            continue
        if mine[0].outcome is Outcome.UNCHANGED:
            if len(mine) != 1 or mine[0].text != policy.text:
                access.append(f"{policy.name} is called unchanged and is not")
            continue
        after: list[Statement] = []
        for outcome in mine:
            if outcome.text is None:
                continue
            try:
                after += parse(outcome.text, outcome.name).statements
            except PolicyError as error:
                access.append(error.sentence)
        _compare(policy.name, before[policy.key], after, must_keep, access, lost)
    return Proof(no_new_access=not access, nothing_used_lost=not lost, problems=tuple(access + lost))


def _compare(
    name: str,
    old: Sequence[Statement],
    new: Sequence[Statement],
    must_keep: Collection[str],
    access: list[str],
    lost: list[str],
) -> None:
    for statement in new:
        if statement.allow and not any(_within(statement, o) for o in old if o.allow):
            access.append(f"statement {statement.index + 1} of the new {name} is inside no old one")
    for deny in (s for s in old if not s.allow):
        if not any(not s.allow and dict(s.raw) == dict(deny.raw) for s in new):
            access.append(f"a Deny of {name} (statement {deny.index + 1}) is gone")
    for statement in (s for s in old if s.allow):
        scope = statement.scope()
        heirs = [s for s in new if s.allow and s.scope() == scope]
        for action in must_keep:
            if _allows(statement, action) and not any(_allows(h, action) for h in heirs):
                lost.append(f"{action} is lost from statement {statement.index + 1} of {name}")


def _within(new: Statement, old: Statement) -> bool:
    """Same resources and conditions, and every action of the one inside the other, for every string there can be."""
    if new.scope() != old.scope():
        return False
    if new.inverted:
        # Only an untouched NotAction may stay one: what it leaves out must leave out as much.
        return old.inverted and all(any(inside(p, q) for q in new.patterns) for p in old.patterns)
    if old.inverted:
        return not any(meets(p, q) for p in new.patterns for q in old.patterns)
    return all(any(inside(p, q) for q in old.patterns) for p in new.patterns)


def _allows(statement: Statement, action: str) -> bool:
    return any(matches(p, action) for p in statement.patterns) != statement.inverted
