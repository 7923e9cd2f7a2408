"""The whole world of the demo, through the gateway: what it lists, it can read, to the byte and with evidence."""

from __future__ import annotations

import asyncio

from sandbox.aws import HUB, MEMBER, LocalAws
from tests.aws.conftest import Gateway


async def test_every_role_with_a_finding_is_read_to_the_byte_and_has_evidence(aws: LocalAws, gateway: Gateway) -> None:
    aws.reset(world=True)
    gate = await gateway()
    read = await gate.findings()
    assert read.complete, read.problems
    assert {f.account for f in read.findings} == {HUB, MEMBER}
    assert {f.region for f in read.findings} == {"us-east-1", "eu-west-1"}
    arns = sorted({f.role_arn for f in read.findings})
    assert f"arn:aws:iam::{HUB}:role/ApplicationRole" in arns
    assert len(arns) >= 15
    roles = await asyncio.gather(*(gate.role(arn) for arn in arns))
    for role in roles:
        shot = aws.snapshot(role.account, role.name)
        texts = {p.key: p.text for p in role.policies}
        assert texts == {arn: p["document_text"] for arn, p in shot["attached"].items()} | {
            f"inline/{name}": text for name, text in shot["inline"].items()
        }
        assert {p.arn: set(p.versions) for p in role.policies if p.arn} == {
            arn: set(p["versions"]) for arn, p in shot["attached"].items()
        }
    evidence = await asyncio.gather(*(gate.evidence(role) for role in roles))
    by_name = {role.name: each for role, each in zip(roles, evidence, strict=True)}
    dynamodb = {s.namespace: s for s in by_name["ApplicationRole"].services}["dynamodb"]
    assert {a.action for a in dynamodb.actions if a.last_accessed} == {
        "DescribeTable",
        "DescribeKinesisStreamingDestination",
    }
    assert max(len(each.services) for each in evidence) > 100
    assert [r.name for r in roles if r.stack], "one role belongs to a CloudFormation stack"


async def test_the_doctor_finds_the_demo_healthy(aws: LocalAws, gateway: Gateway) -> None:
    aws.reset(world=True)
    checks = await (await gateway()).checks()
    assert [c.sentence for c in checks if c.state == "fail"] == []
