"""A bot without Slack, in this process or as one of its own that can be killed: real store, gateway, flows and rules."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import resource
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from bot.aws import Aws, AwsSettings
from bot.config import Settings
from bot.durable import Engine
from bot.errors import RefineError, StoreError
from bot.flows import World, decide, drive, propose, watch
from bot.model import CaseId, Person, UserId
from bot.policy import load_catalogue
from bot.rules import BUSY, Button, Event
from bot.store import Store
from bot.store.replicas import replicas

ANN, BEN, RITA = UserId("U0ANN"), UserId("U0BEN"), UserId("U0RITA")
HUB = "123456789012"
IDLE_SECONDS = 3.0  # a replica that says nothing for so long is taken to be gone
KEY = b"a key of the tests"
CATALOGUE = load_catalogue()  # read before the fork: every life starts with it


class People:
    """The part of Slack that the flows ask about people: everybody is a member of the workspace."""

    async def person(self, user_id: UserId) -> Person:
        return Person(id=user_id, name=user_id.lower(), team="T0REFINE")

    async def group_members(self, group_id: str) -> frozenset[UserId]:
        return frozenset()


def now() -> datetime:
    return datetime.now(UTC)


def settings(data_dir: Path, **more: Any) -> Settings:
    url = data_dir / "url"  # of a PostgreSQL database; without it the state is in a SQLite file beside it
    values: dict[str, Any] = {
        "refine_database_url": url.read_text() if url.exists() else None,
        "slack_bot_token": "xoxb-none",
        "slack_signing_secret": "none",
        "refine_channel": "C0SECURITY",
        "refine_approvers": f"{ANN},{BEN}",
        "refine_mode": "strict",
        "refine_settle_seconds": 1.5,
        "refine_changes_per_hour": 1000,
        "refine_data_dir": data_dir,
        **more,
    }
    return Settings(**values)


def set_environment(aws_url: str) -> None:
    """Point the AWS configuration of this process to the local AWS; reads give up soon, so that flows have to wait."""
    for name in [n for n in os.environ if n.startswith(("AWS_", "SLACK_", "REFINE_"))]:
        del os.environ[name]
    os.environ |= {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "AKIASANDBOX000000000",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_MAX_ATTEMPTS": "2",
    }


@asynccontextmanager
async def bot(
    data_dir: Path,
    aws_url: str,
    *,
    alone: bool = True,
    clock: Callable[[], datetime] = now,
    patience: float = 30.0,
    **more: Any,
) -> AsyncIterator[World]:
    """Yield the bot's world; its engine is not started."""
    set_environment(aws_url)
    set_up = settings(data_dir, **more)
    ids = (uuid.uuid4().hex[:12] for _ in itertools.count())
    async with (
        Store.open(
            set_up.database_url(), audit_key=KEY, clock=clock, new_id=lambda: next(ids), alone=alone, patience=patience
        ) as store,
        Aws(AwsSettings(clock=clock, sleep=asyncio.sleep, regions=("us-east-1",))) as aws,
    ):
        engine = Engine()
        world = World(
            store=store,
            aws=aws,
            slack=People(),
            engine=engine,
            settings=set_up,
            catalogue=CATALOGUE,
            clock=clock,
            new_id=lambda: next(ids),
            sleep=asyncio.sleep,
            workspace="T0REFINE",
        )
        engine.register("work", lambda key: propose.work(world, CaseId(key)))
        engine.register("drive", lambda key: drive.drive(world, CaseId(key)))
        yield world


async def proposed(world: World, role_arn: str) -> CaseId:
    """Open the role's case and make a proposal; it waits for approval afterwards."""
    account = role_arn.split(":")[4]
    case, _ = await world.store.open_case(role_arn=role_arn, account=account, by=RITA, channel="C0SECURITY")
    await propose.start_proposal(world, case.id, case.revision, RITA)
    await propose.work(world, case.id)
    return case.id


