"""The checker refuses what widens access or loses use: one named tampering at a time, each with its untampered twin."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from bot.model import Outcome, PolicyKind, PolicyOutcome, Proof, RolePolicy
from bot.policy import check

OLD: dict[str, Any] = {
    "Version": "2012-10-17",
    "Id": "x",
    "Statement": [
        {
            "Sid": "Read",
            "Effect": "Allow",
            "Action": ["s3:*", "sqs:Send*"],
            "Resource": ["arn:aws:s3:::b/${aws:username}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": 1}},
        },
        {"Effect": "Allow", "NotAction": ["iam:*", "sts:Assume?ole"], "Resource": "*"},
        {"Effect": "Allow", "Action": ["s3:GetObject", "kms:Decrypt"], "Resource": "arn:aws:s3:::c"},
        {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*", "Condition": {"Bool": {"x": 1}}},
        {"Effect": "Deny", "NotAction": "s3:*", "NotResource": "arn:aws:s3:::z"},
    ],
}
NEW: dict[str, Any] = copy.deepcopy(OLD)
NEW["Statement"][0]["Action"] = ["s3:GetObject", "s3:*Tagging", "sqs:Send*e"]
NEW["Statement"][1] = {"Effect": "Allow", "Action": ["s3:GetObject", "ec2:Describe*"], "Resource": "*"}
NEW["Statement"][2]["Action"] = ["s3:GetObject"]
MUST = ("s3:GetObject",)

OLD_POLICY = RolePolicy(name="P", kind=PolicyKind.CUSTOMER, arn="arn:aws:iam::1:policy/P", text=json.dumps(OLD))


def outcome(document: dict[str, Any] | str | None, what: Outcome = Outcome.TRIMMED) -> PolicyOutcome:
    return PolicyOutcome(
        name="P",
        kind=PolicyKind.CUSTOMER,
        source=OLD_POLICY.key,
        outcome=what,
        tier=1,
        text=json.dumps(document) if isinstance(document, dict) else document,
        characters=0,
    )


def verdict(change: Callable[[dict[str, Any]], object], must: tuple[str, ...] = MUST) -> Proof:
    document = copy.deepcopy(NEW)
    change(document)
    return check([OLD_POLICY], [outcome(document)], must)


def test_the_untampered_document_passes() -> None:
    proof = verdict(lambda _: None)
    assert proof.holds, proof.problems


def _set(at: int, key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda d: d["Statement"][at].__setitem__(key, value)


WIDER = {
    "an action from outside": _set(0, "Action", ["s3:GetObject", "ec2:RunInstances"]),
    "an action of another statement": _set(2, "Action", ["s3:GetObject", "s3:PutObject"]),
    "a pattern that reaches beyond": _set(0, "Action", ["s3:GetObject", "sqs:S*"]),
    "a pattern that ends elsewhere": _set(0, "Action", ["s3:GetObject", "sqs:*end*"]),
    "everything": _set(0, "Action", "*"),
    "everything, the other way": _set(0, "Action", "*:*"),
    "what NotAction left out": _set(1, "Action", ["s3:GetObject", "iam:GetRole"]),
    "what NotAction left out, by a pattern": _set(1, "Action", ["s3:GetObject", "sts:*"]),
    "a NotAction that leaves out less": lambda d: d["Statement"].__setitem__(
        1, {"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*"}
    ),
    "NotAction in place of Action": lambda d: d["Statement"].__setitem__(
        2, {"Effect": "Allow", "NotAction": ["iam:*"], "Resource": "*", "Condition": {}}
    ),
    "a wider resource": _set(0, "Resource", "*"),
    "another form of resource": _set(0, "Resource", "arn:aws:s3:::b/${aws:username}/*"),
    "NotResource": lambda d: d["Statement"][2].update({"NotResource": d["Statement"][2].pop("Resource")}),
    "no condition": lambda d: d["Statement"][0].pop("Condition"),
    "another value of a condition": _set(0, "Condition", {"Bool": {"aws:SecureTransport": True}}),
    "a statement more": lambda d: d["Statement"].append(
        {"Effect": "Allow", "Action": "ec2:*", "Resource": "arn:aws:ec2:::x"}
    ),
    "a Deny less": lambda d: d["Statement"].pop(3),
    "the other Deny less": lambda d: d["Statement"].pop(4),
    "a Deny of less": _set(3, "Action", "s3:DeleteObjectVersion"),
    "a Deny whose 1 became true": _set(3, "Condition", {"Bool": {"x": True}}),
    "a Deny that became Allow": _set(3, "Effect", "Allow"),
    "a lower Version, in which variables are mere text": lambda d: d.__setitem__("Version", "2008-10-17"),
    "no Version": lambda d: d.pop("Version"),
    "another Id": lambda d: d.__setitem__("Id", "y"),
}


@pytest.mark.parametrize("name", WIDER)
def test_new_access_is_refused(name: str) -> None:
    proof = verdict(WIDER[name])
    assert not proof.no_new_access
    assert not proof.holds
    assert proof.problems


@pytest.mark.parametrize(
    ("old", "new", "inside"),
    [
        ("sqs:Get?", "sqs:Gets", True),
        ("sqs:Get?", "sqs:Get", False),
        ("sqs:Get?", "sqs:GetQueueUrl", False),
        ("sqs:Get?", "sqs:Get*", False),
        ("sqs:Get*", "sqs:Get", True),
        ("sqs:Get*", "sqs:Get?", True),
        ("sqs:Get*turl", "sqs:GeturlTurl", True),
        ("sqs:Get*turl", "sqs:GeTurl", False),
        ("sqs:Get*t?", "sqs:Gett?", True),
        ("sqs:Get*t?", "sqs:GetX", False),
        ("sqs:Get*t?", "sqs:GetXyz", False),
        ("sqs:*", "sqs:Get*", True),
    ],
)
def test_what_one_pattern_means_is_inside_another_or_not(old: str, new: str, inside: bool) -> None:
    def of(action: str) -> str:
        return json.dumps({"Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})

    proof = check([replace(OLD_POLICY, text=of(old))], [outcome(of(new))], ())
    assert proof.no_new_access == inside, proof.problems


def test_a_document_that_is_none_is_refused() -> None:
    proof = check([OLD_POLICY], [outcome("{")], ())
    assert not proof.no_new_access
    assert any("is not JSON" in p for p in proof.problems), proof.problems


LOST = {
    "from the first statement": _set(0, "Action", ["s3:*Tagging"]),
    "from what was NotAction": _set(1, "Action", ["ec2:Describe*"]),
    "with its statement": lambda d: d["Statement"].pop(2),
    "by a Deny that was not there": lambda d: d["Statement"].append(
        {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "*"}
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_lost_use_is_refused(name: str) -> None:
    proof = verdict(LOST[name])
    assert proof.no_new_access
    assert not proof.nothing_used_lost
    assert not proof.holds


def test_the_problems_name_what_and_where(snapshot: SnapshotAssertion) -> None:
    assert {name: list(verdict(change).problems) for name, change in {**WIDER, **LOST}.items()} == snapshot


def test_a_used_action_may_be_written_as_a_pattern_and_in_any_case() -> None:
    assert verdict(_set(0, "Action", ["s3:Get*"]), ("S3:getobject",)).holds
    assert verdict(_set(0, "Action", "S3:GETOBJECT")).holds


def test_an_unused_untouched_policy_must_be_itself() -> None:
    same = outcome(OLD_POLICY.text, Outcome.UNCHANGED)
    assert check([OLD_POLICY], [same], ()).holds
    spaced = outcome(json.dumps(OLD, indent=1), Outcome.UNCHANGED)
    assert not check([OLD_POLICY], [spaced], ()).no_new_access
    assert not check([OLD_POLICY], [same, same], ()).no_new_access


def test_a_removed_policy_loses_only_what_nobody_needs() -> None:
    gone = outcome(None, Outcome.REMOVED)
    assert not check([OLD_POLICY], [gone], MUST).nothing_used_lost
    # Its Deny statements went with it: that is new access.
    assert not check([OLD_POLICY], [gone], ()).no_new_access
    plain = {"Version": "2012-10-17", "Statement": [OLD["Statement"][2]]}
    policy = RolePolicy(name="P", kind=PolicyKind.CUSTOMER, arn=OLD_POLICY.arn, text=json.dumps(plain))
    assert check([policy], [gone], ()).holds


def test_a_split_is_judged_as_one() -> None:
    one, two = copy.deepcopy(NEW), copy.deepcopy(NEW)
    one["Statement"], two["Statement"] = NEW["Statement"][:2], NEW["Statement"][2:]
    assert check([OLD_POLICY], [outcome(one), outcome(two)], MUST).holds
    assert not check([OLD_POLICY], [outcome(one)], MUST).holds


def test_nothing_may_come_from_nowhere_or_go_missing() -> None:
    assert not check([OLD_POLICY], [], ()).holds
    assert not check([], [outcome(NEW)], ()).holds
    assert not check([OLD_POLICY], [outcome("{")], ()).no_new_access
