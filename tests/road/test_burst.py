"""A first start with 1,000 findings on 300 roles in 5 Regions, while Slack throttles, drops and forgets to answer.

Refine runs in this process, so that its pace can be lowered and it can be cut off at any moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.flows import watch
from bot.model import CaseState, Finding
from sandbox.slack import LocalSlack
from sandbox.stage import stage
from tests.benchmarks import slack as benchmark
from tests.handlers.house import ANN, HUB, House, Read, SmallAws, document, findings_of, lived_in, role_of, workspace

pytestmark = pytest.mark.burst

REGIONS = ("ap-southeast-2", "eu-central-1", "eu-west-1", "us-east-1", "us-west-2")
ROLES, WORST = 300, 12


def full_aws() -> SmallAws:
    """300 roles: a third has findings in five Regions, a third in three, a third in two. Twelve are administrators."""
    aws = SmallAws()
    findings: list[Finding] = []
    for number in range(ROLES):
        administers = number % (ROLES // WORST) == 7
        role = role_of(f"Role{number:03}", document("*" if administers else "dynamodb:DescribeTable"))
        aws.there[role.arn] = role
        [finding] = findings_of(role.arn)
        for region in REGIONS[: (5, 3, 2)[number % 3]]:
            arn = f"arn:aws:access-analyzer:{region}:{HUB}:analyzer/refine"
            findings.append(replace(finding, id=f"{region}/{role.name}", region=region, analyzer_arn=arn))
    assert len(findings) == 1000
    aws.read = Read(findings=tuple(findings))
    return aws


def key(message: dict[str, Any]) -> str:
    return str(message["metadata"]["event_payload"]["key"])


def administers(message: dict[str, Any]) -> bool:
    return int(message["blocks"][0]["text"]["text"][-3:]) % (ROLES // WORST) == 7


def top(there: LocalSlack) -> list[dict[str, Any]]:
    """What is at the top of the channel, oldest first; not copied, for it is asked often."""
    return [m for m in there.workspace.messages.get("C0SECURITY", []) if m.get("thread_ts", m["ts"]) == m["ts"]]


@pytest.fixture
async def there() -> AsyncIterator[LocalSlack]:
    async with workspace() as made:
        yield made


class Naps:
    """A sleep that takes a twentieth of its time and remembers how long it was to be."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(seconds / 20)


async def test_all_cards_come_once_in_order_through_throttling_lost_answers_and_a_crash(
    there: LocalSlack, tmp_path: Path
) -> None:
    aws, naps = full_aws(), Naps()
    trouble = iter(
        [
            (0, {"kind": "lost_reply"}),  # the summary itself
            (20, {"kind": "429", "times": 3, "retry_after": 7}),
            (50, {"kind": "drop"}),
            (80, {"kind": "lost_reply"}),
            (110, {"kind": "500"}),
            (200, {"kind": "lost_reply"}),
            (230, {"kind": "429", "times": 1, "retry_after": 3}),
            (260, {"kind": "drop", "times": 2}),
        ]
    )

    async def run(house: House, until: int) -> None:
        nonlocal at, fault
        while len(top(there)) < until:
            if at is not None and len(top(there)) >= at:
                there.fault("chat.postMessage", **fault)
                at, fault = next(trouble, (None, {}))
            await asyncio.sleep(0.01)

    at, fault = next(trouble)
    options = {"sleep": naps, "refine_burst_cards": 1000}
    async with asyncio.timeout(100):
        async with lived_in(tmp_path, there, aws, **options) as house:
            there.fault("chat.postMessage", **fault)
            at, fault = next(trouble)
            await watch.watch(house.world)
            await run(house, 150)
            there.fault("chat.postMessage", "slow", seconds=0.3)
            await asyncio.sleep(0.1)  # a post is on its way, and its answer will find nobody
            await house.cut()
        async with lived_in(tmp_path, there, aws, **options) as house:
            await watch.watch(house.world)  # as every start does
            await run(house, 1 + ROLES)
            await house.quiet(30)
            await watch.watch(house.world)
            await house.quiet(30)
            counts = await house.store.counts()
            cases = await house.store.cases(limit=1000, light=True)
    messages = top(there)
    assert len(messages) == 1 + ROLES
    assert len({key(m) for m in messages}) == 1 + ROLES, "none twice"
    assert {key(m) for m in messages[1:]} == {f"card/{c.id}" for c in cases}, "none lost"
    assert {m["ts"] for m in messages[1:]} == {c.thread_ts for c in cases}
    assert counts[CaseState.NEW] == ROLES
    assert key(messages[0]).startswith("burst/"), "the summary comes first"
    assert "300" in messages[0]["text"]
    ranks = [administers(m) for m in messages[1:]]
    assert ranks == sorted(ranks, reverse=True), "the worst first"
    names = [m["blocks"][0]["text"]["text"] for m in messages[1 + WORST :]]
    assert names == sorted(names, reverse=True), "the order of the queue is kept, whatever went wrong"
    assert 7.0 in naps.asked, "Retry-After is waited for"
    assert 3.0 in naps.asked
    assert not any(m.get("thread_ts") for m in messages if m.get("reply_count"))


