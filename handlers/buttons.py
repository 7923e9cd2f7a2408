"""Buttons and pickers, wherever they are: on a card, in its thread, in a dialog, in App Home."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from slack_bolt.async_app import AsyncApp

from bot.flows import Desk
from bot.model import Mode, UserId
from bot.rules import Button
from handlers import home, request
from handlers.request import Click, Screen, Ticket, number, old_button
from handlers.surface import Surface, View, dialog

CHECK: Final = 1.0  # seconds; a look at a person and a group takes Slack a fifth of that

Act = Callable[[Desk, Ticket, UserId], Awaitable[None]]


def _propose(button: Button, mode: str = "") -> Act:
    return lambda desk, ticket, by: desk.propose(ticket.case_id, ticket.revision, by, mode=mode, button=button)


# What acts at once, by the end of its action id.
AT_ONCE: Final[Mapping[str, Act]] = {
    Button.REVIEW: lambda desk, ticket, by: desk.look(ticket.case_id, ticket.revision, by),
    Button.PROPOSE: _propose(Button.PROPOSE),
    "propose_strict": _propose(Button.PROPOSE, Mode.STRICT),
    "propose_safe": _propose(Button.PROPOSE, Mode.SAFE),
    Button.REPLAN: _propose(Button.REPLAN),
    Button.RETRY: lambda desk, ticket, by: desk.retry(ticket.case_id, ticket.revision, by),
    Button.REOPEN: lambda desk, ticket, by: desk.reopen(ticket.case_id, ticket.revision, by),
}
# What asks something first, in a modal.
ASKS: Final = frozenset(
    {
        Button.APPROVE,
        Button.DECLINE,
        Button.ADJUST,
        Button.SNOOZE,
        Button.ACCEPT,
        Button.ROLL_BACK,
        Button.GIVE_BACK,
        Button.NARROW,
    }
)


def register(app: AsyncApp, surface: Surface) -> None:
    @app.action(re.compile(r"^case:"))
    async def press_case(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.click, press)

    @app.action(re.compile(r"^review:(service|show|order|back|on)$"))
    async def pick_service(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.click, service)

    @app.action(re.compile(r"^modal:(page|search)$"))
    async def turn_modal(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.click, turn)


def register_rest(app: AsyncApp, surface: Surface) -> None:
    """Answer what nobody else does: it has to be registered last."""

    @app.action(re.compile(r"^link:"))
    async def follow_link(ack: Any) -> None:
        await ack()  # a button with an address: the browser has done the rest

    @app.action({"type": "block_actions", "action_id": re.compile(r"")})
    async def press_other(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.click, unknown)


async def press(surface: Surface, click: Click) -> None:
    """Do what the button of a case says, or open the dialog that asks first."""
    ticket = Ticket.read(click.value)
    name = click.action_id.removeprefix("case:")
    if name in AT_ONCE:
        await AT_ONCE[name](surface.desk, ticket, click.user)
        await _redraw(surface, click, ticket)
    elif name in ASKS:
        await _ask(surface, click, ticket, Button(name))
    elif name == Button.EXPLAIN:
        await surface.desk.check(ticket.case_id, ticket.revision, click.user, Button.EXPLAIN)
        await surface.answer(click, await surface.desk.explain(ticket.case_id))
    elif name == "open":
        await _open(surface, click, ticket)
    else:
        raise old_button()


async def _ask(surface: Surface, click: Click, ticket: Ticket, button: Button) -> None:
    """Open the dialog that asks; who may not is told so in a line, without one.

    What the check takes is taken from the three seconds in which Slack opens a dialog: where it takes too long, the
    dialog is opened first, and says it.
    """
    check = asyncio.create_task(surface.desk.check(ticket.case_id, ticket.revision, click.user, button))
    try:
        done, _ = await asyncio.wait({check}, timeout=CHECK)
        for each in done:
            each.result()
        inside = await surface.loading(click)
    except BaseException:
        check.cancel()
        raise

    async def draw() -> None:
        await check
        view = await surface.desk.modal(ticket.case_id, button, by=click.user)
        await surface.show(inside, _from(view, origin(click)))

    await surface.guard(inside, draw())


async def _open(surface: Surface, click: Click, ticket: Ticket) -> None:
    """Show a case's card in a dialog: App Home cannot link to a message whose address it does not know."""
    inside = await surface.loading(click)

    async def draw() -> None:
        await surface.desk.may_look(click.user)
        await surface.show(inside, _card(await surface.desk.card(ticket.case_id), origin(click)))

    await surface.guard(inside, draw())


def _card(card: Mapping[str, Any], came_from: str) -> View:
    return {**dialog("", list(card["blocks"])), "callback_id": "card", "private_metadata": f"card:0:{came_from}"}


async def _redraw(surface: Surface, click: Click, ticket: Ticket) -> None:
    """Redraw the screen that was clicked in; the channel's card is the outbox's."""
    if click.at_home:
        await home.show(surface, click)
    elif click.in_modal:
        await surface.show(click, _card(await surface.desk.card(ticket.case_id), origin(click)))


async def service(surface: Surface, click: Click) -> None:
    """Open one service of the review, or one kind of action, for the one who picked it; the next in its place."""
    await surface.desk.may_look(click.user)
    case = Ticket.read(click.block_id.removeprefix("review:").partition(":")[0] + ":0")
    await surface.answer(click, await surface.desk.service(case.case_id, click.value), replace=True)


async def turn(surface: Surface, click: Click) -> None:
    """Turn a page or search in a dialog's list; what was picked and typed so far goes along."""
    screen = click.screen
    name = screen.callback_id.removeprefix("case:") if screen is not None else ""
    if screen is None or name not in ASKS:
        raise old_button()
    ticket = Ticket.read(screen.metadata)
    button = Button(name)
    await surface.desk.check(ticket.case_id, ticket.revision, click.user, button)
    page = number(click.value) if click.action_id == "modal:page" else 0
    view = await surface.desk.modal(
        ticket.case_id, button, page=page, search=_search(screen), state=screen.values, by=click.user
    )
    await surface.show(click, _from(view, ticket.origin))


def _search(screen: Screen) -> str:
    return str((screen.values.get("search") or {}).get("text", {}).get("value") or "").strip()


async def unknown(surface: Surface, click: Click) -> None:
    del surface, click
    raise old_button()


def origin(click: Click) -> str:
    """Where a dialog was opened, to be carried in it: `home:PAGE:FILTER`, `CHANNEL:THREAD`, or as in the one below."""
    if click.screen is None:
        return f"{click.channel}:{click.thread_ts}"
    if click.screen.home:
        return f"home:{click.screen.metadata}"
    return Ticket.read(click.screen.metadata).origin


def _from(view: View, came_from: str) -> View:
    return {**view, "private_metadata": f"{view['private_metadata']}:{came_from}"}
