"""An accepted exposure is archived in Access Analyzer, comes back from there, and is never taken for resolved."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.errors import NotAllowedError
from bot.flows import Desk, World, decide, watch
from bot.messages import aside_line, card
from bot.model import Approval, Case, CaseState, Person, StepState, UserId
from bot.rules import REFINE, Event
from sandbox.aws import LocalAws, start
from tests import lives
from tests.aws.between import Between
from tests.aws.world import iam, make_role, trust
from tests.lives import ANN, BEN, RITA
from tests.store.world import change, proposal

S = CaseState
ANALYZER = "arn:aws:access-analyzer:us-east-1:123456789012:analyzer/refine-org"


@dataclass
class Clock:
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Life:
    """The bot's world with one new case, and what there is to be seen of it."""

    world: World
    aws: LocalAws
    between: Between
    clock: Clock
    arn: str

    async def case(self) -> Case:
        found = await self.world.store.case_of_role(self.arn)
        assert found is not None
        return found

    async def accept(self, days: int = 30) -> Case:
        case = await self.case()
        await Desk(self.world).accept(case.id, case.revision, ANN, "The vendor needs it.", days)
        return await self.case()

    def at_aws(self) -> list[str]:
        analyzer = self.aws.client("accessanalyzer")
        return [f["status"] for f in analyzer.list_findings_v2(analyzerArn=ANALYZER)["findings"]]

    async def set_at_aws(self, status: str) -> None:
        ids = [f.id for f in (await self.case()).findings]
        self.aws.client("accessanalyzer").update_findings(analyzerArn=ANALYZER, ids=ids, status=status)

    def trusts(self, *accounts: str) -> None:
        text = trust({"AWS": [f"arn:aws:iam::{a}:root" for a in accounts]})
        iam(self.aws).update_assume_role_policy(RoleName="ApplicationRole", PolicyDocument=text)

    async def said(self) -> str:
        return json.dumps(card(await self.case(), self.clock(), None), ensure_ascii=False)


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    server = start(world=False)
    yield server
    server.stop()


@pytest.fixture
async def life(aws: LocalAws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Life]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")  # so that what `lives` sets is taken back
    aws.reset(world=False)
    iam.cache_clear()
    clock = Clock()
    arn = make_role(aws)
    async with Between(aws.url) as between, lives.bot(tmp_path, between.url, clock=clock) as world:
        await watch.watch(world)
        yield Life(world=world, aws=aws, between=between, clock=clock, arn=arn)


async def test_an_accepted_exposure_is_archived_and_stays_accepted(life: Life) -> None:
    """The card says so, and a look at AWS, which lists no active finding any more, does not close the case."""
    case = await life.accept()
    assert life.at_aws() == ["ARCHIVED"]
    assert (case.state, [f.status for f in case.findings], case.sentence) == (S.ACCEPTED, ["ARCHIVED"], "")
    assert "its 1 finding is archived at AWS until then" in await life.said()
    assert "The vendor needs it." in await life.said()
    life.clock.at += timedelta(days=1)
    await watch.watch(life.world)
    assert await life.case() == case
    history = await life.world.store.history(case.id)
    assert "archived" in [e.what for e in history]


@pytest.mark.parametrize("how", ["re-opened", "ended", "asked anew"])
async def test_what_ends_an_acceptance_makes_the_finding_active_again(life: Life, how: str) -> None:
    case = await life.accept(days=7)
    if how == "re-opened":
        await Desk(life.world).reopen(case.id, case.revision, BEN)
    elif how == "ended":
        life.clock.at += timedelta(days=7, seconds=1)
        await watch.tick(life.world)
    else:
        await Desk(life.world).look(case.id, case.revision, BEN)
        await watch.watch(life.world)
    assert life.at_aws() == ["ACTIVE"]
    after = await life.case()
    assert [f.status for f in after.findings] == ["ACTIVE"]
    assert after.state is (S.WORKING if how == "asked anew" else S.NEW)
    life.clock.at += timedelta(days=1)
    await watch.watch(life.world)
    assert (await life.case()).state is after.state


async def test_what_aws_refuses_is_said_and_tried_again(life: Life) -> None:
    """The acceptance holds all the same: its own part happened."""
    life.between.refuse("UpdateFindings", 403, "AccessDeniedException", times=2)
    case = await life.accept()
    assert life.at_aws() == ["ACTIVE"]
    assert case.state is S.ACCEPTED
    assert "not archived in us-east-1" in case.sentence
    assert "access-analyzer:UpdateFindings" in case.sentence
    assert "its 1 finding stays active at AWS" in await life.said()
    entries = len(await life.world.store.history(case.id))
    await watch.watch(life.world)  # refused once more: nothing new to say
    assert len(await life.world.store.history(case.id)) == entries
    await watch.watch(life.world)
    assert life.at_aws() == ["ARCHIVED"]
    assert ((await life.case()).sentence, (await life.case()).state) == ("", S.ACCEPTED)


