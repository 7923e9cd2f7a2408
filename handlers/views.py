"""Dialogs sent off: checked at once, so that a mistake is shown beside its field, then handed to the flow."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from slack_bolt.async_app import AsyncApp

from bot.errors import StaleError
from bot.flows import Desk
from bot.flows.propose import WINDOW
from bot.model import Mode, UserId
from bot.rules import Button
from handlers import home, request
from handlers.request import Body, Request, Screen, Ticket, Values, number, old_button
from handlers.surface import Surface, dialog, escaped

DAYS: Final = (7, 14, 30, 90)
REASON: Final = 1000  # characters
NEEDS_REASON: Final[Mapping[Button, str]] = {
    Button.ACCEPT: "Say why this access is meant to be so.",
    Button.SNOOZE: "Say what it waits for.",
    Button.ADJUST: "Say why, for those who approve it.",
}
_PATTERN: Final = re.compile(r"[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+")  # s3:Get*


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What was filled in; what the dialog does not ask stays empty."""

    reason: str = ""
    days: int = 0
    owner: str = ""
    window: int = 0
    mode: str = ""
    keep: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent(Request):
    """A dialog sent off; what is asked of the request is answered where the dialog was opened."""

    button: Button
    ticket: Ticket
    form: Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Request):
    """The shortcut's dialog sent off."""

    role: str


Send = Callable[[Desk, Ticket, UserId, Form], Awaitable[None]]

SENDS: Final[Mapping[Button, Send]] = {
    Button.APPROVE: lambda desk, t, by, form: desk.approve(t.case_id, t.revision, by, form.reason),
    Button.DECLINE: lambda desk, t, by, form: desk.decline(t.case_id, t.revision, by, form.reason),
    Button.ADJUST: lambda desk, t, by, form: desk.propose(
        t.case_id,
        t.revision,
        by,
        mode=form.mode,
        window=form.window,
        keep_by_hand=(*form.keep, *form.actions),
        reason=form.reason,
        button=Button.ADJUST,
    ),
    Button.SNOOZE: lambda desk, t, by, form: desk.snooze(t.case_id, t.revision, by, form.reason, form.days),
    Button.ACCEPT: lambda desk, t, by, form: desk.accept(t.case_id, t.revision, by, form.reason, form.days, form.owner),
    Button.ROLL_BACK: lambda desk, t, by, form: desk.roll_back(t.case_id, t.revision, by, form.reason),
    Button.GIVE_BACK: lambda desk, t, by, form: desk.give_back(t.case_id, t.revision, by, form.actions),
}


def register(app: AsyncApp, surface: Surface) -> None:
    @app.view(re.compile(r"^case:"))
    async def send_case(ack: Any, body: Any) -> None:
        try:
            sent, problems = read(body)
        except StaleError as error:
            await ack(response_action="update", view=dialog(escaped(error.say())))
            return
        if problems:
            await ack(response_action="errors", errors=problems)
            return
        await ack(response_action="clear")
        surface.spawn(body, lambda _: sent, send)

    @app.view("ask")
    async def send_ask(ack: Any, body: Any) -> None:
        # Redrawn by the acknowledgement, the dialog could lose an answer that was drawn before Slack had that.
        await ack()
        surface.spawn(body, asked, ask)

    @app.view(re.compile(r""))
    async def send_other(ack: Any) -> None:
        await ack()  # a dialog without a question


def read(body: Body) -> tuple[Sent, dict[str, str]]:
    """Return what was sent off, and for each block that is not as it should be, what is wrong with it.

    Raises:
        StaleError: the dialog is none of ours, or no longer.
    """
    screen = request.screen(body)
    name = screen.callback_id.removeprefix("case:") if screen is not None else ""
    if screen is None or name not in SENDS:
        raise old_button()
    ticket = Ticket.read(screen.metadata)
    place, _, rest = ticket.origin.partition(":")
    at_home = place == "home"
    # The dialog is closed by now, so that an answer goes to where it was opened.
    sent = Sent(
        user=request.user(body),
        channel="" if at_home else place,
        thread_ts="" if at_home else rest,
        trigger_id=str(body.get("trigger_id") or ""),
        screen=Screen(id="", home=True, metadata=rest) if at_home else None,
        button=Button(name),
        ticket=ticket,
        form=_form(screen.values),
    )
    return sent, _problems(sent.button, sent.form, screen.values)


def _form(values: Values) -> Form:
    return Form(
        reason=str(_state(values, "reason").get("value") or "").strip(),
        days=number(_option(values, "days")),
        owner=str(_state(values, "owner").get("selected_user") or ""),
        window=number(_option(values, "window")),
        mode=_option(values, "mode"),
        keep=tuple(_lines(str(_state(values, "keep").get("value") or ""))),
        actions=tuple(str(o["value"]) for o in _state(values, "actions").get("selected_options") or ()),
    )


def _problems(button: Button, form: Form, values: Values) -> dict[str, str]:
    problems: dict[str, str] = {}
    if button in NEEDS_REASON and not form.reason:
        problems["reason"] = NEEDS_REASON[button]
    if len(form.reason) > REASON:
        problems["reason"] = f"Say it in {REASON:,} characters or fewer."
    if button in {Button.ACCEPT, Button.SNOOZE} and form.days not in DAYS:
        problems["days"] = "Pick how long."
    if button is Button.ADJUST and form.window > WINDOW:
        problems["window"] = f"IAM looks back {WINDOW} days at most."
    if button is Button.ADJUST and form.mode not in {"", *Mode}:
        problems["mode"] = "Pick safe or strict."
    bad = next((p for p in form.keep if not _PATTERN.fullmatch(p)), "")
    if bad:
        problems["keep"] = f"{bad[:60]} is no action or pattern such as s3:Get*. Write one a line."
    if button is Button.GIVE_BACK and not form.actions:
        problems["actions"] = "Pick what the role shall have again."
    return {_block(values, name): problem for name, problem in problems.items()}


async def send(surface: Surface, sent: Sent) -> None:
    await SENDS[sent.button](surface.desk, sent.ticket, sent.user, sent.form)
    if sent.at_home:
        await home.show(surface, sent)


def _block(values: Values, name: str) -> str:
    """Return the id of a block: a redrawn one has a suffix, for Slack keeps old input in a block of the same id."""
    return next((b for b in values if b.partition(":")[0] == name), name)


def _state(values: Values, name: str) -> Mapping[str, Any]:
    return next(iter(values.get(_block(values, name), {}).values()), {})


def _option(values: Values, name: str) -> str:
    return str((_state(values, name).get("selected_option") or {}).get("value") or "")


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def asked(body: Body) -> Asked:
    screen = request.screen(body)
    return Asked(user=request.user(body), role=_option(screen.values, "role") if screen is not None else "")


async def ask(surface: Surface, who: Asked) -> None:
    """Answer the shortcut's dialog directly: it has no channel, and is closed by now."""
    await surface.answer(who, await surface.desk.ask(who.role, who.user))
