"""What `refine doctor` says about AWS: how it stands, and for everything that is not well, what to do."""

from __future__ import annotations

import pytest

from bot.aws.permissions import PERMISSIONS, Group
from sandbox.aws import HUB, MEMBER, LocalAws
from tests.aws.between import Between
from tests.aws.conftest import Gateway
from tests.aws.test_write import WRITES
from tests.aws.world import make_role


async def test_a_healthy_deployment(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    make_role(aws, "TheirRole", account=MEMBER)
    make_role(aws)
    checks = await (await gateway()).checks()
    said = {c.sentence: c.state for c in checks}
    assert said[f"AWS knows Refine as arn:aws:iam::{HUB}:user/refine."] == "ok"
    assert said["The analyzer refine-org (organization) in us-east-1 is active and can be read."] == "ok"
    assert said["The analyzer refine-account (account) in eu-west-1 is active and can be read."] == "ok"
    assert said["AWS checks trimmed policies before they are shown, and again before they are written."] == "ok"
    assert said[f"Account {HUB}: every reading permission is there."] == "ok"
    assert said[f"Account {MEMBER}: every reading permission is there."] == "ok"
    assert not [c for c in checks if c.state == "fail"]
    assert all(c.todo for c in checks if c.state != "ok")
    assert not WRITES & set(between.operations())


async def test_without_credentials_there_is_one_thing_to_say(
    aws: LocalAws, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    checks = await (await gateway()).checks()
    assert [c.state for c in checks] == ["fail"]
    assert "credentials" in checks[0].sentence
    assert checks[0].todo


async def test_without_a_region_it_says_which_setting_is_missing(
    aws: LocalAws, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    checks = await (await gateway(regions=())).checks()
    assert [c.state for c in checks] == ["fail"]
    assert "Region" in checks[0].sentence
    assert "REFINE_REGIONS" in checks[0].todo


async def test_a_region_without_an_analyzer_fails_and_says_how_to_make_one(aws: LocalAws, gateway: Gateway) -> None:
    checks = await (await gateway(regions=("us-east-1", "ap-southeast-2"))).checks()
    bad = [c for c in checks if c.state == "fail"]
    assert [c.sentence for c in bad] == ["There is no external access analyzer in ap-southeast-2."]
    assert "aws accessanalyzer create-analyzer --region ap-southeast-2" in bad[0].todo


async def test_a_named_analyzer_that_is_not_there_fails(aws: LocalAws, gateway: Gateway) -> None:
    gone = f"arn:aws:access-analyzer:us-east-1:{HUB}:analyzer/gone"
    checks = await (await gateway(analyzers=(gone,))).checks()
    bad = [c for c in checks if c.state == "fail"]
    assert [gone in c.sentence for c in bad] == [True]


async def test_an_analyzer_that_is_off_fails_with_the_reason(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    analyzer = {
        "arn": f"arn:aws:access-analyzer:us-east-1:{HUB}:analyzer/off",
        "name": "off",
        "type": "ORGANIZATION",
        "createdAt": "2026-01-31T00:00:00Z",
        "status": "DISABLED",
        "statusReason": {"code": "ORGANIZATION_DELETED"},
    }
    between.json("ListAnalyzers", {"analyzers": [analyzer]})
    checks = await (await gateway(regions=("us-east-1",))).checks()
    bad = [c for c in checks if c.state == "fail"]
    assert [c.sentence for c in bad] == [
        "The analyzer off in us-east-1 is DISABLED ORGANIZATION_DELETED, so it finds nothing."
    ]


async def test_each_missing_reading_permission_is_named(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    make_role(aws)
    reading = [p for p in PERMISSIONS if p.group is Group.MEMBER_READ and p.operation != "SimulatePrincipalPolicy"]
    for each in reading:
        between.refuse(each.operation, 403, "AccessDenied")
    checks = await (await gateway(regions=("us-east-1",))).checks()
    bad = [c for c in checks if c.state == "fail"]
    assert [c.sentence for c in bad] == [
        f"AWS denies {', '.join(sorted(p.action for p in reading))} for account {HUB}."
    ]
    assert "deploy/refine.yaml" in bad[0].todo


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("ListAnalyzers", "access-analyzer:ListAnalyzers"),
        ("ListFindingsV2", "access-analyzer:ListFindings"),
        ("GetFindingV2", "access-analyzer:GetFinding"),
    ],
)
async def test_each_missing_permission_of_the_hub_is_named(
    aws: LocalAws, between: Between, gateway: Gateway, operation: str, action: str
) -> None:
    make_role(aws)
    between.refuse(operation, 403, "AccessDeniedException")
    checks = await (await gateway(regions=("us-east-1",))).checks()
    bad = [c for c in checks if c.state == "fail"]
    assert [action in c.sentence for c in bad] == [True]
    assert "deploy/refine.yaml" in bad[0].todo


@pytest.mark.parametrize("operation", ["ValidatePolicy", "CheckNoNewAccess"])
async def test_missing_validation_is_a_warning(
    aws: LocalAws, between: Between, gateway: Gateway, operation: str
) -> None:
    """Refine's own proof stands without AWS's word."""
    make_role(aws)
    between.refuse(operation, 403, "AccessDeniedException")
    checks = await (await gateway()).checks()
    assert [c.state for c in checks if f"access-analyzer:{operation}" in c.sentence] == ["warn"]


async def test_a_member_that_cannot_be_entered_fails_and_names_the_template(aws: LocalAws, gateway: Gateway) -> None:
    make_role(aws, "TheirRole", account=MEMBER)
    checks = await (await gateway(external_id="another-one")).checks()
    bad = [c for c in checks if c.state == "fail"]
    assert len(bad) == 1
    assert MEMBER in bad[0].sentence
    assert "deploy/member.yaml" in bad[0].todo
    assert "another-one" not in str(bad[0])


async def test_a_hub_without_findings_of_its_own_is_only_warned(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    between.refuse("ListRoles", 403, "AccessDenied")
    checks = await (await gateway()).checks()
    assert [c.state for c in checks if "iam:ListRoles" in c.sentence] == ["warn"]


# -------------------- the writing permissions, which only IAM's simulator can tell without writing


def evaluation(name: str, decision: str) -> str:
    return (
        f"<member><EvalActionName>{name}</EvalActionName><EvalDecision>{decision}</EvalDecision>"
        f"<EvalResourceName>*</EvalResourceName></member>"
    )


async def test_where_the_simulator_does_not_answer_it_says_so(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    make_role(aws)
    between.refuse("SimulatePrincipalPolicy", 403, "AccessDenied")
    checks = await (await gateway()).checks()
    assert (
        "warn",
        f"Account {HUB}: the writing permissions could not be checked.",
    ) in [(c.state, c.sentence) for c in checks]


async def test_the_simulators_word_is_taken_for_the_writes(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    make_role(aws)
    between.answer(
        "SimulatePrincipalPolicy",
        f"<EvaluationResults>{evaluation('iam:PutRolePolicy', 'allowed')}"
        f"{evaluation('iam:AttachRolePolicy', 'implicitDeny')}</EvaluationResults><IsTruncated>false</IsTruncated>",
    )
    checks = await (await gateway()).checks()
    bad = [c for c in checks if c.state == "fail"]
    assert len(bad) == 1
    assert "iam:AttachRolePolicy" in bad[0].sentence
    assert "iam:PutRolePolicy" not in bad[0].sentence
    asked = [s.form for s in between.seen if s.operation == "SimulatePrincipalPolicy"]
    named = {v for form in asked for k, v in form.items() if k.startswith("ActionNames.")}
    assert {n.removeprefix("iam:") for n in named} == WRITES
    assert {form["PolicySourceArn"] for form in asked} == {f"arn:aws:iam::{HUB}:user/refine"}
