"""Shortcuts: pick a role from anywhere, or take the one that a message names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Final

import structlog
from slack_bolt.async_app import AsyncApp

from bot.errors import NotFoundError
from handlers import request
from handlers.request import Body, Picked
from handlers.surface import Surface, View

log = structlog.get_logger()

SUGGEST: Final = 2.0  # seconds: Slack waits three, and an empty list is better than none
_ARN: Final = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}")

ASK: Final[View] = {
    "type": "modal",
    "callback_id": "ask",
    "title": {"type": "plain_text", "text": "Refine", "emoji": False},
    "submit": {"type": "plain_text", "text": "Propose", "emoji": False},
    "close": {"type": "plain_text", "text": "Cancel", "emoji": False},
    "blocks": [
        {
            "type": "input",
            "block_id": "role",
            "label": {"type": "plain_text", "text": "Role", "emoji": False},
            "hint": {
                "type": "plain_text",
                "text": "Roles that have a case. For any other role, type /refine and its name or ARN.",
                "emoji": False,
            },
            "element": {
                "type": "external_select",
                "action_id": "pick",
                "min_query_length": 0,
                "placeholder": {"type": "plain_text", "text": "Part of its name", "emoji": False},
            },
        }
    ],
}


def register(app: AsyncApp, surface: Surface) -> None:
    @app.shortcut("refine_role")
    async def pick_role(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.picked, pick)

    @app.shortcut("refine_message")
    async def take_message(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.picked, take)

    @app.options("pick")
    async def suggest_roles(ack: Any, body: Any) -> None:
        await ack(options=await suggest(surface, body))


async def pick(surface: Surface, picked: Picked) -> None:
    await surface.slack.open_view(picked.trigger_id, ASK)


async def take(surface: Surface, picked: Picked) -> None:
    """Ask about the role whose ARN is in the message.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    # A full stop or a comma ends the sentence more often than the name.
    arns = tuple(dict.fromkeys(a.rstrip(".,-") for t in _texts(picked.message) for a in _ARN.findall(t)))
    if not arns:
        raise NotFoundError("This message names no role.", "Use it on one with an ARN, arn:aws:iam::…:role/Name.")
    if len(arns) > 1:
        raise NotFoundError(f"This message names {len(arns)} roles.", f"Ask for the one you mean: /refine {arns[0]}")
    await surface.answer(picked, await surface.desk.ask(arns[0], picked.user))


def _texts(value: object) -> Iterator[str]:
    """Yield every text of a message: plain, in blocks, in attachments."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


async def suggest(surface: Surface, body: Body) -> list[dict[str, Any]]:
    """Return the roles that match what was typed so far; none where they cannot be had in time."""
    try:
        async with asyncio.timeout(SUGGEST):
            roles = await surface.desk.suggest(str(body.get("value") or ""), request.user(body))
    except Exception as error:
        log.warning("no suggestions", why=type(error).__name__)
        return []
    return [
        {
            "text": {"type": "plain_text", "text": name[:75], "emoji": False},
            "description": {"type": "plain_text", "text": account, "emoji": False},
            "value": f"{account}/{name}",
        }
        for account, name in roles[:100]
    ]
