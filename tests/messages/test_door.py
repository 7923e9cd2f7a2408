"""Who can get in, by the trust policy's own conditions, and what is missing there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bot.messages import door
from bot.model import Case, CaseState, ExternalPrincipal, PrincipalKind
from tests.messages.cases import ACCOUNT, OUTSIDE, case_in, document, trust

GITHUB = f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
ROOT = {"AWS": f"arn:aws:iam::{OUTSIDE}:root"}
SUB = "token.actions.githubusercontent.com:sub"


def opened(text: str, *principals: ExternalPrincipal) -> Case:
    """Return a case whose role has the trust policy; its findings name the principals, or there are none."""
    case = case_in(CaseState.NEW)
    assert case.role is not None
    findings = tuple(replace(f, principals=principals) for f in case.findings) if principals else ()
    return replace(case, role=replace(case.role, trust_text=text), findings=findings)


def outside(value: str = OUTSIDE, kind: PrincipalKind = PrincipalKind.ACCOUNT) -> ExternalPrincipal:
    return ExternalPrincipal(kind=kind, value=value)


@pytest.mark.parametrize(
    ("condition", "missing"),
    [
        (None, "external_id"),
        ({"StringEquals": {"sts:ExternalId": "abc"}}, None),
        ({"StringEquals": {"STS:externalid": ["abc", "def"]}}, None),
        ({"StringLike": {"sts:ExternalId": "*"}}, "external_id"),  # any value will do
        ({"StringEqualsIfExists": {"sts:ExternalId": "abc"}}, "external_id"),  # holds where none is given
        ({"ForAllValues:StringEquals": {"sts:ExternalId": "abc"}}, "external_id"),  # the same
        ({"StringNotEquals": {"sts:ExternalId": "abc"}}, "external_id"),
        ({"Null": {"sts:ExternalId": "false"}}, "external_id"),
        ({"StringEquals": {"sts:ExternalId": []}}, "external_id"),
        ({"Bool": {"aws:MultiFactorAuthPresent": "true"}}, "external_id"),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}, None),  # members of one organization only
    ],
)
def test_an_account_needs_an_external_id(condition: dict[str, Any] | None, missing: str | None) -> None:
    """Conditions that hold without the key, or for any value of it, do not count."""
    (way,) = door.ways(opened(trust(ROOT, condition), outside()))
    assert way.missing == missing


@pytest.mark.parametrize(
    ("condition", "missing"),
    [
        ({"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}}, "sub"),
        ({"StringLike": {SUB: "repo:acme/*"}}, None),
        ({"StringLike": {SUB: "*"}}, "sub"),
        ({"StringEqualsIfExists": {SUB: "repo:acme/app:ref:refs/heads/main"}}, "sub"),
    ],
)
def test_an_identity_provider_needs_a_subject(condition: dict[str, Any], missing: str | None) -> None:
    text = trust({"Federated": GITHUB}, condition, "sts:AssumeRoleWithWebIdentity")
    (way,) = door.ways(opened(text, outside(GITHUB, PrincipalKind.FEDERATED)))
    assert way.missing == missing
    (by_host,) = door.ways(opened(text, outside("token.actions.githubusercontent.com", PrincipalKind.FEDERATED)))
    assert by_host.missing == missing


def test_a_saml_provider_has_no_subject_to_miss() -> None:
    saml = f"arn:aws:iam::{ACCOUNT}:saml-provider/Okta"
    text = trust({"Federated": saml}, {"StringEquals": {"SAML:aud": "https://signin.aws.amazon.com/saml"}})
    (way,) = door.ways(opened(text, outside(saml, PrincipalKind.FEDERATED)))
    assert way.missing is None


@pytest.mark.parametrize(
    ("principal", "condition", "missing"),
    [
        ("*", None, "anything"),
        ({"AWS": "*"}, None, "anything"),
        ({"AWS": ["*", "arn:aws:iam::111122223333:root"]}, {"StringNotEquals": {"aws:SourceVpc": "x"}}, "anything"),
        ("*", {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}}, None),
        ("*", {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}, None),
    ],
)
def test_the_public_needs_any_condition_that_says_who(
    principal: Any, condition: dict[str, Any] | None, missing: str | None
) -> None:
    (way,) = door.ways(opened(trust(principal, condition), outside("*", PrincipalKind.PUBLIC)))
    assert way.missing == missing


def test_one_open_statement_of_two_is_enough() -> None:
    """A second statement with an external id does not close the first."""
    text = document(
        {"Effect": "Allow", "Principal": ROOT, "Action": "sts:AssumeRole"},
        {
            "Effect": "Allow",
            "Principal": ROOT,
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": "abc"}},
        },
    )
    (way,) = door.ways(opened(text, outside()))
    assert (way.missing, way.open_statements, way.statements) == ("external_id", 1, 2)
    assert "1 of 2 trust statements" in door.lines_of((way,))[0]


def test_a_deny_lets_nobody_in() -> None:
    text = document({"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"})
    assert door.ways(opened(text)) == ()


def test_without_findings_the_trust_policy_says_who() -> None:
    """Asked for by name, a role has no finding; its own account and AWS services are not outside."""
    text = document(
        {
            "Effect": "Allow",
            "Principal": {
                "AWS": [f"arn:aws:iam::{OUTSIDE}:role/Loader", f"arn:aws:iam::{ACCOUNT}:root", "444455556666"],
                "Service": "lambda.amazonaws.com",
                "Federated": GITHUB,
            },
            "Action": "sts:AssumeRole",
        },
        {"Effect": "Allow", "NotPrincipal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"},
    )
    found = door.ways(opened(text))
    assert [(w.kind.value, w.value) for w in found] == [
        ("public", "*"),
        ("account", "444455556666"),
        ("account", f"arn:aws:iam::{OUTSIDE}:role/Loader"),
        ("federated", GITHUB),
    ]


@pytest.mark.parametrize(
    "text", ["", "not JSON", "[]", '{"Statement": "x"}', '{"Statement": [1, {"Effect": "Allow"}]}']
)
def test_a_trust_policy_that_cannot_be_read_leaves_what_the_finding_says(text: str) -> None:
    """Nothing is called missing that nobody could look at."""
    principal = ExternalPrincipal(
        kind=PrincipalKind.ACCOUNT, value=OUTSIDE, conditions=(("aws:PrincipalOrgID", "o-a1b2c3d4e5"),)
    )
    (way,) = door.ways(opened(text, principal))
    assert way.missing is None
    assert [(c.key, c.values) for c in way.conditions] == [("aws:PrincipalOrgID", "o-a1b2c3d4e5")]


def test_a_principal_counts_once_over_findings() -> None:
    """The same role is found in several Regions."""
    case = opened(trust(ROOT), outside())
    assert len(case.findings) == 2
    assert len(door.ways(case)) == 1


def test_conditions_are_said_in_words() -> None:
    text = trust(
        ROOT,
        {
            "StringLike": {"aws:PrincipalArn": [f"arn:aws:iam::{OUTSIDE}:role/a-{n}" for n in range(5)]},
            "BoolIfExists": {"aws:MultiFactorAuthPresent": True},
            "StringEquals": {"sts:ExternalId": "never-shown"},
            "MadeUp": {"aws:Key": 1},
        },
    )
    (said,) = door.lines_of(door.ways(opened(text, outside())))
    assert said == (
        "• Account `999988887777`, where `aws:PrincipalArn` is like "
        "`arn:aws:iam::999988887777:role/a-0, arn:aws:iam::999988887777:role/a-1, arn:aws:iam::9999…`, "
        "`aws:MultiFactorAuthPresent` is `true` (where it is given), `sts:ExternalId` is asked for and "
        "`aws:Key` MadeUp `1`"
    )


def test_an_external_id_is_never_shown() -> None:
    text = trust(ROOT, {"StringEquals": {"sts:ExternalID": ["never-shown", "nor-this"]}, "Bool": {"a:b": "shown"}})
    assert "never-shown" not in door.displayed(text)
    assert "nor-this" not in door.displayed(text)
    assert "shown" in door.displayed(text)
