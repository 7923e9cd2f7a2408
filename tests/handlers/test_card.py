"""The card over its life in Slack: whom it tells, and what it knows without asking the engine again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot import rules
from bot.flows import post
from bot.model import Case, CaseState, Change, ChangeId, StepState, UserId
from bot.rules import Event
from tests.handlers.house import (
    ANN,
    HUB,
    RITA,
    SECURITY,
    House,
    SmallAws,
    built,
    findings_of,
    lived_in,
    role_of,
    workspace,
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with built(tmp_path, "socket") as made:
        yield made


async def owned(house: House, owner: str, key: str = "owner") -> Case:
    """A new case of a role that a tag says to be somebody's, with its card in Slack."""
    role = replace(role_of("Owned"), tags=((key, owner),))
    house.aws.there[role.arn] = role
    case, _ = await house.store.open_case(
        role_arn=role.arn, account=HUB, findings=findings_of(role.arn), role=role, by=rules.REFINE, channel=SECURITY
    )
    house.world.poke()
    await house.until_drawn(case.id)
    return await house.store.case(case.id)


def posts(house: House, method: str) -> list[str]:
    """What was sent of the card that anybody could be told by."""
    return [json.dumps([a["text"], a["blocks"]]) for m, a in house.there.api.calls if m == method]


@pytest.mark.parametrize(("tag", "key"), [(RITA, "owner"), (f"@{RITA}", "Contact"), (RITA, "Team")])
async def test_the_owner_is_mentioned_in_the_first_card(house: House, tag: str, key: str) -> None:
    """Slack tells people of a post, and of no redraw: so once."""
    case = await owned(house, tag, key)
    [first] = posts(house, "chat.postMessage")
    assert first.count(f"<@{RITA}>") == 1
    await house.there.click(RITA, case.thread_ts, "case:review")
    await house.quiet()
    assert f"owner <@{RITA}>" in json.dumps(house.card(case))
    assert len([p for p in posts(house, "chat.postMessage") if f"owner <@{RITA}>" in p]) == 1


@pytest.mark.parametrize(
    "tag",
    [
        "payments",
        "ann@example.com",
        "UNKNOWN",  # looks like an id, and is nobody's
        "U0GUS",  # a guest
        "U0STAN",  # a stranger
        "U0DORA",  # left
        "U0ROBO",  # a bot
        "S0APPROVERS",
        "<!channel>",
        "<@U0RITA>",
        "U0RITA> <!here",
        "U0RITA U0ANN",
        "U0RITA\n",
    ],
)
async def test_nobody_is_mentioned_by_any_other_tag(house: House, tag: str) -> None:
    await owned(house, tag)
    [first] = posts(house, "chat.postMessage")
    assert not [each for each in ("<@", "<!channel", "<!here", "<!subteam") if each in first]
    assert "owner `" in first


