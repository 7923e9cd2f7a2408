"""Trim: from what a role may do and what it did to what it should be allowed to do, and why.

Pure: everything comes in as arguments, and the same input gives the same output to the byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from bot.errors import NoEvidenceError, TooBigError
from bot.model import (
    ActionVerdict,
    Evidence,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    RolePolicy,
    ServiceSummary,
    Trim,
    TrimSettings,
    Verdict,
    Warning_,
)
from bot.policy.catalogue import Action, Catalogue, Extended, expand
from bot.policy.check import check
from bot.policy.compact import Class, compact
from bot.policy.language import Document, Statement, inside, matches, meets, normal, parse, size, write
from bot.policy.verdicts import Report, judge


def trim(policies: Sequence[RolePolicy], evidence: Evidence, catalogue: Catalogue, settings: TrimSettings) -> Trim:
    """Return trimmed documents, a verdict per granted action, warnings and the proof.

    Raises:
        PolicyError: a document is not one, or the kept actions fit no quota (TooBigError).
        NoEvidenceError: a warning that the settings make a refusal.
    """
    documents = {p.key: parse(p.text, p.name) for p in policies}
    catalogue, unknown = _extend(documents.values(), evidence, catalogue)
    grants = {p.key: _grants(documents[p.key], catalogue) for p in policies}
    granted: dict[str, Action] = {}
    by: dict[str, list[str]] = {}
    for policy in policies:
        for found in grants[policy.key].values():
            for key, action in found.items():
                granted.setdefault(key, action)
                holders = by.setdefault(key, [])
                if policy.name not in holders:
                    holders.append(policy.name)
    granted = dict(sorted(granted.items()))
    names = {k: tuple(v) for k, v in by.items()}
    verdicts = judge(granted, names, unknown, evidence, catalogue, settings)
    keep = {k for k, v in verdicts.items() if v.kept}
    outcomes = _write_all(policies, documents, grants, keep, evidence, catalogue, settings)
    must = tuple(v.action for v in verdicts.values() if v.verdict in {Verdict.USED, Verdict.PROTECTED})
    warnings = _warnings(policies, evidence, settings, outcomes)
    refused = next((w for w in warnings if w.code in settings.refuse), None)
    if refused is not None:
        raise NoEvidenceError(refused.message, "The settings make this a refusal.")
    return Trim(
        policies=outcomes,
        actions=tuple(verdicts.values()),
        services=_services(verdicts, evidence, catalogue),
        warnings=warnings,
        proof=check(policies, outcomes, must, catalogue),
    )


# -------------------- what is granted


def _extend(documents: Any, evidence: Evidence, catalogue: Catalogue) -> tuple[Catalogue, frozenset[str]]:
    """Add what the report tracks and what the policies name; the latter are unknown to the catalogue."""
    tracked = [
        Action(s.namespace.lower(), a.action)
        for s in evidence.services
        for a in s.actions
        if a.action.lower() not in catalogue.actions(s.namespace.lower())
    ]
    wider = Extended(catalogue, tracked)
    written: dict[str, Action] = {}
    for document in documents:
        for statement in document.statements:
            if not statement.allow or statement.inverted:
                continue
            for pattern in statement.patterns:
                service, _, rest = pattern.partition(":")
                # A name nobody knows, and a pattern that means nothing known, stand for themselves.
                if rest and service != "*" and not expand(pattern, wider):
                    written.setdefault(pattern.lower(), Action(service.lower(), rest))
    return Extended(wider, written.values()), frozenset(written)


def _grants(document: Document, catalogue: Catalogue) -> dict[int, dict[str, Action]]:
    """Return what each Allow statement grants, by its index."""
    return {s.index: granted_by(s, catalogue) for s in document.statements if s.allow}


def granted_by(statement: Statement, catalogue: Catalogue) -> dict[str, Action]:
    """Return the catalogue's actions that a statement's Action or NotAction takes in."""
    if not statement.inverted:
        found: dict[str, Action] = {}
        for pattern in statement.patterns:
            found |= _meant(pattern, catalogue)
        return found
    return {
        key: action
        for key, action in expand("*", catalogue).items()
        if not any(matches(p, key) for p in statement.patterns)
    }


def _meant(pattern: str, catalogue: Catalogue) -> dict[str, Action]:
    found = expand(pattern, catalogue)
    if not found and ":" in pattern:
        # `foo:*` of an unknown service: it was added under its own spelling.
        service, _, rest = pattern.lower().partition(":")
        action = catalogue.actions(service).get(rest)
        return {pattern.lower(): action} if action else {}
    return found


# -------------------- what is written


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    policy: RolePolicy
    document: Document
    statements: tuple[dict[str, Any], ...] | None  # None: nothing changes
    tier: int

    @property
    def text(self) -> str | None:
        if self.statements is None:
            return self.policy.text
        if not self.statements:
            return None
        return write(_document(self.document, self.statements))

    @property
    def size(self) -> int:
        return size(self.text or "")


def _document(document: Document, statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    body: Any = list(statements)
    if document.single and len(statements) == 1:
        body = statements[0]
    return {k: body if k == "Statement" else v for k, v in document.raw.items()}


def _write_all(
    policies: Sequence[RolePolicy],
    documents: Mapping[str, Document],
    grants: Mapping[str, dict[int, dict[str, Action]]],
    keep: set[str],
    evidence: Evidence,
    catalogue: Catalogue,
    settings: TrimSettings,
) -> tuple[PolicyOutcome, ...]:
    def draft(policy: RolePolicy, kind: Class) -> _Draft:
        return _draft(policy, documents[policy.key], grants[policy.key], keep, catalogue, kind)

    drafts = {p.key: draft(p, Class.NAMES) for p in policies}
    _fit_inline([p for p in policies if p.kind is PolicyKind.INLINE], drafts, draft, settings)
    role = evidence.role_arn.rsplit("/", 1)[-1]
    attached = sum(p.kind is not PolicyKind.INLINE for p in policies)
    slots = settings.quotas.attached_policies - attached
    slots += sum(p.kind is not PolicyKind.INLINE and drafts[p.key].text is None for p in policies)
    taken = {p.name.lower() for p in policies}
    outcomes: list[PolicyOutcome] = []
    for policy in policies:
        each = drafts[policy.key]
        if policy.kind is PolicyKind.INLINE or each.statements is None or each.text is None:
            outcomes.append(_outcome(each, policy.name))
            continue
        parts, used = _fit_managed(each, draft, slots, settings)
        slots -= used
        copied = policy.kind is PolicyKind.AWS or policy.attachments > 1 or policy.boundary_uses > 0
        base = _copy_name(role, policy.name, taken) if copied else policy.name
        if len(parts) == 1:
            outcomes.append(_outcome(parts[0], base))
            continue
        for number, part in enumerate(parts, 1):
            name = base if number == 1 else _free(f"{base[:120]}-{number}", taken)
            outcomes.append(replace(_outcome(part, name), outcome=Outcome.SPLIT))
    return tuple(outcomes)


def _outcome(draft: _Draft, name: str) -> PolicyOutcome:
    policy = draft.policy
    if draft.statements is None:
        return PolicyOutcome(
            name=policy.name,
            kind=policy.kind,
            source=policy.key,
            outcome=Outcome.UNCHANGED,
            tier=0,
            text=policy.text,
            characters=size(policy.text),
        )
    if draft.text is None:
        return PolicyOutcome(
            name=policy.name,
            kind=policy.kind,
            source=policy.key,
            outcome=Outcome.REMOVED,
            tier=0,
            text=None,
            characters=0,
        )
    return PolicyOutcome(
        name=name,
        kind=PolicyKind.INLINE if policy.kind is PolicyKind.INLINE else PolicyKind.CUSTOMER,
        source=policy.key,
        outcome=Outcome.TRIMMED,
        tier=draft.tier,
        text=draft.text,
        characters=draft.size,
    )


def _copy_name(role: str, policy: str, taken: set[str]) -> str:
    plain = re.sub(r"[^\w+=,.@-]", "-", f"Refine-{role}-{policy}" if role else f"Refine-{policy}")
    return _free(plain[:124], taken)


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found.lower() in taken:
        found = f"{name[:124]}-{number}"
        number += 1
    taken.add(found.lower())
    return found


def _fit_inline(
    policies: Sequence[RolePolicy],
    drafts: dict[str, _Draft],
    draft: Callable[[RolePolicy, Class], _Draft],
    settings: TrimSettings,
) -> None:
    """Spell a role's inline policies smaller together, no further than their common quota demands."""
    limit = settings.quotas.role_policies_size
    for kind in (Class.WORDS, Class.STAR, Class.INFIX):
        # The largest first: one policy spelled smaller is better than all of them.
        for policy in sorted(policies, key=lambda p: (-drafts[p.key].size, p.name)):
            if sum(drafts[p.key].size for p in policies) <= limit:
                return
            if drafts[policy.key].statements:
                drafts[policy.key] = draft(policy, kind)
    total = sum(drafts[p.key].size for p in policies)
    if policies and total > limit:
        raise TooBigError(
            f"The kept inline permissions need {total:,} characters, and a role may have {limit:,}.",
            "Move a part to a managed policy, or use strict mode.",
        )