async def test_a_finding_that_cannot_be_made_active_keeps_its_case_open(life: Life) -> None:
    case = await life.accept()
    life.between.refuse("UpdateFindings", 403, "AccessDeniedException", times=2)
    await Desk(life.world).reopen(case.id, case.revision, BEN)
    assert "still archived in us-east-1" in (await life.case()).sentence
    life.clock.at += timedelta(days=1)
    await watch.watch(life.world)
    assert (await life.case()).state is S.NEW
    assert life.at_aws() == ["ARCHIVED"]
    await watch.watch(life.world)
    assert life.at_aws() == ["ACTIVE"]
    assert (await life.case()).sentence == ""


async def test_nothing_is_archived_while_refine_is_paused(life: Life) -> None:
    await decide.pause(life.world, BEN, on=True)
    case = await life.accept()
    assert (life.at_aws(), "paused" in case.sentence) == (["ACTIVE"], True)
    await decide.pause(life.world, BEN, on=False)
    await watch.watch(life.world)
    assert life.at_aws() == ["ARCHIVED"]


async def test_a_new_way_in_ends_the_acceptance(life: Life) -> None:
    """Accepted was one account; what let in another was not looked at by anybody."""
    await life.accept()
    life.trusts("999988887777", "111122223333")
    await watch.watch(life.world)
    case = await life.case()
    assert (case.state, case.reason) == (S.NEW, "")
    assert "another way in" in case.sentence
    assert sorted(life.at_aws()) == ["ACTIVE", "ACTIVE"]
    assert {p.value for f in case.findings for p in f.principals} == {"999988887777", "111122223333"}


async def test_a_new_way_in_ends_a_snooze_and_nothing_else_does(life: Life) -> None:
    """Put off was one account. Its finding stays active, and what lets in another was not looked at by anybody."""
    case = await life.case()
    await Desk(life.world).snooze(case.id, case.revision, ANN, "The vendor is asked.", 30)
    await watch.watch(life.world)
    case = await life.case()
    assert (case.state, case.reason, life.at_aws()) == (S.SNOOZED, "The vendor is asked.", ["ACTIVE"])
    assert "its 1 finding stays active at AWS" in await life.said()
    life.trusts("999988887777", "111122223333")
    await watch.watch(life.world)
    case = await life.case()
    assert (case.state, case.reason, case.until) == (S.NEW, "", None)
    assert case.sentence == "Access Analyzer found another way in, which ends the snooze: it does not cover that."


@pytest.mark.parametrize(("what", "was"), [("snooze", "snoozed"), ("acceptance", "accepted")])
async def test_a_case_whose_time_is_over_says_so_to_those_who_put_it_aside(life: Life, what: str, was: str) -> None:
    case, desk = await life.case(), Desk(life.world)
    if what == "snooze":
        await desk.snooze(case.id, case.revision, ANN, "The vendor is asked.", 7)
    else:
        await desk.accept(case.id, case.revision, ANN, "The vendor is asked.", 7, RITA)
    life.clock.at += timedelta(days=7, seconds=1)
    await watch.tick(life.world)
    case = await life.case()
    assert (case.state, case.reason) == (S.NEW, "")
    assert case.sentence == f"Its {what} ended on {life.clock.at:%Y-%m-%d}."
    while (note := (await life.world.store.due(life.clock()))[0]).name != "back":
        await life.world.store.sent(note.id, "C0SECURITY", "1.1")
    said = aside_line(case, note.name, dict(note.args))["text"]
    people = "<@U0ANN>." if what == "snooze" else "<@U0ANN>. <@U0RITA> answers for it."
    assert f"is back and needs a decision. Its {what} ended on" in said
    assert f"It was {was} by {people}" in said


