"""The operator's commands: run, doctor, manifest, pause."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bot.config import Settings, StoreSettings
    from bot.store import Store

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


@click.command()
def run() -> None:
    """Run the bot until it is told to stop (SIGTERM, Ctrl-C)."""
    from bot import app
    from bot.config import read_settings

    asyncio.run(app.run(read_settings()))


@click.command()
def manifest() -> None:
    """Print the manifest of the Slack app, to paste at api.slack.com/apps."""
    from bot.messages import manifest as text

    click.echo(text(), nl=False)


@click.command()
def doctor() -> None:
    """Check tokens, scopes, channel, AWS permissions and analyzers, and say for each what to do."""
    from bot.app import set_up_logging
    from bot.config import read_settings

    settings = read_settings()
    set_up_logging(settings)
    bad = asyncio.run(_doctor(settings))
    sys.exit(1 if bad else 0)


async def _doctor(settings: Settings) -> int:
    from datetime import UTC, datetime

    from bot.app import aws_settings
    from bot.aws import Aws
    from bot.errors import RefineError
    from bot.messages.slack import Slack, web_client

    bad = 0

    def say(state: str, what: str, todo: str = "") -> None:
        nonlocal bad
        bad += state == "fail"
        click.echo(f"{_MARKS[state]}  {what}" + (f"\n      → {todo}" if todo and state != "ok" else ""))

    async with web_client(settings.slack_bot_token.get_secret_value(), base_url=settings.slack_api_url) as client:
        slack = Slack(client, clock=lambda: datetime.now(UTC), sleep=asyncio.sleep)
        try:
            token = settings.slack_app_token.get_secret_value() if settings.slack_app_token else ""
            for check in await slack.checks(settings.refine_channel, token, settings.refine_approvers):
                say(check.state, check.sentence, check.todo)
        except RefineError as error:
            say("fail", error.sentence, error.next_step)
    if not settings.refine_approvers:
        say("fail", "Nobody may approve: REFINE_APPROVERS is empty.", "Set it to user or user group ids.")
    else:
        say("ok", f"REFINE_APPROVERS names {len(settings.refine_approvers)} people or groups.")
    try:
        async with Aws(aws_settings(settings)) as aws:
            for each in await aws.checks():
                say(each.state, each.sentence, each.todo)
    except RefineError as error:
        say("fail", error.sentence, error.next_step)
    await _look_at_the_store(settings, say)
    return bad


async def _look_at_the_store(settings: Settings, say: Callable[..., None]) -> None:
    from bot.errors import RefineError

    try:
        async with _store(settings) as store:
            broken, rewrites, shared = await store.verify_audit(), await store.may_rewrite_audit(), store.shared
    except RefineError as error:
        say("fail", error.sentence, error.next_step)
        return
    say("ok", f"The database answers: {'PostgreSQL' if shared else 'a SQLite file'}.")
    if broken is None:
        say("ok", "The audit log is whole.")
    else:
        say("fail", f"The audit log is broken from entry {broken} on.", "See `refine audit verify`.")
    if shared and rewrites:
        say(
            "warn",
            "The database user could rewrite the audit log, because the tables are its own.",
            "Make them as another user: `refine migrate --grant USER`.",
        )
    if shared and settings.refine_audit_key is None:
        say("warn", "REFINE_AUDIT_KEY is not set, so each replica would make its own.", "Set it to one key for all.")


@click.command()
@click.option("--off", is_flag=True, help="Lift the pause.")
def pause(*, off: bool) -> None:
    """Stop every write, at once, until `refine pause --off`."""
    from bot.config import read_store_settings

    asyncio.run(_pause(read_store_settings(), on=not off, user=_os_user()))
    click.echo("Refine writes nothing until `refine pause --off`." if not off else "Refine is at work again.")


def _os_user() -> str:
    """Return who runs this, by the operating system's word: the environment could say anything."""
    import os
    import pwd
    import re

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number alone
        name = str(os.getuid())
    return re.sub(r"[^\w.@-]", "?", name, flags=re.ASCII)  # it is shown in Slack


async def _pause(settings: StoreSettings, *, on: bool, user: str) -> None:
    from datetime import UTC, datetime

    from bot.flows.decide import PAUSED
    from bot.rules import REFINE

    async with _store(settings) as store:
        at = datetime.now(UTC)
        value = f"from the command line by {user} since {at:%Y-%m-%d %H:%M} UTC" if on else ""
        await store.set_flag(PAUSED, value, REFINE, detail={"operator": user})


def _store(settings: StoreSettings) -> AbstractAsyncContextManager[Store]:
    from bot.audit_command import open_store

    return open_store(settings)
