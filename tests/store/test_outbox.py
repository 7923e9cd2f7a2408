"""The outbox: each message once, a case's messages in their order, and no redraw of a card lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bot.model import CaseId, StepState
from bot.rules import REFINE, Event
from bot.store import Store
from tests.store.world import ANN, AT, TEAM, Clock, applying, change, finding, new_case, opened, waiting, yes

pytestmark = pytest.mark.usefixtures("each_engine")

OTHER = "arn:aws:iam::123456789012:role/Other"


@dataclass(frozen=True, kw_only=True)
class Note:
    kind: str = "thread"
    name: str = "n"
    key: str
    case_id: CaseId | None = None
    args: tuple[tuple[str, str], ...] = ()


async def keys(store: Store, at: Clock) -> list[str]:
    return [i.key for i in await store.due(at())]


async def with_card(store: Store, clock: Clock, arn: str = OTHER) -> CaseId:
    """Return a case whose card is in the channel."""
    case = await new_case(store, arn)
    (item,) = [i for i in await store.due(clock()) if i.case_id == case.id]
    await store.sending(item.id)
    await store.sent(item.id, "C0SECURITY", f"{case.id}.1")
    return case.id


async def drain(store: Store, clock: Clock) -> list[str]:
    """Send everything that is due, and return the keys in their order."""
    sent = []
    while items := await store.due(clock()):
        for item in items:
            await store.sent(item.id, "C0SECURITY", f"ts-{item.id}")
            sent.append(item.key)
    return sent


async def test_a_note_is_queued_with_all_it_says_and_never_twice(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case_id = await with_card(store, clock)
        note = Note(name="notice", key="k1", case_id=case_id, args=(("text", "a|b"), ("by", "U0ANN")))
        await store.queue([note, note])
        await store.queue([note])
        (item,) = await store.due(clock())
        assert (item.kind, item.name, item.key, item.case_id) == ("thread", "notice", "k1", case_id)
        assert (item.args, item.tries, item.in_doubt) == (note.args, 0, False)
        await store.sent(item.id, "C0SECURITY", "1.2")
        await store.queue([note])
    async with opened(tmp_path, clock) as store:
        assert await store.due(clock.on(days=400)) == ()
        assert await store.message("k1") == ("C0SECURITY", "1.2")


async def test_a_move_queues_the_card_before_what_it_says_and_all_of_it_or_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case_id = await with_card(store, clock)
        notes = [Note(key="first", case_id=case_id), Note(key="second", kind="files", case_id=case_id)]
        await store.move(case_id, Event.REVIEW, by=ANN, notes=notes)
        assert await drain(store, clock) == [f"card/{case_id}", "first", "second"]


async def test_an_approval_can_bring_its_line_for_the_thread(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await waiting(store)
        await drain(store, clock)
        await store.approve(case.id, case.revision, yes(case), team=TEAM, notes=[Note(key="approved", case_id=case.id)])
        assert await drain(store, clock) == [f"card/{case.id}", "approved"]


async def test_any_number_of_changes_between_two_draws_are_one_redraw(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await waiting(store)
        await store.queue([Note(kind="card", key=f"card/{case.id}", case_id=case.id)])
        await store.set_findings(case.id, [finding("f1")], REFINE)
        assert await drain(store, clock) == [f"card/{case.id}"]


async def test_a_card_is_drawn_again_for_other_findings_and_for_each_step_of_a_change(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await applying(store)
        began = await store.begin(change(case))
        card = [f"card/{case.id}"]
        assert await drain(store, clock) == card
        await store.set_findings(case.id, [finding("f1")], REFINE)
        assert await drain(store, clock) == card
        await store.mark(began.id, 1, StepState.STARTED)
        assert await drain(store, clock) == []
        await store.mark(began.id, 1, StepState.DONE)
        assert await drain(store, clock) == card


async def test_a_card_that_moves_on_while_it_is_sent_is_drawn_again(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case_id = await with_card(store, clock)
        await store.move(case_id, Event.REVIEW, by=ANN)
        (item,) = await store.due(clock())
        await store.move(case_id, Event.REVIEWED, by=REFINE)  # after the case was read for drawing
        await store.queue([Note(kind="summary", key="burst")])
        clock.on(seconds=1)
        await store.sent(item.id, "C0SECURITY", "1.1")
        other, again = await store.due(clock())
        assert (other.key, again.key) == ("burst", item.key)  # who came meanwhile comes first
        assert (again.in_doubt, again.tries) == (False, 0)
        await store.sent(again.id, "C0SECURITY", "1.1")
        assert await keys(store, clock) == ["burst"]


async def test_a_card_that_moves_on_before_it_is_handed_out_is_drawn_once(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case_id = await with_card(store, clock)
        await store.move(case_id, Event.REVIEW, by=ANN)
        await store.move(case_id, Event.REVIEWED, by=REFINE)
        assert await drain(store, clock) == [f"card/{case_id}"]


async def test_a_card_is_bound_to_its_case_when_it_is_sent_and_stays_where_it_is(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await new_case(store)
        (item,) = await store.due(clock())
        await store.sent(item.id, "C0SECURITY", "1.1")  # a crash here must not mean a second card
    async with opened(tmp_path, clock) as store:
        now = await store.case(case.id)
        assert (now.channel, now.thread_ts, now.revision) == ("C0SECURITY", "1.1", case.revision)
        await store.bind_card(case.id, "C0SECURITY", "1.1")
        await store.sent(item.id, "C0SECURITY", "9.9")
        assert await store.case(case.id) == now
        await store.bind_card(case.id, "C0OTHER", "2.2")  # by hand: somebody deleted the card
        again = await store.case(case.id)
        assert (again.channel, again.thread_ts) == ("C0OTHER", "2.2")


async def test_nothing_goes_to_a_thread_before_its_card_is_there(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await new_case(store)
        await store.queue([Note(key="n1", case_id=case.id), Note(key="n2", kind="files", case_id=case.id)])
        (card,) = await store.due(clock())
        assert card.kind == "card"
        await store.dead(card.id, "channel_not_found")
        assert await store.due(clock()) == ()
        await store.move(case.id, Event.REVIEW, by=ANN)  # the case moved: its card is tried again
        assert await keys(store, clock) == [card.key]
        await store.sent(card.id, "C0SECURITY", "1.1")
        assert await drain(store, clock) == ["n1", "n2"]


async def test_a_case_that_nobody_was_shown_posts_no_card_to_say_that_it_is_over(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await new_case(store, card=False)
        await store.set_findings(case.id, (), REFINE)
        await store.move(case.id, Event.RESOLVE, by=REFINE)
        assert await store.due(clock()) == ()
        await store.move(case.id, Event.FOUND, by=REFINE)
        assert await keys(store, clock) == [f"card/{case.id}"]


async def test_a_message_that_waits_for_its_next_try_holds_back_its_own_case_alone(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        mine, other = await with_card(store, clock), await with_card(store, clock, OTHER + "2")
        await store.queue([Note(key=f"{n}/{c}", case_id=c) for n in (1, 2) for c in (mine, other)])
        first, _ = await store.due(clock())
        assert first.key == f"1/{mine}"
        await store.sending(first.id)
        await store.later(first.id, clock() + timedelta(minutes=5), "slow down")
        assert await drain(store, clock) == [f"1/{other}", f"2/{other}"]
        clock.on(minutes=5)
        (again,) = await store.due(clock())
        assert (again.key, again.tries, again.in_doubt) == (first.key, 1, True)
        await store.sent(again.id, "C0SECURITY", "1.3")
        assert await drain(store, clock) == [f"2/{mine}"]


async def test_a_message_given_up_lets_the_next_one_go_and_is_never_sent(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case_id = await with_card(store, clock)
        await store.queue([Note(key="1", case_id=case_id), Note(key="2", case_id=case_id)])
        (first,) = await store.due(clock())
        await store.dead(first.id, "too long")
        await store.queue([Note(key="1", case_id=case_id)])
        assert await drain(store, clock) == ["2"]
        assert await store.message("1") is None


async def test_a_post_that_a_crash_interrupted_comes_back_in_doubt(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        await store.queue([Note(kind="summary", key="weekly/2026-05")])
        (item,) = await store.due(clock())
        await store.sending(item.id)
    async with opened(tmp_path, clock) as store:
        (again,) = await store.due(clock())
        assert (again.id, again.in_doubt, again.tries) == (item.id, True, 0)


async def test_redraws_keep_the_pause_that_slack_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        case = await new_case(store)
        (item,) = await store.due(clock())
        await store.later(item.id, clock() + timedelta(minutes=5), "slow down")
        await store.move(case.id, Event.REVIEW, by=ANN)
        assert await store.due(clock()) == ()
        (again,) = await store.due(clock.on(minutes=5))
        assert again.tries == 1


@pytest.mark.parametrize("limit", [1, 3, 20])
async def test_what_is_due_longest_comes_first_up_to_the_limit(tmp_path: Path, limit: int) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        old = await with_card(store, clock)
        await store.queue([Note(kind="summary", key="burst")])
        fresh = [(await new_case(store, f"{OTHER}{n}")).id for n in range(3)]
        clock.on(seconds=1)
        await store.move(old, Event.REVIEW, by=ANN)  # its row is the oldest, and its turn is the last
        wanted = ["burst", *(f"card/{c}" for c in fresh), f"card/{old}"]
        assert [i.key for i in await store.due(clock(), limit)] == wanted[:limit]
        assert [i.key for i in await store.due(AT, limit)] == wanted[:4][:limit]


async def test_cards_and_what_threads_say_can_be_asked_for_apart(tmp_path: Path) -> None:
    """A redraw goes before what its own case has to say, whoever asks for which."""
    clock = Clock()
    async with opened(tmp_path, clock) as store:
        one, two = await with_card(store, clock), await with_card(store, clock, OTHER + "2")
        await store.queue([Note(key="said", case_id=one)])
        await store.queue(
            [Note(kind="card", name="card", key=f"card/{two}", case_id=two), Note(key="later", case_id=two)]
        )

        async def due(*, cards: bool) -> list[str]:
            return [i.key for i in await store.due(clock(), first=False, cards=cards)]

        assert await due(cards=True) == [f"card/{two}"]
        assert await due(cards=False) == ["said"]
        assert sorted(await keys(store, clock)) == sorted([f"card/{two}", "said"])
