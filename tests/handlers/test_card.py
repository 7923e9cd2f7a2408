"""The card over its life in Slack: whom it tells, and what it knows without asking the engine again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot import rules
from bot.flows import post
from bot.model import Case, CaseState, UserId
from bot.rules import Event
from tests.handlers.house import HUB, RITA, SECURITY, House, built, findings_of, role_of


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
    assert "*1 used* · *2 not used*" in json.dumps(house.card(case), ensure_ascii=False)

    def asked(*_: Any) -> None:
        raise AssertionError("the engine is asked again")

    monkeypatch.setattr(post, "trim", asked)
    await house.store.move(case.id, Event.SNOOZE, by=UserId(RITA), until=house.world.clock())
    house.world.poke()
    await house.quiet()
    shown = json.dumps(house.card(case), ensure_ascii=False)
    assert "Snoozed" in shown
    assert "*1 used* · *2 not used*" in shown


async def test_other_policies_have_other_counts(house: House) -> None:
    case = await house.case_in(CaseState.NEW)
    await house.there.click(RITA, case.thread_ts, "case:review")
    await house.quiet()
    role = house.aws.there[case.role_arn]
    text = role.policies[0].text.replace('"dynamodb:CreateTable",', "")
    house.aws.put(role.arn, text)
    await house.there.click(RITA, case.thread_ts, "case:review")
    await house.quiet()
    assert "*1 used* · *1 not used*" in json.dumps(house.card(case), ensure_ascii=False)
