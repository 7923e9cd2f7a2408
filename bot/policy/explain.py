"""Sentences for people about what became of a policy, and of one action; the verdicts carry their own reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bot.model import Outcome, PolicyOutcome, RolePolicy, Trim
from bot.policy.language import is_action, parse
from bot.policy.patterns import inside, is_name, meets

_TIERS = {
    1: "every kept action is listed by its name",
    2: "explicit names would pass IAM's size limit, so stars between the words of a name stand for kept actions",
    3: "explicit names would pass IAM's size limit, stars between words as well, so it is split over several policies",
    4: "IAM's size limit leaves room only for stars anywhere in a name, and the role has room for no more policies",
    5: "IAM's size limit leaves room only for patterns of a part of a name, and the role has room for no more policies",
}


def tier_sentence(outcome: PolicyOutcome) -> str:
    """Say how a policy is written, and why so."""
    if outcome.outcome is Outcome.UNCHANGED:
        return "Untouched: nothing that it grants would change."
    if outcome.text is None:
        return "Removed: nothing that it grants is kept."
    allows = [s for s in parse(outcome.text, outcome.name).statements if s.allow]
    if outcome.tier == 1 and any(s.inverted or not all(map(is_name, s.patterns)) for s in allows):
        return "Tier 1: kept actions are listed by their names, except where all that a pattern grants is kept."
    return f"Tier {outcome.tier}: {_TIERS[outcome.tier]}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a policy grants an action: the statement (from 1) and the entry that means it, as written."""

    policy: str
    statement: int
    entry: str  # "all but …" for NotAction


def granted_where(action: str, documents: Sequence[tuple[str, str]]) -> tuple[Place, ...]:
    """Return every place in the documents, (name, text) each, that grants an action."""
    return tuple(place for name, text in documents for place in _places(action, name, text))


def _places(action: str, name: str, text: str) -> Iterator[Place]:
    for statement in parse(text, name).statements:
        if not statement.allow:
            continue
        # An action that nobody knows may be a pattern: a NotAction that bars a part of it does not grant it.
        means = meets if statement.inverted else inside
        found = [p for p in statement.patterns if means(action, p)]
        if statement.inverted and not found:
            yield Place(policy=name, statement=statement.index + 1, entry="all but " + ", ".join(statement.patterns))
        elif not statement.inverted and found:
            yield Place(policy=name, statement=statement.index + 1, entry=found[0])


def before_and_after(
    action: str, policies: Sequence[RolePolicy], answer: Trim
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Return where an action is granted now, and where the proposal would grant it."""
    old = [(p.name, p.text) for p in policies]
    new = [(o.name, o.text) for o in answer.policies if o.text is not None]
    return granted_where(action, old), granted_where(action, new)


def unknown_sentence(action: str, policies: Sequence[RolePolicy], answer: Trim) -> str:
    """Say what becomes of an action that has no verdict; empty where no policy grants it."""
    before, after = before_and_after(action, policies, answer)
    if not before or not is_action(action):
        return ""
    where = ", and ".join(f"{p.policy} grants it (statement {p.statement}, {p.entry})" for p in before)
    fate = "still would" if len(after) >= len(before) else "would in fewer places" if after else "no longer would"
    keep = "" if fate == "still would" else f" To keep it: --keep {action}."
    return f"{action} is not in the catalogue, so its use is not judged: {where}; the proposal {fate}.{keep}"
