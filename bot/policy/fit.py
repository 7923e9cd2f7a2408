"""From the actions that are kept to the documents that say so, spelled no shorter than IAM's limits demand.

What a policy becomes is planned once: each changed statement is a run of entries that stay as written and of chunks,
one a service, that can be spelled at every tier. Fitting then chooses a tier for each chunk, and cuts a policy in
parts where the role has room for more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bot.errors import TooBigError
from bot.model import Mode, Outcome, PolicyKind, PolicyOutcome, RolePolicy, TrimSettings
from bot.policy.catalogue import Action, Lexicon, Service
from bot.policy.compact import Allowed, Class, compact
from bot.policy.language import Document, Statement, size, weigh, write
from bot.policy.patterns import EVERYTHING, inside, is_name, meets, normal

Grants = Mapping[int, Mapping[str, Action]]  # what each Allow statement grants, by its index

_FRAME = 3  # quotes and comma around an entry, which holds nothing that JSON escapes
# Source of both: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_NAME = 128  # characters of a policy's name
_MOST = 20  # managed policies on a role, where AWS was asked for more than the usual 10


def _length(entries: Sequence[str]) -> int:
    return sum(len(entry) + _FRAME for entry in entries)


class Chunk:
    """The kept actions of one service in one statement, to be spelled in place of what was written."""

    def __init__(
        self, service: Service, statement: Statement, names: Sequence[str], fine: Sequence[str], keep: set[str]
    ) -> None:
        """`names` are to be spelled; `fine` are those that entries which stay grant: a pattern may match them."""
        self._service = service
        self._statement = statement
        self._names = names
        self._fine = fine
        self._keep = keep
        self._spelled: dict[Class, list[str]] = {}

    def spell(self, kind: Class) -> list[str]:
        """Return entries, sorted; at every tier a whole service is one star where the statement granted all of it.

        More kinds of pattern never make it longer, though a greedy cover can be.
        """
        if kind not in self._spelled:
            found = self._spell(kind)
            if kind is not Class.NAMES:
                before = self.spell(max(c for c in Class if c < kind))
                found = min(before, found, key=_length)
            self._spelled[kind] = found
        return self._spelled[kind]

    def length(self, kind: Class) -> int:
        return _length(self.spell(kind))

    def _spell(self, kind: Class) -> list[str]:
        statement, service = self._statement, self._service
        whole = f"{service.name}:*"
        near = [p for p in statement.patterns if not is_name(p) and meets(p, whole)]
        wide = statement.inverted or any(normal(p) == EVERYTHING for p in near)
        if wide and self._keep.issuperset(service.keyed) and not (statement.inverted and self._barred(whole)):
            return [whole]
        # A pattern that nobody knows stands for itself, and is no name to make patterns of.
        names = [n for n in self._names if is_name(n)]
        odd = [service.actions[n].full for n in self._names if not is_name(n)]
        rule: Allowed | None = None
        if statement.inverted:
            rule = self._barring()
        elif not any(normal(p) in {whole, EVERYTHING} for p in near):
            rule = lambda pattern: any(inside(pattern, p) for p in near)  # noqa: E731
        if kind is Class.NAMES or not (near or statement.inverted):
            spelled = [service.actions[n].full for n in sorted(names)]
        else:
            spelled = compact(service.spelling, names, self._fine, kind, rule)
        return sorted([*spelled, *odd], key=lambda p: (p.lower(), p)) if odd else spelled

    def _barring(self) -> Allowed | None:
        """Return what a NotAction leaves open of the service; None where it bars nothing of it."""
        return (lambda p: not self._barred(p)) if self._barred(f"{self._service.name}:*") else None

    def _barred(self, pattern: str) -> bool:
        return any(meets(pattern, p) for p in self._statement.patterns)


@dataclass(frozen=True, kw_only=True)
class _Trimmed:
    """A statement that changes: entries as written, and chunks."""

    statement: Statement
    places: tuple[str | Chunk, ...]

    def render(self, kinds: Mapping[Chunk, Class]) -> dict[str, Any]:
        entries: list[str] = []
        for place in self.places:
            entries += [place] if isinstance(place, str) else place.spell(kinds.get(place, Class.NAMES))
        # A string stays a string where it still can be one.
        old = self.statement.raw["NotAction" if self.statement.inverted else "Action"]
        value: Any = entries[0] if isinstance(old, str) and len(entries) == 1 else entries
        return {
            "Action" if k in {"Action", "NotAction"} else k: value if k in {"Action", "NotAction"} else v
            for k, v in self.statement.raw.items()
        }


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What becomes of one policy; `parts` is None where it is untouched, empty where it goes."""

    policy: RolePolicy
    document: Document
    parts: tuple[Statement | _Trimmed, ...] | None
    kinds: dict[Chunk, Class] = field(default_factory=dict)

    def chunks(self) -> Iterator[Chunk]:
        for part in self.parts or ():
            if isinstance(part, _Trimmed):
                yield from (p for p in part.places if isinstance(p, Chunk))

    def statements(self) -> list[dict[str, Any]]:
        return [part.render(self.kinds) if isinstance(part, _Trimmed) else dict(part.raw) for part in self.parts or ()]

    def body(self, statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        inner: Any = statements[0] if self.document.single and len(statements) == 1 else list(statements)
        return {k: inner if k == "Statement" else v for k, v in self.document.raw.items()}

    def size(self) -> int:
        if self.parts is None:
            return size(self.policy.text)
        return weigh(self.body(self.statements())) if self.parts else 0

    def tier(self) -> int:
        return int(max(self.kinds.values(), default=Class.NAMES))

    @property
    def writes(self) -> bool:
        return bool(self.parts)

    @property
    def copied(self) -> bool:
        """AWS's own policy, and one that others use or are bounded by, is left alone: a copy takes its place."""
        p = self.policy
        return p.kind is PolicyKind.AWS or (
            p.kind is PolicyKind.CUSTOMER and (p.attachments > 1 or p.boundary_uses > 0)
        )


def fit(
    policies: Sequence[RolePolicy],
    documents: Mapping[str, Document],
    grants: Mapping[str, Grants],
    keep: set[str],
    lexicon: Lexicon,
    settings: TrimSettings,
    role: str,
) -> tuple[PolicyOutcome, ...]:
    """Return what becomes of each policy, within the quotas, in the order given; `role` is its name, for copies.

    Raises:
        TooBigError: no spelling and no split fits.
    """
    plans = {p.key: _plan(p, documents[p.key], grants[p.key], keep, lexicon) for p in policies}
    _fit_inline([p for p in plans.values() if p.policy.kind is PolicyKind.INLINE], settings)
    managed = [p for p in plans.values() if p.policy.kind is not PolicyKind.INLINE]
    parts = _fit_managed(managed, settings)
    taken = {p.name.lower() for p in policies}
    outcomes: list[PolicyOutcome] = []
    for plan in plans.values():
        if plan.parts is None:
            outcomes.append(_same(plan.policy))
        elif not plan.parts:
            outcomes.append(_gone(plan.policy))
        elif plan.policy.kind is PolicyKind.INLINE:
            outcomes.append(_new(plan, plan.policy.name, plan.statements(), plan.tier()))
        else:
            option = parts[plan.policy.key]
            base = _copy_name(role, plan.policy.name, taken) if plan.copied else plan.policy.name
            for number, statements in enumerate(option.parts, 1):
                name = base if number == 1 else _free(f"{base[: _NAME - 8]}-{number}", taken)
                each = _new(plan, name, statements, option.tier)
                outcomes.append(replace(each, outcome=Outcome.SPLIT) if len(option.parts) > 1 else each)
    return tuple(outcomes)


def _same(policy: RolePolicy) -> PolicyOutcome:
    return PolicyOutcome(
        name=policy.name,
        kind=policy.kind,
        source=policy.key,
        outcome=Outcome.UNCHANGED,
        tier=0,
        text=policy.text,
        characters=size(policy.text),
    )


def _gone(policy: RolePolicy) -> PolicyOutcome:
    return PolicyOutcome(
        name=policy.name,
        kind=policy.kind,
        source=policy.key,
        outcome=Outcome.REMOVED,
        tier=0,
        text=None,
        characters=0,
    )


def _new(plan: _Plan, name: str, statements: Sequence[Mapping[str, Any]], tier: int) -> PolicyOutcome:
    body = plan.body(statements)
    return PolicyOutcome(
        name=name,
        kind=PolicyKind.INLINE if plan.policy.kind is PolicyKind.INLINE else PolicyKind.CUSTOMER,
        source=plan.policy.key,
        outcome=Outcome.TRIMMED,
        tier=tier,
        text=write(body),
        characters=weigh(body),
    )


def _copy_name(role: str, policy: str, taken: set[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", f"Refine-{role}-{policy}" if role else f"Refine-{policy}")
    return _free(plain[: _NAME - 8], taken)


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found.lower() in taken:
        found = f"{name[: _NAME - 4]}-{number}"
        number += 1
    taken.add(found.lower())
    return found


# -------------------- planning


def _plan(policy: RolePolicy, document: Document, grants: Grants, keep: set[str], lexicon: Lexicon) -> _Plan:
    if all(keep.issuperset(found) for found in grants.values()):
        return _Plan(policy=policy, document=document, parts=None)
    parts: list[Statement | _Trimmed] = []
    for statement in document.statements:
        if not statement.allow or keep.issuperset(grants[statement.index]):
            parts.append(statement)
            continue
        places = _places(statement, grants[statement.index], keep, lexicon)
        if places:
            parts.append(_Trimmed(statement=statement, places=places))
    return _Plan(policy=policy, document=document, parts=tuple(parts))


def _places(
    statement: Statement, granted: Mapping[str, Action], keep: set[str], lexicon: Lexicon
) -> tuple[str | Chunk, ...]:
    """Return entries that stay and, where the first that cannot stay stood, the chunk of each service it speaks of."""
    stay: list[bool] = []
    covered: set[str] = set()
    partial: list[list[str]] = []
    if statement.inverted:
        stay, partial = [False], [[k for k in granted if k in keep]]
    else:
        for pattern in statement.patterns:
            meant = lexicon.expand(pattern)
            whole = keep.issuperset(meant)
            stay.append(whole)
            partial.append([] if whole else [k for k in meant if k in keep])
            if whole:
                covered.update(meant)
    loose: dict[str, list[str]] = {}
    seen: set[str] = set()
    order: list[list[str]] = []
    for keys in partial:
        begun: list[str] = []
        for key in keys:
            if key in covered or key in seen:
                continue
            seen.add(key)
            service, _, name = key.partition(":")
            if service not in loose:
                loose[service] = []
                begun.append(service)
            loose[service].append(name)
        order.append(sorted(begun))
    fine: dict[str, list[str]] = {}
    for key in covered:
        service, _, name = key.partition(":")
        if service in loose:
            fine.setdefault(service, []).append(name)
    places: list[str | Chunk] = []
    for place, whole in enumerate(stay):
        if whole:
            places.append(statement.patterns[place])
        places += [Chunk(lexicon.service(s), statement, loose[s], fine.get(s, ()), keep) for s in order[place]]
    return tuple(places)


# -------------------- fitting


def _fit_inline(plans: Sequence[_Plan], settings: TrimSettings) -> None:
    """Spell a role's inline policies smaller together, no further than their common quota demands."""
    limit = settings.quotas.role_policies_size
    if not any(p.parts is not None for p in plans):
        return
    for kind in (Class.WORDS, Class.STAR, Class.INFIX):
        _shorten(plans, kind, limit)
    total = sum(p.size() for p in plans)
    if total > limit and any(p.writes for p in plans):
        raise TooBigError(
            f"The kept inline permissions need {total:,} characters, and a role may have {limit:,}.",
            _ways(settings, "move a part of them to a managed policy"),
        )


def _ways(settings: TrimSettings, other: str) -> str:
    """Return the next step of somebody whose role keeps too much."""
    if settings.mode is Mode.SAFE:
        return f"Use strict mode, which keeps less, or {other}."
    return f"{other[0].upper()}{other[1:]}."


def _shorten(plans: Sequence[_Plan], kind: Class, limit: int) -> None:
    """Spell chunks at a tier, those that save the most first, until the plans fit together or none is left."""
    over = sum(p.size() for p in plans) - limit
    if over <= 0:
        return
    savings = [
        (chunk.length(plan.kinds.get(chunk, Class.NAMES)) - chunk.length(kind), n, chunk, plan)
        for plan in plans
        for n, chunk in enumerate(plan.chunks())
    ]
    for saving, _, chunk, plan in sorted(savings, key=lambda s: (-s[0], s[3].policy.key, s[1])):
        if over <= 0 or saving <= 0:
            return
        plan.kinds[chunk] = kind
        over -= saving


@dataclass(frozen=True, kw_only=True)
class _Option:
    """One way to write a managed policy: the statements of each part."""

    tier: int
    parts: tuple[Sequence[Mapping[str, Any]], ...]


def _fit_managed(plans: Sequence[_Plan], settings: TrimSettings) -> dict[str, _Option]:
    """Return how each managed policy that is written is written, within the role's free slots."""
    quotas = settings.quotas
    writing = [p for p in plans if p.writes]
    options = {p.policy.key: _Options(p, quotas.managed_policy_size) for p in writing}
    lowest: dict[str, _Option] = {}
    for plan in writing:
        first = options[plan.policy.key].get(0)
        if first is None:
            raise _uncut(plan, quotas.managed_policy_size)
        lowest[plan.policy.key] = first
    attached = len(plans)
    # A copy is attached before what it replaces goes, so that there is never a gap: that takes a slot for a moment.
    moment = quotas.attached_policies - attached - sum(p.copied for p in writing)
    end = quotas.attached_policies - sum(p.parts is None or p.writes for p in plans)
    for slots in (moment, end):
        chosen = _choose(options, lowest, max(slots, 0))
        if chosen is not None:
            return chosen
    least = {p.policy.name: min(len(o.parts) for o in options[p.policy.key].found) for p in writing}
    biggest = max(least, key=lambda n: (least[n], n))
    needed = attached + sum(p.copied for p in writing) + sum(least.values()) - len(least)
    if needed <= _MOST:
        way = f"ask AWS to let a role have {needed} managed policies"
    else:
        way = f"replace {biggest} by hand with what the role is for"
    parts, free = least[biggest], max(end, 0)
    raise TooBigError(
        f"What is kept of {biggest} takes {parts} policies of {quotas.managed_policy_size:,} characters, which is "
        f"{parts - 1} more than now, and the role has {free} of {quotas.attached_policies} slots free.",
        _ways(settings, way),
    )


def _choose(options: Mapping[str, _Options], lowest: Mapping[str, _Option], slots: int) -> dict[str, _Option] | None:
    """Return the lowest tiers that take no more than the slots: who takes the most goes a tier further first."""
    at = dict.fromkeys(options, 0)
    chosen = dict(lowest)
    while sum(len(o.parts) - 1 for o in chosen.values()) > slots:
        for key in sorted(chosen, key=lambda k: (-len(chosen[k].parts), k)):
            further = options[key].get(at[key] + 1)
            if further is not None:
                at[key] += 1
                chosen[key] = further
                break
        else:
            return None
    return chosen


class _Options:
    """The ways to write a policy, from the lowest tier, each made only when it is asked for."""

    def __init__(self, plan: _Plan, limit: int) -> None:
        self.found: list[_Option] = []
        self._more = _options(plan, limit)

    def get(self, number: int) -> _Option | None:
        while len(self.found) <= number:
            each = next(self._more, None)
            if each is None:
                return None
            self.found.append(each)
        return self.found[number]


def _options(plan: _Plan, limit: int) -> Iterator[_Option]:
    """Yield the ways to write a policy that fit the limit, tier by tier, each in fewer parts than the one before."""
    fewest: int | None = None
    for kind in (Class.NAMES, Class.WORDS, Class.STAR, Class.INFIX):
        before = replace(plan, kinds=dict(plan.kinds))
        if kind is not Class.NAMES:
            _shorten([plan], kind, limit)
        statements = plan.statements()
        weight = weigh(plan.body(statements))
        if weight <= limit:
            yield _Option(tier=plan.tier(), parts=(statements,))
            return
        if kind is Class.NAMES:
            continue
        parts = _split(plan, statements, limit)
        if parts is not None and (fewest is None or len(parts) < fewest):
            fewest = len(parts)
            spare = len(parts) * limit - sum(weigh(plan.body(part)) for part in parts)
            eased = _eased(before, kind, weight, spare, len(parts), limit)
            yield eased or _Option(tier=max(3, plan.tier()), parts=tuple(parts))


def _eased(plan: _Plan, kind: Class, least: int, spare: int, number: int, limit: int) -> _Option | None:
    """Return a way to write as many parts that spells less at the tier: no more than that number demands.

    Spelled at it throughout, the policy weighs `least`, and its parts leave `spare` characters free.
    """
    for eighths in (7, 5, 3, 1):  # statements that stay whole leave gaps
        less = replace(plan, kinds=dict(plan.kinds))
        _shorten([less], kind, least + spare * eighths // 8)
        parts = _split(less, less.statements(), limit)
        if parts is not None and len(parts) <= number:
            return _Option(tier=max(3, less.tier()), parts=tuple(parts))
    return None


def _split(plan: _Plan, statements: Sequence[dict[str, Any]], limit: int) -> list[list[dict[str, Any]]] | None:
    """Spread statements over several documents, whole where they fit; None where that is impossible.

    They stay in their order, unless it takes fewer documents to fill up those before; a Deny, which counts for the role
    whichever policy holds it, never comes before an earlier one.
    """
    room = limit - weigh(plan.body(()))
    pieces = [(weigh(piece), piece) for s in statements for piece in _pieces(s, room)]
    if any(weight > room for weight, _ in pieces):
        return None
    ordered, filled = _pack(pieces, room, fill=False), _pack(pieces, room, fill=True)
    return [_unique_sids(part) for part in (filled if len(filled) < len(ordered) else ordered)]


def _pack(pieces: Sequence[tuple[int, dict[str, Any]]], room: int, *, fill: bool) -> list[list[dict[str, Any]]]:
    parts: list[list[dict[str, Any]]] = []
    left: list[int] = []
    deny = 0  # the part of the last Deny
    for weight, piece in pieces:
        need = weight + 1  # and a comma
        first = max(len(parts) - 1, 0) if not fill else deny if piece["Effect"] == "Deny" else 0
        place = next((n for n in range(first, len(parts)) if need <= left[n]), len(parts))
        if place == len(parts):
            parts.append([])
            left.append(room + 1)
        parts[place].append(piece)
        left[place] -= need
        if piece["Effect"] == "Deny":
            deny = place
    return parts


def _uncut(plan: _Plan, limit: int) -> TooBigError:
    """Return the error that names the statement which fits no part, by its number in the old policy."""
    room = limit - weigh(plan.body(()))
    longest = [max(map(weigh, _pieces(s, room))) for s in plan.statements()]
    place = longest.index(max(longest))
    part = (plan.parts or ())[place]
    number = (part.statement if isinstance(part, _Trimmed) else part).index + 1
    return TooBigError(
        f"Statement {number} of {plan.policy.name} takes {longest[place]:,} characters and cannot be cut, and a policy "
        f"has room for {room:,}.",
        "Write that statement shorter by hand, in a policy of your own, and trim again.",
    )


def _pieces(statement: dict[str, Any], room: int) -> Iterator[dict[str, Any]]:
    """Cut one statement's action list where it alone is too long; what is not a list of Allow is never cut."""
    actions = statement.get("Action")
    if weigh(statement) <= room or statement["Effect"] == "Deny" or not isinstance(actions, list):
        yield statement
        return
    bare = weigh({**statement, "Action": []})
    batch: list[str] = []
    used = bare
    for action in actions:
        need = len(action) + _FRAME
        if batch and used + need > room:
            yield {**statement, "Action": batch}
            batch, used = [], bare
        batch.append(action)
        used += need
    yield {**statement, "Action": batch}


def _unique_sids(statements: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the statements of one part with the Sids of pieces of one statement told apart."""
    given = {s.get("Sid") for s in statements}
    seen: set[str] = set()
    done = []
    for statement in statements:
        sid = statement.get("Sid")
        if sid and sid in seen:
            number = 2
            while f"{sid}{number}" in seen | given:
                number += 1
            sid = f"{sid}{number}"
            done.append({**statement, "Sid": sid})
        else:
            done.append(statement)
        if sid:
            seen.add(sid)
    return done
