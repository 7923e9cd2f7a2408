"""Properties of the engine over random roles and reports, held against a judge that shares nothing with it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.messages.sums import Counts
from bot.model import ActionUse, Evidence, Mode, Outcome, PolicyKind, Quotas, RolePolicy, ServiceUse, Trim
from bot.policy import check, permits_summary
from bot.policy.catalogue import Action, Refreshed
from tests.policy.judge import allowed, brief, denies, listed, scope, statements
from tests.policy.world import ALL, CATALOGUE, NEW, NOW, SERVICES, examples, patterns, policy, reports, roles, run, used

NEWER = tuple(f"newsvc:{n}" for n in (*NEW, "BrandNew"))
STRANGERS = (
    *NEWER,
    "s3:Frobnicate",
    "s3:FrobX",
    "nowhere:Act",
    "sqs:sendfax",
    "s3:GetSomethingThatAwsMayAdd",
    "dynamodb:Q",
)


@examples()
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode))
def test_nothing_new_is_granted_nothing_used_is_lost_and_every_deny_stays(
    role: list[RolePolicy], report: Evidence, mode: Mode
) -> None:
    answer = run(role, report, mode)
    if answer is None:
        return
    assert answer.proof.holds, answer.proof.problems
    kept = {a.action.lower() for a in answer.actions if a.kept}
    for old in role:
        new = [o for o in answer.policies if o.source == old.key]
        world = [*ALL, *STRANGERS]
        before, after = allowed(old.text, world), set().union(*(allowed(o.text, world) for o in new))
        assert after <= before
        assert {p for p in before if p[0].lower() in used(report)} <= after
        assert {p for p in before if p[0].lower() in kept} <= after
        # What was dropped is dropped wherever it was granted.
        tracked = {f"{s.namespace}:{a.action}" for s in report.services for a in s.actions}
        assert {a.lower() for a, _ in after if a in ALL or a in tracked} <= kept
        assert [d for o in new for d in denies(o.text)] == denies(old.text)
        assert {scope(s) for o in new for s in statements(o.text)} <= {scope(s) for s in statements(old.text)}
    assert all(a.reason for a in answer.actions)
    assert len(answer.actions) == len({a.action.lower() for a in answer.actions})


@examples()
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode))
def test_what_does_not_change_stays_to_the_byte_and_what_changes_keeps_its_shape(
    role: list[RolePolicy], report: Evidence, mode: Mode
) -> None:
    answer = run(role, report, mode)
    if answer is None:
        return
    kept = {a.action.lower() for a in answer.actions if a.kept}
    for old in role:
        before = {a.lower() for a, _ in allowed(old.text, ALL)}
        new = [o for o in answer.policies if o.source == old.key]
        if new[0].outcome is Outcome.UNCHANGED:
            assert new[0].text == old.text
            assert before <= kept
            continue
        for outcome in new:
            if outcome.text is None:
                continue
            was, now = json.loads(old.text), json.loads(outcome.text)
            assert list(now) == list(was)
            assert {k: v for k, v in now.items() if k != "Statement"} == {
                k: v for k, v in was.items() if k != "Statement"
            }
            assert outcome.characters == brief(outcome.text)
            for s in statements(outcome.text):
                assert next(iter(s)) == ("Sid" if "Sid" in s else "Effect")
                assert s.get("Action") != []


@examples()
@given(role=roles(), report=reports())
def test_strict_keeps_no_more_than_safe(role: list[RolePolicy], report: Evidence) -> None:
    safe, strict = run(role, report, Mode.SAFE), run(role, report, Mode.STRICT)
    if safe and strict:
        kept = [{a.action for a in t.actions if a.kept} for t in (safe, strict)]
        assert kept[1] <= kept[0]


@examples()
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode), data=st.data())
def test_more_use_never_keeps_less(role: list[RolePolicy], report: Evidence, mode: Mode, data: st.DataObject) -> None:
    """Monotone in evidence: a later attempt on a service or an action of the report drops nothing that was kept."""
    if not report.services:
        return
    at = data.draw(st.integers(0, len(report.services) - 1))
    service = report.services[at]
    when = NOW - timedelta(days=data.draw(st.sampled_from((0, 5, 89))))
    if service.actions and data.draw(st.booleans()):
        which = data.draw(st.integers(0, len(service.actions) - 1))
        use = service.actions[which]
        later = replace(use, last_accessed=max(when, use.last_accessed or when))
        busier = replace(service, actions=(*service.actions[:which], later, *service.actions[which + 1 :]))
    else:
        busier = replace(service, last_accessed=max(when, service.last_accessed or when))
    more = replace(report, services=(*report.services[:at], busier, *report.services[at + 1 :]))
    one, two = run(role, report, mode), run(role, more, mode)
    if one and two:
        assert {a.action for a in one.actions if a.kept} <= {a.action for a in two.actions if a.kept}


@examples()
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


@examples()
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode), keep=st.lists(patterns(), max_size=2))
def test_the_counts_add_up_to_what_is_granted(
    role: list[RolePolicy], report: Evidence, mode: Mode, keep: list[str]
) -> None:
    """Each action is in one count, whoever knows it: in all, and service by service."""
    answer = run(role, report, mode, keep=tuple(keep))
    if answer is None:
        return
    counts = Counts.of(answer.actions)
    parts = (counts.used, counts.unused, counts.hidden, counts.no_call, counts.protected)
    assert sum(parts) == counts.granted == answer.granted == answer.kept + answer.removed
    assert sum(s.granted for s in answer.services) == answer.granted
    assert sum(s.kept for s in answer.services) == answer.kept
    assert all(s.kept <= s.granted and s.tracked <= s.granted for s in answer.services)
    # What no report tells of is counted alike before there is one, and told by service.
    silent = run(role, replace(report, services=()), mode)
    permits = permits_summary(role, CATALOGUE)
    assert silent is None or permits.granted == silent.granted
    assert sum(number for _, number in permits.services) == permits.granted
    named = {
        p.lower()
        for d in role
        for s in statements(d.text)
        if s["Effect"] == "Allow"
        for p in listed(s.get("Action", ()))
    }
    assert {p for p in named if not set("*?") & set(p)} <= {a.action.lower() for a in answer.actions}


def _documents(answer: Trim | None) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {}
    for o in answer.policies if answer else ():
        found.setdefault(o.source, []).append(o.text)
    return found


@examples()
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode), data=st.data())
def test_the_order_of_policies_and_of_the_report_does_not_count(
    role: list[RolePolicy], report: Evidence, mode: Mode, data: st.DataObject
) -> None:
    shuffled = replace(
        report,
        services=tuple(
            replace(s, actions=tuple(data.draw(st.permutations(s.actions))))
            for s in data.draw(st.permutations(report.services))
        ),
    )
    one, two = run(role, report, mode), run(data.draw(st.permutations(role)), shuffled, mode)
    assert _documents(one) == _documents(two)
    if one and two:
        assert [(a.action.lower(), a.verdict, a.kept) for a in one.actions] == [
            (a.action.lower(), a.verdict, a.kept) for a in two.actions
        ]


@examples(0.5)
@given(role=roles(), report=reports(), keep=st.lists(patterns(), max_size=3))
def test_an_always_keep_pattern_keeps_what_it_matches(
    role: list[RolePolicy], report: Evidence, keep: list[str]
) -> None:
    plain, guarded = run(role, report, Mode.STRICT), run(role, report, Mode.STRICT, keep=tuple(keep))
    if guarded is None or plain is None:
        return
    assert guarded.proof.holds, guarded.proof.problems
    kept = {a.action for a in guarded.actions if a.kept}
    assert {a.action for a in plain.actions if a.kept} <= kept
    wanted = {a for a, _ in allowed(json.dumps({"Statement": [{"Effect": "Allow", "Action": keep}]}), ALL)}
    assert {a.action for a in guarded.actions} & wanted <= kept


@examples()
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
    body = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    document["Statement"] = [
        *body,
        {"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "arn:aws:ec2:*:*:smuggled/*"},
    ]
    bad = replace(victim, text=json.dumps(document))
    outcomes = [bad if o is victim else o for o in answer.policies]
    assert not check(role, outcomes, ()).no_new_access


@examples(0.5)
@given(report=reports(), size=st.integers(300, 2500), slots=st.integers(1, 4), kind=st.sampled_from(PolicyKind))
def test_a_tight_quota_is_kept_in_every_tier(report: Evidence, size: int, slots: int, kind: PolicyKind) -> None:
    body = {"Effect": "Allow", "Action": [f"{s}:*" for s in SERVICES], "Resource": "*"}
    role = [policy(0, kind, json.dumps({"Version": "2012-10-17", "Statement": [body]}))]
    quotas = Quotas(managed_policy_size=size, role_policies_size=size, attached_policies=slots)
    answer = run(role, report, Mode.SAFE, quotas)
    if answer is None:
        return
    assert answer.proof.holds, answer.proof.problems
    assert all(o.characters <= size for o in answer.policies if o.outcome is not Outcome.UNCHANGED)
    assert len(answer.policies) <= slots
    kept = {a.action.lower() for a in answer.actions if a.kept}
    after = {a.lower() for o in answer.policies for a, _ in allowed(o.text, ALL)}
    assert after == kept & {a.lower() for a in ALL}


class Older:
    """The catalogue of a while ago: every third name of some services was not born."""

    def services(self) -> tuple[str, ...]:
        return CATALOGUE.services()

    def title(self, service: str) -> str:
        return CATALOGUE.title(service)

    def actions(self, service: str) -> dict[str, Action]:
        found = CATALOGUE.actions(service)
        return {n: a for i, (n, a) in enumerate(found.items()) if i % 3 or service not in {"s3", "sqs", "dynamodb"}}


OLDER = Older()
NEWER_NAMES = [a for s in SERVICES for n, a in CATALOGUE.actions(s).items() if n not in OLDER.actions(s)]
UNTRACKED = [replace(a, tracked=False) for s in SERVICES for a in list(OLDER.actions(s).values())[::2]]
REFRESHED = Refreshed(OLDER, (*NEWER_NAMES, *UNTRACKED))


@examples()
@given(role=roles(), report=reports(), mode=st.sampled_from(Mode))
def test_a_refreshed_catalogue_only_adds_reasons_to_keep(role: list[RolePolicy], report: Evidence, mode: Mode) -> None:
    stale, fresh = (run(role, report, mode, catalogue=c) for c in (OLDER, REFRESHED))
    if stale is None or fresh is None:
        return
    for old in role:
        without, refreshed = (
            set().union(*(allowed(o.text, [*ALL, *STRANGERS]) for o in t.policies if o.source == old.key))
            for t in (stale, fresh)
        )
        assert without <= refreshed


@pytest.mark.parametrize("mode", Mode)
def test_a_name_that_only_the_reference_has_drops_nothing(mode: Mode) -> None:
    """Where all that is known of a pattern stays, it stays as written, and what nobody knew stays with it."""
    body = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    role = [policy(0, PolicyKind.CUSTOMER, json.dumps({"Version": "2012-10-17", "Statement": [body]}))]
    used = tuple(ActionUse(action=a.name, last_accessed=NOW) for a in OLDER.actions("sqs").values())
    report = Evidence(services=(ServiceUse(namespace="sqs", actions=used),), made_at=NOW)
    for catalogue in (OLDER, REFRESHED):
        answer = run(role, report, mode, catalogue=catalogue)
        assert answer is not None
        assert not answer.changes, (mode, catalogue)


SCRIPT = """
import json, sys
from tests.policy.world import *
role = [policy(0, PolicyKind.CUSTOMER, json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": ["s3:*", "iam:*", "kms:*", "nowhere:*", "lambda:*"], "Resource": "*"},
    {"Effect": "Allow", "NotAction": ["sqs:*"], "Resource": "*"}]})),
    policy(1, PolicyKind.INLINE, json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b"}]}))]
report = Evidence(services=tuple(ServiceUse(namespace=s, last_accessed=NOW, actions=tuple(
    ActionUse(action=n, last_accessed=NOW if i % 3 else None) for i, n in enumerate(NAMES[s][::2]))) for s in SERVICES),
    made_at=NOW, role_arn="arn:aws:iam::111122223333:role/R")
answer = run(role, report, Mode.SAFE, Quotas(managed_policy_size=4000, role_policies_size=4500))
print([(o.tier, o.text) for o in answer.policies], [(a.action, a.reason) for a in answer.actions], answer.warnings)
"""


def test_other_processes_and_hash_seeds_give_the_same_bytes() -> None:
    """Sets and dictionaries never decide: the answer is the same whatever PYTHONHASHSEED is."""
    root = Path(__file__).parents[2]
    said = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(said) == 1
    assert len(said.pop()) > 10_000
