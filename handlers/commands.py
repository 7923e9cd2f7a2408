"""`/refine …`: read into a command, handed to the desk, answered to the one who typed it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from slack_bolt.async_app import AsyncApp

from bot.errors import InputError, NotFoundError, RefineError
from bot.flows import Answer
from bot.model import UserId
from handlers import request
from handlers.request import Typed
from handlers.surface import Surface


class Verb(StrEnum):
    ASK = "ask"
    LIST = "list"
    STATUS = "status"
    HISTORY = "history"
    ROLLBACK = "rollback"
    PAUSE = "pause"
    RESUME = "resume"
    HELP = "help"


@dataclass(frozen=True, slots=True, kw_only=True)
class Help:
    """A row of `/refine help`."""

    verb: Verb
    usage: str
    what: str


HELP: Final = (
    Help(
        verb=Verb.ASK,
        usage="/refine ApplicationRole",
        what="Read what a role used, and propose a trimmed policy. Also an ARN, or account/name.",
    ),
    Help(
        verb=Verb.LIST,
        usage="/refine list [NAME]",
        what="List the cases, or those whose role has NAME in its name.",
    ),
    Help(
        verb=Verb.STATUS,
        usage="/refine status",
        what="Say how many cases are where, and whether changes may be written.",
    ),
    Help(verb=Verb.HISTORY, usage="/refine history ROLE", what="Say who did what to a role, and when."),
    Help(
        verb=Verb.ROLLBACK,
        usage="/refine rollback ROLE REASON",
        what="Put back what a role had before its last change. Approvers only.",
    ),
    Help(verb=Verb.PAUSE, usage="/refine pause", what="Stop every write. Approvers only."),
    Help(verb=Verb.RESUME, usage="/refine resume", what="Allow writes again. Approvers only."),
    Help(verb=Verb.HELP, usage="/refine help", what="Show this."),
)
_NEEDS: Final = frozenset({Verb.ASK, Verb.HISTORY})  # a role
_ALONE: Final = frozenset({Verb.STATUS, Verb.PAUSE, Verb.RESUME})


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    verb: Verb
    argument: str = ""
    reason: str = ""
    plain: bool = False  # a role's name without a verb before it


def parse(text: str) -> Command:
    """Read what was typed after `/refine`: nothing is a cry for help, one word that is no verb is a role.

    Raises:
        InputError: it is neither; the next step is the nearest thing that would be.
    """
    word, _, rest = text.strip().partition(" ")
    rest = rest.strip()
    if not word:
        return Command(verb=Verb.HELP)
    verb = next((v for v in Verb if v == word.lower()), None)
    if verb is None:
        if rest:
            raise InputError(f"Refine does not know the command {word[:40]!r}.", _did_you_mean(word, rest))
        return Command(verb=Verb.ASK, argument=word, plain=True)
    if verb in _NEEDS and not rest:
        raise InputError(f"/refine {verb} needs the name of a role.", f"Try /refine {verb} ApplicationRole.")
    if verb in _ALONE and rest:
        raise InputError(f"/refine {verb} takes nothing after it.", f"Did you mean /refine {rest.split()[0][:64]}?")
    if verb is Verb.ROLLBACK:
        role, _, reason = rest.partition(" ")
        if not reason.strip():
            raise InputError(
                "/refine rollback needs the name of a role and a reason.",
                f"Try /refine rollback {role[:64] or 'ApplicationRole'} its nightly export fails.",
            )
        return Command(verb=verb, argument=role, reason=reason.strip())
    return Command(verb=verb, argument=rest)


def _near(word: str) -> str:
    return next(iter(difflib.get_close_matches(word.lower(), list(Verb), n=1, cutoff=0.7)), "")


def _did_you_mean(word: str, rest: str) -> str:
    near = _near(word)
    if not near:
        return "Try /refine help."
    return f"Did you mean /refine {near}{'' if near in _ALONE else ' ' + rest[:64]}?"


def register(app: AsyncApp, surface: Surface) -> None:
    @app.command("/refine")
    async def refine(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.typed, obey)


async def obey(surface: Surface, typed: Typed) -> None:
    command = parse(typed.text)
    await surface.answer(typed, await _do(surface, command, typed.user))


async def _do(surface: Surface, command: Command, by: UserId) -> Answer:
    desk = surface.desk
    match command.verb:
        case Verb.ASK:
            try:
                return await desk.ask(command.argument, by)
            except NotFoundError as error:
                raise _or_a_verb(error, command) from None
        case Verb.ROLLBACK:
            return await desk.roll_back_by_name(command.argument, by, command.reason)
        case Verb.PAUSE | Verb.RESUME:
            return await desk.pause(by, on=command.verb is Verb.PAUSE)
        case Verb.HELP:
            return await desk.help([(row.usage, row.what) for row in HELP])
    await desk.may_look(by)
    match command.verb:
        case Verb.LIST:
            return await desk.list(command.argument)
        case Verb.HISTORY:
            return await desk.history(command.argument)
    return await desk.status()


def _or_a_verb(error: NotFoundError, command: Command) -> RefineError:
    """A mistyped command looks like the name of a role: once AWS knows none, say so."""
    near = _near(command.argument) if command.plain else ""
    if not near:
        return error
    return NotFoundError(error.sentence, f"{error.next_step} The command is /refine {near}.".strip())