async def test_with_the_default_settings_one_summary_and_the_ten_worst(there: LocalSlack, tmp_path: Path) -> None:
    aws = full_aws()
    async with lived_in(tmp_path, there, aws) as house:
        there.fault("chat.postMessage", "429", times=2, retry_after=0)
        await watch.watch(house.world)
        await house.quiet(40)
        assert len(top(there)) == 11
        await watch.watch(house.world)
    async with lived_in(tmp_path, there, aws) as house:
        await watch.watch(house.world)
        await house.quiet(40)
        messages = top(there)
        assert len(messages) == 11
        assert key(messages[0]).startswith("burst/")
        assert all(administers(m) for m in messages[1:])
        assert (await house.store.counts())[CaseState.NEW] == ROLES
        # The others come on demand: asked for by name, and in App Home.
        await there.command(ANN, "Role123")
        await house.quiet(20)
        assert [m["blocks"][0]["text"]["text"] for m in top(there)[11:]] == ["Role123"]
        await there.open_home(ANN)
        await house.quiet()
        home = there.home(ANN)
        assert home is not None
        assert "of 300" in str(home)


async def test_a_click_does_not_wait_for_the_cards_that_are_still_to_come(there: LocalSlack, tmp_path: Path) -> None:
    """At ten posts a second, 300 cards take half a minute: the first card answers within two seconds all the same."""
    aws = full_aws()
    async with lived_in(tmp_path, there, aws, spacing=0.1, refine_burst_cards=1000) as house:
        await watch.watch(house.world)
        await there.until(lambda: len(top(there)) >= 3, timeout=20)
        card = top(there)[1]
        held = aws.held[f"arn:aws:iam::{HUB}:role/{card['blocks'][0]['text']['text']}"] = asyncio.Event()
        await there.click(ANN, card["ts"], "case:review")
        await there.until(lambda: "⏳" in card["text"], timeout=2)
        held.set()
        await there.until(lambda: there.workspace.replies("C0SECURITY", card["ts"]), timeout=12)
        assert len(top(there)) < 200, "the burst was still going on"
        await house.cut()


async def test_a_first_start_on_the_real_gateway_is_one_summary_and_the_worst(tmp_path: Path) -> None:
    """`refine run` against the local AWS: findings in both its Regions, each role read, one summary, ten cards."""
    async with stage(tmp_path, start=False, REFINE_BURST_CARDS="10", REFINE_POLL_SECONDS="2") as running:
        for number in range(40):
            running.aws.add_role(f"Role{number:03}", benchmark.role(number))
        await running.bot.start()
        await running.slack.until(lambda: len(top(running.slack)) == 11, timeout=60)
        looks = len(running.aws.calls(operation="ListFindingsV2"))
        await running.slack.until(lambda: len(running.aws.calls(operation="ListFindingsV2")) > 2 * looks, timeout=30)
        messages = top(running.slack)
        assert len(messages) == 11, "the next looks bring nothing new"
        assert key(messages[0]).startswith("burst/")
        opened = int(messages[0]["text"].split()[0])
        assert opened > 40, "those of the world are there too"
        assert f"The other {opened - 10}" in messages[0]["text"]
        assert any("is an administrator" in str(m["blocks"]) for m in messages[1:]), "the worst are shown"
