"""The demo: a local AWS, a local Slack with a page for the browser, and the bot, a process of its own.

The bot is told where things are by environment variables alone, as it would be told anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import webbrowser
from pathlib import Path

import aiohttp

from sandbox.aws import start as start_aws
from sandbox.slack import LocalSlack


def bot_environment(aws_url: str, slack: LocalSlack, data_dir: Path, **more: str) -> dict[str, str]:
    """Return the environment of `refine run` against the sandbox; it does not pass on the caller's own AWS settings."""
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
        **slack.bot_environment(),
        "REFINE_REGIONS": "us-east-1,eu-west-1",
        "REFINE_EXTERNAL_ID": "refine-sandbox",
        "REFINE_DATA_DIR": str(data_dir),
        "REFINE_POLL_SECONDS": "5",
        "REFINE_SETTLE_SECONDS": "5",
        "REFINE_PORT": "0",
        "REFINE_LOG": "text",
        **more,
    }


async def demo(port: int, *, browser: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="refine-demo-") as folder:
        aws = start_aws()
        slack = LocalSlack()
        await slack.start(port=port)
        bot = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", "run", env=bot_environment(aws.url, slack, Path(folder))
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stop.set)
        ended = asyncio.create_task(bot.wait())
        stopped = asyncio.create_task(stop.wait())
        try:
            if await _first_card(slack, ended, stopped):
                print(f"\n  Refine's demo is at {slack.url}  (Ctrl-C ends it)\n", flush=True)
                if browser:
                    await asyncio.to_thread(webbrowser.open, slack.url)
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                print(f"The bot ended with status {bot.returncode}: see its log above.", file=sys.stderr)
                return 1
            return 0
        finally:
            if bot.returncode is None:
                bot.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(bot.wait(), 30)
            if bot.returncode is None:
                bot.kill()
            stopped.cancel()
            await slack.stop()
            aws.stop()


async def _first_card(slack: LocalSlack, *ends: asyncio.Task[object]) -> bool:
    async with aiohttp.ClientSession() as session:
        while not any(e.done() for e in ends):
            async with session.get(f"{slack.url}/_refine/state") as answer:
                if any(channel for channel in (await answer.json())["messages"].values()):
                    return True
            await asyncio.sleep(0.2)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8484, help="port of the page (default: 8484, 0 for any)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    args = parser.parse_args()
    sys.exit(asyncio.run(demo(args.port, browser=not args.no_browser)))


if __name__ == "__main__":
    main()
