"""How soon a click is acknowledged, and seen to work on its card: 50 people click while a scan of 1,000 roles runs.

The bot is `refine run` with its settings' defaults, and the local AWS a process of its own too; the local Slack, which
keeps Slack's pace, is here with the people. AWS answers after 50 ms, as from a Region nearby: without that, the scan is
nothing but work for the two cores that carry everything here, and takes all there is of them (`--aws-ms 0` shows it). Everybody has a card of their own and reviews it again and again, from the
moment the 1,000 roles are there until their summary is in the channel. What is measured ends when Slack has the
acknowledgement, and when Slack has the redrawn card. Other work beside it shows in the figures.

Run: make bench NAME=slack. Progress goes to standard error, one JSON object to standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.aws import start as start_aws
from sandbox.slack import LocalSlack, seeds
from sandbox.stage import Bot, bot_environment, free_port

BOUNDS_MS = {"ack": 300.0, "working": 500.0}  # of the 99th percentile
PATIENCE = 30.0  # seconds for a card to change


def role(number: int) -> dict[str, Any]:
    """A role as the local AWS's world tells it: most are small, a quarter wide, one in twenty an administrator."""
    allowed: list[str] = ["dynamodb:*"]
    if number % 20 == 7:
        allowed = ["*"]
    elif number % 4 == 1:
        allowed = ["s3:*", "sqs:*", "kms:*", "ec2:*", "logs:*"]
    statement = {"Effect": "Allow", "Action": allowed, "Resource": "*"}
    return {
        "createdDaysAgo": 400,
        "trust": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": "arn:aws:iam::999988887777:root"},
                    "Action": "sts:AssumeRole",
                }
            ],
        },
        "inline": {"Access": {"Version": "2012-10-17", "Statement": [statement]}},
        "used": {"dynamodb:DescribeTable": {"daysAgo": 2}},
    }


@dataclass
class Seen:
    """Milliseconds."""

    ack: list[float] = field(default_factory=list)
    working: list[float] = field(default_factory=list)
    missed: int = 0


async def main(people: int, roles: int, aws_ms: int) -> int:
    with tempfile.TemporaryDirectory(prefix="refine-bench-") as folder:
        async with _aws() as aws, _slack(people) as slack, _bot(aws, slack, Path(folder), people):
            await _slow(aws, aws_ms)
            await _add(aws, {f"Own{n:03}": role(n * 4) for n in range(people)})
            say(f"{people} cards, at one a second …")
            cards = await slack.until(lambda: _cards(slack, people), timeout=people * 2 + 60)
            seen = Seen()
            begun = time.monotonic()
            await _add(aws, {f"Role{n:04}": role(n) for n in range(roles)})
            over = asyncio.Event()
            clickers = [
                asyncio.create_task(_click(slack, f"U0P{n:03}", card, seen, over, random.Random(n)))
                for n, card in enumerate(cards)
            ]
            say(f"{roles} roles more; everybody clicks until they are read …")
            await slack.until(lambda: any(_of_scan(m, roles) for m in _top(slack)), timeout=600)
            scan = time.monotonic() - begun
            over.set()
            await asyncio.gather(*clickers)
    told = _told(seen, people, roles, aws_ms, scan)
    for name in BOUNDS_MS:
        figures = told[f"{name}_ms"]
        say(f"{name}: p50 {figures['p50']} ms, p99 {figures['p99']} ms, worst {figures['max']} ms")
    print(json.dumps(told))
    return 0


def _told(seen: Seen, people: int, roles: int, aws_ms: int, scan: float) -> dict[str, Any]:
    told: dict[str, Any] = {
        "people": people,
        "roles": roles,
        "aws_ms": aws_ms,
        "scan_seconds": round(scan, 1),
        "clicks": len(seen.ack),
        "never_working": seen.missed,
    }
    for name, bound in BOUNDS_MS.items():
        figures = _figures(getattr(seen, name))
        told[f"{name}_ms"] = figures
        told[f"{name}_p99_to_bound"] = round(figures["p99"] / bound, 3)
    told["bounds_ms"] = BOUNDS_MS
    told["within_bounds"] = not seen.missed and all(told[f"{name}_p99_to_bound"] <= 1 for name in BOUNDS_MS)
    return told


