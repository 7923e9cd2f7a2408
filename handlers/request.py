"""What Slack sends, read into frozen values. Nothing else in `handlers` looks into a body.

Shapes: https://docs.slack.dev/reference/interaction-payloads
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bot.errors import StaleError
from bot.model import CaseId, UserId

Body = Mapping[str, Any]
Values = Mapping[str, Mapping[str, Any]]  # block id → action id → its state

_TICKET: Final = re.compile(r"([\w-]{1,64}):(\d{1,9})(?::(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a button or a dialog carries: a case, the revision that it shows, and, in a dialog, where it was opened."""

    case_id: CaseId
    revision: int
    origin: str = ""

    @classmethod
    def read(cls, value: str) -> Ticket:
        """Read `case:revision[:origin]`.

        Raises:
            StaleError: it is none of ours, or no longer.
        """
        found = _TICKET.fullmatch(value)
        if found is None:
            raise old_button()
        return cls(case_id=CaseId(found[1]), revision=int(found[2]), origin=found[3] or "")


def old_button() -> StaleError:
    return StaleError("This button is from another version of Refine.", "Use the card as it is now, or /refine.")


def number(text: str) -> int:
    """Read a small number that a control carries; anything else is 0."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """The modal or the App Home that somebody acted in."""

    id: str
    hash: str = ""
    home: bool = False
    callback_id: str = ""
    metadata: str = ""
    values: Values = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who acted and where: what an answer needs. What could be used by whoever reads a log is not in its `repr`."""

    user: UserId
    channel: str = ""
    thread_ts: str = ""
    trigger_id: str = field(default="", repr=False)
    response_url: str = field(default="", repr=False)
    screen: Screen | None = None
    whispered: bool = False  # in a message that only this person sees

    @property
    def id(self) -> str:
        """Slack's id of the request, without the part with which a dialog could be opened."""
        return ".".join(self.trigger_id.split(".")[:2])

    @property
    def in_modal(self) -> bool:
        return self.screen is not None and not self.screen.home

    @property
    def at_home(self) -> bool:
        return self.screen is not None and self.screen.home


@dataclass(frozen=True, slots=True, kw_only=True)
class Click(Request):
    """A button pressed or an option picked."""

    action_id: str
    block_id: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed(Request):
    """A slash command."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked(Request):
    """A shortcut; `message` is what a message shortcut was used on."""

    message: Body = field(default_factory=dict, repr=False)


def click(body: Body) -> Click:
    action: Body = body["actions"][0]
    container: Body = body.get("container") or {}
    message: Body = body.get("message") or {}
    ts = str(message.get("ts") or container.get("message_ts") or "")
    thread_ts = str(message.get("thread_ts") or container.get("thread_ts") or "")
    selected: Body = action.get("selected_option") or {}
    return Click(
        user=user(body),
        channel=str((body.get("channel") or {}).get("id") or container.get("channel_id") or ""),
        # A card is the root of its thread, but the clicker looks at the channel.
        thread_ts="" if thread_ts == ts else thread_ts,
        trigger_id=str(body.get("trigger_id") or ""),
        response_url=str(body.get("response_url") or ""),
        screen=screen(body),
        whispered=bool(container.get("is_ephemeral")),
        action_id=str(action.get("action_id") or ""),
        block_id=str(action.get("block_id") or ""),
        value=str(action.get("value") or selected.get("value") or ""),
    )


def typed(body: Body) -> Typed:
    return Typed(
        user=UserId(body["user_id"]),
        channel=str(body.get("channel_id") or ""),
        trigger_id=str(body.get("trigger_id") or ""),
        response_url=str(body.get("response_url") or ""),
        text=str(body.get("text") or ""),
    )


def picked(body: Body) -> Picked:
    message: Body = body.get("message") or {}
    thread_ts = str(message.get("thread_ts") or "")
    return Picked(
        user=user(body),
        channel=str((body.get("channel") or {}).get("id") or ""),
        thread_ts="" if thread_ts == message.get("ts") else thread_ts,
        trigger_id=str(body.get("trigger_id") or ""),
        response_url=str(body.get("response_url") or ""),
        message=message,
    )


def opened(body: Body) -> Request:
    """Read the event `app_home_opened`."""
    event: Body = body["event"]
    view: Body = event.get("view") or {}
    return Request(
        user=UserId(event["user"]),
        screen=Screen(
            id=str(view.get("id") or ""),
            hash=str(view.get("hash") or ""),
            home=True,
            metadata=str(view.get("private_metadata") or ""),
        ),
    )


def user(body: Body) -> UserId:
    return UserId(body["user"]["id"])


def screen(body: Body) -> Screen | None:
    view: Body = body.get("view") or {}
    if not view:
        return None
    return Screen(
        id=str(view["id"]),
        hash=str(view.get("hash") or ""),
        home=view.get("type") == "home",
        callback_id=str(view.get("callback_id") or ""),
        metadata=str(view.get("private_metadata") or ""),
        values=(view.get("state") or {}).get("values") or {},
    )
