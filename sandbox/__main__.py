"""The demo: a local AWS, a local Slack with a page for the browser, and the bot, a process of its own."""

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

from sandbox.stage import Stage, stage


async def demo(port: int, *, browser: bool) -> int:
    """Run until Ctrl-C or the bot's end; returns the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    with tempfile.TemporaryDirectory(prefix="refine-demo-") as folder:
        print("Starting a local AWS, a local Slack and the bot …", flush=True)
        try:
            async with stage(Path(folder), port=port) as running:
                return await _show(running, stop, browser=browser)
        except (RuntimeError, TimeoutError, OSError) as error:
            print(f"The demo cannot start: {error or 'the bot is not ready in time'}", file=sys.stderr)
            return 1


async def _show(running: Stage, stop: asyncio.Event, *, browser: bool) -> int:
    assert running.bot.process is not None
    ended = asyncio.create_task(running.bot.process.wait())
    stopped = asyncio.create_task(stop.wait())
    card = asyncio.create_task(running.slack.until(running.slack.messages, timeout=60))
    try:
        await asyncio.wait({ended, stopped, card}, return_when=asyncio.FIRST_COMPLETED)
        if card.done():
            card.result()
            print(f"\n  The first card is up: {running.slack.url}  (Ctrl-C ends the demo)\n", flush=True)
            if browser and _has_screen():
                await asyncio.to_thread(webbrowser.open, running.slack.url)
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            print(f"The bot ended with status {ended.result()}: see its log above.", file=sys.stderr)
            return 1
        return 0
    finally:
        for task in (ended, stopped, card):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await task


def _has_screen() -> bool:
    # Without one, Python would start a browser for terminals, which takes the terminal away from the demo.
    return sys.platform in {"darwin", "win32"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8484, help="port of the page (default: 8484, 0 for any)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    args = parser.parse_args()
    sys.exit(asyncio.run(demo(args.port, browser=not args.no_browser)))


if __name__ == "__main__":
    main()
