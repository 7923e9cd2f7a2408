"""App Home: drawn from the store whenever it is opened, turned, filtered or acted in."""

from __future__ import annotations

from typing import Any

from slack_bolt.async_app import AsyncApp

from bot.errors import NotAllowedError, StaleError
from handlers import request
from handlers.request import Click, Request, number
from handlers.surface import Surface, View, dialog, escaped


def register(app: AsyncApp, surface: Surface) -> None:
    @app.event("app_home_opened")
    async def open_home(ack: Any, body: Any) -> None:
        await ack()
        if (body.get("event") or {}).get("tab", "home") == "home":
            surface.spawn(body, request.opened, show)

    @app.action("home:page")
    async def turn_home(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.click, turn)

    @app.action("home:filter")
    async def filter_home(ack: Any, body: Any) -> None:
        await ack()
        surface.spawn(body, request.click, sift)


async def show(surface: Surface, who: Request) -> None:
    """Draw it as it was: the page and the filter are in its metadata."""
    page, _, state = (who.screen.metadata if who.screen is not None else "").partition(":")
    await _publish(surface, who, page=number(page), state=state)


async def turn(surface: Surface, click: Click) -> None:
    page, _, state = click.value.partition(":")
    await _publish(surface, click, page=number(page), state=state)


async def sift(surface: Surface, click: Click) -> None:
    await _publish(surface, click, page=0, state=click.value)


async def _publish(surface: Surface, who: Request, *, page: int, state: str) -> None:
    state = "" if state == "all" else state
    seen = who.screen.hash if who.screen is not None else ""
    try:
        await surface.slack.publish_home(who.user, await _draw(surface, who, page, state), seen)
    except StaleError:
        # Somebody drew it meanwhile, from a store that may have been older: ours is drawn again, from what is true now.
        await surface.slack.publish_home(who.user, await _draw(surface, who, page, state))


async def _draw(surface: Surface, who: Request, page: int, state: str) -> View:
    try:
        await surface.desk.may_look(who.user)
    except NotAllowedError as error:
        return {"type": "home", "blocks": dialog(escaped(error.say()))["blocks"]}
    view = await surface.desk.home(who.user, page, state)
    return {**view, "private_metadata": f"{page}:{state}"}
