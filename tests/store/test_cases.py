"""Cases: made once, moved by one winner, found again, and whole after every step."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from bot.errors import LostRaceError, NotAllowedError, NotFoundError, StaleError
from bot.model import ActionVerdict, CaseId, CaseState, ChangeId, ProposalId, StepState, Tally, UserId, Verdict
from bot.rules import REFINE, Event
from tests.store.world import (
    ANN,
    ARN,
    AT,
    BEN,
    CAT,
    RITA,
    TEAM,
    TWO,
    Clock,
    applying,
    change,
    finding,
    new_case,
    opened,
    proposal,
    role,
    waiting,
    yes,
)

pytestmark = pytest.mark.usefixtures("each_engine")

OTHER = "arn:aws:iam::210987654321:role/ci/Deploy_Role"


async def test_a_case_is_made_once_for_a_role_whoever_asks_at_the_same_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        answers = await asyncio.gather(
            *(
                store.open_case(role_arn=ARN, account="123456789012", by=UserId(f"U{n}"), channel="C0SECURITY")
                for n in range(20)
            )
        )
        assert sum(made for _, made in answers) == 1
        assert len({case.id for case, _ in answers}) == 1
        assert len(await store.cases()) == 1
        assert [e.what for e in await store.history(None)] == ["opened"]


async def test_a_new_case_is_what_was_found_and_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case, made = await store.open_case(
            role_arn=ARN,
            account="123456789012",
            findings=[finding("f1")],
            role=role(),
            by=REFINE,
            channel="C0SECURITY",
        )
        assert made
        assert (case.state, case.revision, case.opened_at, case.updated_at) == (CaseState.NEW, 1, AT, AT)
        assert (case.findings, case.role, case.channel, case.thread_ts) == ((finding("f1"),), role(), "C0SECURITY", "")
    async with opened(tmp_path) as store:
        assert await store.case(case.id) == case
        assert await store.case_of_role(ARN) == case
        assert await store.case_of_role(OTHER) is None


async def test_a_move_returns_the_case_as_it_is_read_later_with_every_field_that_was_set(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await new_case(store)
        clock.on(minutes=1)
        working = await store.move(
            case.id, Event.PROPOSE, by=RITA, revision=1, task='{"do": "propose"}', resume=CaseState.NEW, sentence="s"
        )
        assert (working.state, working.revision, working.updated_at) == (
            CaseState.WORKING,
            2,
            AT + timedelta(minutes=1),
        )
        assert (working.asked_by, working.task, working.resume) == (RITA, '{"do": "propose"}', CaseState.NEW)
        assert await store.case(case.id) == working
        asked = proposal(working)
        moved = await store.move(
            case.id,
            Event.PROPOSED,
            by=REFINE,
            revision=2,
            asked_by=RITA,
            role=asked.role,
            evidence=asked.evidence,
            proposal=asked,
            approvals_needed=2,
            until=AT + timedelta(days=1),
            reason="r",
        )
        assert moved.state is CaseState.WAITING
        assert (moved.role, moved.evidence, moved.proposal) == (asked.role, asked.evidence, asked)
        assert (moved.approvals, moved.approvals_needed, moved.until) == ((), 2, AT + timedelta(days=1))
        assert (moved.asked_by, moved.reason, moved.sentence, moved.opened_at) == (RITA, "r", "s", AT)
        assert await store.case(case.id) == moved


async def test_a_field_that_move_may_not_set_is_refused_and_nothing_happens(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await new_case(store)
        with pytest.raises(TypeError, match="state, thread_ts"):
            await store.move(case.id, Event.REVIEW, by=ANN, thread_ts="1", state=CaseState.DONE)
        assert await store.case(case.id) == case


async def test_of_many_who_move_a_case_at_once_one_wins_and_the_others_hear_who_it_was(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        moves = [
            store.move(case.id, event, by=UserId(f"U{n}{event.value}"), revision=case.revision)
            for n in range(10)
            for event in (Event.DECLINE, Event.EXPIRE, Event.PROPOSE)
        ]
        moves += [store.approve(case.id, case.revision, yes(case, u), team=TEAM) for u in (ANN, BEN, CAT)]
        answers = await asyncio.gather(*moves, return_exceptions=True)
        won = [a for a in answers if not isinstance(a, BaseException)]
        lost = [a for a in answers if isinstance(a, BaseException)]
        assert len(won) == 1
        now = await store.case(case.id)
        assert now == won[0]
        assert now.revision == case.revision + 1
        assert {type(e) for e in lost} == {LostRaceError}
        assert all(f"<@{now.asked_by}>" in str(e) for e in lost)
        assert (
            sum(e.at >= AT and ("revision", str(now.revision)) in e.detail for e in await store.history(case.id)) == 1
        )


async def test_a_move_that_the_state_does_not_take_leaves_no_trace(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await new_case(store)
        before = (await store.case(case.id), await store.history(None), await store.due(AT))
        with pytest.raises(LostRaceError, match="Too late: Refine put it back to new"):
            await store.move(case.id, Event.APPLIED, by=REFINE, notes=[], sentence="never seen")
        assert (await store.case(case.id), await store.history(None), await store.due(AT)) == before


async def test_a_new_proposal_has_no_approvals_and_the_old_one_keeps_its_own(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        first = await store.approve(case.id, case.revision, yes(case), team=TWO)
        assert (first.state, [a.by for a in first.approvals]) == (CaseState.WAITING, [ANN])
        working = await store.move(case.id, Event.PROPOSE, by=RITA)
        second = await store.move(case.id, Event.PROPOSED, by=REFINE, proposal=proposal(working, text="{}"))
        assert second.approvals == ()
        assert await store.case(case.id) == second
        assert case.proposal is not None
        old = await store.case(case.id, proposal_id=case.proposal.id)
        assert (old.proposal, old.approvals, old.revision) == (case.proposal, first.approvals, second.revision)


# -------------------- approvals


async def test_of_fifty_approvals_at_once_exactly_one_starts_the_change(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        team = replace(TEAM, approvers=frozenset(UserId(f"U{n}") for n in range(50)))
        answers = await asyncio.gather(
            *(store.approve(case.id, case.revision, yes(case, u), team=team) for u in team.approvers),
            return_exceptions=True,
        )
        (won,) = [a for a in answers if not isinstance(a, BaseException)]
        lost = [a for a in answers if isinstance(a, BaseException)]
        assert won.state is CaseState.APPLYING
        assert won == await store.case(case.id)
        assert len(won.approvals) == 1
        assert {type(e) for e in lost} == {LostRaceError}
        assert all(f"<@{won.asked_by}> approved the proposal" in str(e) for e in lost)


async def test_a_second_approver_may_use_the_card_from_before_the_first_ones_yes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        first = await store.approve(case.id, case.revision, yes(case, ANN), team=TWO)
        assert (first.state, first.revision) == (CaseState.WAITING, case.revision + 1)
        second = await store.approve(case.id, case.revision, yes(case, BEN), team=TWO)
        assert second.state is CaseState.APPLYING
        assert [a.by for a in second.approvals] == [ANN, BEN]
        assert second == await store.case(case.id)


async def test_a_card_from_before_the_proposal_approves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        for revision in (case.revision - 1, case.revision + 1, 0):
            with pytest.raises(LostRaceError, match="proposed a trimmed policy"):
                await store.approve(case.id, revision, yes(case), team=TEAM)
        working = await store.move(case.id, Event.PROPOSE, by=RITA)
        again = await store.move(case.id, Event.PROPOSED, by=REFINE, proposal=proposal(working, text="{}"))
        with pytest.raises(LostRaceError):  # the card that showed the first proposal
            await store.approve(case.id, case.revision, yes(again), team=TEAM)
        assert (await store.case(case.id)).approvals == ()


async def test_an_approval_of_another_text_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        for wrong in (yes(case, digest="0" * 64), yes(case, proposal_id="another")):
            with pytest.raises(StaleError, match="not the one"):
                await store.approve(case.id, case.revision, wrong, team=TEAM)
        assert await store.case(case.id) == case


async def test_nobody_counts_twice_and_nobody_outside_the_team_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await waiting(store)
        await store.approve(case.id, case.revision, yes(case, ANN), team=TWO)
        with pytest.raises(NotAllowedError, match="already"):
            await store.approve(case.id, case.revision, yes(case, ANN), team=TWO)
        stranger = await store.approve(case.id, case.revision, yes(case, UserId("U0STAN")), team=TWO)
        assert stranger.state is CaseState.WAITING
        done = await store.approve(case.id, case.revision, yes(case, BEN), team=TWO)
        assert done.state is CaseState.APPLYING


# -------------------- finding them


async def test_the_case_that_moved_last_comes_first_and_pages_do_not_overlap(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        cases = [await new_case(store, f"arn:aws:iam::123456789012:role/R{n}") for n in range(7)]
        clock.on(minutes=1)
        await store.move(cases[3].id, Event.REVIEW, by=ANN)
        pages = [await store.cases(limit=3, offset=o) for o in (0, 3, 6, 9)]
        assert [len(p) for p in pages] == [3, 3, 1, 0]
        ids = [c.id for p in pages for c in p]
        assert ids[0] == cases[3].id
        assert sorted(ids) == sorted(c.id for c in cases)
        assert await store.cases(limit=7) == tuple(c for p in pages for c in p)


async def test_search_takes_part_of_name_arn_or_account_in_any_case_and_no_wildcards(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        app = await new_case(store, ARN)
        deploy = await new_case(store, OTHER)
        clock.on(minutes=1)
        longer = await new_case(store, "arn:aws:iam::123456789012:role/ApplicationRoleOld")

        async def found(search: str) -> list[CaseId]:
            return [c.id for c in await store.cases(search=search, light=True)]

        assert await found("applicationrole") == [app.id, longer.id]  # that very name first, though it moved earlier
        assert await found("DEPLOY_") == [deploy.id]
        assert await found("210987654321") == [deploy.id]
        assert await found(ARN) == [longer.id, app.id]
        assert await found("ci/") == [deploy.id]
        assert await found("%") == await found("A_p") == await found("\\") == []
        assert [c.id for c in await store.cases(states={CaseState.NEW}, search="deploy")] == [deploy.id]
        assert await store.cases(states={CaseState.DONE}) == ()
        assert await store.cases(states=set()) == ()


async def test_a_light_case_is_the_case_without_what_is_large(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await applying(store)
        await store.begin(change(case))
        await store.set_findings(case.id, [finding("f1")], REFINE)
        (light,) = await store.cases(light=True)
        (full,) = await store.cases()
        assert full == await store.case(case.id)
        assert None not in (full.proposal, full.change)
        assert light == replace(full, role=None, evidence=None, proposal=None, approvals=(), change=None, steps_done=0)
        assert light.findings == (finding("f1"),)


async def test_no_proposal_is_missing_from_its_case_however_many_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.store.rows._KEPT", 2)
    async with opened(tmp_path) as store:
        made = [await waiting(store, f"{ARN}{n}") for n in range(6)]
        for _ in range(3):
            answers = await asyncio.gather(store.cases(), store.cases(), *(store.case(c.id) for c in made))
            assert set(answers[0]) == set(answers[1]) == set(answers[2:]) == set(made)


async def test_counts_name_every_state(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await waiting(store)
        await new_case(store, OTHER)
        counts = await store.counts()
        assert set(counts) == set(CaseState)
        assert {s: n for s, n in counts.items() if n} == {CaseState.WAITING: 1, CaseState.NEW: 1}


async def test_what_is_not_there_is_said_to_be_not_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        mine = await applying(store)
        began = await store.begin(change(mine))
        other = await new_case(store, OTHER)
        assert mine.proposal is not None
        for ask in (
            store.case(CaseId("nobody")),
            store.case(mine.id, proposal_id=ProposalId("nothing")),
            store.case(other.id, proposal_id=mine.proposal.id),
            store.case(other.id, change_id=began.id),
            store.change(ChangeId("nothing")),
            store.journal(ChangeId("nothing")),
            store.mark(ChangeId("nothing"), 1, StepState.DONE),
            store.mark(began.id, 99, StepState.DONE),
            store.finish(ChangeId("nothing"), "done"),
            store.move(CaseId("nobody"), Event.REVIEW, by=ANN),
            store.set_findings(CaseId("nobody"), (), REFINE),
        ):
            with pytest.raises(NotFoundError):
                await ask


async def test_findings_change_without_voiding_the_buttons_or_the_time_of_the_last_move(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await waiting(store)
        clock.on(hours=1)
        after = await store.set_findings(case.id, [finding("f1"), finding("f2")], REFINE)
        assert after == replace(case, findings=(finding("f1"), finding("f2")))
        assert await store.case(case.id) == after
        (newest, *_) = await store.history(case.id)
        assert (newest.what, dict(newest.detail)["findings"]) == ("findings", "f1 f2")


# -------------------- changes and their journal


async def test_a_change_is_begun_once_and_its_journal_tells_how_far_it_got(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await applying(store)
        began = await store.begin(change(case))
        assert began == change(case)
        other = replace(began, by=BEN)
        assert await store.begin(other) == began  # the one on disk counts
        assert await store.change(began.id) == began
        assert [(j.step, j.state, j.made) for j in await store.journal(began.id)] == [
            (s, StepState.PLANNED, "") for s in began.steps
        ]
        await store.mark(began.id, 1, StepState.STARTED)
        await store.mark(began.id, 1, StepState.DONE, "v2")
        await store.mark(began.id, 2, StepState.STARTED)
    async with opened(tmp_path) as store:
        assert [(j.state, j.made) for j in await store.journal(began.id)] == [
            (StepState.DONE, "v2"),
            (StepState.STARTED, ""),
        ]
        now = await store.case(case.id)
        assert (now.change, now.steps_done) == (began, 1)
        assert [e.what for e in await store.history(case.id)][:2] == ["step_done", "begun"]


async def test_a_change_without_a_step_has_an_empty_journal(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await applying(store)
        began = await store.begin(change(case, steps=0))
        assert await store.journal(began.id) == ()


async def test_a_second_change_waits_for_the_first_but_a_rollback_may_begin_over_what_it_undoes(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await applying(store)
        first = await store.begin(change(case))
        with pytest.raises(LostRaceError, match="under way"):
            await store.begin(change(case, "second"))
        with pytest.raises(LostRaceError, match="under way"):
            await store.begin(change(case, "back of another", kind="rollback", undoes="another"))
        back = await store.begin(change(case, "back", kind="rollback", undoes=first.id, steps=1))
        await store.mark(back.id, 1, StepState.DONE)
        now = await store.case(case.id)
        assert (now.change, now.steps_done) == (back, 1)
        older = await store.case(case.id, change_id=first.id)
        assert (older.change, older.steps_done) == (first, 0)
        await store.finish(first.id, "taken back")
        with pytest.raises(LostRaceError, match="under way"):
            await store.begin(change(case, "third"))
        await store.finish(back.id, "done")
        assert (await store.begin(change(case, "third"))).id == "third"


async def test_a_case_that_left_its_change_leaves_no_change_under_way(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await applying(store)
        await store.begin(change(case))
        failed = await store.move(case.id, Event.APPLY_FAILED, by=REFINE, sentence="It broke.")
        with pytest.raises(LostRaceError, match="stopped with an error"):
            await store.begin(change(failed, "late"))  # a flow that was frozen, and woke too late
        await store.move(case.id, Event.ROLL_BACK, by=ANN)
        assert (await store.begin(change(case, "back", kind="rollback"))).id == "back"


async def test_the_hourly_limit_counts_applied_changes_and_no_rollbacks(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        case = await applying(store)
        first = await store.begin(change(case))
        await store.begin(change(case, "back", kind="rollback", undoes=first.id))
        assert await store.changes_since(AT) == 1
        assert await store.changes_since(AT - timedelta(hours=1)) == 1
        assert await store.changes_since(AT + timedelta(microseconds=1)) == 0


# -------------------- flags and notes to self


async def test_flags_and_notes_to_self_are_kept_and_only_flags_are_audited(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        assert (await store.flag("paused"), await store.recall("why/1")) == ("", "")
        await store.set_flag("paused", "by Ann", ANN)
        await store.set_flag("paused", "by Ben", BEN)
        await store.remember("why/1", "one")
        await store.remember("why/1", "two")
    async with opened(tmp_path) as store:
        assert (await store.flag("paused"), await store.recall("why/1")) == ("by Ben", "two")
        await store.set_flag("paused", "", ANN)
        assert await store.flag("paused") == ""
        assert [(e.who, e.what, dict(e.detail)["value"]) for e in await store.history(None)] == [
            (ANN, "flag", ""),
            (BEN, "flag", "by Ben"),
            (ANN, "flag", "by Ann"),
        ]


async def test_a_tally_counts_what_is_in_force_and_what_was_taken_back(tmp_path: Path) -> None:
    """A change taken back removed nothing in the end; a span counts what began in it."""
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        for n, taken_back in enumerate((False, True)):
            case = await new_case(store, f"arn:aws:iam::123456789012:role/R{n}")
            case = await store.move(case.id, Event.PROPOSE, by=RITA, task="{}", resume=CaseState.NEW)
            empty = proposal(case)
            actions = tuple(
                # What a reason says must not be counted: it is text.
                ActionVerdict(action=f"s3:A{i}", verdict=Verdict.UNUSED, kept=i > 1, reason='"kept":false')
                for i in range(5)
            )
            trimmed = replace(empty, trim=replace(empty.trim, actions=actions))
            case = await store.move(case.id, Event.PROPOSED, by=REFINE, asked_by=RITA, proposal=trimmed)
            case = await store.approve(case.id, case.revision, yes(case), team=TEAM)
            assert case.proposal is not None
            made = replace(change(case), id=ChangeId(f"{case.proposal.id}-apply"), at=clock.now)
            await store.begin(made)
            await store.finish(made.id, "done")
            await store.move(case.id, Event.APPLIED, by=REFINE)
            if taken_back:
                await store.move(case.id, Event.ROLL_BACK, by=ANN)
                back = replace(made, id=ChangeId(f"{made.id}-back7"), kind="rollback", undoes=made.id)
                await store.begin(back)
                await store.finish(back.id, "done")
                await store.move(case.id, Event.ROLLED_BACK, by=REFINE)
        await new_case(store, OTHER)
        told = await store.tally()
        assert (told.opened, told.closed, told.trimmed, told.rolled_back) == (3, 0, 1, 1)
        assert told.removed == 2
        assert await store.removed_by_week() == ((date(2026, 1, 26), 2),)
        clock.on(days=8)
        case = await new_case(store, "arn:aws:iam::123456789012:role/Late")
        await store.move(case.id, Event.ACCEPT, by=ANN, until=clock.now)
        assert await store.tally(clock.now - timedelta(days=7)) == Tally(opened=1, closed=1)


async def test_the_longest_waiting_comes_first_where_asked(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        made = []
        for n in range(3):
            made.append((await new_case(store, f"arn:aws:iam::123456789012:role/R{n}")).id)
            clock.on(hours=1)
        assert [c.id for c in await store.cases(oldest=True, light=True)] == made
        assert [c.id for c in await store.cases(light=True)] == made[::-1]
