"""All AWS managed policies that moto ships, each with seeded usage, and what must hold of every trim of them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from bot.errors import TooBigError
from bot.model import ActionUse, Evidence, Mode, Outcome, PolicyKind, Quotas, RolePolicy, ServiceUse, Trim, TrimSettings
from bot.policy import load_catalogue, trim
from tests.policy.judge import allowed, brief, denies, scope, statements

NOW = datetime(2026, 10, 31, tzinfo=UTC)
SHARES = (10, 30, 60)  # per cent of the granted actions that are used
QUOTAS = Quotas()
STRANGERS = ("s3:GetSomethingNew", "ec2:DescribeTheFuture", "iam:Ascend", "brandnew:Act")


@lru_cache(maxsize=1)
def documents() -> dict[str, str]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    return {n: json.dumps(p["Document"]) for n, p in sorted(json.loads(aws_managed_policies_data).items())}


def as_role(name: str) -> list[RolePolicy]:
    arn = f"arn:aws:iam::aws:policy/{name}"
    return [RolePolicy(name=name, kind=PolicyKind.AWS, arn=arn, text=documents()[name], attachments=40)]


def tracked(action: str) -> bool:
    """Say of about half of all actions that IAM tracks them, always the same half; never `iam:PassRole`."""
    return action != "iam:passrole" and random.Random(f"tracked/{action}").random() < 0.5


def granted(name: str) -> list[str]:
    """Lower-case full names of what the policy's Allow statements grant, by the judge that the engine does not share."""
    catalogue = load_catalogue()
    services: set[str] = set()
    for s in statements(documents()[name]):
        value = s.get("Action", "*")
        for p in [value] if isinstance(value, str) else value:
            service = p.lower().partition(":")[0]
            services |= set(catalogue.services()) if service == "*" else {service}
    every = [f"{s}:{n}" for s in sorted(services) for n in catalogue.actions(s)]
    return sorted({a for a, _ in allowed(documents()[name], every)})


def evidence(name: str, share: int, actions: list[str]) -> tuple[Evidence, set[str]]:
    """Return a report in which a seeded share of the actions was used, and the used ones.

    A share below zero is that share of the actions of 15 services: what a role with wide permissions really does.
    """
    r = random.Random(f"{name}/{share}")
    mine = actions
    if share < 0:
        every = sorted({a.partition(":")[0] for a in actions})
        few = set(r.sample(every, min(15, len(every))))
        mine = [a for a in actions if a.partition(":")[0] in few]
    used = set(r.sample(mine, round(len(mine) * abs(share) / 100)))
    at = NOW - timedelta(days=30)
    services: dict[str, list[str]] = {}
    for action in actions:
        services.setdefault(action.partition(":")[0], []).append(action)
    return Evidence(
        services=tuple(
            ServiceUse(
                namespace=service,
                last_accessed=at if used & set(mine) else None,
                actions=tuple(
                    ActionUse(action=a.partition(":")[2], last_accessed=at if a in used else None)
                    for a in mine
                    if tracked(a)
                ),
            )
            for service, mine in services.items()
        ),
        made_at=NOW,
        role_arn="arn:aws:iam::111122223333:role/Corpus",
    ), used


def settings(mode: Mode) -> TrimSettings:
    return TrimSettings(mode=mode, now=NOW, quotas=QUOTAS)


def problems(name: str, shares: tuple[int, ...] = SHARES) -> Iterator[tuple[str, Counter[str]]]:
    """Yield, for each share and mode, what is wrong (nothing, where all is well) and counts of what was seen.

    What begins with "refused:" is the engine's own error that what is kept fits no quota.
    """
    actions = granted(name)
    every = [*actions, *STRANGERS]
    before = allowed(documents()[name], every)
    for share in shares:
        report, used = evidence(name, share, actions)
        for mode in Mode:
            seen: Counter[str] = Counter(trims=1)
            try:
                answer = trim(as_role(name), report, load_catalogue(), settings(mode))
            except TooBigError as error:
                # Not a fault: what is kept can be too much for ten policies. It is said, counted and never cut.
                seen["refused"] += 1
                yield f"refused: {name} {share} {mode.value}: {error}", seen
                continue
            wrong = ", ".join(_wrong(name, answer, mode, actions, used, before, every, report))
            seen.update({"granted": answer.granted, "kept": answer.kept, "policies": len(answer.policies)})
            seen.update(Counter(f"tier {o.tier}" for o in answer.policies))
            seen["used kept"] += len(used & {a.action.lower() for a in answer.actions if a.kept})
            yield (f"{name} {share} {mode.value}: {wrong}" if wrong else ""), seen


def _wrong(
    name: str,
    answer: Trim,
    mode: Mode,
    actions: list[str],
    used: set[str],
    before: set[tuple[str, str]],
    every: list[str],
    report: Evidence,
) -> Iterator[str]:
    kept = {a.action.lower() for a in answer.actions if a.kept}
    busy = {s.namespace for s in report.services if s.last_accessed}
    after = set().union(*(allowed(o.text, every) for o in answer.policies))
    if not {a.lower() for a in actions} <= {a.action.lower() for a in answer.actions}:
        yield "a granted action has no verdict"
    if not answer.proof.holds:
        yield f"the checker refuses: {answer.proof.problems[:2]}"
    if after - before:
        yield f"new access: {sorted(after - before)[:3]}"
    if lost := {p for p in before if p[0] in used and tracked(p[0])} - after:
        yield f"used actions lost: {sorted(lost)[:3]}"
    if lost := {p for p in before if p[0] in kept} - after:
        yield f"kept actions lost: {sorted(lost)[:3]}"
    if more := {a for a, _ in after if a in actions} - kept:
        yield f"dropped actions allowed: {sorted(more)[:3]}"
    if over := [a for a in kept & set(actions) if tracked(a) and a not in used]:
        yield f"provably unused kept: {over[:3]}"
    if mode is Mode.SAFE:
        hidden = {a for a in actions if not tracked(a) and a.partition(":")[0] in busy}
        if hidden - kept:
            yield f"untracked dropped: {sorted(hidden - kept)[:3]}"
    elif over := [a.action for a in answer.actions if a.kept and a.verdict.value not in {"used", "needed"}]:
        yield f"kept without use: {over[:3]}"
    written = [o for o in answer.policies if o.outcome is not Outcome.UNCHANGED and o.text]
    if any(o.characters != brief(o.text or "") for o in written):
        yield "a size is wrong"
    if any(brief(o.text or "") > QUOTAS.managed_policy_size for o in written):
        yield "too long"
    if len(answer.policies) > QUOTAS.attached_policies:
        yield "too many policies"
    if [d for o in answer.policies for d in denies(o.text)] != denies(documents()[name]):
        yield "a Deny changed"
    where = {scope(s) for s in statements(documents()[name])}
    if any(scope(s) not in where for o in written for s in statements(o.text)):
        yield "a resource or condition changed"
    again = [
        RolePolicy(name=o.name, kind=o.kind, text=o.text, arn=f"arn:aws:iam::111122223333:policy/{o.name}")
        for o in answer.policies
        if o.text is not None
    ]
    if again and trim(again, report, load_catalogue(), settings(mode)).changes:
        yield "trimming again changes it"