def _fit_managed(
    each: _Draft, draft: Callable[[RolePolicy, Class], _Draft], slots: int, settings: TrimSettings
) -> tuple[list[_Draft], int]:
    """Return the parts that a managed policy becomes, and how many more slots they take."""
    limit = settings.quotas.managed_policy_size
    words = each
    for kind in (Class.NAMES, Class.WORDS):
        words = each if kind is Class.NAMES else draft(each.policy, kind)
        if words.size <= limit:
            return [words], 0
    split = _split(words, limit)
    if split is not None and len(split) - 1 <= slots:
        return [replace(p, tier=3) for p in split], len(split) - 1
    for kind in (Class.STAR, Class.INFIX):
        small = draft(each.policy, kind)
        if small.size <= limit:
            return [small], 0
        split = _split(small, limit)
        if split is not None and len(split) - 1 <= slots:
            return split, len(split) - 1
    raise TooBigError(
        f"What is kept of {each.policy.name} needs {words.size:,} characters, a managed policy may have {limit:,}, and "
        f"the role has {max(slots, 0)} free slots for more policies.",
        "Use strict mode, detach a policy that is not needed, or ask AWS for a higher quota.",
    )


def _split(draft: _Draft, limit: int) -> list[_Draft] | None:
    """Spread statements over several documents, in their order, whole where they fit; None where that is impossible.

    Deny statements go with every part that has an Allow: a Deny counts for the role whichever policy holds it, so the
    first part holds them all.
    """
    assert draft.statements is not None
    pieces: list[dict[str, Any]] = []
    room = limit - size(write(_document(draft.document, ()))) - 8
    for statement in draft.statements:
        pieces += _pieces(statement, room)
    if any(size(json.dumps(p)) > room for p in pieces):
        return None
    parts: list[list[dict[str, Any]]] = []
    used = 0
    for piece in pieces:
        need = size(json.dumps(piece)) + 1
        if not parts or used + need > room:
            parts.append([])
            used = 0
        parts[-1].append(piece)
        used += need
    done = [replace(draft, statements=tuple(_unique_sids(p))) for p in parts]
    return done if all(d.size <= limit for d in done) else None