def _figures(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {
        "p50": round(ordered[len(ordered) // 2], 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "max": round(ordered[-1], 1),
    }


async def _click(
    slack: LocalSlack, user: str, card: dict[str, Any], seen: Seen, over: asyncio.Event, dice: random.Random
) -> None:
    """Review one's own role, see it at work, see it done, think for a moment, and again."""
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), dice.uniform(0.5, 4))
            return
        begun = time.monotonic()
        clicking = asyncio.create_task(slack.click(user, card["ts"], "case:review"))
        try:
            await slack.until(lambda: "⏳" in card["text"], timeout=PATIENCE)
            seen.working.append((time.monotonic() - begun) * 1000)
            await slack.until(lambda: "case:review" in str(card["blocks"]), timeout=PATIENCE * 4)
        except TimeoutError:
            seen.missed += 1
        ack = await clicking
        seen.ack.append(ack.seconds * 1000 if ack.ok else PATIENCE * 1000)


def _top(slack: LocalSlack) -> list[dict[str, Any]]:
    return [m for m in slack.workspace.messages.get(seeds.SECURITY, []) if "thread_ts" not in m or m.get("reply_count")]


def _cards(slack: LocalSlack, people: int) -> list[dict[str, Any]]:
    cards = [m for m in _top(slack) if "case:review" in str(m.get("blocks"))]
    return cards if len(cards) == people else []


def _of_scan(message: dict[str, Any], roles: int) -> bool:
    return message["text"].startswith(f"{roles:,} new roles")


# -------------------- the stage


@contextlib.asynccontextmanager
async def _aws() -> AsyncIterator[str]:
    """Yield the URL of a local AWS in a process of its own, so that it takes nothing from whoever measures."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.benchmarks.slack",
        "--aws",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


def _be_aws() -> int:
    aws = start_aws(world=False)
    print(aws.url, flush=True)
    sys.stdin.read()
    aws.stop()
    return 0


@contextlib.asynccontextmanager
async def _slack(people: int) -> AsyncIterator[LocalSlack]:
    slack = LocalSlack()
    for n in range(people):
        user = f"U0P{n:03}"
        slack.workspace.users[user] = seeds._user(user, f"p{n}", f"Person {n}", "", "member")
        slack.workspace.channels[seeds.SECURITY]["members"].add(user)
    slack.api.paced = True
    await slack.start()
    try:
        yield slack
    finally:
        await slack.stop()


@contextlib.asynccontextmanager
async def _bot(aws: str, slack: LocalSlack, folder: Path, people: int) -> AsyncIterator[None]:
    port = free_port()
    environment = bot_environment(aws, slack, folder, port, "socket") | {
        "REFINE_POST_SECONDS": "1.0",
        "REFINE_POLL_SECONDS": "1",
        "REFINE_BURST_CARDS": str(people),
        "REFINE_LOG": "json",
        "REFINE_LOG_LEVEL": "WARNING",
    }
    bot = Bot(environment, port)
    try:
        await bot.start()
        yield
    finally:
        await bot.stop()


async def _add(aws: str, roles: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{aws}/_sandbox/roles", json=roles) as answer:
        answer.raise_for_status()


async def _slow(aws: str, ms: int) -> None:
    rule = {"kind": "latency", "service": "*", "seconds": ms / 1000}
    if ms:
        async with aiohttp.ClientSession() as session, session.post(f"{aws}/_sandbox/faults", json=rule) as answer:
            answer.raise_for_status()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--roles", type=int, default=1000)
    parser.add_argument("--aws-ms", type=int, default=50, help="how long AWS takes to answer")
    parser.add_argument("--aws", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.exit(_be_aws() if options.aws else asyncio.run(main(options.people, options.roles, options.aws_ms)))