@pytest.mark.parametrize("flag", ["deleted", "guest", "bot", "stranger"])
async def test_only_a_member_can_answer_for_what_is_accepted(
    life: Life, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    async def person(user_id: UserId) -> Person:
        return Person(id=user_id, name="x", team="T0REFINE", **{flag: user_id == RITA})

    monkeypatch.setattr(life.world.slack, "person", person)
    case = await life.case()
    with pytest.raises(NotAllowedError, match="<@U0RITA> cannot answer for it"):
        await Desk(life.world).accept(case.id, case.revision, ANN, "A partner.", 7, RITA)
    assert (await life.case()).state is S.NEW
    await Desk(life.world).accept(case.id, case.revision, ANN, "A partner.", 7)
    assert "<@U0ANN> answers for it" in await life.said()


async def test_a_finding_that_somebody_made_active_again_ends_the_acceptance(life: Life) -> None:
    """But not at once: AWS's list may be behind."""
    await life.accept()
    await life.set_at_aws("ACTIVE")
    await watch.watch(life.world)
    assert (await life.case()).state is S.ACCEPTED
    life.clock.at += timedelta(hours=1)
    await watch.watch(life.world)
    case = await life.case()
    assert case.state is S.NEW
    assert "made active again at AWS" in case.sentence


async def test_an_accepted_case_whose_access_ended_is_resolved(life: Life) -> None:
    await life.accept()
    life.trusts("123456789012")
    await watch.watch(life.world)
    assert (await life.case()).state is S.RESOLVED


@pytest.mark.parametrize("end", [Event.REVIEWED, Event.CANNOT_TELL, Event.APPLY_FAILED])
async def test_findings_that_end_while_the_case_is_busy_close_it_afterwards(end: Event, life: Life) -> None:
    world, case = life.world, await life.case()
    case = await world.store.move(case.id, Event.REVIEW, by=RITA, task="{}", resume=case.state)
    if end is Event.APPLY_FAILED:  # before anything was written
        case = await world.store.move(case.id, Event.PROPOSED, by=REFINE, asked_by=RITA, proposal=proposal(case))
        yes = Approval(proposal_id=case.proposal.id, digest=case.proposal.digest(), by=BEN, at=life.clock())
        case = await world.store.approve(case.id, case.revision, yes, team=await world.team())
        assert case.state is S.APPLYING
    life.trusts("123456789012")
    for _ in range(2):
        await watch.watch(world)
        assert (await life.case()).state is case.state
    assert (await life.case()).findings == ()
    await world.store.move(case.id, end, by=REFINE)
    await watch.watch(world)
    assert (await life.case()).state is S.RESOLVED
    case = await life.case()
    await world.store.move(
        case.id, Event.REVIEW, by=RITA, task="{}", resume=case.state
    )  # somebody wants it all the same
    await world.store.move(case.id, Event.REVIEWED, by=REFINE)
    await watch.watch(world)
    assert (await life.case()).state is S.NEW, "it is closed once"


async def test_a_failed_case_of_which_something_is_in_force_is_not_closed(life: Life) -> None:
    world, case = life.world, await life.case()
    case = await world.store.move(case.id, Event.PROPOSE, by=RITA, task="{}", resume=case.state)
    case = await world.store.move(case.id, Event.PROPOSED, by=REFINE, asked_by=RITA, proposal=proposal(case))
    yes = Approval(proposal_id=case.proposal.id, digest=case.proposal.digest(), by=BEN, at=life.clock())
    case = await world.store.approve(case.id, case.revision, yes, team=await world.team())
    begun = await world.store.begin(change(case))
    await world.store.mark(begun.id, 1, StepState.DONE)
    await world.store.move(case.id, Event.APPLY_FAILED, by=REFINE, sentence="It stopped half-way.")
    life.trusts("123456789012")
    await watch.watch(world)
    await watch.watch(world)
    case = await life.case()
    assert (case.state, case.findings, case.sentence) == (S.FAILED, (), "It stopped half-way.")


async def test_a_case_that_never_had_a_finding_is_not_closed(life: Life) -> None:
    arn = make_role(life.aws, "ByName", AssumeRolePolicyDocument=trust({"AWS": "arn:aws:iam::123456789012:root"}))
    case, _ = await life.world.store.open_case(role_arn=arn, account="123456789012", by=RITA, channel="C0SECURITY")
    await watch.watch(life.world)
    assert (await life.world.store.case(case.id)).state is S.NEW


async def test_what_somebody_archives_in_the_console_is_left_archived(life: Life) -> None:
    """Refine makes active again only what it archived itself."""
    life.clock.at += timedelta(days=1)
    await life.set_at_aws("ARCHIVED")
    await watch.watch(life.world)
    assert (await life.case()).state is S.RESOLVED
    assert life.at_aws() == ["ARCHIVED"]


async def test_a_case_just_reopened_is_not_closed_by_a_list_that_is_behind(life: Life) -> None:
    """The list still shows as archived what was made active a moment ago."""
    case = await life.accept()
    await Desk(life.world).reopen(case.id, case.revision, BEN)
    await life.set_at_aws("ARCHIVED")
    await watch.watch(life.world)
    assert (await life.case()).state is S.NEW


async def test_two_decisions_at_once_leave_aws_with_the_later_one(life: Life) -> None:
    """Re-opened while AWS is being asked to archive: the finding ends active, and so does the case."""
    case = await life.case()
    archive = life.world.aws.archive
    asked: list[bool] = []

    async def slow(findings: Any, *, archived: bool) -> None:
        await archive(findings, archived=archived)
        asked.append(archived)
        if len(asked) == 1:
            now = await life.case()
            await decide.reopen(life.world, now.id, now.revision, UserId(BEN))

    life.world.aws.archive = slow  # type: ignore[method-assign]
    await Desk(life.world).accept(case.id, case.revision, ANN, "The vendor needs it.", 30)
    assert asked == [True, False]
    assert life.at_aws() == ["ACTIVE"]
    assert ((await life.case()).state, [f.status for f in (await life.case()).findings]) == (S.NEW, ["ACTIVE"])
