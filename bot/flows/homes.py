"""App Home: drawn from the store, for who opens it, and again for those who look at it when a case moves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from bot import messages
from bot.errors import NotAllowedError, RefineError
from bot.flows import overview, pictures
from bot.flows.ports import Payload
from bot.flows.world import World
from bot.model import UserId

log = structlog.get_logger()

OPEN = timedelta(hours=1)  # since somebody opened it or acted in it; Slack does not say when they leave
MOST = 50  # that are kept up to date
# views.publish may be called some 100 times a minute: https://docs.slack.dev/apis/web-api/rate-limits (tier 4)
PACE = 0.6


async def draw(world: World, by: UserId, page: int = 0, view: str = "") -> Payload:
    """Draw a page of the cases that `view` names (see `overview.page`), and remember that `by` looks at it.

    Where the picture in it is not there yet, it is made behind this, and the page is drawn once more with it.
    """
    payload, missing = await _draw(world, by, page, view)
    if missing:
        world.moved.set()
    return payload


async def _draw(world: World, by: UserId, page: int, view: str) -> tuple[Payload, bool]:
    person = await world.slack.person(by)
    found = await overview.page(world, person, page, view)
    world.homes.pop(by, None)  # the latest comes last
    world.homes[by] = (world.clock(), found.page, view)
    picture, missing = await pictures.of_removed(world, make=False)
    payload = messages.home(
        found.cases,
        page=found.page,
        total=found.total,
        person=person,
        now=world.clock(),
        counts=await world.store.counts(),
        state=view,
        glance=found.glance,
        picture=picture,
    )
    return payload, missing


async def keep(world: World, *, stop: asyncio.Event) -> None:
    """Draw the App Homes that are looked at anew whenever a card was, until `stop` is set."""
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(world.moved.wait(), 1.0)
        if not world.moved.is_set():
            continue
        world.moved.clear()
        now = world.clock()
        world.homes = dict([(u, seen) for u, seen in world.homes.items() if now - seen[0] < OPEN][-MOST:])
        if world.homes:
            await _picture(world)
        for user in tuple(world.homes):
            if stop.is_set():
                return
            await _redraw(world, user)
            await world.sleep(PACE)


async def _picture(world: World) -> None:
    try:
        await pictures.of_removed(world)
    except RefineError as error:
        log.warning("no picture", why=error.sentence)


async def _redraw(world: World, user: UserId) -> None:
    at, page, state = world.homes[user]
    try:
        await world.may_look(user)
        view, _ = await _draw(world, user, page, state)
        await world.slack.publish_home(user, {**view, "private_metadata": f"{page}:{state}"})
    except NotAllowedError:
        world.homes.pop(user, None)  # they may look no more: what is there is drawn anew when they open it
        return
    except RefineError as error:
        log.warning("App Home is behind", user=user, why=error.sentence)
    except Exception:
        log.exception("App Home could not be drawn", user=user)
    world.homes[user] = (at, *world.homes[user][1:])  # drawn for them, not by them
