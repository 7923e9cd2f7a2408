"""Give back: from a trimmed role to the same role with some of what a change took away, and nothing else.

Pure, as all of the engine. Each policy of the change's snapshot that granted what is named gets it back where it lives
now, in the resources and conditions that it had: the engine spells the old document anew with the actions that the
live one grants and those that are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from bot.errors import NotAllowedError, StaleError, TooBigError
from bot.model import (
    ChangeId,
    GiveBack,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    Proof,
    Proposal,
    Role,
    RolePolicy,
    Trim,
    TrimSettings,
    Verdict,
    Warning_,
)
from bot.policy.catalogue import Action, Catalogue, Lexicon
from bot.policy.check import allowed, check
from bot.policy.engine import extended, granted_by
from bot.policy.fit import fit
from bot.policy.knowledge import knowledge
from bot.policy.language import parse, size
from bot.policy.patterns import is_name, matches

GIVEN = "Given back by hand; it was removed for this reason: "  # begins the reason of each action that comes back
_OTHERWISE = "Give it back by hand, or roll the whole change back."
_FEWER = "Give back fewer actions, or roll the whole change back."


def give(
    last: Proposal, change: ChangeId, snapshot: Role, live: Role, asked: Collection[str], catalogue: Catalogue
) -> tuple[Trim, GiveBack]:
    """Return the documents that give back what is asked for, with the proof, and what they give.

    Args:
        last: what was applied last: the trim that took the actions away, or a give-back of a part of it.
        change: the change that took them away.
        snapshot: the role as it was before that change.
        live: the role as it is.
        asked: names of actions, or `service:*` for all that was taken away of a service.
        catalogue: the actions there are.

    Raises:
        NotAllowedError: nothing of that name was taken away.
        StaleError: a policy is not what was left of it.
        TooBigError: a document with those actions fits no quota.
    """
    named = _named(last.trim, asked)
    documents = {p.key: parse(p.text, p.name) for p in snapshot.policies}
    lexicon = extended(documents.values(), catalogue, last.evidence, last.settings)
    heirs = _heirs(last, live)
    origin = {heir.key: key for key, mine in heirs.items() for heir in mine}
    written: dict[str, list[PolicyOutcome]] = {}
    role = {p.key: p for p in live.policies}  # as it becomes
    for policy in snapshot.policies:
        granted = _granted(policy, lexicon)
        mine = granted.keys() & named
        if not mine:
            continue
        source, outcomes = _written(policy, heirs.get(policy.key, ()), mine, role, lexicon, last.settings, live)
        written[source] = outcomes
        origin[source] = policy.key
        role.pop(source, None)
        for number, each in enumerate(outcomes):
            as_new = RolePolicy(name=each.name, kind=each.kind, text=each.text or "", arn=f"{source}#{number}")
            role[as_new.key] = replace(as_new, arn="") if each.kind is PolicyKind.INLINE else as_new
    policies = [o for p in live.policies for o in written.pop(p.key, None) or [_as_it_is(p, Outcome.UNCHANGED)]]
    names = {a.action for a in last.trim.actions if a.action.lower() in named}
    back = GiveBack(change=change, actions=tuple(sorted(names)), origin=tuple(sorted(origin.items())))
    trim = _trim(last.trim, names, (*policies, *(o for new in written.values() for o in new)))
    return replace(trim, proof=prove(snapshot.policies, live.policies, trim, back)), back


def _named(trim: Trim, asked: Collection[str]) -> set[str]:
    gone = {a.action.lower() for a in trim.actions if not a.kept}
    named: set[str] = set()
    for each in asked:
        service, _, name = each.lower().partition(":")
        found = {g for g in gone if g == each.lower() or (name == "*" and g.partition(":")[0] == service)}
        if not found:
            raise NotAllowedError(f"{each[:80]} is not among what the change took away.", "Pick what it took away.")
        named |= found
    # Of a service that the catalogue lacks, patterns are among what was taken away: one gives all that it matches.
    named |= {g for g in gone if any(not is_name(n) and matches(n, g) for n in named)}
    return named


def _granted(policy: RolePolicy, lexicon: Lexicon) -> dict[str, Action]:
    found: dict[str, Action] = {}
    for statement in parse(policy.text, policy.name).statements:
        if statement.allow:
            found |= granted_by(statement, lexicon)
    return found


def _heirs(last: Proposal, live: Role) -> dict[str, list[RolePolicy]]:
    """Return, by the key of each policy that was touched, the live ones that take its place: none where it went.

    Raises:
        StaleError: one of them is gone, or is not as it was left.
    """
    origin = dict(last.give_back.origin) if last.give_back else None
    heirs: dict[str, list[RolePolicy]] = {}
    for each in last.trim.policies:
        if each.text is None or (each.source not in origin if origin is not None else _untouched(each)):
            continue
        inline = each.kind is PolicyKind.INLINE
        alike = [p for p in live.policies if p.name == each.name and (p.kind is PolicyKind.INLINE) == inline]
        same = [p for p in alike if p.text == each.text]
        if not same:
            what = "was edited" if alike else "was taken away"
            raise StaleError(f"{each.name} {what} since the change, so it is not what the change left.", _OTHERWISE)
        heirs.setdefault(each.source if origin is None else origin[each.source], []).append(same[0])
    return heirs


def _untouched(outcome: PolicyOutcome) -> bool:
    return outcome.outcome is Outcome.UNCHANGED


def _written(
    policy: RolePolicy,
    heirs: Sequence[RolePolicy],
    mine: Collection[str],
    role: Mapping[str, RolePolicy],
    lexicon: Lexicon,
    settings: TrimSettings,
    live: Role,
) -> tuple[str, list[PolicyOutcome]]:
    """Return what gives a policy's actions back, and the key of the live policy that it takes the place of.

    One heir that is the role's own is spelled anew. Several, or one that others use too, stay as they are, and a policy
    beside them has the actions: moving statements between policies would leave a gap for a moment.
    """
    heir = heirs[0] if heirs else None
    alone = heir is not None and len(heirs) == 1 and heir.attachments <= 1 and heir.boundary_uses == 0
    keep = set(mine)
    if heir is not None and alone:
        form = replace(heir, text=policy.text)
        keep |= _granted(heir, lexicon).keys()
    elif policy.kind is PolicyKind.INLINE:
        form = policy
    else:
        form = replace(policy, arn=f"{policy.arn}#", attachments=2)  # so that a copy is made
    source = heir.key if heir is not None else policy.key
    if heir is None and policy.key in role:
        raise StaleError(f"The role has {policy.name} again, so it is not what the change left.", _OTHERWISE)
    others = [p for key, p in role.items() if not (alone and key == source)]
    document = parse(policy.text, policy.name)
    nothing = dict.fromkeys((p.key for p in others), document)  # they stay: only their names and sizes count
    grants = {s.index: granted_by(s, lexicon) for s in document.statements if s.allow}
    try:
        found = fit(
            [*others, form],
            {**nothing, form.key: document},
            {**{key: {} for key in nothing}, form.key: grants},
            keep,
            lexicon,
            replace(settings, quotas=live.quotas),
            live.name,
        )
    except TooBigError as error:
        raise TooBigError(error.sentence, _FEWER) from None
    outcomes = [replace(o, source=source, outcome=Outcome.GIVEN_BACK) for o in found if o.source == form.key]
    _no_bigger(outcomes, heir, others, live)
    if heir is not None and not alone:
        return source, [_as_it_is(heir, Outcome.GIVEN_BACK), *outcomes]
    return source, outcomes


def _no_bigger(
    outcomes: Sequence[PolicyOutcome], heir: RolePolicy | None, others: Sequence[RolePolicy], live: Role
) -> None:
    """Refuse an old document that comes back whole and has no room: the engine asks that of none that it leaves."""
    limit = live.quotas.managed_policy_size
    for each in outcomes:
        total = each.characters
        if each.kind is PolicyKind.INLINE:
            limit = live.quotas.role_policies_size
            total += sum(size(p.text) for p in others if p.kind is PolicyKind.INLINE)
        elif heir is None and not each.tier:
            continue  # it is attached again, as it was
        if total > limit:
            raise TooBigError(f"{each.name} would need {total:,} characters, and may have {limit:,}.", _FEWER)


def _as_it_is(policy: RolePolicy, outcome: Outcome) -> PolicyOutcome:
    return PolicyOutcome(
        name=policy.name,
        kind=policy.kind,
        source=policy.key,
        outcome=outcome,
        tier=0,
        text=policy.text,
        characters=size(policy.text),
    )


def _trim(last: Trim, names: Collection[str], policies: tuple[PolicyOutcome, ...]) -> Trim:
    more = Counter(name.partition(":")[0].lower() for name in names)
    return replace(
        last,
        policies=policies,
        actions=tuple(
            replace(
                a,
                kept=True,
                verdict=Verdict.PROTECTED,
                reason=f"{GIVEN}{a.reason}",
                sensitive="",
            )
            if a.action in names
            else a
            for a in last.actions
        ),
        services=tuple(replace(s, kept=s.kept + more[s.namespace]) for s in last.services),
        warnings=_wanting(last, names),
    )


def _wanting(last: Trim, names: Collection[str]) -> tuple[Warning_, ...]:
    """Name what stays away though something that comes back cannot do without it: nothing is given unasked."""
    pairs = knowledge().pairs
    return tuple(
        Warning_(
            code="needed",
            message=f"{by} comes back, which {pairs[low].why}, and {a.action} stays removed: it may be missed too.",
        )
        for a in last.actions
        if not a.kept and a.action not in names and (low := a.action.lower()) in pairs
        if (by := pairs[low].consumer(sorted(names)))
    )


def prove(snapshot: Sequence[RolePolicy], live: Sequence[RolePolicy], trim: Trim, back: GiveBack) -> Proof:
    """Return what can be proved of the documents of a give-back: it is the checker's word, not the engine's.

    They grant nothing that the snapshot did not, and nothing that was taken away and is not named; they grant again
    what is named, by each statement that did, and whatever the live ones grant.
    """
    origin = dict(back.origin)
    changed = [o for o in trim.policies if o.outcome is not Outcome.UNCHANGED and o.source in origin]
    rest = [o for o in trim.policies if o not in changed]
    sources = {o.source for o in changed}
    keys = {origin[s] for s in sources}
    given = check(
        [p for p in snapshot if p.key in keys], [replace(o, source=origin[o.source]) for o in changed], back.actions
    )
    kept = [a.action for a in trim.actions if a.kept and a.action not in back.actions]
    held = check([p for p in live if p.key in sources], [o for o in changed if _lives(o, live)], kept)
    same = check([p for p in live if p.key not in sources], rest, ())
    beyond = allowed(changed, [a.action for a in trim.actions if not a.kept])
    access = [*(f"{a} was not asked for" for a in beyond[:3])]
    lost = [f"{back.change} names {len(back.actions)} actions and gives none"] if not changed else []
    if not held.nothing_used_lost:
        lost += held.problems
    return Proof(
        no_new_access=given.no_new_access and same.no_new_access and not access,
        nothing_used_lost=given.nothing_used_lost and same.nothing_used_lost and not lost,
        problems=(*given.problems, *same.problems, *access, *lost),
    )


def _lives(outcome: PolicyOutcome, live: Sequence[RolePolicy]) -> bool:
    return any(p.key == outcome.source for p in live)
