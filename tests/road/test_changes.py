"""Changes of every kind on one stage: exactly the approved text is written, and exactly the old one comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio

from sandbox.stage import Stage, stage
from tests.road.walk import ANN, BEN, HUB, RITA, Walk, buttons, shown

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("changes")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("changes")
    with (folder / "bot.log").open("wb") as log:
        async with stage(folder, log=log) as running:
            yield running


def iam(running: Stage) -> Any:
    """The IAM of an operator who works beside the bot."""
    return boto3.client(
        "iam",
        endpoint_url=running.aws.url,
        region_name="us-east-1",
        aws_access_key_id="AKIASANDBOX000000001",
        aws_secret_access_key="somebody else",
    )


def in_force(snapshot: dict[str, Any]) -> dict[str, str]:
    """What the role may do: texts by policy, whatever the versions are called."""
    return {arn: p["document_text"] for arn, p in snapshot["attached"].items()} | snapshot["inline"]


async def propose(walk: Walk, role: str, mode: str = "strict") -> tuple[dict[str, Any], dict[str, Any]]:
    card = await walk.card(role, "case:review")
    await walk.click(RITA, card, "case:review")
    review = await walk.reply(card, "review")
    await walk.click(RITA, review, f"case:propose_{mode}")
    return card, await walk.reply(card, "proposal")


async def approve(walk: Walk, proposal: dict[str, Any], user: str = BEN) -> None:
    await walk.click(user, proposal, "case:approve")
    await walk.modal(user, "reason")
    await walk.submit(user, reason="Looked at it.")


@pytest.mark.parametrize(
    ("role", "account"),
    [
        ("PartnerReporting", HUB),  # five versions: room has to be made
        ("DataLakeIngest", HUB),  # a policy that other roles use too, and that bounds one
        ("OrderEventsConsumer", HUB),  # AWS managed policies
        ("NightlyBackup", HUB),  # inline, written by hand with tabs and line ends of its own
        ("MediaTranscoder", HUB),  # a Deny that must stay
        ("WarehouseLoader", "210987654321"),  # in a member account
    ],
)
async def test_applied_to_the_letter_and_back_to_the_byte(running: Stage, role: str, account: str) -> None:
    walk, aws = Walk(running), running.aws
    before = aws.snapshot(account, role)
    others = {name: aws.snapshot(HUB, name) for name in ("EtlWorker", "GlueCrawler", "LakeExplorer")}
    card, proposal = await propose(walk, role)
    new = {
        f["name"].removesuffix(".new.json"): f["content"].decode()
        for f in await files(walk, card)
        if f["name"].endswith(".new.json")
    }
    assert new
    await approve(walk, proposal)
    applied = await walk.reply(card, "applied")
    for check in ("ValidatePolicy", "CheckNoNewAccess", "Refine's checker", "SimulatePrincipalPolicy"):
        assert f"✅ {check}" in shown(applied)
    after = in_force(aws.snapshot(account, role))
    by_name = {key.rsplit("/", 1)[-1]: text for key, text in after.items()}
    assert new.items() <= by_name.items()
    old = in_force(before)
    assert {t for k, t in after.items() if k not in old} | {
        t for k, t in after.items() if k in old and old[k] != t
    } == set(new.values())
    assert {name: aws.snapshot(HUB, name) for name in others} == others, "no other role may notice"
    await walk.click(ANN, applied, "case:roll_back")
    await walk.modal(ANN, "reason")
    await walk.submit(ANN, reason="Back again.")
    await walk.reply(card, "rolled_back")
    assert in_force(aws.snapshot(account, role)) == old


async def test_a_part_of_a_change_is_given_back_by_a_proposal_of_its_own(running: Stage) -> None:
    walk, aws, role = Walk(running), running.aws, "ApplicationRole"
    before = aws.snapshot(HUB, role)
    card, proposal = await propose(walk, role)
    await approve(walk, proposal)
    await walk.reply(card, "applied")
    trimmed = aws.snapshot(HUB, role)
    card = await walk.card(role, "case:give_back")
    await walk.click(RITA, card, "case:give_back")
    await walk.modal(RITA, "dynamodb:DeleteTable")
    ack = await walk.slack.submit(RITA, {("actions:0:", "pick"): ["dynamodb:DeleteTable"]})
    assert ack.ok
    told = "Give 1 action back to ApplicationRole"
    await walk.slack.until(lambda: told in shown(walk.slack.thread(card["ts"])[-2:]), timeout=40)
    given = await walk.reply(card, "proposal")
    assert "case:adjust" not in buttons(given)
    assert aws.snapshot(HUB, role) == trimmed, "nothing is written before somebody says yes"
    await approve(walk, given)
    card = await walk.card(role, "case:give_back")
    assert "1 given back" in shown(card)
    (text,) = in_force(aws.snapshot(HUB, role)).values()
    (was,) = in_force(trimmed).values()
    (statement,), (old,) = json.loads(text)["Statement"], json.loads(was)["Statement"]
    assert sorted(statement["Action"]) == sorted([*old["Action"], "dynamodb:DeleteTable"])
    for left in (trimmed, before):  # the one and then the other
        card = await walk.card(role, "case:roll_back")
        await walk.click(ANN, card, "case:roll_back")
        await walk.modal(ANN, "reason")
        await walk.submit(ANN, reason="Back again.")
        await walk.slack.until(lambda old=left: in_force(aws.snapshot(HUB, role)) == in_force(old), timeout=40)
        card = await walk.card(role, "case:replan")


async def files(walk: Walk, card: dict[str, Any]) -> list[dict[str, Any]]:
    """The files of the card's thread, once the proposal's are there."""

    def find() -> list[dict[str, Any]]:
        ids = {f["id"] for m in walk.slack.thread(card["ts"]) for f in m.get("files", ())}
        found = [f for f in walk.slack.files() if f["id"] in ids]
        return found if any(f["name"].endswith(".new.json") for f in found) else []

    await walk.slack.until(find, timeout=30)
    return find()


async def test_a_policy_that_moved_after_the_proposal_is_not_overwritten(running: Stage) -> None:
    walk, aws = Walk(running), running.aws
    card, proposal = await propose(walk, "ObservabilityForwarder")
    arn = next(iter(aws.snapshot(HUB, "ObservabilityForwarder")["attached"]))
    edit = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sns:Publish", "Resource": "*"}]}
    )
    await asyncio.to_thread(iam(running).create_policy_version, PolicyArn=arn, PolicyDocument=edit, SetAsDefault=True)
    await approve(walk, proposal)
    told = await walk.reply(card, "stale")
    assert "nothing was written" in told["text"]
    assert in_force(aws.snapshot(HUB, "ObservabilityForwarder")) == {arn: edit}


async def test_a_step_that_fails_takes_the_ones_before_it_back(running: Stage) -> None:
    """The copy is made and attached, then the old policy cannot be detached: everything is put back, and said."""
    walk, aws = Walk(running), running.aws
    before = aws.snapshot(HUB, "CloudPostureScanner")
    card, proposal = await propose(walk, "CloudPostureScanner")
    aws.fault(service="iam", operation="DetachRolePolicy", kind="error_before", times=3)
    await approve(walk, proposal)
    told = await walk.reply(card, "failed")
    assert "as if nothing had been written" in told["text"]
    assert aws.snapshot(HUB, "CloudPostureScanner") == before
    card = await walk.card("CloudPostureScanner", "case:retry")
    assert "case:roll_back" not in buttons(card)


async def test_the_losing_click_is_told_who_won(running: Stage) -> None:
    walk = Walk(running)
    card, proposal = await propose(walk, "EdgeTelemetry")
    for user in (ANN, BEN):
        await walk.click(user, proposal, "case:approve")
        await walk.modal(user, "reason")
    await asyncio.gather(walk.submit(ANN, reason="a"), walk.submit(BEN, reason="b"))
    await walk.reply(card, "applied")
    told = [shown(running.slack.ephemerals(u)) + shown(running.slack.view(u)) for u in (ANN, BEN)]
    assert sum("Too late" in t or "waiting for approval here" in t for t in told) == 1
    writes = [c for c in running.aws.calls() if c["operation"] == "PutRolePolicy"]
    assert len(writes) == len({str(w["params"]) for w in writes})


async def test_a_finding_that_ends_at_aws_closes_its_card(running: Stage) -> None:
    walk = Walk(running)
    await walk.card("PublicDatasetReader", "case:review")
    trust = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
    )
    await asyncio.to_thread(
        iam(running).update_assume_role_policy, RoleName="PublicDatasetReader", PolicyDocument=trust
    )
    card = await walk.card("PublicDatasetReader", without="case:review")
    assert "resolved" in shown(card).lower()


async def test_a_role_that_a_stack_owns_gets_a_reason_and_no_proposal(running: Stage) -> None:
    walk, aws = Walk(running), running.aws
    before = aws.snapshot(HUB, "BillingExport")
    card = await walk.card("BillingExport", "case:propose")
    await walk.click(ANN, card, "case:propose")
    told = await walk.reply(card, "no_proposal")
    assert "CloudFormation stack finops-billing-export owns it" in told["text"]
    assert aws.snapshot(HUB, "BillingExport") == before
