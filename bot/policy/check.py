"""The checker: proves of old and new documents that nothing is granted anew and nothing used is lost.

It shares nothing with the trimming code but the parser, not even the comparison of patterns, and asks no catalogue:
patterns are compared as languages, so that an action which nobody knows yet is covered too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from bot.errors import PolicyError
from bot.model import Outcome, PolicyOutcome, Proof, RolePolicy
from bot.policy.catalogue import Catalogue
from bot.policy.language import Document, Statement, parse

_PLACES = 20_000  # steps of one comparison; what takes more is called unproved


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
    must = {a.lower(): a for a in must_keep}
    before = {p.key: parse(p.text, p.name) for p in old}
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
        after: list[Document] = []
        for outcome in mine:
            if outcome.text is None:
                continue
            try:
                after.append(parse(outcome.text, outcome.name))
            except PolicyError as error:
                access.append(error.sentence)
        _compare(policy.name, before[policy.key], after, must, access, lost)
    return Proof(no_new_access=not access, nothing_used_lost=not lost, problems=tuple(access + lost))


def allowed(new: Sequence[PolicyOutcome], actions: Collection[str]) -> tuple[str, ...]:
    """Return those of the actions that an Allow statement of the documents allows, wherever it counts."""
    allows = [_Allow(s) for o in new if o.text is not None for s in parse(o.text, o.name).statements if s.allow]
    return tuple(a for a in actions if any(each.allows(a.lower()) for each in allows))


def _compare(
    name: str, old: Document, new: Sequence[Document], must: dict[str, str], access: list[str], lost: list[str]
) -> None:
    head = _canonical({k: v for k, v in old.raw.items() if k != "Statement"})
    for document in new:
        # A lower Version would turn ${aws:username} into mere text.
        if _canonical({k: v for k, v in document.raw.items() if k != "Statement"}) != head:
            access.append(f"Version or Id of {name} is not what it was")
    statements = [s for d in new for s in d.statements]
    denies = {_canonical(s.raw): s for s in old.statements if not s.allow}
    allows = [_Allow(s) for s in old.statements if s.allow]
    heirs = []
    for statement in statements:
        if not statement.allow:
            if _canonical(statement.raw) not in denies:
                lost.append(f"statement {statement.index + 1} of the new {name} is a Deny that was not there")
            continue
        heirs.append(_Allow(statement))
        if not any(heirs[-1].within(o) for o in allows):
            access.append(f"statement {statement.index + 1} of the new {name} is inside no old one")
    left = {_canonical(s.raw) for s in statements if not s.allow}
    for text, deny in denies.items():
        if text not in left:
            access.append(f"a Deny of {name} (statement {deny.index + 1}) is gone")
    for allow in allows:
        mine = [h for h in heirs if h.scope == allow.scope]
        for low, action in must.items():
            if allow.allows(low) and not any(h.allows(low) for h in mine):
                lost.append(f"{action} is lost from statement {allow.statement.index + 1} of {name}")


def _canonical(raw: object) -> str:
    """Return JSON that tells 1 from true and 1e3, and keeps the order of keys: a Deny stays as it was written."""
    return json.dumps(raw, default=repr)


class _Allow:
    """An Allow statement, ready for comparing: its actions' names, and its patterns, in lower case."""

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.scope = statement.scope()
        low = [p.lower() for p in statement.patterns]
        self.names = frozenset(p for p in low if "*" not in p and "?" not in p)
        self.patterns = sorted({*low} - self.names)
        # A pattern names its service in full, or is `*`.
        self.by_service: dict[str, list[tuple[str, str, str, int]]] = {}
        for pattern in self.patterns:
            self.by_service.setdefault(pattern.partition(":")[0], []).append(_ends(pattern))

    def _all(self) -> list[str]:
        return [*self.names, *self.patterns]

    def allows(self, action: str) -> bool:
        if self.statement.inverted:
            # What nobody knows may be a pattern itself: no part of it may be left out.
            return not any(_common(action, p) for p in self._all())
        return self._holds(action)

    def within(self, old: _Allow) -> bool:
        """Same resources and conditions, and every action of the one inside the other, whatever AWS may add."""
        if self.scope != old.scope:
            return False
        if self.statement.inverted:
            # Only an untouched NotAction may stay one: what it leaves out must leave out as much.
            return old.statement.inverted and all(self._holds(p) for p in old._all())
        if old.statement.inverted:
            return not any(_common(p, q) for p in self._all() for q in old._all())
        return all(old._holds(p) for p in self._all())

    def _holds(self, inner: str) -> bool:
        if inner in self.names:
            return True
        for key in (inner.partition(":")[0], "*"):
            for pattern, head, tail, least in self.by_service.get(key, ()):
                fits = inner.startswith(head) and inner.endswith(tail)
                if fits and (len(inner) >= least if least else _covers(pattern, inner)):
                    return True
        return False


def _ends(pattern: str) -> tuple[str, str, str, int]:
    """Return a pattern with what stands before its first wildcard and after its last: all that it means has both.

    Where its only wildcard is one star that is the whole test, but for the least length, which comes last (or 0).
    """
    first, *rest = re.split(r"[*?]", pattern)
    single = len(rest) == 1 and "*" in pattern
    return pattern, first, rest[-1], len(pattern) - 1 if single else 0


def _covers(outer: str, inner: str) -> bool:
    """Tell whether each string that `inner` can be is one that `outer` can be; both in lower case.

    A star of `inner` is played by any number of letters that `outer` does not name: what takes those takes all.
    The walk holds, for each place in `inner`, every set of places in `outer` that some string leads to.
    """
    if outer == inner or outer in {"*", "*:*"}:
        return True
    head, star, tail = outer.partition("*")
    if "*" not in tail and "?" not in outer:
        return bool(star) and inner.startswith(head) and inner.endswith(tail) and len(inner) >= len(head) + len(tail)
    todo = [(0, _rest(outer, {0}))]
    seen = set(todo)
    while todo:
        at, places = todo.pop()
        if not places or len(seen) > _PLACES:
            return False
        if at == len(inner):
            if len(outer) not in places:
                return False
            continue
        letter = inner[at]
        takes = {"*", "?"} if letter in {"*", "?"} else {"*", "?", letter}
        moved = {p if outer[p] == "*" else p + 1 for p in places if p < len(outer) and outer[p] in takes}
        after = _rest(outer, moved)
        ways = [(at + 1, places), (at, after)] if letter == "*" else [(at + 1, after)]
        todo += [w for w in ways if w not in seen]
        seen.update(ways)
    return True


def _rest(outer: str, places: set[int]) -> frozenset[int]:
    """Add the places that are reached by letting a star stand for nothing."""
    found = set(places)
    for place in places:
        at = place
        while at < len(outer) and outer[at] == "*":
            at += 1
            found.add(at)
    return frozenset(found)


def _common(one: str, other: str) -> bool:
    """Tell whether some string is meant by both; both in lower case."""
    if not {"*", "?"} & set(one):
        return _covers(other, one)
    if not {"*", "?"} & set(other):
        return _covers(one, other)
    table = {(len(one), len(other))}
    for i in range(len(one), -1, -1):
        for j in range(len(other), -1, -1):
            a, b = one[i : i + 1], other[j : j + 1]
            if (
                (a == "*" and ((i + 1, j) in table or (b and (i, j + 1) in table)))
                or (b == "*" and ((i, j + 1) in table or (a and (i + 1, j) in table)))
                or (a and b and (a == b or "?" in {a, b}) and "*" not in {a, b} and (i + 1, j + 1) in table)
            ):
                table.add((i, j))
    return (0, 0) in table
