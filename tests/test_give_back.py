"""A part of a change comes back by a proposal of its own: nothing is written before its approval, and no more after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.errors import NotAllowedError
from bot.flows import Desk, World, decide, drive, propose, watch
from bot.model import Case, CaseId, CaseState, Role, permissions_digest
from bot.rules import REFINE, Button, Event, buttons
from sandbox.aws import LocalAws, start
from tests import lives, test_drive, torture
from tests.lives import ANN, BEN, RITA
from tests.policy.judge import allowed
from tests.test_drive import approved, driven, thread_of, writes

pytestmark = pytest.mark.xdist_group("drive")
SQS, LAMBDA, RDS = "sqs:SendMessage", "lambda:CreateFunction", "rds:CreateDBInstance"


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    local = start(world=False)
    yield local
    local.stop()


def stage(aws: LocalAws, folder: Path, *parts: str, **more: Any) -> AbstractAsyncContextManager[World]:
    return test_drive.stage(aws, folder, parts, **more)


async def trimmed(world: World, aws: LocalAws) -> Case:
    case = await driven(world, (await approved(world, aws)).id)
    assert case.state is CaseState.WATCHING, case.sentence
    return case


async def asked(world: World, case: Case, *actions: str) -> Case:
    """Ask for a give-back, and make the proposal."""
    await propose.start_give_back(world, case.id, case.revision, RITA, actions)
    await propose.work(world, case.id)
    return await world.store.case(case.id)


async def given(world: World, case: Case) -> Case:
    """Approve what waits, and apply it."""
    await decide.approve(world, case.id, case.revision, BEN, "it is needed")
    return await driven(world, case.id)


async def live(world: World, case: Case) -> Role:
    return await world.aws.role(case.role_arn)


def put(aws: LocalAws, name: str, action: str) -> None:
    text = json.dumps(torture.document(action))
    aws.client("iam").put_role_policy(RoleName="Victim", PolicyName=name, PolicyDocument=text)


def grants(role: Role, *actions: str) -> set[str]:
    return {a for p in role.policies for a, _ in allowed(p.text, actions)}


async def test_a_give_back_writes_nothing_until_it_is_approved_and_then_no_more_than_what_is_named(
    aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, *torture.PARTS) as world:
        case = await trimmed(world, aws)
        first, before, sent = case.change, await live(world, case), len(writes(aws))
        assert first is not None
        named = (SQS, "kinesis:DescribeStream", "dynamodb:*", LAMBDA, "rds:*", "cloudtrail:CreateTrail", "route53:*")
        case = await asked(world, case, *named)
        made = case.proposal
        assert case.state is CaseState.WAITING, case.sentence
        assert made is not None
        assert made.give_back is not None
        assert (made.give_back.change, made.proposed_by) == (first.id, RITA)
        assert case.change == first, "it stays in force"
        assert len(writes(aws)) == sent
        assert (await live(world, case)).live_digest() == before.live_digest()
        gone = [a.action for a in made.trim.actions if not a.kept]
        case = await given(world, case)
        assert case.state is CaseState.WATCHING, case.sentence
        after = await live(world, case)
        back = set(made.give_back.actions)
        assert {"dynamodb:PutItem", "rds:CreateDBInstance", "route53:GetHostedZone", SQS, LAMBDA} <= back
        assert grants(after, *back) == back
        assert grants(after, *gone) == grants(before, *back) == set()
        whole = [p.text for p in after.policies if "rds:*" in p.text]
        assert whole == [p.text for p in first.before.policies if "rds:*" in p.text], "as it was, to the byte"
        entries = {e.what: dict(e.detail) for e in reversed(await world.store.history(case.id))}
        for what in ("proposed", "approved", "applied"):
            assert entries[what]["give_back"] == " ".join(made.give_back.actions)
        assert (await world.store.tally()).removed == len(gone)
        assert await world.store.verify_audit() is None


async def test_every_check_around_a_change_is_made_for_a_give_back_too(aws: LocalAws, tmp_path: Path) -> None:
    """AWS is asked whether the new documents go beyond those of the snapshot: beyond the live ones they have to go."""
    async with stage(aws, tmp_path, "aws", "own", "inline") as world:
        case = await trimmed(world, aws)
        case = await given(world, await asked(world, case, SQS, LAMBDA, "cloudtrail:CreateTrail"))
        assert case.state is CaseState.WATCHING, case.sentence
        found = await test_drive.said(world, case)
        assert {n: c.made for n, c in found.items()} == test_drive.ALL
        assert found["CheckNoNewAccess"].said == "AWS finds no new access in the 3 new documents."
        assert found["Refine's checker"].said.endswith("what was named is back, and nothing else.")


async def test_one_give_back_after_the_other_each_out_of_the_same_change(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, "aws_gone", "own") as world:
        case = await trimmed(world, aws)
        first = case.change
        assert first is not None
        for each in (LAMBDA, "kinesis:DescribeStream", "lambda:DeleteFunction", "kinesis:ListStreams"):
            case = await given(world, await asked(world, case, each))
            assert case.state is CaseState.WATCHING, case.sentence
            assert case.proposal is not None
            assert case.proposal.give_back is not None
            assert case.proposal.give_back.change == first.id
        wanted = {LAMBDA, "lambda:DeleteFunction", "lambda:ListFunctions", "kinesis:DescribeStream"}
        after = await live(world, case)
        assert grants(after, *wanted, "lambda:AddPermission", "kinesis:GetRecords") == wanted
        case = await asked(world, case, LAMBDA)
        assert (case.state, case.sentence) == (
            CaseState.WATCHING,
            f"{LAMBDA} is not among what the change took away. Pick what it took away.",
        )


@pytest.mark.parametrize("end", ["declined", "expired", "stale"])
async def test_where_a_give_back_comes_to_nothing_the_change_stays_in_force_and_can_be_rolled_back(
    aws: LocalAws, tmp_path: Path, end: str
) -> None:
    late = timedelta()
    async with stage(aws, tmp_path, "inline", clock=lambda: lives.now() + late) as world:
        case = await trimmed(world, aws)
        first = case.change
        assert first is not None
        case = await asked(world, case, "cloudtrail:CreateTrail")
        if end == "declined":
            case = await decide.decline(world, case.id, case.revision, BEN, "no")
        elif end == "expired":
            late = timedelta(hours=world.settings.refine_expiry_hours)
            await watch.tick(world)
            case = await world.store.case(case.id)
        else:
            put(aws, "Other", "s3:ListAllMyBuckets")
            case = await given(world, case)
            aws.client("iam").delete_role_policy(RoleName="Victim", PolicyName="Other")
        assert (case.state.value, case.change) == (end, first)
        assert buttons(case)[-2:] == (Button.ROLL_BACK, Button.GIVE_BACK)
        dialog = await Desk(world).modal(case.id, Button.GIVE_BACK)
        assert "cloudtrail:CreateTrail" in json.dumps(dialog), "it may be asked for again"
        await drive.start_rollback(world, case.id, case.revision, ANN, "all of it")
        case = await driven(world, case.id)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert permissions_digest((await live(world, case)).policies) == permissions_digest(first.before.policies)


async def test_a_stale_give_back_is_proposed_again_as_it_was_asked_for(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, "inline") as world:
        case = await asked(world, await trimmed(world, aws), "cloudtrail:CreateTrail")
        put(aws, "Other", "s3:ListAllMyBuckets")
        case = await given(world, case)
        assert case.state is CaseState.STALE
        await propose.start_proposal(world, case.id, case.revision, ANN, button=Button.REPLAN)
        await propose.work(world, case.id)
        case = await world.store.case(case.id)
        assert case.proposal is not None
        assert case.proposal.give_back is not None
        assert case.proposal.give_back.actions == ("cloudtrail:CreateTrail",)
        case = await given(world, case)
        assert case.state is CaseState.WATCHING, case.sentence
        assert grants(await live(world, case), "cloudtrail:CreateTrail", "s3:ListAllMyBuckets") == {
            "cloudtrail:CreateTrail",
            "s3:ListAllMyBuckets",
        }


async def test_what_somebody_edited_since_the_change_is_left_alone(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, "inline") as world:
        case = await trimmed(world, aws)
        put(aws, "Trails", "cloudtrail:LookupEvents")
        case = await asked(world, case, "cloudtrail:CreateTrail")
        assert case.state is CaseState.WATCHING
        assert case.sentence == (
            "Trails was edited since the change, so it is not what the change left. "
            "Give it back by hand, or roll the whole change back."
        )
        assert await thread_of(world, "no_proposal") == [case.sentence]


async def test_use_since_the_change_does_not_matter_to_a_give_back(aws: LocalAws, tmp_path: Path) -> None:
    """The report may be old by then, and what was tried since is just what somebody wants back."""
    late = timedelta()
    async with stage(aws, tmp_path, "inline", clock=lambda: lives.now() + late) as world:
        case = await trimmed(world, aws)
        late = timedelta(days=2)
        aws.use("Victim", "cloudtrail:CreateTrail")
        asked_before = [c["operation"] for c in aws.calls()].count("GenerateServiceLastAccessedDetails")
        case = await given(world, await asked(world, case, "cloudtrail:DeleteTrail"))
        assert case.state is CaseState.WATCHING, case.sentence
        assert [c["operation"] for c in aws.calls()].count("GenerateServiceLastAccessedDetails") == asked_before


async def test_four_eyes_hold_for_a_give_back_and_any_member_may_ask_for_it(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, "inline") as world:
        case = await trimmed(world, aws)
        await propose.start_give_back(world, case.id, case.revision, BEN, ["cloudtrail:CreateTrail"])
        await propose.work(world, case.id)
        case = await world.store.case(case.id)
        with pytest.raises(NotAllowedError, match="You proposed this change"):
            await decide.approve(world, case.id, case.revision, BEN, "mine")
        assert Button.ADJUST not in buttons(case)
        with pytest.raises(NotAllowedError, match="No change of this case is in force"):
            await propose.start_give_back(world, case.id, case.revision, BEN, ["cloudtrail:CreateTrail"])


async def test_without_a_change_in_force_there_is_nothing_to_give_back(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, "inline") as world:
        case_id = await lives.proposed(world, aws._role(lives.HUB, "Victim").arn)
        await world.store.move(case_id, Event.EXPIRE, by=REFINE)
        with pytest.raises(NotAllowedError, match="No change of this case is in force"):
            await propose.start_give_back(world, case_id, None, BEN, ["cloudtrail:CreateTrail"])


async def test_a_give_back_is_rolled_back_like_any_change_and_then_the_first_one_in_turn(
    aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, *torture.PARTS) as world:
        case = await trimmed(world, aws)
        first, before = case.change, await live(world, case)
        case = await asked(world, case, SQS, "kinesis:*", "dynamodb:PutItem", LAMBDA, RDS, "route53:GetHostedZone")
        case = await given(world, case)
        assert case.state is CaseState.WATCHING, case.sentence
        assert permissions_digest((await live(world, case)).policies) != permissions_digest(before.policies)
        await drive.start_rollback(world, case.id, case.revision, ANN, "not needed after all")
        case = await driven(world, case.id)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert permissions_digest((await live(world, case)).policies) == permissions_digest(before.policies)
        assert case.change == first
        assert first is not None
        await drive.start_rollback(world, case.id, case.revision, ANN, "nor the trim")
        case = await driven(world, case.id)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert permissions_digest((await live(world, case)).policies) == permissions_digest(first.before.policies)
        assert await world.store.verify_audit() is None


async def test_a_give_back_that_fails_half_way_is_taken_back_and_the_change_stays(
    aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, "aws_gone", "own", "inline_gone", refine_settle_seconds=0) as world:
        case = await trimmed(world, aws)
        first, before = case.change, await live(world, case)
        case = await asked(world, case, "kinesis:*", LAMBDA, "route53:GetHostedZone")
        sent = len(writes(aws))
        aws.fault("CreatePolicyVersion", "denied")
        case = await given(world, case)
        assert case.state is CaseState.FAILED, case.sentence
        assert len(writes(aws)) - sent == 4, "two given, and both taken back"
        assert permissions_digest((await live(world, case)).policies) == permissions_digest(before.policies)
        assert (case.change, Button.ROLL_BACK in buttons(case)) == (first, True)


async def test_a_bot_that_dies_while_it_proposes_a_give_back_goes_on_with_it(aws: LocalAws, tmp_path: Path) -> None:
    case_id: CaseId
    async with stage(aws, tmp_path, "inline") as world:
        case = await trimmed(world, aws)
        case_id = case.id
        await propose.start_give_back(
            world, case.id, case.revision, RITA, ["cloudtrail:CreateTrail"]
        )  # and here it dies
    async with lives.bot(tmp_path, aws.url) as world:
        await world.engine.start()
        await lives.until_idle(world)
        case = await world.store.case(case_id)
        assert case.state is CaseState.WAITING
        assert case.proposal is not None
        assert case.proposal.give_back is not None
        await world.engine.stop()
