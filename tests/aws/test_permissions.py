"""The list of permissions is what the gateway calls: every one, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bot.aws
from bot.aws.clients import AwsSettings, Clients
from bot.aws.permissions import PERMISSIONS, Group, actions
from bot.model import StepKind
from sandbox.aws import HUB, MEMBER, LocalAws
from tests.aws.between import Between
from tests.aws.conftest import Gateway
from tests.aws.world import allow, attach, make_role, permit, step

BOTOCORE = {"access-analyzer": "accessanalyzer"}  # requests are signed with AWS's name


async def test_everything_the_gateway_can_do_takes_the_listed_calls_and_no_others(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    arn = make_role(aws)
    make_role(aws, "TheirRole", account=MEMBER)
    managed = attach(aws, "ApplicationRole", "P", allow("s3:*"))
    copy = f"arn:aws:iam::{HUB}:policy/refine/Copy"
    gate = await gateway()
    role = await gate.role(arn)
    await gate.roles()
    await gate.policy(managed, role_arn=arn)
    read = await gate.findings()
    await gate.archive([f for f in read.findings if f.region == "us-east-1" and f.role_arn == arn], archived=True)
    await gate.evidence(role)
    await gate.validate(allow("s3:*"))
    await gate.new_access(allow("s3:*"), allow("s3:Get*"))
    await gate.simulate(arn, ["s3:GetObject"])
    await gate.checks()
    steps = [
        step(StepKind.CREATE_POLICY, "Copy", policy_arn=copy, text=allow("s3:Get*")),
        step(StepKind.ATTACH, "Copy", policy_arn=copy),
        step(StepKind.CREATE_VERSION, "P", policy_arn=managed, text=allow("s3:Get*")),
        step(StepKind.SET_DEFAULT_VERSION, "P", policy_arn=managed, version="v1"),
        step(StepKind.DELETE_VERSION, "P", policy_arn=managed, version="v2"),
        step(StepKind.DETACH, "Copy", policy_arn=copy),
        step(StepKind.DELETE_POLICY, "Copy", policy_arn=copy),
        step(StepKind.PUT_INLINE, "i", text=allow("s3:*")),
        step(StepKind.DELETE_INLINE, "i"),
    ]
    assert {s.kind for s in steps} == set(StepKind)
    for one in steps:
        await gate.write(permit(arn, one), one)
    called = {(BOTOCORE.get(s.service, s.service), s.operation) for s in between.seen}
    assert called == {(p.service, p.operation) for p in PERMISSIONS}


async def test_an_unlisted_call_cannot_be_made(aws: LocalAws, between: Between) -> None:
    async with Clients(AwsSettings(clock=lambda: None, sleep=None)) as clients:  # type: ignore[arg-type,return-value]
        with pytest.raises(KeyError):
            await clients.call("iam", "ListUsers")
        with pytest.raises(KeyError, match=r"only Aws\.write"):
            await clients.call("iam", "PutRolePolicy", RoleName="r", PolicyName="p", PolicyDocument="{}")
    assert between.seen == []


def test_botocore_is_called_in_three_places_only() -> None:
    """Two that read, behind the list, and one that writes, behind a permit."""
    sources = {p.name: p.read_text(encoding="utf-8") for p in Path(bot.aws.__file__).parent.glob("*.py")}
    calls = {name: len(re.findall(r"xform_name\(operation\)", text)) for name, text in sources.items()}
    assert {name: n for name, n in calls.items() if n} == {"clients.py": 2, "write.py": 1}
    assert [name for name, text in sources.items() if "create_client" in text] == ["clients.py"]


def test_reading_needs_no_writing_permission() -> None:
    writing = set(actions(Group.MEMBER_WRITE))
    assert not writing & {*actions(Group.MEMBER_READ), *actions(Group.HUB), *actions(Group.HUB_WRITE)}
    assert actions(Group.HUB_WRITE) == ("access-analyzer:UpdateFindings",)
    assert all(re.match(r"iam:(Create|Delete|Set|Attach|Detach|Put)", a) for a in writing)
    assert not [
        a
        for g in (Group.HUB, Group.MEMBER_READ)
        for a in actions(g)
        if re.search(r":(Create|Delete|Set|Attach|Detach|Put|Update|Tag)", a)
    ]


def test_each_permission_says_what_it_is_for() -> None:
    assert all(p.why.endswith(".") and len(p.why) > 10 for p in PERMISSIONS)
    assert len({(p.service, p.operation) for p in PERMISSIONS}) == len(PERMISSIONS)