def _pieces(statement: dict[str, Any], room: int) -> list[dict[str, Any]]:
    """Cut one statement's action list where it alone is too long; Deny and NotAction are never cut."""
    actions = statement.get("Action")
    if size(json.dumps(statement)) <= room or statement["Effect"] == "Deny" or not isinstance(actions, list):
        return [statement]
    pieces: list[dict[str, Any]] = []
    bare = size(json.dumps({**statement, "Action": []})) + 8
    batch: list[str] = []
    used = bare
    for action in actions:
        if batch and used + len(action) + 3 > room:
            pieces.append({**statement, "Action": batch})
            batch, used = [], bare
        batch.append(action)
        used += len(action) + 3
    pieces.append({**statement, "Action": batch})
    return pieces


def _unique_sids(statements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: set[str] = set()
    done = []
    for statement in statements:
        each = statement
        if (sid := statement.get("Sid")) is not None and sid:
            name, number = sid, 2
            while name in seen:
                name = f"{sid}{number}"
                number += 1
            seen.add(name)
            each = {**statement, "Sid": name}
        done.append(each)
    return done


def _draft(
    policy: RolePolicy,
    document: Document,
    grants: Mapping[int, dict[str, Action]],
    keep: set[str],
    catalogue: Catalogue,
    kind: Class,
) -> _Draft:
    if all(key in keep for found in grants.values() for key in found):
        return _Draft(policy=policy, document=document, statements=None, tier=0)
    written: list[dict[str, Any]] = []
    for statement in document.statements:
        if not statement.allow or all(k in keep for k in grants[statement.index]):
            written.append(dict(statement.raw))
            continue
        actions = _actions(statement, grants[statement.index], keep, catalogue, kind)
        if actions:
            written.append(_with_actions(statement, actions))
    if not any(s["Effect"] == "Allow" for s in written) and not any(not s.allow for s in document.statements):
        written = []
    return _Draft(policy=policy, document=document, statements=tuple(written), tier=int(kind))


def _with_actions(statement: Statement, actions: list[str]) -> dict[str, Any]:
    """Return the statement with other actions: its keys in their order, a string where it was one and still can be."""
    old = statement.raw.get("Action")
    value: Any = actions[0] if isinstance(old, str) and len(actions) == 1 else actions
    return {
        "Action" if k in {"Action", "NotAction"} else k: value if k in {"Action", "NotAction"} else v
        for k, v in statement.raw.items()
    }


def _actions(
    statement: Statement, granted: dict[str, Action], keep: set[str], catalogue: Catalogue, kind: Class
) -> list[str]:
    entries: list[str] = []
    loose: dict[str, Action] = {}  # kept actions of patterns that cannot stay
    places: list[str | None] = []
    if statement.inverted:
        loose = {k: a for k, a in granted.items() if k in keep}
        places = [None]
    for pattern in () if statement.inverted else statement.patterns:
        meant = _meant(pattern, catalogue)
        kept = {k: a for k, a in meant.items() if k in keep}
        if len(kept) == len(meant):
            places.append(pattern)
        elif kept:
            loose |= kept
            places.append(None)
    whole = [p for p in places if p is not None]
    loose = {k: a for k, a in loose.items() if not any(matches(p, k) for p in whole)}
    spelled = _spell(statement, loose, keep, catalogue, kind)
    done = False
    for place in places:
        if place is not None:
            if place not in entries:
                entries.append(place)
        elif not done:
            # What replaces the first partial pattern stands in its place, the others' with it: one sorted run.
            entries += [s for s in spelled if s not in entries]
            done = True
    return entries


def _spell(
    statement: Statement, loose: dict[str, Action], keep: set[str], catalogue: Catalogue, kind: Class
) -> list[str]:
    def allowed(pattern: str) -> bool:
        if statement.inverted:
            return not any(meets(pattern, p) for p in statement.patterns)
        return any(inside(pattern, p) for p in statement.patterns)

    by_service: dict[str, list[str]] = {}
    for key, action in loose.items():
        by_service.setdefault(key.partition(":")[0], []).append(action.name)
    everything = statement.inverted or any(normal(p) == "*:*" for p in statement.patterns)
    spelled: list[str] = []
    for service, names in sorted(by_service.items()):
        known = catalogue.actions(service)
        if everything and all(f"{service}:{n}" in keep for n in known) and allowed(f"{service}:*"):
            spelled.append(f"{service}:*")
            continue
        # Names that are kept, but that this statement did not grant, must not be matched either: `allowed` sees to it
        # as a language, and only names outside `keep` are forbidden.
        fine = {n.lower() for n in names}
        others = [a.name for n, a in known.items() if n not in fine and f"{service}:{n}" not in keep]
        spelled += compact(service, names, [*names, *others], kind, allowed)
    return spelled


# -------------------- what is said beside


def _warnings(
    policies: Sequence[RolePolicy], evidence: Evidence, settings: TrimSettings, outcomes: Sequence[PolicyOutcome]
) -> tuple[Warning_, ...]:
    found: list[Warning_] = []
    window = timedelta(days=settings.window_days)
    now = settings.now

    def warn(code: str, message: str) -> None:
        found.append(Warning_(code=code, message=message))

    if evidence.role_created_at is not None and now - evidence.role_created_at < window:
        days = (now - evidence.role_created_at).days
        warn(
            "role_too_young",
            f"The role is {_days(days)} old, younger than the window of {settings.window_days} days: "
            "what it does once a month or a quarter may not have happened yet.",
        )
    for policy in policies:
        made = policy.version_created_at
        if policy.kind is not PolicyKind.AWS and made is not None and now - made < window:
            warn(
                "policy_too_young",
                f"The version of {policy.name} in force is {_days((now - made).days)} old, younger than the window of "
                f"{settings.window_days} days: what it newly grants looks unused because it is new.",
            )
    age = now - evidence.made_at
    if age > timedelta(hours=settings.max_report_age_hours):
        warn(
            "report_too_old",
            f"The report is {int(age.total_seconds() // 3600)} hours old; "
            f"the settings ask for {settings.max_report_age_hours} at most.",
        )
    if evidence.tracking_days < settings.window_days:
        warn(
            "tracking_too_short",
            f"IAM tracked {evidence.tracking_days} days here, less than the window of {settings.window_days} days.",
        )
    report = Report.of(evidence)
    odd = sorted(n for n, s in report.services.items() if n in report.last and report.last[n] != s.last_accessed)
    if odd:
        warn(
            "report_contradicts",
            f"The report gives a later time for actions than for their service ({', '.join(odd[:5])}); "
            "the later one was taken.",
        )
    tiers = [o for o in outcomes if o.tier in {2, 4, 5}]
    for outcome in tiers:
        warn(
            "shortened",
            f"{outcome.name} is written with wildcards (tier {outcome.tier}) because explicit names would pass IAM's "
            "size limit; each matches kept actions only, and nothing that was not granted before.",
        )
    if not evidence.services:
        warn("empty_report", "The report covers no service at all.")
    return tuple(found)


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _services(
    verdicts: Mapping[str, ActionVerdict], evidence: Evidence, catalogue: Catalogue
) -> tuple[ServiceSummary, ...]:
    report = Report.of(evidence)
    counts: dict[str, list[int]] = {n: [0, 0, 0] for n in report.services}
    for key, verdict in verdicts.items():
        count = counts.setdefault(key.partition(":")[0], [0, 0, 0])
        count[0] += 1
        count[1] += verdict.kept
        count[2] += key in report.actions
    return tuple(
        ServiceSummary(
            namespace=namespace,
            name=(report.services[namespace].name if namespace in report.services else "")
            or catalogue.title(namespace),
            last_accessed=report.last.get(namespace),
            granted=granted,
            kept=kept,
            tracked=tracked,
            region=report.services[namespace].region if namespace in report.services else "",
        )
        for namespace, (granted, kept, tracked) in sorted(counts.items())
    )
