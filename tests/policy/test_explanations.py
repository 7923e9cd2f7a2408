"""What people read of the engine: golden files of every verdict's reason, every warning and every tier's sentence."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from bot import offline
from bot.model import PolicyKind, RolePolicy, Verdict
from bot.offline import as_diff, as_explanation, as_json, as_text
from bot.policy import Call, calls_of, load_catalogue, rehearse, trim
from bot.policy.explain import granted_where, tier_sentence, unknown_sentence
from bot.policy.warn import CODES
from tests.policy.test_cases import CASES, NOW, answer, answered, evidence, policies, settings


def text(case: dict[str, Any]) -> str:
    return as_text(policies(case), answer(case), evidence(case), 90)


CASE = {
    "policies": {
        "Work": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["sqs:*", "lambda:CreateFunction", "iam:PassRole"], "Resource": "*"},
                {"Effect": "Allow", "Action": ["kms:Decrypt", "rds-db:connect", "nowhere:Act"], "Resource": "*"},
                {"Effect": "Deny", "Action": "iam:*", "Resource": "*"},
            ],
        },
        "Idle": {"Statement": {"Effect": "Allow", "Action": "sns:*", "Resource": "*"}},
        "Calm": {"Statement": {"Effect": "Allow", "Action": "sqs:CreateQueue", "Resource": "*"}},
    },
    "kinds": {"Calm": "inline"},
    "report": {
        "sqs": {"used": 3, "actions": {"CreateQueue": 3, "DeleteQueue": None, "SetQueueAttributes": 200}},
        "lambda": {"used": 2, "actions": {"CreateFunction": 2}},
        "iam": {"used": None},
        "kms": {"used": None, "actions": {"Decrypt": None}},
        "sns": {"used": 300},
        "rds-db": {"used": None},
    },
    "settings": {"keep": ["sqs:PurgeQueue"], "keep_by_hand": ["sqs:TagQueue"]},
}


@pytest.mark.parametrize("mode", ["safe", "strict"])
def test_the_text_of_a_proposal(snapshot: SnapshotAssertion, mode: str) -> None:
    case = {**CASE, "settings": {**CASE["settings"], "mode": mode}}
    assert text(case) == snapshot
    assert as_diff(policies(case), answer(case)) == snapshot


def test_the_reason_of_every_verdict(snapshot: SnapshotAssertion) -> None:
    reasons: dict[str, dict[str, str]] = {}
    for name, case in CASES.items():
        if "error" not in case["expected"]:
            for a in answered(name).actions:
                reasons.setdefault(f"{a.verdict.value}, {'kept' if a.kept else 'dropped'}", {})[a.reason] = name
    assert {v.partition(",")[0] for v in reasons} == {v.value for v in Verdict}
    assert {verdict: sorted(said)[:4] for verdict, said in sorted(reasons.items())} == snapshot


def test_every_warning(snapshot: SnapshotAssertion) -> None:
    said = {
        w.code: w.message
        for name, case in CASES.items()
        if "error" not in case["expected"]
        for w in answered(name).warnings
    }
    assert set(said) == set(CODES)
    assert tuple(CODES) == offline.CODES
    assert said == snapshot


@pytest.mark.parametrize(("number", "end"), [(5, "(a0, a1, a2, a3, a4);"), (7, "(a0, a1, a2, a3, a4 and 2 more);")])
def test_a_warning_names_five_services_and_counts_the_others(number: int, end: str) -> None:
    report = {f"a{n}": {"used": 9, "actions": {"X": 3}} for n in range(number)}
    [warning] = answer({**CASE, "report": {**report, "b": {"used": 3, "actions": {"X": 3}}}}).warnings
    assert warning.code == "report_contradicts"
    assert end in warning.message


def test_every_tier(snapshot: SnapshotAssertion) -> None:
    said: dict[str, str] = {}
    for name, case in CASES.items():
        if "error" not in case["expected"]:
            for o in answered(name).policies:
                said[f"{o.outcome.value}, tier {o.tier}"] = tier_sentence(o)
    assert {int(k[-1]) for k in said} == {0, 1, 2, 3, 4, 5}
    assert dict(sorted(said.items())) == snapshot


def test_the_warning_of_every_tier(snapshot: SnapshotAssertion) -> None:
    said: dict[int, str] = {}
    for name, case in CASES.items():
        if "error" not in case["expected"]:
            got = answered(name)
            for w in got.warnings:
                if w.code == "shortened":
                    said.update((o.tier, w.message) for o in got.policies if w.message.startswith(f"{o.name} is "))
    assert set(said) == {2, 3, 4, 5}
    assert dict(sorted(said.items())) == snapshot


def test_each_service_is_summed_up() -> None:
    got = [(s.namespace, s.granted, s.kept, s.tracked) for s in answer(CASE).services]
    known = {s: len(load_catalogue().actions(s)) for s in ("sqs", "sns")}
    assert got == [
        ("iam", 1, 1, 0),
        ("kms", 1, 0, 1),
        ("lambda", 1, 1, 1),
        ("nowhere", 1, 1, 0),
        ("rds-db", 1, 1, 0),
        ("sns", known["sns"], 0, 0),
        ("sqs", known["sqs"], known["sqs"] - 2, 3),
    ]


def test_an_action_names_the_policies_that_grant_it_once_each() -> None:
    one = RolePolicy(name="P", kind=PolicyKind.INLINE, text=json.dumps(CASE["policies"]["Calm"]))
    two = replace(one, kind=PolicyKind.CUSTOMER, arn="arn:aws:iam::111122223333:policy/P")
    three = replace(two, name="Q", arn="arn:aws:iam::111122223333:policy/Q")
    got = trim([one, two, three], evidence(CASE), load_catalogue(), settings(CASE))
    assert [(a.action, a.policies) for a in got.actions] == [("sqs:CreateQueue", ("P", "Q"))]


def test_the_explanation_of_one_action(snapshot: SnapshotAssertion) -> None:
    got = answer(CASE)
    wanted = ("sqs:CreateQueue", "kms:Decrypt", "iam:PassRole", "sns:Publish")
    assert [as_explanation(a, policies(CASE), got) for a in got.actions if a.action in wanted] == snapshot


def test_the_calls_of_the_report_go_on_being_allowed() -> None:
    calls = calls_of(evidence(CASE), NOW - timedelta(days=90))
    assert {c.action for c in calls} == {"sqs:CreateQueue", "lambda:CreateFunction"}
    said = rehearse(policies(CASE), answer(CASE).policies, calls)
    assert (said.calls, said.allowed, said.refused, said.unsure) == (2, 2, (), ())


def test_a_rehearsal_tells_what_would_be_refused_and_what_was_refused_before() -> None:
    calls = [
        Call(action="sqs:DeleteQueue", resource="arn:aws:sqs:eu-west-1:111122223333:q"),
        Call(action="SQS:createqueue", resource="arn:aws:sqs:eu-west-1:111122223333:q"),
        Call(action="iam:GetRole"),
        Call(action="iam:PassRole"),
        Call(action="ec2:RunInstances"),
    ]
    said = rehearse(policies(CASE), answer(CASE).policies, calls)
    assert said.calls == 5
    # The Deny and the missing grant refused three of them before.
    assert said.allowed == 2
    assert [c.action for c in said.refused] == ["sqs:DeleteQueue"]


def test_a_rehearsal_minds_resources_and_says_where_conditions_decide() -> None:
    where = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::a/${aws:username}/*"}
    when = {**where, "Condition": {"Bool": {"aws:SecureTransport": "true"}}, "Resource": "*"}
    other = {"Effect": "Allow", "Action": "s3:GetObject", "NotResource": "arn:aws:s3:::a/*"}
    case = {"policies": {"P": {"Version": "2012-10-17", "Statement": [where, when, other]}}, "report": {}}
    old = policies(case)
    [outcome] = answer(case).policies
    new = replace(outcome, text=json.dumps({"Version": "2012-10-17", "Statement": [when]}))
    mine = Call(action="s3:GetObject", resource="arn:aws:s3:::a/ann/x")
    assert rehearse(old, [new], [mine]).unsure == (mine,)
    none = replace(outcome, text=json.dumps({"Version": "2012-10-17", "Statement": [other]}))
    assert rehearse(old, [none], [mine]).refused == (mine,)
    # Nobody knows what it was about: any of the three may have allowed it.
    vague = Call(action="s3:GetObject")
    assert rehearse(old, [new], [vague]).unsure == (vague,)
    nowhere = replace(outcome, text=json.dumps({"Version": "2012-10-17", "Statement": []}))
    assert rehearse(old, [nowhere], [vague]).refused == (vague,)
    alone = policies({"policies": {"P": {"Version": "2012-10-17", "Statement": [where]}}})
    assert rehearse(alone, [nowhere], [vague]).refused == (vague,), "it may have been about that one"
    far = Call(action="s3:GetObject", resource="arn:aws:s3:::b/x")
    assert rehearse(old, [none], [far]).unsure == (far,)


@pytest.mark.parametrize(
    ("deny", "call", "counts"),
    [
        ({"Resource": "*"}, Call(action="s3:GetObject"), False),
        ({"Resource": ["arn:aws:s3:::a/*"]}, Call(action="s3:GetObject"), True),
        ({"NotResource": "*"}, Call(action="s3:GetObject"), True),
        ({"Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}, Call(action="s3:GetObject"), True),
        ({"Resource": "arn:aws:s3:::a/*"}, Call(action="s3:GetObject", resource="arn:aws:s3:::a/x"), False),
        ({"Resource": "arn:aws:s3:::a/*"}, Call(action="s3:GetObject", resource="arn:aws:s3:::b/x"), True),
        ({"NotResource": "arn:aws:s3:::a/*"}, Call(action="s3:GetObject", resource="arn:aws:s3:::b/x"), False),
    ],
)
def test_a_call_that_a_deny_refused_before_is_not_counted(deny: dict[str, Any], call: Call, counts: bool) -> None:
    """Where it may not have been about the call, it is taken not to be: better one call too many to look at."""
    no = {"Effect": "Deny", "Action": "s3:Get*", **deny}
    case = {"policies": {"P": {"Version": "2012-10-17", "Statement": [ALLOW, no]}}, "report": {}}
    [outcome] = answer(case).policies
    gone = replace(outcome, text=None)
    said = rehearse(policies(case), [gone], [call, Call(action="sqs:SendMessage")])
    assert (said.calls, said.allowed, said.refused) == (2, int(counts), (call,) if counts else ())


ALLOW = {"Effect": "Allow", "Action": ["s3:*", "kms:Decrypt"], "Resource": "*"}


KEEP = " To keep it: --keep sqs:SendFax."


@pytest.mark.parametrize(
    ("statements", "end"),
    [
        ([{"Action": "sqs:Send*"}], "(statement 1, sqs:Send*); the proposal still would."),
        ([{"Action": "sqs:*"}], "(statement 1, sqs:*); the proposal no longer would." + KEEP),
        ([{"Action": "sqs:Send*"}, {"Action": "sqs:*", "Resource": "a"}], "would in fewer places." + KEEP),
        (
            [{"NotAction": ["s3:*", "kms:*"]}],
            "(statement 1, all but s3:*, kms:*); the proposal no longer would." + KEEP,
        ),
        ([{"Action": "sqs:List*"}, {"NotAction": "sqs:S*"}], ""),
    ],
)
def test_what_is_said_of_an_action_that_the_catalogue_does_not_know(statements: list[dict[str, Any]], end: str) -> None:
    body = [{"Effect": "Allow", "Resource": "*", **s} for s in statements]
    report = {"sqs": {"used": 1, "actions": {"CreateQueue": None}}}
    case = {"policies": {"P": {"Version": "2012-10-17", "Statement": body}}, "report": report}
    said = unknown_sentence("sqs:SendFax", policies(case), answer(case))
    assert said.endswith(end)
    assert bool(said) is bool(end)


def test_what_is_a_part_of_a_pattern_is_no_place_of_it() -> None:
    documents = [("P", '{"Statement": [{"Effect": "Allow", "NotAction": "sqs:Send*", "Resource": "*"}]}')]
    assert granted_where("sqs:*", documents) == ()
    assert [p.entry for p in granted_where("s3:*", documents)] == ["all but sqs:Send*"]


@pytest.mark.parametrize(
    ("actions", "used", "named"),
    [
        (["sqs:*"], ("CreateQueue",), True),
        (["sqs:*", "sns:*"], ("CreateQueue",), True),
        (["sqs:Cr*", "sns:*"], ("CreateQueue",), False),
        (["sqs:CreateQueue", "sns:*"], ("CreateQueue",), True),
    ],
)
def test_the_first_tier_says_names_only_where_there_are_no_stars(
    actions: list[str], used: tuple[str, ...], named: bool
) -> None:
    body = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    report = {"sqs": {"used": 1, "actions": dict.fromkeys(used, 1)}}
    case = {"policies": {"P": {"Statement": [body]}}, "report": report, "settings": {"mode": "strict"}}
    [outcome] = answer(case).policies
    assert outcome.tier == 1
    assert ("*" not in json.dumps(json.loads(outcome.text or "")["Statement"][0]["Action"])) is named
    assert ("every kept action is listed by its name" in tier_sentence(outcome)) is named


def test_the_counts_of_the_text_add_up_to_what_is_granted() -> None:
    for name, case in CASES.items():
        if "error" not in case["expected"]:
            granted, counts = as_text(policies(case), answered(name), evidence(case), 90).splitlines()[:2]
            numbers = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", counts.replace(", ", " "))]
            assert f"Granted {sum(numbers):,} actions" in granted, name


def test_removals_that_deserve_a_second_look_come_first_in_every_form() -> None:
    case = {**CASE, "settings": {"mode": "strict"}}
    sensitive = [a.action for a in answer(case).actions if a.sensitive]
    assert len(sensitive) > 1
    listed = as_json(policies(case), answer(case))["actions"]
    assert [a["action"] for a in listed[: len(sensitive)]] == sensitive
    assert not any(a["sensitive"] for a in listed[len(sensitive) :])
    assert sorted(a["action"] for a in listed) == sorted(a.action for a in answer(case).actions)
    lines = as_diff(policies(case), answer(case)).splitlines()
    assert [line.split()[4] for line in lines[: len(sensitive)]] == sensitive
    assert lines[len(sensitive)].startswith("--- ")
    assert text(case).index("Look twice before these go") < text(case).index("Tier 1")


@pytest.mark.parametrize(
    ("hours", "age", "old"),
    [
        (23, "is 88 days old, ", False),
        (24, "was 88 days old when the report was made, ", False),
        (25, "was 87 days old", True),
    ],
)
def test_an_age_is_that_at_the_report_and_a_day_is_no_old_report(hours: int, age: str, old: bool) -> None:
    said = answer({**CASE, "role_age": 89, "report_age": hours}).warnings
    assert age in said[0].message
    assert any(w.code == "report_too_old" for w in said) is old
