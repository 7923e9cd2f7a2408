"""Two whole bots on one PostgreSQL: whichever dies or freezes in the middle of a change, the other ends it, once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sandbox.stage import Bot, Stage, free_port, stage
from tests import postgres
from tests.road.test_changes import approve, in_force, propose
from tests.road.walk import BEN, HUB, Walk, key
from tests.torture import WRITES

pytestmark = pytest.mark.xdist_group("replicas")
ROLE = "OrderEventsConsumer"  # AWS managed policies: copies are made, attached, and the old ones detached


def written(running: Stage) -> list[dict[str, Any]]:
    return [c for c in running.aws.calls("iam") if c["operation"] in WRITES and c["outcome"] in {"ok", "lost_reply"}]


async def until_written(running: Stage, number: int) -> None:
    async with asyncio.timeout(40):
        while len(written(running)) < number:
            await asyncio.sleep(0.01)


def said_once(walk: Walk, card: dict[str, Any]) -> None:
    keys = Counter(key(m) for m in [*walk.slack.messages(), *walk.slack.thread(card["ts"])] if key(m))
    assert [k for k, n in keys.items() if n > 1 and not k.startswith("card/")] == []
    assert keys[key(card)] <= 2, "the card is in the channel and heads its thread"


async def test_a_killed_and_a_frozen_bot_are_followed_by_the_other_in_the_middle_of_a_change(tmp_path: Path) -> None:
    shared = {"REFINE_DATABASE_URL": postgres.url(tmp_path), "REFINE_AUDIT_KEY": "the same for both"}
    with (tmp_path / "bot.log").open("wb") as log:
        async with stage(tmp_path / "one", log=log, **shared) as running:
            first, port = running.bot, free_port()
            env = {**first.env, "REFINE_PORT": str(port), "REFINE_DATA_DIR": str(tmp_path / "two")}
            second = Bot(env, port, log)
            await second.start()
            try:
                await _walked(running, first, second)
            finally:
                await second.stop()
    postgres.forget()


async def _walked(running: Stage, first: Bot, second: Bot) -> None:
    walk, aws = Walk(running), running.aws
    before = aws.snapshot(HUB, ROLE)
    card, proposal = await propose(walk, ROLE)
    aws.fault("AttachRolePolicy", "latency", seconds=0.5)  # so that there is a middle
    aws.fault("DetachRolePolicy", "latency", seconds=0.5)
    await approve(walk, proposal)
    await until_written(running, 2)
    await first.kill()
    began = time.monotonic()
    await walk.card(ROLE, "case:roll_back")
    print(f"the change was ended {time.monotonic() - began:.1f} s after the kill")
    assert in_force(aws.snapshot(HUB, ROLE)) != in_force(before)
    said_once(walk, card)

    await first.start()  # it waits now, and takes clicks
    done = len(written(running))
    applied = await walk.reply(card, "applied")
    await walk.click(BEN, applied, "case:roll_back")
    await walk.modal(BEN, "reason")
    await walk.submit(BEN, reason="Once more.")
    await until_written(running, done + 2)
    assert second.process is not None
    second.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        async with asyncio.timeout(60):
            while aws.snapshot(HUB, ROLE) != before:
                await asyncio.sleep(0.05)
        print(f"the rollback was ended {time.monotonic() - began:.1f} s after the freeze")
    finally:
        second.process.send_signal(signal.SIGCONT)
    # Half the clicks' connections belonged to the frozen one; woken, it goes on to take them, and writes nothing.
    await walk.card(ROLE, without="case:roll_back")
    await asyncio.sleep(2)
    assert aws.snapshot(HUB, ROLE) == before
    effects = Counter(str((c["operation"], c["params"])) for c in written(running) if "Version" not in c["operation"])
    assert [e for e, n in effects.items() if n > 2] == []  # an attachment goes and comes back
    said_once(walk, card)
