"""Properties of the engine, held against a judge of our own that shares nothing with it but the catalogue's names."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.errors import TooBigError
from bot.model import (
    ActionUse,
    Evidence,
    Mode,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    Quotas,
    RolePolicy,
    ServiceUse,
    Trim,
    TrimSettings,
)
from bot.policy import check, load_catalogue, trim

CATALOGUE = load_catalogue()
NOW = datetime(2026, 1, 31, tzinfo=UTC)
SERVICES = ("dynamodb", "s3", "sqs", "lambda", "iam", "kms")
NAMES = {s: sorted(a.name for a in CATALOGUE.actions(s).values()) for s in SERVICES}
ALL = [f"{s}:{n}" for s in SERVICES for n in NAMES[s]]


def fits(pattern: str, action: str) -> bool:
    rule = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern.lower())
    return pattern == "*" or re.fullmatch(rule, action.lower()) is not None


def grants(statement: dict, action: str) -> bool:
    if statement["Effect"] != "Allow":
        return False
    key = "Action" if "Action" in statement else "NotAction"
    patterns = [statement[key]] if isinstance(statement[key], str) else statement[key]
    return any(fits(p, action) for p in patterns) == (key == "Action")


def allowed(text: str | None) -> set[tuple[str, str]]:
    """Pairs of an action and the scope it is allowed in."""
    body = json.loads(text)["Statement"] if text else []
    return {
        (a, json.dumps([s.get("Resource"), s.get("Condition")], sort_keys=True))
        for s in ([body] if isinstance(body, dict) else body)
        for a in ALL
        if grants(s, a)
    }


@st.composite
def patterns(draw: st.DrawFn) -> str:
    service = draw(st.sampled_from(SERVICES))
    name = draw(st.sampled_from(NAMES[service]))
    shape = draw(st.sampled_from(("name", "all", "prefix", "infix", "suffix", "mark", "case")))
    cut = draw(st.integers(1, len(name)))
    return {
        "name": f"{service}:{name}",
        "all": f"{service}:*",
        "prefix": f"{service}:{name[:cut]}*",
        "infix": f"{service}:*{name[cut // 2 : cut]}*",
        "suffix": f"{service}:*{name[-cut:]}",
        "mark": f"{service}:{name[: cut - 1]}?{name[cut:]}",
        "case": f"{service}:{name}".swapcase(),
    }[shape]


@st.composite
def statements(draw: st.DrawFn) -> dict:
    key = draw(st.sampled_from(("Action", "Action", "Action", "Action", "NotAction")))
    many = draw(st.lists(patterns(), min_size=1, max_size=4))
    return {
        **({"Sid": draw(st.sampled_from(("A", "B", "Read1")))} if draw(st.booleans()) else {}),
        "Effect": draw(st.sampled_from(("Allow", "Allow", "Allow", "Deny"))),
        key: many[0] if len(many) == 1 and draw(st.booleans()) else many,
        "Resource": draw(st.sampled_from(("*", "arn:aws:s3:::b/*"))),
        **({"Condition": {"Bool": {"aws:SecureTransport": "true"}}} if draw(st.integers(0, 3)) == 0 else {}),
    }


@st.composite
def roles(draw: st.DrawFn) -> list[RolePolicy]:
    kinds = draw(st.lists(st.sampled_from(tuple(PolicyKind)), min_size=1, max_size=3))
    return [
        RolePolicy(
            name=f"P{i}",
            kind=kind,
            arn="" if kind is PolicyKind.INLINE else f"arn:aws:iam::111122223333:policy/P{i}",
            text=json.dumps(
                {"Version": "2012-10-17", "Statement": draw(st.lists(statements(), min_size=1, max_size=3))}
            ),
            attachments=draw(st.sampled_from((1, 1, 2))),
        )
        for i, kind in enumerate(kinds)
    ]


@st.composite
def reports(draw: st.DrawFn) -> Evidence:
    def at() -> datetime | None:
        days = draw(st.sampled_from((None, 1, 89, 91, 399)))
        return None if days is None else NOW - timedelta(days=days)

    return Evidence(
        services=tuple(
            ServiceUse(
                namespace=s,
                last_accessed=at(),
                actions=tuple(
                    ActionUse(action=a, last_accessed=at())
                    for a in draw(st.lists(st.sampled_from(NAMES[s]), max_size=6, unique=True))
                ),
            )
            for s in draw(st.lists(st.sampled_from(SERVICES), unique=True))
        ),
        made_at=NOW,
        role_arn="arn:aws:iam::111122223333:role/R",
    )


many = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def run(role: list[RolePolicy], report: Evidence, mode: Mode, quotas: Quotas | None = None) -> Trim | None:
    try:
        return trim(role, report, CATALOGUE, TrimSettings(mode=mode, now=NOW, quotas=quotas or Quotas()))
    except TooBigError:
        return None


def used(report: Evidence) -> set[str]:
    return {
        f"{s.namespace}:{a.action}"
        for s in report.services
        for a in s.actions
        if a.last_accessed and NOW - a.last_accessed <= timedelta(days=90)
    }


@many
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode))
def test_nothing_new_is_granted_nothing_used_is_lost_and_every_deny_stays(
    role: list[RolePolicy], report: Evidence, mode: Mode
) -> None:
    answer = run(role, report, mode)
    if answer is None:
        return
    assert answer.proof.holds, answer.proof.problems
    for policy in role:
        new = [o for o in answer.policies if o.source == policy.key]
        before, after = allowed(policy.text), set().union(*(allowed(o.text) for o in new))
        assert after <= before
        assert {p for p in before if p[0] in used(report)} <= after
        kept = {a.action.lower() for a in answer.actions if a.kept}
        assert {a.lower() for a, _ in after} <= kept
        denies = [s for s in json.loads(policy.text)["Statement"] if s["Effect"] == "Deny"]
        left = [s for o in new if o.text for s in json.loads(o.text)["Statement"] if s["Effect"] == "Deny"]
        assert left == denies
    assert all(a.reason for a in answer.actions)


@many
@given(role=roles(), report=reports())
def test_strict_keeps_no_more_than_safe(role: list[RolePolicy], report: Evidence) -> None:
    safe, strict = run(role, report, Mode.SAFE), run(role, report, Mode.STRICT)
    if safe and strict:
        kept = [{a.action for a in t.actions if a.kept} for t in (safe, strict)]
        assert kept[1] <= kept[0]


@many
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode))
def test_trimming_again_changes_nothing(role: list[RolePolicy], report: Evidence, mode: Mode) -> None:
    first = run(role, report, mode)
    if first is None:
        return
    again = [
        RolePolicy(
            name=o.name,
            kind=o.kind,
            text=o.text,
            arn="" if o.kind is PolicyKind.INLINE else f"arn:aws:iam::111122223333:policy/{o.name}",
        )
        for o in first.policies
        if o.text is not None
    ]
    second = run(again, report, mode)
    assert second is not None
    assert not second.changes


@many
@given(role=roles(), report=reports(), data=st.data())
def test_the_checker_catches_a_tampered_document(role: list[RolePolicy], report: Evidence, data: st.DataObject) -> None:
    answer = run(role, report, Mode.STRICT)
    if answer is None:
        return
    trimmed = [o for o in answer.policies if o.outcome is Outcome.TRIMMED]
    if not trimmed:
        return
    victim = data.draw(st.sampled_from(trimmed))
    document = json.loads(victim.text or "")
    statement = {"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "arn:aws:ec2:*:*:smuggled/*"}
    document["Statement"].append(statement)
    bad = PolicyOutcome(
        name=victim.name, kind=victim.kind, source=victim.source, outcome=victim.outcome, tier=1,
        text=json.dumps(document), characters=0,
    )  # fmt: skip
    outcomes = [bad if o is victim else o for o in answer.policies]
    assert not check(role, outcomes, ()).no_new_access


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(report=reports(), size=st.integers(300, 2000), slots=st.integers(1, 4))
def test_a_tight_quota_is_kept_in_every_tier(report: Evidence, size: int, slots: int) -> None:
    role = [
        RolePolicy(
            name="P",
            kind=PolicyKind.CUSTOMER,
            arn="arn:aws:iam::111122223333:policy/P",
            text=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": [f"{s}:*" for s in SERVICES], "Resource": "*"}],
                }
            ),
        )
    ]
    answer = run(role, report, Mode.SAFE, Quotas(managed_policy_size=size, attached_policies=slots))
    if answer is None:
        return
    assert answer.proof.holds, answer.proof.problems
    written = [o for o in answer.policies if o.outcome is not Outcome.UNCHANGED]
    assert all(o.characters <= size for o in written)
    assert len(answer.policies) <= slots
