"""Roles and policies as the tests want them, made through the API; and permits, made by hand."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from bot import rules
from bot.aws.permissions import Group, actions
from bot.model import ChangeId, Step, StepKind
from bot.rules import Permit
from sandbox.aws import HUB, MEMBER, LocalAws

EXTERNAL_ID = "refine-sandbox"
OUTSIDER = "999988887777"


@lru_cache(maxsize=8)
def iam(aws: LocalAws, account: str = HUB) -> Any:
    """The account's IAM as a person with all rights sees it, past any proxy."""
    return aws.client("iam", account=account)


def trust(principal: Any, **condition: Any) -> str:
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    if condition:
        statement["Condition"] = condition
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def allow(*names: str, **more: Any) -> str:
    statement = {"Effect": "Allow", "Action": list(names), "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def member_role(aws: LocalAws) -> None:
    """The role that the bot assumes in the member account, as deploy/member.yaml makes it."""
    iam(aws, MEMBER).create_role(
        RoleName="RefineMember",
        AssumeRolePolicyDocument=trust(
            {"AWS": f"arn:aws:iam::{HUB}:root"}, StringEquals={"sts:ExternalId": EXTERNAL_ID}
        ),
    )
    may = allow(*actions(Group.MEMBER_READ), *actions(Group.MEMBER_WRITE))
    iam(aws, MEMBER).put_role_policy(RoleName="RefineMember", PolicyName="both", PolicyDocument=may)


def make_role(aws: LocalAws, name: str = "ApplicationRole", *, account: str = HUB, **more: Any) -> str:
    """Make a role that an outside account may assume, and return its ARN."""
    answer = iam(aws, account).create_role(
        RoleName=name, **{"AssumeRolePolicyDocument": trust({"AWS": f"arn:aws:iam::{OUTSIDER}:root"}), **more}
    )
    return str(answer["Role"]["Arn"])


def attach(aws: LocalAws, role: str, name: str, text: str, *, account: str = HUB, **more: Any) -> str:
    """Make a customer managed policy, attach it, and return its ARN."""
    arn = iam(aws, account).create_policy(PolicyName=name, PolicyDocument=text, **more)["Policy"]["Arn"]
    iam(aws, account).attach_role_policy(RoleName=role, PolicyArn=arn)
    return str(arn)


def step(kind: StepKind, name: str = "DynamoDBAccess", **more: Any) -> Step:
    return Step(number=1, kind=kind, policy_name=name, **more)


def permit(role_arn: str, *steps: Step, change: str = "c1-apply") -> Permit:
    """A permit as the rules make it. Whether they give one is their tests' business."""
    return rules._permit(ChangeId(change), role_arn, steps)