async def test_the_counts_of_a_review_stay_on_the_card_without_the_engine(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = await house.case_in(CaseState.NEW)
    await house.there.click(RITA, case.thread_ts, "case:review")
    await house.quiet()
    assert "*1 used* in the last 90 days · *2 not used*" in json.dumps(house.card(case), ensure_ascii=False)

    def asked(*_: Any) -> None:
        raise AssertionError("the engine is asked again")

    monkeypatch.setattr(post, "trim", asked)
    await house.store.move(case.id, Event.SNOOZE, by=UserId(RITA), until=house.world.clock())
    house.world.poke()
    await house.quiet()
    shown = json.dumps(house.card(case), ensure_ascii=False)
    assert "Snoozed" in shown
    assert "*1 used* in the last 90 days · *2 not used*" in shown


async def test_other_policies_have_other_counts(house: House) -> None:
    case = await house.case_in(CaseState.NEW)
    await house.there.click(RITA, case.thread_ts, "case:review")
    await house.quiet()
    role = house.aws.there[case.role_arn]
    text = role.policies[0].text.replace('"dynamodb:CreateTable",', "")
    house.aws.put(role.arn, text)
    await house.there.click(RITA, case.thread_ts, "case:review")
    await house.quiet()
    assert "*1 used* in the last 90 days · *1 not used*" in json.dumps(house.card(case), ensure_ascii=False)


# -------------------- at work


async def test_a_click_is_seen_at_work_while_threads_wait_for_their_turn(tmp_path: Path) -> None:
    """Slack takes one post a second: what there is to say in threads must not hold up what a card shows."""
    async with built(tmp_path, "socket") as house:
        cases = [await house.case_in(CaseState.NEW) for _ in range(10)]
        await house.quiet()
        house.there.fault("chat.postMessage", "slow", times=None, seconds=10)  # the channel is busy from now on
        for case in cases:
            await house.there.click(RITA, case.thread_ts, "case:review")
        cards = [house.card(case) for case in cases]
        await house.there.until(lambda: all("reviewed" in card["text"] for card in cards), timeout=9)
        assert not any(house.there.thread(case.thread_ts) for case in cases), "the threads do wait"
        one, card = cases[-1], cards[-1]
        house.aws.held[one.role_arn] = asyncio.Event()
        await house.there.click(RITA, one.thread_ts, "case:review")
        await house.there.until(lambda: "⏳" in card["text"], timeout=5)
        house.aws.held.pop(one.role_arn).set()
        await house.cut()


async def test_a_thread_message_whose_case_moved_while_it_was_posted_is_drawn_again(house: House) -> None:
    """Drawn while the proposal waited, and in the thread once it was declined: its buttons must not be there."""
    case = await house.case_in(CaseState.NEW)
    house.there.fault("chat.postMessage", "slow", times=None, seconds=1.0)
    await house.there.click(RITA, case.thread_ts, "case:propose")
    await house.there.until(lambda: "Waiting for approval" in house.card(case)["text"])
    await house.there.until(lambda: [m for m in house.there.thread(case.thread_ts) if "What Role" in json.dumps(m)])
    await asyncio.sleep(0.3)  # the proposal is drawn, and on its way
    await house.store.move(case.id, Event.DECLINE, by=UserId(ANN))
    house.world.poke()
    await house.quiet()
    [sent] = [p for p in posts(house, "chat.postMessage") if "case:approve" in p]
    assert "Remove 2" in sent
    [said] = [m for m in house.there.thread(case.thread_ts) if "Remove 2" in m["text"]]
    assert "case:approve" not in json.dumps(said)


async def test_steps_are_drawn_from_the_journal_and_many_at_once_are_few_edits(tmp_path: Path) -> None:
    async with workspace() as there, lived_in(tmp_path, there, SmallAws(), spacing=0.4) as house:
        case = await house.case_in(CaseState.APPLYING)
        assert case.proposal is not None
        step = rules.plan(case.proposal, case.proposal.role)[0]
        steps = tuple(replace(step, number=n) for n in range(1, 8))
        change = Change(
            id=ChangeId(f"{case.proposal.id}-apply"),
            case_id=case.id,
            proposal_id=case.proposal.id,
            kind="apply",
            role_arn=case.role_arn,
            steps=steps,
            by=UserId(ANN),
            at=house.world.clock(),
            before=case.proposal.role,
            expected=rules.expected(case.proposal.role, steps[:1]),
        )
        await house.store.begin(change)
        house.world.poke()
        card = house.card(case)
        await there.until(lambda: "Step 1 of 7" in card["text"])
        before = len(posts(house, "chat.update"))
        for each in steps[:5]:
            await house.store.mark(change.id, each.number, StepState.DONE)
            house.world.poke()
        await there.until(lambda: "Step 6 of 7" in card["text"])
        assert len(posts(house, "chat.update")) - before < 5, "not one edit for each step"
        for each in steps[5:]:
            await house.store.mark(change.id, each.number, StepState.DONE)
        house.world.poke()
        await there.until(lambda: "7 steps done; reading back" in card["text"])
