"""The CloudFormation templates are valid and grant what the gateway calls: no action more, no action less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from bot.aws.permissions import Group, actions

DEPLOY = Path(__file__).parents[2] / "deploy"
TEMPLATES = ["refine.yaml", "member.yaml"]
OWN = {"refine.yaml": ("BotRole", "${RoleName}"), "member.yaml": ("MemberRole", "")}


def role_of(template: str) -> dict[str, Any]:
    text = cfn_yaml.load(str(DEPLOY / template))
    return dict(text["Resources"][OWN[template][0]]["Properties"])


def policies_of(template: str) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for each in role_of(template)["Policies"]:
        policy = each["Fn::If"][1] if "Fn::If" in each else each
        found[policy["PolicyName"]] = policy["PolicyDocument"]["Statement"]
    return found


def allowed(statements: list[dict[str, Any]]) -> set[str]:
    named: set[str] = set()
    for each in statements:
        if each["Effect"] == "Allow":
            named |= {each["Action"]} if isinstance(each["Action"], str) else set(each["Action"])
    return named


def test_cfn_lint_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), *[DEPLOY / t for t in TEMPLATES]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_templates_grant_exactly_what_is_called(template: str) -> None:
    granted = {name: allowed(statements) for name, statements in policies_of(template).items()}
    wanted = {"read": set(actions(Group.MEMBER_READ)), "write": set(actions(Group.MEMBER_WRITE))}
    if template == "refine.yaml":
        wanted["hub"] = {*actions(Group.HUB), *actions(Group.HUB_WRITE)}
    assert granted == wanted


@pytest.mark.parametrize("template", TEMPLATES)
def test_own_and_aws_roles_are_denied_to_every_write_on_a_role(template: str) -> None:
    denials = [s for s in policies_of(template)["write"] if s["Effect"] == "Deny"]
    assert len(denials) == 1
    assert set(denials[0]["Action"]) == {a for a in actions(Group.MEMBER_WRITE) if "Role" in a}
    resources = str(denials[0]["Resource"])
    for each in ("role/aws-service-role/*", "role/aws-reserved/*", "role/${MemberRoleName}"):
        assert each in resources
    assert ("role/${RoleName}" if template == "refine.yaml" else "HubRoleArn") in resources
    assert "Condition" not in denials[0]


@pytest.mark.parametrize("template", TEMPLATES)
def test_attaching_is_bound_to_named_policies_and_making_to_refines_own_path(template: str) -> None:
    write = policies_of(template)["write"]
    attaching = [s for s in write if s["Effect"] == "Allow" and s["Action"] == "iam:AttachRolePolicy"]
    conditions = [s["Condition"]["ArnLike"]["iam:PolicyARN"] for s in attaching]
    assert "policy/refine/*" in str(conditions[0])
    assert conditions[1] == {"Ref": "ReattachablePolicies"}
    making = next(s for s in write if "iam:CreatePolicy" in s["Action"])
    assert set(making["Action"]) == {"iam:CreatePolicy", "iam:DeletePolicy"}
    assert str(making["Resource"]).endswith(":policy/refine/*'}")
    assert not [s for s in write if s["Effect"] == "Allow" and s["Resource"] == "*"]


def test_the_member_role_is_open_to_the_hub_with_the_external_id_only() -> None:
    trust = role_of("member.yaml")["AssumeRolePolicyDocument"]["Statement"]
    assert len(trust) == 1
    assert trust[0]["Principal"] == {"AWS": {"Ref": "HubRoleArn"}}
    assert trust[0]["Condition"] == {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}}
    assert cfn_yaml.load(str(DEPLOY / "member.yaml"))["Parameters"]["ExternalId"]["NoEcho"] is True


def test_the_bot_may_assume_member_roles_and_no_others() -> None:
    hub = policies_of("refine.yaml")["hub"]
    assume = [s for s in hub if "sts:AssumeRole" in s["Action"]]
    assert [s["Resource"] for s in assume] == [{"Fn::Sub": "arn:${AWS::Partition}:iam::*:role/${MemberRoleName}"}]


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_permissions_are_inline(template: str) -> None:
    """A version of a managed policy on its own role is something that the bot could write."""
    assert "ManagedPolicyArns" not in role_of(template)