async def until_idle(world: World, *, pause: float = 0.05) -> list[str]:
    """Be the bot's clock until nothing is under way; returns what the database's errors said meanwhile."""
    said: list[str] = []
    while True:
        try:
            await watch.tick(world)
            if not await world.store.cases(states=BUSY, limit=1, light=True):
                return said
        except StoreError as error:
            said.append(error.say())
        await asyncio.sleep(pause)


def live(data_dir: Path, aws_url: str, more: dict[str, Any]) -> None:
    """One life of the bot: takes up what is under way, and ends where nothing is left. To be killed at any moment."""
    _log_to(data_dir)
    asyncio.run(_live(data_dir, aws_url, more))


async def _live(data_dir: Path, aws_url: str, more: dict[str, Any]) -> None:
    async with bot(data_dir, aws_url, **more) as world:
        stop = asyncio.Event()

        async def work(_: asyncio.Event) -> None:
            await world.engine.start()
            try:
                await until_idle(world)
            finally:
                await world.engine.stop()
            stop.set()

        one = replicas(
            world.settings.database_url(),
            world.store,
            monotonic=time.monotonic,
            new_id=world.new_id,
            beat=0.05,
            idle=IDLE_SECONDS,
        )
        world.sure = one.sure
        await one.run(work, stop=stop, hear=_deaf)


async def _deaf(_: str) -> None:
    return


def live_without_room(data_dir: Path, aws_url: str, said: Any) -> None:
    """A life whose database may not grow; when that was said, there is room again. `said` gets the sentences."""
    _log_to(data_dir)
    asyncio.run(_live_without_room(data_dir, aws_url, said))


async def _live_without_room(data_dir: Path, aws_url: str, said: Any) -> None:
    async with bot(data_dir, aws_url) as world:
        case = (await world.store.cases(states=BUSY))[0]
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = max(f.stat().st_size for f in data_dir.iterdir() if f.name.startswith("bot.db"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 60_000, limits[1]))
        for _ in range(200):
            await drive.drive(world, case.id)
            try:
                await world.store.record(case.id, ANN, "said", {"text": "x" * 5_000})
            except StoreError as error:
                said.put(error.say())
                break
        said.put((await world.store.case(case.id)).state.value)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        await world.engine.start()
        await until_idle(world)
        await world.engine.stop()


def approve(data_dir: Path, aws_url: str, case_id: str, act: str, times: int, gate: Any, said: Any) -> None:
    """Decide as many people at once would, when the gate opens; `said` gets what each was told."""
    _log_to(data_dir)
    asyncio.run(_approve(data_dir, aws_url, CaseId(case_id), act, times, gate, said))


async def _approve(data_dir: Path, aws_url: str, case_id: CaseId, act: str, times: int, gate: Any, said: Any) -> None:
    async with bot(data_dir, aws_url, alone=False) as world:
        case = await world.store.case(case_id)

        async def one(by: UserId) -> None:
            try:
                match act:
                    case "approve":
                        await decide.approve(world, case_id, case.revision, by, "")
                    case "decline":
                        await decide.decline(world, case_id, case.revision, by, "")
                    case "adjust":
                        await propose.start_proposal(
                            world,
                            case_id,
                            case.revision,
                            by,
                            mode="safe",
                            window=30,
                            reason="The yearly restore.",
                            button=Button.ADJUST,
                        )
                    case _:
                        await world.store.move(case_id, Event.EXPIRE, by=by, revision=case.revision)
                said.put((act, "won", ""))
            except RefineError as error:
                said.put((act, error.code, error.say()))

        await asyncio.to_thread(gate.wait)
        await asyncio.gather(*(one((ANN, BEN)[n % 2]) for n in range(times)))
        await world.engine.start()  # whoever won drives the change
        await world.engine.stop(patience=60)


def _log_to(data_dir: Path) -> None:
    file = (data_dir / "bot.log").open("a")  # as long as the process
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(file), wrapper_class=structlog.make_filtering_bound_logger(30)
    )
    logging.basicConfig(stream=file, level=logging.WARNING, force=True)
