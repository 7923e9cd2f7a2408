"""The stage of the demo and of the tests: a local AWS, a local Slack, and the bot as a process of its own.

The bot is told where things are by environment variables alone, as it would be told anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import aiohttp

from sandbox.aws import LocalAws
from sandbox.aws import start as start_aws
from sandbox.slack import LocalSlack

Way = Literal["socket", "http"]
STOP_SECONDS = 45  # the bot drains its work when told to stop


def bot_environment(aws_url: str, slack: LocalSlack, data_dir: Path, port: int, way: Way) -> dict[str, str]:
    """Return the environment of `refine run` on the stage; it does not pass on the caller's own settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "SLACK_", "REFINE_"))}
    return {
        **kept,
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "AKIASANDBOX000000000",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        **slack.bot_environment(way),
        "REFINE_REGIONS": "us-east-1,eu-west-1",
        "REFINE_EXTERNAL_ID": "refine-sandbox",
        "REFINE_DATA_DIR": str(data_dir),
        "REFINE_POLL_SECONDS": "5",
        "REFINE_SETTLE_SECONDS": "5",
        "REFINE_BURST_CARDS": "100",
        "REFINE_POST_SECONDS": "0.1",  # the local Slack is in no hurry, and its visitors are
        "REFINE_PORT": str(port),
        "REFINE_LOG": "text",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Bot:
    """`refine run`, as the operating system sees it."""

    env: dict[str, str]
    port: int
    log: IO[bytes] | None = None
    process: asyncio.subprocess.Process | None = None

    async def start(self, *, ready: bool = True) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "run", env=self.env, stdout=self.log, stderr=self.log
        )
        if ready:
            await self.until_ready()

    async def until_ready(self, seconds: float = 60) -> None:
        """Wait for `/readyz`.

        Raises:
            RuntimeError: the bot ended.
            TimeoutError: it is not ready in time.
        """
        async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
            while True:
                assert self.process is not None
                if self.process.returncode is not None:
                    raise RuntimeError(f"The bot ended with status {self.process.returncode}: see its log.")
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)

    async def stop(self) -> int:
        """Ask it to stop, as an operating system would; kill it where it does not. Returns its exit status."""
        process = self.process
        if process is None:
            return 0
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                await self.kill()
        return process.returncode or 0

    async def kill(self) -> None:
        """`kill -9`."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


@dataclass(frozen=True, slots=True)
class Stage:
    aws: LocalAws
    slack: LocalSlack
    bot: Bot


@contextlib.asynccontextmanager
async def stage(
    data_dir: Path,
    *,
    port: int = 0,
    way: Way = "socket",
    log: IO[bytes] | None = None,
    start: bool = True,
    **settings: str,
) -> AsyncIterator[Stage]:
    """Set everything up, `port` being the Slack page's; take it down again in the reverse order."""
    bot_port = free_port()
    aws = start_aws()
    slack = LocalSlack()
    bot: Bot | None = None
    try:
        await slack.start(port=port)
        if way == "http":
            slack.deliver_to(f"http://127.0.0.1:{bot_port}/slack/events")
        bot = Bot({**bot_environment(aws.url, slack, data_dir, bot_port, way), **settings}, bot_port, log)
        if start:
            await bot.start()
        yield Stage(aws, slack, bot)
    finally:
        if bot is not None:
            await bot.stop()
        await slack.stop()
        aws.stop()
