"""What surrounds each write: AWS's own word before and after, the stop switch, the hourly limit, the second person."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot import rules
from bot.errors import (
    LimitError,
    NotAllowedError,
    RefusedError,
    StoreError,
    UnavailableError,
    UnknownOutcomeError,
)
from bot.flows import World, checks, decide, drive, post, propose
from bot.flows.decide import PAUSED
from bot.model import Case, CaseId, CaseState, ChangeId, Checked, Proof, StepKind, StepState, UserId
from bot.policy import size
from bot.rules import Button, Difference
from sandbox.aws import LocalAws, start
from tests import lives, torture
from tests.lives import ANN, BEN, HUB

pytestmark = pytest.mark.xdist_group("drive")
PARTS = ("aws", "own", "inline", "inline_gone")  # six steps
ALL = {"ValidatePolicy": True, "CheckNoNewAccess": True, "Refine's checker": True, "SimulatePrincipalPolicy": True}


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    local = start(world=False)
    yield local
    local.stop()


@asynccontextmanager
async def stage(aws: LocalAws, folder: Path, parts: tuple[str, ...] = PARTS, **more: Any) -> AsyncIterator[World]:
    """The bot beside a role of these parts, called Victim."""
    aws.reset(world=False)
    aws.report_seconds = 0.0
    for name, data in torture.role_of(parts).items():
        aws.add_role(name, data)
    async with lives.bot(folder, aws.url, **{"refine_settle_seconds": 0.8, **more}) as world:
        yield world


async def approved(world: World, aws: LocalAws, name: str = "Victim") -> Case:
    case_id = await lives.proposed(world, aws._role(HUB, name).arn)
    case = await world.store.case(case_id)
    assert case.state is CaseState.WAITING, case.sentence
    return await decide.approve(world, case_id, case.revision, BEN, "go")


async def driven(world: World, case_id: CaseId) -> Case:
    await drive.drive(world, case_id)
    return await world.store.case(case_id)


async def thread_of(world: World, name: str) -> list[str]:
    """What the thread is told under that name."""
    return [note.get("text", "") for note in await notes_of(world, name)]


async def notes_of(world: World, name: str) -> list[dict[str, str]]:
    """What the messages of that name are made of, those that wait to be sent; one of a case is due at a time."""
    waiting = [i for first in (True, False) for i in await world.store.due(world.clock(), 99, first=first)]
    found = []
    while waiting:
        for item in waiting:
            if item.name == name:
                found.append(dict(item.args))
            await world.store.sent(item.id, "C", "1.0")
        waiting = [i for first in (True, False) for i in await world.store.due(world.clock(), 99, first=first)]
    return found


async def ends_of(world: World, case: Case) -> list[str]:
    """How the case's changes ended, the latest first."""
    return [dict(e.detail)["outcome"] for e in await world.store.history(case.id) if e.what == "finished"]


def writes(aws: LocalAws) -> list[str]:
    return [c["operation"] for c in aws.calls() if c["operation"] in torture.WRITES and c["outcome"] == "ok"]


async def said(world: World, case: Case) -> dict[str, Checked]:
    assert case.change is not None
    return {c.name: c for c in await checks.made(world, case.change.id)}


# -------------------- AWS's own word


