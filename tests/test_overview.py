"""App Home over the real store: what comes first, whose turn it is, and what came of it; also with hundreds of cases."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.flows import Desk, World, decide
from bot.model import Case, CaseState, ExternalPrincipal, Finding, PrincipalKind, Role, RolePolicy, UserId
from bot.rules import REFINE, Event
from tests import lives
from tests.lives import ANN, BEN, RITA
from tests.messages.cases import APPLICATION, APPLICATION_FINDINGS, allow, document
from tests.store.world import proposal
from tests.test_archive import Clock

S = CaseState


def role(name: str, *actions: str) -> Role:
    [policy] = APPLICATION.policies
    text = document(allow(list(actions)))
    policies: tuple[RolePolicy, ...] = (replace(policy, text=text),)
    return replace(APPLICATION, arn=f"arn:aws:iam::123456789012:role/{name}", name=name, policies=policies)


def finding(kind: PrincipalKind) -> Finding:
    return replace(APPLICATION_FINDINGS[0], principals=(ExternalPrincipal(kind=kind, value="*"),))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with lives.bot(tmp_path, "http://127.0.0.1:9", clock=Clock()) as made:
        yield made


async def opened(world: World, name: str, *actions: str, kind: PrincipalKind = PrincipalKind.ACCOUNT) -> Case:
    case, _ = await world.store.open_case(
        role_arn=f"arn:aws:iam::123456789012:role/{name}",
        account="123456789012",
        findings=[finding(kind)],
        role=role(name, *(actions or ("sqs:ListQueues",))),
        by=REFINE,
        channel="C0SECURITY",
    )
    world.clock.at += timedelta(hours=1)  # type: ignore[attr-defined]
    return case


async def waits(world: World, name: str, by: UserId) -> Case:
    case = await opened(world, name)
    case = await world.store.move(case.id, Event.PROPOSE, by=by, task="{}", resume=S.NEW)
    made = replace(proposal(case), proposed_by=by)
    return await world.store.move(case.id, Event.PROPOSED, by=REFINE, asked_by=by, proposal=made)


async def shown(world: World, by: UserId, view: str = "", page: int = 0) -> list[str]:
    """Return the roles on the page, in their order."""
    drawn = await Desk(world).home(by, page, view)
    sections = [b["text"]["text"] for b in drawn["blocks"] if b["type"] == "section"]
    return [text.split("`")[1] for text in sections if text.startswith("*`")]


async def said(world: World, by: UserId, view: str = "") -> str:
    return json.dumps(await Desk(world).home(by, 0, view), ensure_ascii=False)


async def test_open_cases_come_with_the_worst_first(world: World) -> None:
    """Anyone may get in; then what an outsider could do. The worst of it is said, and what is put aside is not there."""
    await opened(world, "Admin", "*")
    await opened(world, "Lists", "sqs:ListQueues")
    await opened(world, "PublicLists", "sqs:ListQueues", kind=PrincipalKind.PUBLIC)
    await opened(world, "Deletes", "dynamodb:DeleteTable")
    gone = await opened(world, "Accepted", "*")
    await world.store.move(gone.id, Event.ACCEPT, by=ANN, until=world.clock())
    assert await shown(world, RITA) == ["PublicLists", "Admin", "Deletes", "Lists"]
    assert "It can delete data" in await said(world, RITA)
    assert await shown(world, RITA, "every") == ["Accepted", "Deletes", "PublicLists", "Lists", "Admin"]
    assert await shown(world, RITA, "accepted") == ["Accepted"]


async def test_mine_are_those_that_i_may_approve(world: World) -> None:
    """Not what I proposed myself, and nothing for those who approve nothing; the longest waiting first."""
    await waits(world, "First", RITA)
    await waits(world, "AnnsOwn", ANN)
    await waits(world, "Last", BEN)
    assert await shown(world, ANN, "mine") == ["First", "Last"]
    assert await shown(world, BEN, "mine") == ["First", "AnnsOwn"]
    assert await shown(world, RITA, "mine") == []
    assert await shown(world, RITA, "waiting") == ["First", "AnnsOwn", "Last"]
    assert "*2 for you*" in await said(world, ANN)
    assert "for you" not in await said(world, RITA)
    assert "*3 proposals wait* for an approver, the longest since" in await said(world, RITA)


async def test_what_i_approved_is_mine_no_more_however_many_have_to(world: World) -> None:
    """Of three approvals that are needed two are given: only who has not given theirs is asked."""
    cleo = UserId("U0CLEO")
    world.settings = world.settings.model_copy(
        update={"refine_approvers": (ANN, BEN, cleo, RITA), "refine_approvals_needed": 3}
    )
    case = await waits(world, "Three", RITA)
    for by, left in ((ANN, {BEN, cleo}), (BEN, {cleo})):
        await decide.approve(world, case.id, None, by, "")
        assert {u for u in (ANN, BEN, cleo, RITA) if await shown(world, u, "mine")} == left
        assert {u for u in (ANN, BEN, cleo, RITA) if "*1 for you*" in await said(world, u)} == left
    world.settings = world.settings.model_copy(update={"refine_four_eyes": False})
    assert await shown(world, RITA, "mine") == ["Three"]
    assert await shown(world, ANN, "mine") == []


async def test_home_of_hundreds_of_cases_has_all_on_its_pages(world: World) -> None:
    """Each case on one page only, and the second look does not read the roles again."""
    kinds: list[Any] = [("sqs:ListQueues",), ("dynamodb:*",), ("s3:*", "kms:*"), ("*",)]
    for n in range(120):
        await opened(world, f"R{n:03}", *kinds[n % 4])
    began = time.perf_counter()
    first = await shown(world, RITA)
    took = time.perf_counter() - began
    assert len(world.ranks) == 120
    began = time.perf_counter()
    pages = [await shown(world, RITA, "", n) for n in range(12)]
    assert (time.perf_counter() - began) / 12 < max(took, 0.5)
    assert pages[0] == first
    assert sorted(name for page in pages for name in page) == [f"R{n:03}" for n in range(120)]
    assert await shown(world, RITA, "", 99) == pages[-1]


async def test_a_case_that_moved_stands_where_it_belongs_now(world: World) -> None:
    case = await opened(world, "Small", "sqs:ListQueues")
    await opened(world, "Middle", "dynamodb:DeleteTable")
    assert await shown(world, RITA) == ["Middle", "Small"]
    await world.store.move(case.id, Event.REVIEW, by=RITA, task="{}", resume=S.NEW)
    await world.store.move(case.id, Event.REVIEWED, by=REFINE, role=role("Small", "*"))
    assert await shown(world, RITA) == ["Small", "Middle"]
