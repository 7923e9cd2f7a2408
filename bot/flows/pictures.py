"""Pictures of stored numbers: drawn aside, given to Slack where the numbers changed, and never in a message's way."""

from __future__ import annotations

import asyncio

import structlog

from bot import messages
from bot.flows.world import World
from bot.messages import Drawing, Picture, Removed
from bot.model import Case, Trim

log = structlog.get_logger()

PATIENCE = 5.0  # seconds that a message waits for its picture to be drawn and brought to Slack


async def of_review(world: World, case: Case, seen: Trim) -> Picture | None:
    window_days = world.settings.refine_window_days
    drawing = messages.review_picture(case, seen, world.clock(), window_days=window_days)
    return await _hosted(world, f"review/{case.id}", drawing) if drawing.bars else None


async def of_removed(world: World, *, make: bool = True) -> tuple[Picture | None, bool]:
    """Return the picture of what was removed over time, and whether there is one to make.

    `make`: draw it and give it to Slack where Slack has not got it; else it is returned only where Slack has.
    """
    drawing = Removed.of(await world.store.removed_by_week(), world.clock().date())
    if drawing is None:
        return None, False
    picture = await (_hosted if make else _known)(world, "removed", drawing)
    return picture, picture is None


async def _known(world: World, name: str, drawing: Drawing) -> Picture | None:
    digest, _, file = (await world.store.recall(_key(name))).partition(" ")
    return Picture(file=file, alt=drawing.alt()) if digest == drawing.digest() else None


async def _hosted(world: World, name: str, drawing: Drawing) -> Picture | None:
    """Return the picture as Slack has it; None where it cannot be drawn or brought there: a message goes without it."""
    try:
        known = await _known(world, name, drawing)
        if known is not None:
            return known
        async with asyncio.timeout(PATIENCE):
            async with world.drawing:  # one at a time: the threads are for what people wait for
                png = await asyncio.to_thread(drawing.png)
            file = await world.slack.host("picture.png", png)
        await world.store.remember(_key(name), f"{drawing.digest()} {file}")
        return Picture(file=file, alt=drawing.alt())
    except Exception as error:
        log.warning("no picture", name=name, why=str(error))
        return None


def _key(name: str) -> str:
    return f"picture/{name}"