async def test_every_check_is_made_and_kept_with_the_change(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        case = await driven(world, (await approved(world, aws)).id)
        assert case.state is CaseState.WATCHING, case.sentence
        found = await said(world, case)
        assert {n: c.made for n, c in found.items()} == ALL
        assert case.until is not None
        assert timedelta(hours=71) < case.until - world.clock() <= timedelta(hours=72)
        assert (await world.store.tally()).trimmed == 1
        assert found["CheckNoNewAccess"].said == "AWS finds no new access in the 3 new documents."
        assert "AWS allows 3 of 3 used actions" in found["SimulatePrincipalPolicy"].said
        (entry,) = [e for e in await world.store.history(case.id) if e.what == "applied"]
        assert all(name in dict(entry.detail)["checks"] for name in ALL)
        assert await ends_of(world, case) == ["done"]
    order = [c["operation"] for c in aws.calls()]
    first, last = order.index(writes(aws)[0]), len(order) - 1 - order[::-1].index(writes(aws)[-1])
    assert [order[:first].count(n) for n in ("CheckNoNewAccess", "SimulatePrincipalPolicy")] == [3, 1]
    assert "SimulatePrincipalPolicy" in order[last:]


@pytest.mark.parametrize(
    ("operation", "service"),
    [
        ("ValidatePolicy", "accessanalyzer"),
        ("CheckNoNewAccess", "accessanalyzer"),
        ("SimulatePrincipalPolicy", "iam"),
    ],
)
@pytest.mark.parametrize("kind", ["denied", "throttle", "error_before"])
async def test_where_aws_does_not_answer_nothing_is_blocked_and_that_is_said(
    operation: str, service: str, kind: Any, aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        aws.fault(operation, kind, service=service)
        case = await driven(world, (await approved(world, aws)).id)
        assert case.state is CaseState.WATCHING, case.sentence
        found = await said(world, case)
        assert {n: c.made for n, c in found.items()} == {**ALL, operation: False}
        assert operation in found[operation].said
        (entry,) = [e for e in await world.store.history(case.id) if e.what == "applied"]
        assert f"{operation} not made: " in dict(entry.detail)["checks"]


async def test_a_check_that_answers_half_way_is_not_called_made(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)
        plain = world.aws.new_access

        async def once(old: str, new: str) -> tuple[str, ...]:
            answer = await plain(old, new)
            aws.fault("CheckNoNewAccess", "denied", service="accessanalyzer")
            return answer

        world.aws.new_access = once  # type: ignore[method-assign]
        case = await driven(world, case.id)
        check = (await said(world, case))["CheckNoNewAccess"]
        assert not check.made
        assert check.said.startswith("1 of 3 passed, then: AWS denied access-analyzer:CheckNoNewAccess")


async def test_the_billed_check_can_be_switched_off(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",), refine_check_no_new_access=False) as world:
        case = await driven(world, (await approved(world, aws)).id)
        check = (await said(world, case))["CheckNoNewAccess"]
        assert (check.made, check.said) == (False, "REFINE_CHECK_NO_NEW_ACCESS is off.")
    assert "CheckNoNewAccess" not in [c["operation"] for c in aws.calls()]


async def test_new_access_refuses_the_write(aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = {"description": "New access in the statement with index: 0.", "statementIndex": 0}
    monkeypatch.setattr("sandbox.aws.analyzer.new_access", lambda new, old: [reason])
    async with stage(aws, tmp_path) as world:
        case = await driven(world, (await approved(world, aws)).id)
        assert case.state is CaseState.FAILED
        assert "would grant what the old one does not" in case.sentence
        assert reason["description"] in case.sentence
        assert "Nothing was written." in case.sentence
        assert case.change is None
    assert writes(aws) == []


async def test_an_error_that_aws_finds_at_the_last_moment_refuses_the_write(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)
        found = {"findingType": "ERROR", "issueCode": "INVALID_ACTION", "findingDetails": "No such action."}
        found |= {"learnMoreLink": "https://aws", "locations": []}
        monkeypatch.setattr("sandbox.aws.analyzer.validate", lambda text, kind: [found])
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "AWS finds an error in a new document, so it was not written: No such action." in case.sentence
    assert writes(aws) == []


async def test_a_used_action_that_aws_denies_afterwards_takes_the_change_back(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sandbox.aws import iam

    plain = iam.decide

    def decide_(documents: Any, action: str, *rest: Any) -> Any:
        if action == "cloudtrail:describetrails" and writes(aws):
            return "implicitDeny", []
        return plain(documents, action, *rest)

    monkeypatch.setattr(iam, "decide", decide_)
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await driven(world, (await approved(world, aws)).id)
        assert case.state is CaseState.FAILED
        assert "AWS's simulator allowed cloudtrail:DescribeTrails" in case.sentence
        assert "old policies are in force, as if nothing had been written" in case.sentence
        assert torture.in_force(aws) == before


async def test_a_simulator_that_lags_is_waited_for(aws: LocalAws, tmp_path: Path) -> None:
    """Its first answers are those of a moment when the copy was attached nowhere and the old policy not either."""
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        plain, lies = world.aws.simulate, 3

        async def simulate(arn: str, actions: Any) -> Any:
            nonlocal lies
            answer = dict(await plain(arn, actions))
            if writes(aws) and lies:
                lies -= 1
                aws.fault("SimulatePrincipalPolicy", "latency", times=1)
                answer = {a: type(v)(allowed=False) for a, v in answer.items()}
            return answer

        world.aws.simulate = simulate  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert (case.state, lies) == (CaseState.WATCHING, 0)


async def test_what_was_denied_before_is_no_news_and_a_boundary_is_named(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        iam = aws.client("iam")
        allow = {"Effect": "Allow", "Action": ["cloudtrail:DescribeTrails", "s3:*"], "Resource": "*"}
        bound = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
        arn = iam.create_policy(PolicyName="Bound", PolicyDocument=bound)["Policy"]["Arn"]
        iam.put_role_permissions_boundary(RoleName="Victim", PermissionsBoundary=arn)
        mine = {"Effect": "Allow", "Action": ["s3:*"], "Resource": "arn:aws:s3:::mine"}
        queues = {"Effect": "Allow", "Action": ["sqs:*"], "Resource": "*"}
        text = json.dumps({"Version": "2012-10-17", "Statement": [mine, queues]})
        iam.put_role_policy(RoleName="Victim", PolicyName="Mine", PolicyDocument=text)
        for action in ("s3:CreateBucket", "sqs:CreateQueue"):
            aws.use("Victim", action, days_ago=1)
        case = await driven(world, (await approved(world, aws)).id)
        assert case.state is CaseState.WATCHING, case.sentence
        assert (await said(world, case))["SimulatePrincipalPolicy"].said == (
            "AWS allows 1 of 3 used actions, and none that it allowed before is denied. The permissions boundary denies "
            "1 of them, whatever the role's own policies say. On 1 it cannot tell without a resource or a condition."
        )


async def test_a_restart_in_the_middle_asks_nothing_twice_and_tells_the_same(aws: LocalAws, tmp_path: Path) -> None:
    """Before the writes AWS may be asked; afterwards it is away: both are said by a process that saw neither."""
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)
        aws.fault("ValidatePolicy", "denied", service="accessanalyzer")
        aws.fault("DetachRolePolicy", "throttle")
        waiting = asyncio.create_task(drive.drive(world, case.id))
        while "AttachRolePolicy" not in writes(aws):
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
    asked = len([c for c in aws.calls() if c["operation"] == "CheckNoNewAccess"])
    aws.clear_faults()
    async with lives.bot(tmp_path, aws.url) as world:
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING, case.sentence
        assert {n: c.made for n, c in (await said(world, case)).items()} == {**ALL, "ValidatePolicy": False}
    assert len([c for c in aws.calls() if c["operation"] == "CheckNoNewAccess"]) == asked == 3


# -------------------- the stop switch, and the replica that was taken over


@pytest.mark.parametrize("written", range(6))
async def test_a_pause_holds_the_very_next_write(written: int, aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)
        plain = world.aws.write

        async def write(permit: Any, step: Any, last: Any) -> Any:
            if len(writes(aws)) == written:  # the step is marked and looked at: only the last word is left
                await world.store.set_flag(PAUSED, "by Ann", ANN)
            return await plain(permit, step, last)

        world.aws.write = write  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert (case.state, len(writes(aws))) == (CaseState.APPLYING, written)
        assert case.change is not None
        states = [j.state for j in await world.store.journal(case.change.id)]
        assert states == [StepState.DONE] * written + [StepState.PLANNED] * (6 - written)
        (text,) = await thread_of(world, "waits")
        assert text.startswith("Refine is paused (by Ann)")
        world.aws.write = plain  # type: ignore[method-assign]
        assert (await driven(world, case.id)).state is CaseState.APPLYING, "still paused"
        assert await thread_of(world, "waits") == [], "said once"
        await world.store.set_flag(PAUSED, "", ANN)
        assert (await driven(world, case.id)).state is CaseState.WATCHING
    assert len(writes(aws)) == 6


async def test_a_pause_holds_a_write_that_waits_out_a_throttle(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "throttle")
        naps = 0

        async def sleep(_: float) -> None:
            nonlocal naps
            naps += 1
            if naps == 3:
                aws.clear_faults()
                await world.store.set_flag(PAUSED, "by Ann", ANN)

        world.sleep = sleep
        case = await driven(world, case.id)
        assert (case.state, naps) == (CaseState.APPLYING, 3)
        assert "PutRolePolicy" not in writes(aws)
        assert case.change is not None
        states = {j.step.kind.value: j.state for j in await world.store.journal(case.change.id)}
        assert states["put_inline"] is StepState.PLANNED, "it was throttled, so it had no effect"


async def test_a_step_that_may_have_been_sent_stays_so_through_a_pause(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost answer, then a pause before the second try: whoever goes on has to look with patience."""
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "error_before", times=1)
        plain, tries = world.aws.write, 0

        async def write(permit: Any, step: Any, last: Any) -> Any:
            nonlocal tries
            tries += 1
            if tries == 2:
                await world.store.set_flag(PAUSED, "by Ann", ANN)
            return await plain(permit, step, last)

        world.aws.write = write  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert (case.state, tries, writes(aws)) == (CaseState.APPLYING, 2, [])
        assert case.change is not None
        assert [j.state for j in await world.store.journal(case.change.id)] == [StepState.STARTED]
        await driven(world, case.id)
        assert [j.state for j in await world.store.journal(case.change.id)] == [StepState.STARTED], "still so"
        await world.store.set_flag(PAUSED, "", ANN)
        permit, role, away = rules.permit_apply, world.aws.role, False

        def permit_(*args: Any, **more: Any) -> Any:
            nonlocal away
            away = True  # the next look is that before the write
            return permit(*args, **more)

        async def role_(*args: Any) -> Any:
            if away:
                raise UnavailableError("AWS is away.")
            return await role(*args)

        with monkeypatch.context() as patch:
            patch.setattr("bot.rules.permit_apply", permit_)
            patch.setattr(world.aws, "role", role_)
            await driven(world, case.id)
        assert [j.state for j in await world.store.journal(case.change.id)] == [StepState.STARTED], "AWS was away"
        assert (await driven(world, case.id)).state is CaseState.WATCHING
    assert writes(aws) == ["PutRolePolicy"]


async def test_a_step_that_may_have_been_sent_stays_so_where_somebody_edits_meanwhile(
    aws: LocalAws, tmp_path: Path
) -> None:
    """Its effect may show yet: whoever takes it back has to know."""
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        theirs = json.dumps(torture.document("ses:SendEmail"))

        async def write(*_: Any) -> Any:
            aws.client("iam").put_role_policy(RoleName="Victim", PolicyName="Trails", PolicyDocument=theirs)
            raise UnknownOutcomeError("No answer.")

        world.aws.write = write  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "somebody else changed it" in case.sentence
        assert "ses" not in case.sentence
        assert case.change is not None
        first = case.change.undoes or case.change.id
        assert [j.state for j in await world.store.journal(first)] == [StepState.STARTED]
    assert writes(aws) == ["PutRolePolicy"], "theirs"


async def test_a_pause_holds_a_rollback_too(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await driven(world, (await approved(world, aws)).id)
        await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        await world.store.set_flag(PAUSED, "by Ann", ANN)
        case = await driven(world, case.id)
        assert (case.state, writes(aws)) == (CaseState.ROLLING_BACK, ["PutRolePolicy"])
        (text,) = await thread_of(world, "waits")
        assert "Take back" not in text, "that is for what is being applied"
        assert "goes on trying" not in text, "it waits for a person"


@pytest.mark.parametrize("written", range(6))
async def test_a_replica_that_was_taken_over_sends_nothing_more(written: int, aws: LocalAws, tmp_path: Path) -> None:
    """It does not touch the journal either: that is the other's by now."""
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)

        def sure() -> None:
            if len(writes(aws)) == written:
                raise StoreError("Another replica took over.")

        world.sure = sure
        case = await driven(world, case.id)
        assert (case.state, len(writes(aws))) == (CaseState.APPLYING, written)
        assert case.change is not None
        states = [j.state for j in await world.store.journal(case.change.id)]
        assert states[: written + 1] == [StepState.DONE] * written + [StepState.STARTED]
    async with lives.bot(tmp_path, aws.url, refine_settle_seconds=0.8) as world:
        assert (await driven(world, case.id)).state is CaseState.WATCHING
    assert len(writes(aws)) == 6


async def test_the_last_word_is_asked_for_each_try_and_nothing_comes_after_it(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "throttle", times=2)
        before: list[int] = []
        world.sure = lambda: before.append(len(aws.calls()))

        async def sleep(_: float) -> None:
            pass

        world.sleep = sleep
        await driven(world, case.id)
        calls = [c["operation"] for c in aws.calls()]
        assert len(before) == 8
        assert all(calls[n] in torture.WRITES for n in before)


# -------------------- a change that waits, and one that is stopped


async def test_a_change_that_aws_keeps_waiting_says_so_once(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        plain = world.aws.role

        async def role(*_: Any) -> Any:
            raise UnavailableError("AWS is away.")

        world.aws.role = role  # type: ignore[method-assign]
        for tries in range(1, 6):
            assert (await driven(world, case.id)).state is CaseState.APPLYING
            assert world.waits == {case.id: tries}
            said = await thread_of(world, "waits")
            assert said == (
                ["AWS is away. Refine goes on trying. “Take back…” on the card stops the change."] if tries == 3 else []
            )
        world.aws.role = plain  # type: ignore[method-assign]
        assert (await driven(world, case.id)).state is CaseState.WATCHING
        assert world.waits == {}


@pytest.mark.parametrize("written", [0, 1, 4])
async def test_a_change_that_waits_can_be_taken_back(written: int, aws: LocalAws, tmp_path: Path) -> None:
    """Also while Refine is paused: the press counts, and the writes wait for the end of the pause."""
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        plain = world.aws.write

        async def write(permit: Any, step: Any, last: Any) -> Any:
            if len(writes(aws)) == written:
                await world.store.set_flag(PAUSED, "by Ann", ANN)
            return await plain(permit, step, last)

        world.aws.write = write  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert (case.state, rules.buttons(case)) == (CaseState.APPLYING, (Button.ROLL_BACK,))
        moved = await drive.start_rollback(world, case.id, case.revision, ANN, "it waits for too long")
        assert moved.state is CaseState.ROLLING_BACK
        world.aws.write = plain  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert (case.state, len(writes(aws))) == (CaseState.ROLLING_BACK if written else CaseState.ROLLED_BACK, written)
        await world.store.set_flag(PAUSED, "", ANN)
        case = await driven(world, case.id)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert torture.in_force(aws) == before
        assert not rules.can_roll_back(case)
        assert (await world.store.tally()).trimmed == 0
        assert await world.store.verify_audit() is None


@pytest.mark.parametrize("earlier", [False, True])
async def test_a_change_that_was_stopped_before_it_began_counts_as_declined(
    earlier: bool, aws: LocalAws, tmp_path: Path
) -> None:
    """And an earlier change of the role, which is in force, stays so: nobody asked for that."""
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        first = None
        if earlier:
            case = await driven(world, case.id)
            first = case.change
            case = await again(world, aws, case)
        there, count = torture.in_force(aws), len(writes(aws))
        await drive.start_rollback(world, case.id, case.revision, ANN, "better not")
        case = await driven(world, case.id)
        assert (case.state, case.asked_by, case.change) == (CaseState.DECLINED, ANN, first)
        assert (torture.in_force(aws), len(writes(aws))) == (there, count)
        (note,) = await notes_of(world, "declined")
        assert note == {"by": ANN, "reason": "better not"}
        assert (Button.ROLL_BACK in rules.buttons(case)) is earlier


@pytest.mark.parametrize("written", range(7))
async def test_a_press_in_the_middle_stops_the_very_next_write(written: int, aws: LocalAws, tmp_path: Path) -> None:
    """Until the case has moved on to WATCHING, the press is of the change under way, and takes all of it back."""
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        plain, role, pressed = world.aws.write, world.aws.role, False

        async def press() -> None:
            nonlocal pressed
            if len(writes(aws)) == written and not pressed:
                pressed = True
                await drive.start_rollback(world, case.id, case.revision, ANN, "stop")

        async def write(permit: Any, step: Any, last: Any) -> Any:
            await press()
            return await plain(permit, step, last)

        async def read(*args: Any) -> Any:
            if written == 6:
                await press()
            return await role(*args)

        world.aws.write, world.aws.role = write, read  # type: ignore[method-assign]
        await world.engine.start()
        await world.engine.submit("drive", case.id)
        await world.engine.stop(patience=60)
        await drive.drive(world, case.id)
        case = await world.store.case(case.id)
        assert pressed
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert torture.in_force(aws) == before
        made = [
            j.state for j in await world.store.journal(ChangeId(f"{case.proposal.id if case.proposal else ''}-apply"))
        ]
        assert made.count(StepState.DONE) == written


# -------------------- the hourly limit


async def test_of_many_changes_at_once_no_more_begin_than_the_limit(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",), refine_changes_per_hour=2) as world:
        found = []
        for n in range(5):
            aws.add_role(f"Role{n}", torture.role_of(("inline",))["Victim"])
            case_id = await lives.proposed(world, aws._role(HUB, f"Role{n}").arn)
            case = await world.store.case(case_id)
            found.append(await decide.approve(world, case_id, case.revision, BEN, "go"))  # none has begun yet
        done = await asyncio.gather(*(driven(world, c.id) for c in found))
        assert sorted(c.state for c in done) == [CaseState.APPLYING] * 3 + [CaseState.WATCHING] * 2
        assert len(writes(aws)) == 2
        assert len(await thread_of(world, "waits")) == 3
        late = next(c for c in done if c.state is CaseState.APPLYING)
        with pytest.raises(LimitError, match="2 changes started within the last hour"):
            await decide.may_write(world)
        back = next(c for c in done if c.state is CaseState.WATCHING)
        await drive.start_rollback(world, back.id, back.revision, ANN, "never limited")
        assert (await driven(world, back.id)).state is CaseState.ROLLED_BACK
        assert (await driven(world, late.id)).state is CaseState.APPLYING, "a rollback frees no place"


# -------------------- four eyes for a rollback


async def test_a_press_is_followed_at_once(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await driven(world, (await approved(world, aws)).id)
        await world.engine.start()
        await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        await world.engine.stop(patience=60)
        assert (await world.store.case(case.id)).state is CaseState.ROLLED_BACK


async def test_one_press_rolls_back_where_four_eyes_are_not_asked_for(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await driven(world, (await approved(world, aws)).id)
        moved = await drive.start_rollback(world, case.id, case.revision, BEN, "back")
        assert moved.state is CaseState.ROLLING_BACK


async def test_with_four_eyes_a_second_approver_has_to_press_too(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",), refine_rollback_four_eyes=True) as world:
        case = await driven(world, (await approved(world, aws)).id)
        held = await drive.start_rollback(world, case.id, case.revision, BEN, "it broke")
        assert (held.state, held.revision) == (CaseState.WATCHING, case.revision)
        assert len(await thread_of(world, "second")) == 1
        with pytest.raises(NotAllowedError, match="asked for this already"):
            await drive.start_rollback(world, case.id, case.revision, BEN, "it broke")
        moved = await drive.start_rollback(world, case.id, case.revision, ANN, "it did")
        assert moved.state is CaseState.ROLLING_BACK
        assert (await driven(world, case.id)).state is CaseState.ROLLED_BACK
        assert (await world.store.tally()).rolled_back == 1
        asked = [e for e in await world.store.history(case.id) if e.what == "asked_to_roll_back"]
        assert [e.who for e in reversed(asked)] == [BEN]
        assert await world.store.verify_audit() is None


async def test_two_presses_at_the_same_moment_are_a_first_and_a_second(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",), refine_rollback_four_eyes=True) as world:
        case = await driven(world, (await approved(world, aws)).id)
        plain, both = world.store.recall, asyncio.Barrier(2)

        async def recall(key: str) -> str:
            found = await plain(key)
            if key.startswith("rollback/") and not found:
                await both.wait()  # neither has seen the other
            return found

        world.store.recall = recall  # type: ignore[method-assign]
        pressed = [drive.start_rollback(world, case.id, case.revision, by, "it broke") for by in (ANN, BEN)]
        after = await asyncio.gather(*pressed)
        assert sorted(c.state for c in after) == [CaseState.ROLLING_BACK, CaseState.WATCHING]
        assert len(await notes_of(world, "second")) == 1
        assert len([e for e in await world.store.history(case.id) if e.what == "asked_to_roll_back"]) == 1


async def test_a_first_press_is_noted_whole_or_not_at_all(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise StoreError("The disk is full.")

    async with stage(aws, tmp_path, ("inline",), refine_rollback_four_eyes=True) as world:
        case = await driven(world, (await approved(world, aws)).id)
        with monkeypatch.context() as patch:
            patch.setattr("bot.store.outbox.queue", full)
            with pytest.raises(StoreError):
                await drive.start_rollback(world, case.id, case.revision, BEN, "it broke")
        assert "asked_to_roll_back" not in [e.what for e in await world.store.history(case.id)]
        await drive.start_rollback(world, case.id, case.revision, BEN, "it broke")  # not "you asked already"
        assert len(await notes_of(world, "second")) == 1


async def test_a_first_press_does_not_count_for_ever(aws: LocalAws, tmp_path: Path) -> None:
    late = 0.0

    def clock() -> Any:
        return lives.now() + timedelta(hours=late)

    async with stage(aws, tmp_path, ("inline",), refine_rollback_four_eyes=True, clock=clock) as world:
        case = await driven(world, (await approved(world, aws)).id)
        await drive.start_rollback(world, case.id, case.revision, BEN, "it broke")
        late = 25.0
        held = await drive.start_rollback(world, case.id, case.revision, ANN, "too late")
        assert held.state is CaseState.WATCHING
        late = 26.0
        moved = await drive.start_rollback(world, case.id, case.revision, BEN, "again")
        assert moved.state is CaseState.ROLLING_BACK


async def test_a_first_press_for_one_change_is_none_for_the_next(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("own", "inline"), refine_rollback_four_eyes=True) as world:
        first = await driven(world, (await approved(world, aws)).id)
        await drive.start_rollback(world, first.id, first.revision, BEN, "it broke")
        second = await again(world, aws, first)
        assert second.state is CaseState.APPLYING
        held = await drive.start_rollback(world, second.id, second.revision, ANN, "stop")
        assert held.state is CaseState.APPLYING
        assert (await drive.start_rollback(world, held.id, held.revision, BEN, "")).state is CaseState.ROLLING_BACK


# -------------------- evidence that grew old


async def test_an_action_used_since_the_proposal_makes_it_stale_and_is_named(aws: LocalAws, tmp_path: Path) -> None:
    late = 0.0

    def clock() -> Any:
        return lives.now() + timedelta(hours=late)

    async with stage(aws, tmp_path, clock=clock, refine_max_report_age_hours=1, refine_expiry_hours=48) as world:
        case = await approved(world, aws)
        late = 2.0
        aws.use("Victim", "cloudtrail:CreateTrail")
        case = await driven(world, case.id)
        assert case.state is CaseState.STALE
        assert case.sentence.startswith("cloudtrail:CreateTrail was used since the proposal was made")
    assert writes(aws) == []


@pytest.mark.parametrize(("hours", "reports"), [(0.5, 1), (2.0, 2), (-2.0, 2)])
async def test_evidence_is_read_anew_where_it_is_too_old_or_its_age_is_not_known(
    hours: float, reports: int, aws: LocalAws, tmp_path: Path
) -> None:
    late = 0.0

    def clock() -> Any:
        return lives.now() + timedelta(hours=late)

    async with stage(aws, tmp_path, clock=clock, refine_max_report_age_hours=1, refine_expiry_hours=48) as world:
        case = await approved(world, aws)
        late = hours
        assert (await driven(world, case.id)).state is CaseState.WATCHING
    asked = [c for c in aws.calls() if c["operation"] == "GenerateServiceLastAccessedDetails"]
    assert len(asked) == reports


@pytest.mark.parametrize("how", ["paused", "crashed"])
async def test_a_change_that_waited_before_its_first_write_looks_at_the_evidence_again(
    how: str, aws: LocalAws, tmp_path: Path
) -> None:
    """The journal was written in time, and nothing else was."""
    late = 0.0

    def clock() -> Any:
        return lives.now() + timedelta(hours=late)

    hours = {"refine_max_report_age_hours": 1, "refine_expiry_hours": 48, "clock": clock}
    async with stage(aws, tmp_path, **hours) as world:
        case = await approved(world, aws)
        if how == "paused":
            await world.store.set_flag(PAUSED, "by Ann", ANN)
            await drive.drive(world, case.id)
            await world.store.set_flag(PAUSED, "", ANN)
        else:
            plain = world.store.begin

            async def begin(*args: Any, **more: Any) -> Any:
                await plain(*args, **more)
                raise asyncio.CancelledError

            world.store.begin = begin  # type: ignore[method-assign]
            with pytest.raises(asyncio.CancelledError):
                await drive.drive(world, case.id)
        late = 2.0
        aws.use("Victim", "cloudtrail:CreateTrail")
    async with lives.bot(tmp_path, aws.url, **hours) as world:
        case = await driven(world, case.id)
        assert case.state is CaseState.STALE
        assert case.sentence.startswith("cloudtrail:CreateTrail was used since the proposal was made")
    assert writes(aws) == []


# -------------------- quotas, as they are right before the first write


def quota(aws: LocalAws, name: str, value: int) -> None:
    setattr(aws.state.iam(HUB).account_summary, f"_{name}", value)


INLINE = ("inline", "inline_gone")  # the first grows before the second goes


def characters(aws: LocalAws) -> int:
    return sum(size(text) for text in aws.snapshot(HUB, "Victim")["inline"].values())


async def test_what_the_inline_quota_does_not_allow_is_not_proposed(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, INLINE) as world:
        quota(aws, "role_policy_size_quota", characters(aws))
        case = await world.store.case(await lives.proposed(world, aws._role(HUB, "Victim").arn))
        assert case.state is CaseState.NOTHING
        assert f"inline policies may have {characters(aws)} characters together" in case.sentence


@pytest.mark.parametrize(
    ("parts", "name", "left", "sentence"),
    [
        (INLINE, "role_policy_size_quota", None, "inline policies may have"),
        (("aws", "inline"), "attached_policies_per_role_quota", 1, "The role may have 1 attached policies"),
        (("aws", "shared"), "policies_quota", 2, "The account has room for 1 more customer managed policies"),
    ],
)
async def test_a_quota_that_got_too_small_since_the_proposal_is_found_before_the_first_write(
    parts: tuple[str, ...], name: str, left: int | None, sentence: str, aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, parts) as world:
        case = await approved(world, aws)
    quota(aws, name, characters(aws) if left is None else left)
    async with lives.bot(tmp_path, aws.url) as world:
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert sentence in case.sentence
        assert "Nothing was written." in case.sentence
    assert writes(aws) == []


async def test_the_last_room_of_the_account_may_be_used(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("aws", "shared")) as world:
        case = await approved(world, aws)
    quota(aws, "policies_quota", 3)
    async with lives.bot(tmp_path, aws.url) as world:
        assert (await driven(world, case.id)).state is CaseState.WATCHING


async def test_an_account_that_does_not_tell_its_quotas_blocks_nothing(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("aws",)) as world:
        aws.fault("GetAccountSummary", "denied")
        assert (await driven(world, (await approved(world, aws)).id)).state is CaseState.WATCHING


# -------------------- rollbacks that meet somebody else's work


async def test_a_rollback_refuses_where_somebody_was_and_shows_what_they_did(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        case = await driven(world, (await approved(world, aws)).id)
        iam = aws.client("iam")
        edit = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ses:SendEmail", "Resource": "*"}]}
        iam.put_role_policy(RoleName="Victim", PolicyName="Trails", PolicyDocument=json.dumps(edit))
        iam.put_role_policy(RoleName="Victim", PolicyName="Extra", PolicyDocument=json.dumps(edit))
        own = next(a for a in aws.snapshot(HUB, "Victim")["attached"] if a.endswith("/Own"))
        iam.detach_role_policy(RoleName="Victim", PolicyArn=own)
        there = torture.in_force(aws)
        await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "would overwrite what somebody else did" in case.sentence
        (text,) = await thread_of(world, "failed")
        assert "Extra was" not in text, "the change never touched it"
        for wanted in (
            "Own was taken away since the change.",
            "Trails was edited since the change.",
            '-        "cloudtrail:DescribeTrails"',
            '+      "Action": "ses:SendEmail"',
        ):
            assert wanted in text
        assert torture.in_force(aws) == there


def meddled(world: World, aws: LocalAws, after: str, policy: str) -> None:
    """Let somebody put an inline policy right after a write of that name."""
    plain = world.aws.write

    async def write(permit: Any, step: Any, last: Any) -> Any:
        made = await plain(permit, step, last)
        if step.kind.value == after:
            text = json.dumps(torture.document("ses:SendEmail"))
            aws.client("iam").put_role_policy(RoleName="Victim", PolicyName=policy, PolicyDocument=text)
        return made

    world.aws.write = write  # type: ignore[method-assign]


async def test_what_reads_back_as_something_else_is_not_called_applied(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("own", "inline"), refine_settle_seconds=0.5) as world:
        before = named(aws)
        case = await approved(world, aws)
        meddled(world, aws, "put_inline", "Extra")
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert case.sentence.startswith(
            "Every write was taken, but reading back shows other policies than were written. In force now: "
        )
        assert "Extra (inline)" in case.sentence
        assert await ends_of(world, case) == ["unverified"]
        meddled(world, aws, "put_inline", "Trails")
        case = await back(world, case)
        assert case.state is CaseState.FAILED
        assert "reading back shows other policies than before the change: Trails." in case.sentence
        assert await ends_of(world, case) == ["unverified"] * 2
        assert {n: t for n, t in named(aws).items() if n == "Own"} == {"Own": before["Own"]}


async def test_a_role_made_anew_is_not_rolled_back_though_its_policies_are_the_same(
    aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await driven(world, (await approved(world, aws)).id)
        aws._role(HUB, "Victim").role_id = "AROAANEW"
        case = await back(world, case)
        assert case.state is CaseState.FAILED
        assert case.sentence.startswith("The role was deleted and made anew since the change.")
    assert writes(aws) == ["PutRolePolicy"]


async def test_a_rollback_without_room_is_not_begun(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline", "inline_gone")) as world:
        case = await driven(world, (await approved(world, aws)).id)
        left = 10_240 - sum(map(size, torture.in_force(aws).values())) - size(json.dumps(torture.document("ses:")))
        much = json.dumps(torture.document(f"ses:{'x' * left}"))
        aws.client("iam").put_role_policy(RoleName="Victim", PolicyName="Much", PolicyDocument=much)
        there = torture.in_force(aws)
        case = await back(world, case)
        assert case.state is CaseState.FAILED
        assert case.sentence.startswith("There is no room for the rollback, so nothing was written: the role's inline")
        assert torture.in_force(aws) == there


def test_of_a_long_difference_the_first_lines_are_shown_and_the_rest_counted() -> None:
    theirs = json.dumps([f"line {n}" for n in range(60)], indent=1)
    lines = drive._shown([Difference(name="P", left="[]", live=theirs)]).splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("P was edited since the change.", 41, "… 25 more lines")
    assert drive._shown([Difference(name="P", left="{}", live=None)]) == "P was taken away since the change."
    assert drive._shown([Difference(name="P", left=None, live="{}")]) == "P was added since the change."
    used = drive._shown([Difference(name="P", left="[]", live="[]")] * 40).splitlines()
    assert used == ["P is in use beyond this role by now, and would change there too."] * 40


async def back(world: World, case: Case) -> Case:
    """Press the button, and drive what follows."""
    case = await world.store.case(case.id)
    await drive.start_rollback(world, case.id, case.revision, ANN, "back")
    return await driven(world, case.id)


def publish(aws: LocalAws, arn: str, *actions: str) -> str:
    """Let AWS, or the owner, give a managed policy a new text."""
    policy = aws.state.aws_policy(aws.state.iam(HUB), arn)
    assert policy is not None
    text = json.dumps(torture.document(*actions))
    next(v for v in policy.versions if v.is_default).document = text
    return text


def named(aws: LocalAws) -> dict[str, str]:
    return {k.rsplit("/", 1)[-1]: v for k, v in torture.in_force(aws).items()}


@pytest.fixture
def restored_sqs(aws: LocalAws) -> Iterator[None]:
    """Leave AWS's policy as it was: it outlives the reset of an account."""
    yield
    aws.state.iam(HUB).managed_policies.pop(torture.SQS, None)


@pytest.mark.usefixtures("restored_sqs")
async def test_a_rollback_is_not_begun_where_an_original_has_another_text_by_now(aws: LocalAws, tmp_path: Path) -> None:
    """AWS published a new version of its policy: what the role would get is not what it had."""
    async with stage(aws, tmp_path) as world:
        case = await driven(world, (await approved(world, aws)).id)
        text = publish(aws, torture.SQS, "sqs:*", "kms:Decrypt")
        there, count = torture.in_force(aws), len(writes(aws))
        case = await back(world, case)
        assert case.state is CaseState.FAILED
        assert case.sentence.startswith("AmazonSQSFullAccess is not what the change left any more, so nothing was")
        (said,) = await thread_of(world, "failed")
        assert '+        "kms:Decrypt"' in said
        assert (torture.in_force(aws), len(writes(aws))) == (there, count)
        aws.client("iam").attach_role_policy(RoleName="Victim", PolicyArn=torture.SQS)  # somebody wants it as it is
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert named(aws)["AmazonSQSFullAccess"] == text
        assert set(named(aws)) == {"AmazonSQSFullAccess", "Own", "Trails", "Zones"}
        (entry,) = [e for e in await world.store.history(case.id) if e.what == "rolled_back"]
        assert dict(entry.detail)["left"] == "AmazonSQSFullAccess"


async def test_a_rollback_minds_no_policy_that_the_change_never_touched(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        before = named(aws)
        case = await driven(world, (await approved(world, aws)).id)
        theirs = json.dumps(torture.document("ses:SendEmail"))
        aws.client("iam").put_role_policy(RoleName="Victim", PolicyName="Extra", PolicyDocument=theirs)
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert named(aws) == {**before, "Extra": theirs}
        (note,) = await notes_of(world, "rolled_back")
        assert note["left"] == "Extra"


@pytest.mark.parametrize("whole", [True, False])
async def test_what_somebody_restored_by_hand_is_rolled_back_without_a_write(
    whole: bool, aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        old = {p.name: p for p in case.role.policies} if case.role else {}
        case = await driven(world, case.id)
        iam = aws.client("iam")
        iam.put_role_policy(RoleName="Victim", PolicyName="Zones", PolicyDocument=old["Zones"].text)
        iam.attach_role_policy(RoleName="Victim", PolicyArn=torture.SQS)
        if whole:
            iam.put_role_policy(RoleName="Victim", PolicyName="Trails", PolicyDocument=old["Trails"].text)
            iam.create_policy_version(PolicyArn=old["Own"].arn, PolicyDocument=old["Own"].text, SetAsDefault=True)
            iam.delete_policy_version(PolicyArn=old["Own"].arn, VersionId="v2")
            (copy,) = [a for a in torture.in_force(aws) if ":policy/refine/" in a]
            iam.detach_role_policy(RoleName="Victim", PolicyArn=copy)
            iam.delete_policy(PolicyArn=copy)
        count = len(writes(aws))
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert torture.in_force(aws) == before
        assert sorted(writes(aws)[count:]) == (
            []
            if whole
            else ["DeletePolicy", "DeletePolicyVersion", "DetachRolePolicy", "PutRolePolicy", "SetDefaultPolicyVersion"]
        )
        assert (await world.store.tally()).rolled_back == 1


async def again(world: World, aws: LocalAws, case: Case) -> Case:
    """Apply another change to the same role: it has an action more by now that nobody used."""
    text = json.dumps(torture.document("route53:*"))
    aws.client("iam").put_role_policy(RoleName="Victim", PolicyName=f"More{case.revision}", PolicyDocument=text)
    await propose.start_proposal(world, case.id, case.revision, lives.RITA)
    await propose.work(world, case.id)
    case = await world.store.case(case.id)
    assert case.state is CaseState.WAITING, case.sentence
    return await decide.approve(world, case.id, case.revision, BEN, "go")


async def told_back(world: World, then: Case) -> bool:
    """Whether the thread's message of the case's change, as it was then, says that it was taken back."""
    assert then.change is not None
    at = await world.store.case(then.id, change_id=then.change.id)
    message = json.dumps(await post.thread_message(world, at, "applied", {"change": then.change.id}))
    latest = (await world.store.case(then.id)).change == then.change
    assert ("case:roll_back" in message) is latest, "a press is of the case's change, so no other message offers it"
    return "Taken back since" in message


@pytest.mark.parametrize("set_back", [False, True])
async def test_after_a_rollback_the_change_before_it_can_be_rolled_back(
    set_back: bool, aws: LocalAws, tmp_path: Path
) -> None:
    early = timedelta()

    async with stage(aws, tmp_path, ("own", "inline"), clock=lambda: lives.now() - early) as world:
        before = named(aws)
        first = await driven(world, (await approved(world, aws)).id)
        between = named(aws)
        early = timedelta(days=2) if set_back else early  # the clock is put right: the second change is the older one
        second = await driven(world, (await again(world, aws, first)).id)
        assert second.state is CaseState.WATCHING, second.sentence
        assert first.change is not None
        assert second.change is not None
        assert second.change.id != first.change.id
        assert not await told_back(world, first)
        assert not await told_back(world, second)
        case = await back(world, second)
        assert not await told_back(world, first)
        assert await told_back(world, second)
        assert case.state is CaseState.ROLLED_BACK
        assert case.change == first.change
        assert Button.ROLL_BACK in rules.buttons(case)
        more = {n: t for n, t in named(aws).items() if n.startswith("More")}
        assert named(aws) == {**between, **more}
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert named(aws) == {**before, **more}
        assert Button.ROLL_BACK not in rules.buttons(case)
        with pytest.raises(NotAllowedError, match="nothing to roll back"):
            await drive.start_rollback(world, case.id, case.revision, ANN, "once more")


@pytest.mark.parametrize("how", ["taken back", "nothing written", "stale"])
async def test_a_second_change_that_came_to_nothing_leaves_the_first_to_be_rolled_back(
    how: str, aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(aws, tmp_path, ("own", "inline")) as world:
        before = named(aws)
        first = await driven(world, (await approved(world, aws)).id)
        case = await again(world, aws, first)
        match how:
            case "taken back":
                broken = Proof(no_new_access=True, nothing_used_lost=False, problems=("lost",))
                found = iter((Proof(no_new_access=True, nothing_used_lost=True), broken))
                with monkeypatch.context() as patch:
                    patch.setattr(checks, "check", lambda *_: next(found))
                    case = await driven(world, case.id)
                assert "old policies are in force" in case.sentence
            case "nothing written":
                broken = Proof(no_new_access=False, nothing_used_lost=True, problems=("p",))
                with monkeypatch.context() as patch:
                    patch.setattr(checks, "check", lambda *_: broken)
                    case = await driven(world, case.id)
                assert "Nothing was written" in case.sentence
            case _:
                theirs = json.dumps(torture.document("ses:SendEmail"))
                aws.client("iam").put_role_policy(RoleName="Victim", PolicyName="Extra", PolicyDocument=theirs)
                case = await driven(world, case.id)
                assert case.state is CaseState.STALE
        assert case.change == first.change
        assert Button.ROLL_BACK in rules.buttons(case)
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        assert {n: t for n, t in named(aws).items() if n in before} == before


@pytest.mark.parametrize("how", ["tag", "pattern"])
async def test_a_role_that_became_protected_is_not_rolled_back(how: str, aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await driven(world, (await approved(world, aws)).id)
        there, count = torture.in_force(aws), len(writes(aws))
        protect(world, aws, how)
        case = await back(world, case)
        assert case.state is CaseState.FAILED
        assert case.sentence.startswith("Refine must not touch this role any more: ")
        assert (torture.in_force(aws), len(writes(aws))) == (there, count)
        protect(world, aws, "")
        assert (await back(world, case)).state is CaseState.ROLLED_BACK
        assert torture.in_force(aws) == before


@pytest.mark.parametrize("how", ["tag", "pattern"])
async def test_a_half_done_change_of_a_role_that_became_protected_is_taken_back(
    how: str, aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        plain = world.aws.write

        async def write(*args: Any) -> Any:
            if len(writes(aws)) == 3:
                protect(world, aws, how)
                raise UnavailableError("AWS is away.")
            return await plain(*args)

        world.aws.write = write  # type: ignore[method-assign]
        assert (await driven(world, case.id)).state is CaseState.APPLYING
        world.aws.write = plain  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert case.sentence.startswith("Refine must not touch this role: ")
        assert "as if nothing had been written" in case.sentence
        assert torture.in_force(aws) == before


def protect(world: World, aws: LocalAws, how: str) -> None:
    tags = [{"Key": "refine:protected", "Value": "yes" if how == "tag" else "no"}]
    aws.client("iam").tag_role(RoleName="Victim", Tags=tags)
    world.settings = world.settings.model_copy(update={"refine_protected_roles": ("Vic*",) if how == "pattern" else ()})


async def test_an_effect_that_shows_only_after_the_take_back_is_taken_back_too(aws: LocalAws, tmp_path: Path) -> None:
    """The answer to the last write was lost, and what it did is seen by no look until all else is taken back."""
    async with stage(aws, tmp_path, ("own", "inline", "inline_gone"), refine_settle_seconds=0.3) as world:
        before = named(aws)
        case = await approved(world, aws)
        plain, role, late = world.aws.write, world.aws.role, False

        async def write(permit: Any, step: Any, last: Any) -> Any:
            nonlocal late
            if step.kind.value == "delete_inline" and not late:
                late = True
                raise UnknownOutcomeError("No answer.")
            if late and step.kind.value == "delete_inline":
                raise NotAllowedError("No.")  # so that it is taken back
            made = await plain(permit, step, last)
            if late and step.kind.value == "delete_version":  # the last of the take-back
                aws._role(HUB, "Victim").policies.pop("Zones", None)
            return made

        world.aws.write, world.aws.role = write, role  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert late
        assert case.state is CaseState.FAILED
        assert "as if nothing had been written" in case.sentence
        assert named(aws) == before
        assert await world.store.verify_audit() is None


async def test_a_rollback_makes_an_old_version_anew_that_somebody_deleted(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("own", "inline")) as world:
        before = {k.rsplit("/", 1)[-1]: v for k, v in torture.in_force(aws).items()}
        case = await driven(world, (await approved(world, aws)).id)
        own = next(a for a in aws.snapshot(HUB, "Victim")["attached"] if a.endswith("/Own"))
        aws.client("iam").delete_policy_version(PolicyArn=own, VersionId="v1")
        await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        case = await driven(world, case.id)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
        shot = aws.snapshot(HUB, "Victim")
        assert list(shot["attached"][own]["versions"]) == ["v3"]
        assert {k.rsplit("/", 1)[-1]: v for k, v in torture.in_force(aws).items()} == before


async def test_a_rollback_is_refused_at_once_where_it_cannot_be(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        with monkeypatch.context() as patch:
            patch.setattr("sandbox.aws.analyzer.new_access", lambda new, old: [{"description": "New."}])
            case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        with pytest.raises(NotAllowedError, match="nothing to roll back"):
            await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        case = await world.store.case(case.id)
        await propose.start_proposal(world, case.id, case.revision, lives.RITA)
        await propose.work(world, case.id)
        case = await world.store.case(case.id)
        await decide.approve(world, case.id, case.revision, BEN, "again")
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING, case.sentence
        await world.store.set_flag(PAUSED, "by Ann", ANN)
        with pytest.raises(NotAllowedError, match="Refine is paused"):
            await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        assert (await world.store.case(case.id)).state is CaseState.WATCHING


# -------------------- names of copies that are taken


@pytest.mark.parametrize("paths", [("/refine/",), ("/",), ("/refine/", "/")])
async def test_a_copy_gets_a_name_that_no_policy_of_the_account_has(
    paths: tuple[str, ...], aws: LocalAws, tmp_path: Path
) -> None:
    """An older change that could not be taken back left one, say; it stays as it is."""
    async with stage(aws, tmp_path, ("aws",)) as world:
        iam, text = aws.client("iam"), json.dumps(torture.document("ses:SendEmail"))
        names = ("Refine-Victim-AmazonSQSFullAccess", "Refine-Victim-AmazonSQSFullAccess-2")
        left = [
            iam.create_policy(PolicyName=name, Path=path, PolicyDocument=text)["Policy"]["Arn"]
            for name, path in zip(names, paths, strict=False)
        ]
        before = torture.in_force(aws)
        case = await driven(world, (await approved(world, aws)).id)
        assert case.state is CaseState.WATCHING, case.sentence
        copy = f"arn:aws:iam::{HUB}:policy/refine/{names[0]}-{len(paths) + 1}"
        assert list(torture.in_force(aws)) == [copy]
        await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        assert (await driven(world, case.id)).state is CaseState.ROLLED_BACK
        assert torture.in_force(aws) == before
        policies = aws.state.iam(HUB).managed_policies
        assert copy not in policies
        assert all(policies[arn].versions[0].document == text for arn in left)


@pytest.mark.parametrize("same", [False, True])
async def test_a_name_that_was_taken_since_the_proposal_is_another_one_in_the_next(
    same: bool, aws: LocalAws, tmp_path: Path
) -> None:
    """Also where its document is that of the copy: it is not Refine's, so a rollback may not delete it."""
    async with stage(aws, tmp_path, ("aws",)) as world:
        case = await approved(world, aws)
        assert case.proposal is not None
        text = json.dumps(torture.document("ses:SendEmail"))
        if same:
            text = str(case.proposal.trim.policies[0].text)
        name = "Refine-Victim-AmazonSQSFullAccess"
        aws.client("iam").create_policy(PolicyName=name, Path="/refine/", PolicyDocument=text)
        case = await driven(world, case.id)
        assert case.state is CaseState.STALE
        assert writes(aws) == ["CreatePolicy"], "theirs"
        await propose.start_proposal(world, case.id, case.revision, lives.RITA, button=Button.REPLAN)
        await propose.work(world, case.id)
        case = await world.store.case(case.id)
        await decide.approve(world, case.id, case.revision, BEN, "again")
        assert (await driven(world, case.id)).state is CaseState.WATCHING


# -------------------- what ends a change before, or within


async def test_a_policy_that_another_role_got_since_the_proposal_makes_it_stale(aws: LocalAws, tmp_path: Path) -> None:
    """Its text is the same, and a new version of it would trim the other role too."""
    async with stage(aws, tmp_path, ("own",)) as world:
        case = await approved(world, aws)
        own = next(a for a in aws.snapshot(HUB, "Victim")["attached"] if a.endswith("/Own"))
        aws.client("iam").attach_role_policy(RoleName="Beside", PolicyArn=own)
        case = await driven(world, case.id)
        assert case.state is CaseState.STALE
        assert "attached to" in case.sentence
    assert writes(aws) == ["AttachRolePolicy"], "the other's"


async def test_an_edit_after_the_permit_and_before_the_first_write_is_found_by_the_look(
    aws: LocalAws, tmp_path: Path
) -> None:
    """Nothing was sent, so nothing is taken back: the proposal is stale."""
    async with stage(aws, tmp_path, ("inline", "inline_gone")) as world:
        case = await approved(world, aws)
        plain, reads = world.aws.role, 0
        theirs = json.dumps(torture.document("ses:SendEmail"))

        async def role(*args: Any) -> Any:
            nonlocal reads
            reads += 1
            if reads == 3:  # for the last look before the change, for the permit, for the step
                aws._role(HUB, "Victim").policies["Trails"] = theirs
            return await plain(*args)

        world.aws.role = role  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.STALE
        assert case.sentence.startswith("Trails is not what it was any more")
        change = await world.store.change(ChangeId(f"{case.proposal.id}-apply" if case.proposal else ""))
        assert [j.state for j in await world.store.journal(change.id)] == [StepState.PLANNED] * 2
        assert aws.snapshot(HUB, "Victim")["inline"]["Trails"] == theirs
    assert writes(aws) == []


@pytest.mark.parametrize("how", ["attached", "boundary"])
async def test_a_policy_that_somebody_else_uses_by_now_gets_no_new_version(
    how: str, aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, ("own",)) as world:
        case = await approved(world, aws)
        plain, reads = world.aws.role, 0
        before = torture.in_force(aws)

        async def role(*args: Any) -> Any:
            nonlocal reads
            reads += 1
            if reads == 3:
                own = next(iter(aws.snapshot(HUB, "Victim")["attached"]))
                if how == "attached":
                    aws.client("iam").attach_role_policy(RoleName="Beside", PolicyArn=own)
                else:
                    aws.client("iam").put_role_permissions_boundary(RoleName="Beside", PermissionsBoundary=own)
            return await plain(*args)

        world.aws.role = role  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.STALE
        assert case.sentence.startswith("Own is in use beyond this role by now")
        assert torture.in_force(aws) == before


def at_look(world: World, aws: LocalAws, kind: StepKind, act: Callable[[], object]) -> None:
    """Let somebody act once, right before the driver's first look at AWS for a step of that kind."""
    plain = world.store.mark

    async def mark(change_id: ChangeId, number: int, state: StepState, made: str = "") -> None:
        nonlocal act
        await plain(change_id, number, state, made)
        entry = next(j for j in await world.store.journal(change_id) if j.step.number == number)
        if state is StepState.STARTED and entry.step.kind is kind:
            act()
            act = lambda: None  # noqa: E731

    world.store.mark = mark  # type: ignore[method-assign]


@pytest.mark.parametrize("how", ["detached", "edited"])
async def test_the_original_stays_where_somebody_took_away_its_copy(how: str, aws: LocalAws, tmp_path: Path) -> None:
    """Between the ATTACH of the copy and the DETACH of the original; else the role would be left with nothing."""
    async with stage(aws, tmp_path, ("aws",)) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        iam = aws.client("iam")

        def act() -> None:
            copy = next(a for a in aws.snapshot(HUB, "Victim")["attached"] if "/refine/" in a)
            if how == "detached":
                iam.detach_role_policy(RoleName="Victim", PolicyArn=copy)
            else:
                text = json.dumps(torture.document("ses:SendEmail"))
                iam.create_policy_version(PolicyArn=copy, PolicyDocument=text, SetAsDefault=True)

        at_look(world, aws, StepKind.DETACH, act)
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "is not in force any more as Refine left it" in case.sentence
        assert torture.SQS in torture.in_force(aws)
        if how == "detached":
            assert "as if nothing had been written" in case.sentence
            assert torture.in_force(aws) == before


async def test_what_was_taken_for_a_copy_comes_back_where_the_copy_went_at_the_last_moment(
    aws: LocalAws, tmp_path: Path
) -> None:
    """After the last look before the DETACH of the original, where nobody can see it in time."""
    async with stage(aws, tmp_path, ("aws",)) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        plain = world.aws.write

        async def write(permit: Any, step: Any, last: Any) -> Any:
            if step.kind is StepKind.DETACH and ":aws:policy" in step.policy_arn:
                copy = next(a for a in aws.snapshot(HUB, "Victim")["attached"] if "/refine/" in a)
                aws.client("iam").detach_role_policy(RoleName="Victim", PolicyArn=copy)
            return await plain(permit, step, last)

        world.aws.write = write  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "is not in force as it was written" in case.sentence
        assert "as if nothing had been written" in case.sentence
        assert torture.in_force(aws) == before


@pytest.mark.parametrize("parts", [("own",), ("full",), ("aws", "own")])
async def test_a_policy_that_somebody_moved_to_another_role_is_not_trimmed_there(
    parts: tuple[str, ...], aws: LocalAws, tmp_path: Path
) -> None:
    """It is attached once, as before, but to another role; and nothing of it is removed to make room."""
    async with stage(aws, tmp_path, parts) as world:
        case = await approved(world, aws)
        own = next(a for a in aws.snapshot(HUB, "Victim")["attached"] if f":{HUB}:" in a)

        def act() -> None:
            aws.client("iam").detach_role_policy(RoleName="Victim", PolicyArn=own)
            aws.client("iam").attach_role_policy(RoleName="Beside", PolicyArn=own)

        there = aws.snapshot(HUB, "Victim")["attached"][own]
        kind = StepKind.DELETE_VERSION if "full" in parts else StepKind.CREATE_VERSION
        at_look(world, aws, kind, act)
        case = await driven(world, case.id)
        assert "is not attached to this role any more" in case.sentence
        assert aws.snapshot(HUB, "Beside")["attached"][own] == there
        assert case.state is (CaseState.FAILED if "aws" in parts else CaseState.STALE)


async def test_a_proof_that_fails_on_the_live_policies_writes_nothing(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds with every proposal, so only a bug can bring this about."""
    broken = Proof(no_new_access=False, nothing_used_lost=True, problems=("p",))
    async with stage(aws, tmp_path, ("own",)) as world:
        case = await approved(world, aws)
        monkeypatch.setattr(checks, "check", lambda *_: broken)
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert case.sentence.startswith("The proof failed on the live policies, so nothing was written.")
    assert writes(aws) == []


async def test_a_proof_that_fails_on_what_is_in_force_takes_the_change_back(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Proof(no_new_access=True, nothing_used_lost=False, problems=("s3:GetObject is lost",))
    found = iter((Proof(no_new_access=True, nothing_used_lost=True), broken))  # before the writes, and after them
    monkeypatch.setattr(checks, "check", lambda *_: next(found))
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await driven(world, (await approved(world, aws)).id)
        assert case.state is CaseState.FAILED
        assert "s3:GetObject is lost" in case.sentence
        assert "as if nothing had been written" in case.sentence
        assert torture.in_force(aws) == before
        assert (await world.store.tally()).trimmed == 0


async def test_a_write_without_an_answer_and_an_effect_is_sent_three_times(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, refine_settle_seconds=0) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        aws.fault("DetachRolePolicy", "error_before", times=3)
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "3 times without an answer" in case.sentence
        assert torture.in_force(aws) == before
    tries = [c for c in aws.calls() if c["operation"] == "DetachRolePolicy"]
    assert len(tries) == 4, "three that failed, and that of the copy"


async def test_a_throttle_is_waited_out_for_half_a_minute_and_then_left_to_the_clock(
    aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "throttle")
        naps: list[float] = []

        async def sleep(seconds: float) -> None:
            naps.append(seconds)

        world.sleep = sleep
        case = await driven(world, case.id)
        assert (case.state, naps) == (CaseState.APPLYING, list(drive.PAUSES))
        aws.clear_faults()
        assert (await driven(world, case.id)).state is CaseState.WATCHING
    assert writes(aws) == ["PutRolePolicy"]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("PutRolePolicy", "ConcurrentModification"),
        ("PutRolePolicy", "EntityTemporarilyUnmodifiable"),
        ("PutRolePolicy", "ServiceFailure"),
        ("AttachRolePolicy", "NoSuchEntity"),  # of the copy that was made a moment ago
        ("CreatePolicyVersion", "LimitExceeded"),  # though the oldest one was deleted a moment ago
    ],
)
async def test_a_refusal_that_passes_is_tried_again_after_a_look(
    operation: str, code: str, aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, ("aws", "full", "inline")) as world:
        case = await approved(world, aws)
        aws.fault(operation, "refused", code=code, times=2)
        order = []
        plain = world.aws.role

        async def role(*args: Any) -> Any:
            order.append(len([c for c in aws.calls() if c["operation"] == operation]))
            return await plain(*args)

        world.aws.role = role  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING, case.sentence
        assert {1, 2} <= set(order), "each time after a look"
        assert await world.store.verify_audit() is None
    assert [c["outcome"] for c in aws.calls() if c["operation"] == operation] == [code, code, "ok"]


async def test_a_refusal_that_does_not_pass_takes_the_change_back(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("aws", "inline")) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "refused", code="LimitExceeded")
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "LimitExceeded" in case.sentence
        assert "as if nothing had been written" in case.sentence
        assert await ends_of(world, case) == ["taken back", "done"]
        assert torture.in_force(aws) == before
    assert 2 < len([c for c in aws.calls() if c["operation"] == "PutRolePolicy"]) < 8


async def test_a_first_write_that_is_denied_has_written_nothing(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "denied")
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "AWS denied iam:PutRolePolicy" in case.sentence
        assert case.sentence.endswith("Nothing was written. In force now: Trails (inline).")


async def test_a_rollback_waits_for_reads_that_lag(aws: LocalAws, tmp_path: Path) -> None:
    """They show the old policies still, as if there were nothing to roll back."""
    async with stage(aws, tmp_path, ("own", "inline"), refine_settle_seconds=1.5) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        role, policy = world.aws.role, world.aws.policy
        old_role = await role(case.role_arn)
        old = {p.arn: p for p in old_role.policies}
        case = await driven(world, case.id)
        until = asyncio.get_running_loop().time() + 0.9

        async def stale_role(*args: Any) -> Any:
            return old_role if asyncio.get_running_loop().time() < until else await role(*args)

        async def stale_policy(arn: str, **more: Any) -> Any:
            return old[arn] if asyncio.get_running_loop().time() < until else await policy(arn, **more)

        world.aws.role, world.aws.policy = stale_role, stale_policy  # type: ignore[method-assign]
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
    assert torture.in_force(aws) == before
    assert "SetDefaultPolicyVersion" in writes(aws)


async def test_a_look_that_fails_leaves_the_step_as_not_sent(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path) as world:
        case = await approved(world, aws)
        plain = world.aws.role

        async def role(*args: Any) -> Any:
            if len(writes(aws)) == 3:
                raise UnavailableError("AWS is away.")
            return await plain(*args)

        world.aws.role = role  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.APPLYING
        assert case.change is not None
        states = [j.state for j in await world.store.journal(case.change.id)]
        assert states == [StepState.DONE] * 3 + [StepState.PLANNED] * 3
        world.aws.role = plain  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING
        assert case.role is not None
        assert "inline" in drive.force(case.role)
        assert drive.force(replace(case.role, policies=())) == "no permissions policy at all"


# -------------------- a process that ends in the middle


async def test_a_write_whose_effect_shows_late_is_not_sent_again(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        aws.fault("*", "lag", seconds=0.6)
        aws.fault("PutRolePolicy", "lost_reply", times=1)
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING, case.sentence
        assert case.change is not None
        assert [j.state for j in await world.store.journal(case.change.id)] == [StepState.DONE]
    assert len([c for c in aws.calls() if c["operation"] == "PutRolePolicy"]) == 1


async def test_a_version_whose_answer_was_lost_goes_with_the_rollback(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("own",)) as world:
        case = await approved(world, aws)
        aws.fault("CreatePolicyVersion", "lost_reply", times=1)
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING, case.sentence
        assert (await back(world, case)).state is CaseState.ROLLED_BACK
        (own,) = aws.snapshot(HUB, "Victim")["attached"].values()
        assert list(own["versions"]) == ["v1"]


async def test_what_was_written_is_read_back_with_patience(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        aws.fault("*", "lag", seconds=0.6)
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING, case.sentence
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
    assert torture.in_force(aws) == before


async def test_approvers_whom_slack_does_not_tell_now_are_waited_for(
    aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have approved: that is neither a yes nor a no."""

    async def members(_: object, group: str) -> frozenset[UserId]:
        if away:
            raise UnavailableError("Slack is away.")
        return frozenset({BEN})

    away = False
    monkeypatch.setattr(lives.People, "group_members", members)
    async with stage(aws, tmp_path, ("inline",), refine_approvers=f"{ANN},S0TEAM") as world:
        case = await approved(world, aws)
        away = True
        assert (await driven(world, case.id)).state is CaseState.APPLYING
        assert writes(aws) == []
        away = False
        assert (await driven(world, case.id)).state is CaseState.WATCHING


async def test_a_role_that_is_gone_leaves_nothing_to_tell_of(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        roles = aws.state.iam(HUB).roles
        roles.pop(next(k for k, r in roles.items() if r is aws._role(HUB, "Victim")))
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "Nothing was written. In force now: unknown, because AWS could not be asked (" in case.sentence


async def test_room_that_somebody_made_meanwhile_is_room(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("full",)) as world:
        case = await approved(world, aws)
        plain = world.store.begin

        async def begin(change: Any, **more: Any) -> Any:
            step = change.steps[0]
            assert step.kind is StepKind.DELETE_VERSION
            aws.client("iam").delete_policy_version(PolicyArn=step.policy_arn, VersionId=step.version)
            return await plain(change, **more)

        world.store.begin = begin  # type: ignore[method-assign]
        assert (await driven(world, case.id)).state is CaseState.WATCHING
    assert writes(aws) == ["DeletePolicyVersion", "CreatePolicyVersion"]


async def test_what_somebody_restored_since_the_rollback_began_is_restored(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline", "inline_gone")) as world:
        before = torture.in_force(aws)
        case = await driven(world, (await approved(world, aws)).id)
        plain = world.store.begin

        async def begin(change: Any, **more: Any) -> Any:
            step = next(s for s in change.steps if s.policy_name == "Zones")
            iam = aws.client("iam")
            iam.put_role_policy(RoleName="Victim", PolicyName=step.policy_name, PolicyDocument=step.text)
            return await plain(change, **more)

        world.store.begin = begin  # type: ignore[method-assign]
        case = await back(world, case)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
    assert torture.in_force(aws) == before
    assert writes(aws).count("PutRolePolicy") == 3, "applied, theirs, and the other one back"


async def test_a_refusal_is_looked_at_again_as_long_as_reads_are_waited_for(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline",)) as world:
        case = await approved(world, aws)
        plain, clock = world.aws.write, asyncio.get_running_loop().time
        until = clock() + 60

        async def write(*args: Any) -> Any:
            nonlocal until
            until = min(until, clock() + 0.7)
            if clock() < until:
                raise RefusedError("Not yet.")
            return await plain(*args)

        world.aws.write = write  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert case.state is CaseState.WATCHING, case.sentence


async def test_a_first_write_that_had_its_effect_before_a_crash_is_gone_on_from(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("inline", "inline_gone")) as world:
        case = await approved(world, aws)
        plain = world.aws.write

        async def write(*args: Any) -> Any:
            await plain(*args)
            raise asyncio.CancelledError

        world.aws.write = write  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await drive.drive(world, case.id)
    async with lives.bot(tmp_path, aws.url) as world:
        assert (await driven(world, case.id)).state is CaseState.WATCHING
    assert writes(aws) == ["PutRolePolicy", "DeleteRolePolicy"]


async def test_a_refusal_for_what_an_earlier_try_did_is_no_refusal(aws: LocalAws, tmp_path: Path) -> None:
    """The answer to the first try was lost, and no look showed what it did until AWS had said no for the last time."""
    async with stage(aws, tmp_path, ("inline",), refine_settle_seconds=0.3) as world:
        case = await approved(world, aws)
        plain, role, clock = world.aws.write, world.aws.role, asyncio.get_running_loop().time
        old, tries, until = await role(case.role_arn), 0, clock() + 600

        async def write(*args: Any) -> Any:
            nonlocal tries, until
            tries += 1
            if tries == 1:
                await plain(*args)
                raise UnknownOutcomeError("No answer.")
            if tries == 4:
                until = clock() + 0.1
            raise RefusedError("It is there.")

        async def role_(*args: Any) -> Any:
            return old if clock() < until else await role(*args)

        world.aws.write, world.aws.role = write, role_  # type: ignore[method-assign]
        case = await driven(world, case.id)
        assert (case.state, tries) == (CaseState.WATCHING, 4), case.sentence
    assert writes(aws) == ["PutRolePolicy"]


async def test_a_step_that_had_its_effect_before_a_crash_is_taken_back_with_the_others(
    aws: LocalAws, tmp_path: Path
) -> None:
    """The journal says no more than that it was started; and nobody may approve any more when the bot is back."""
    async with stage(aws, tmp_path) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        plain = world.aws.write

        async def write(*args: Any) -> Any:
            made = await plain(*args)
            if len(writes(aws)) == 4:
                raise asyncio.CancelledError
            return made

        world.aws.write = write  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await drive.drive(world, case.id)
    async with lives.bot(tmp_path, aws.url, refine_approvers=str(ANN)) as world:
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "not enough valid approvals" in case.sentence
        assert "as if nothing had been written" in case.sentence
    assert torture.in_force(aws) == before


async def test_a_take_back_that_was_cut_short_goes_on_backwards(aws: LocalAws, tmp_path: Path) -> None:
    """What was in the way of the change may be gone by then: it is not tried again."""
    async with stage(aws, tmp_path, ("own", "inline"), refine_settle_seconds=0.5) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "denied")
        plain = world.aws.write

        async def write(permit: Any, step: Any, last: Any) -> Any:
            if step.kind is StepKind.SET_DEFAULT_VERSION:
                raise asyncio.CancelledError
            return await plain(permit, step, last)

        world.aws.write = write  # type: ignore[method-assign]
        with pytest.raises(asyncio.CancelledError):
            await drive.drive(world, case.id)
    aws.clear_faults()
    async with lives.bot(tmp_path, aws.url, refine_settle_seconds=0.5) as world:
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "AWS denied iam:PutRolePolicy" in case.sentence
        assert "as if nothing had been written" in case.sentence
    assert torture.in_force(aws) == before
    assert "PutRolePolicy" not in writes(aws)


async def test_a_take_back_that_has_to_wait_waits(aws: LocalAws, tmp_path: Path) -> None:
    async with stage(aws, tmp_path, ("own", "inline"), refine_settle_seconds=0.3) as world:
        before = torture.in_force(aws)
        case = await approved(world, aws)
        aws.fault("PutRolePolicy", "denied")
        aws.fault("SetDefaultPolicyVersion", "throttle", times=8)
        quick = replace(world, sleep=lambda _: asyncio.sleep(0))
        case = await driven(quick, case.id)
        assert case.state is CaseState.APPLYING
        case = await driven(quick, case.id)
        assert case.state is CaseState.FAILED
        assert "as if nothing had been written" in case.sentence
    assert torture.in_force(aws) == before


async def test_a_rollback_that_stopped_half_way_goes_on_where_the_old_version_was_deleted_meanwhile(
    aws: LocalAws, tmp_path: Path
) -> None:
    async with stage(aws, tmp_path, ("own", "inline")) as world:
        before = torture.in_force(aws)
        case = await driven(world, (await approved(world, aws)).id)
        aws.fault("SetDefaultPolicyVersion", "denied")
        await drive.start_rollback(world, case.id, case.revision, ANN, "back")
        case = await driven(world, case.id)
        assert case.state is CaseState.FAILED
        assert "AWS denied iam:SetDefaultPolicyVersion" in case.sentence
        own = next(iter(aws.snapshot(HUB, "Victim")["attached"]))
        aws.client("iam").delete_policy_version(PolicyArn=own, VersionId="v1")
        await drive.start_rollback(world, case.id, case.revision, ANN, "once more")
        case = await driven(world, case.id)
        assert case.state is CaseState.ROLLED_BACK, case.sentence
    assert torture.in_force(aws) == before
