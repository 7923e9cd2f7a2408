"""The outbox: draws what the store says and posts it, in order, at Slack's pace, never twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from bot import messages
from bot.errors import NotFoundError, RefineError, ThrottledError, UnavailableError, UnknownOutcomeError
from bot.flows.ports import OutboxItem, Payload
from bot.flows.world import World
from bot.model import Case, ChangeId, ProposalId, TrimSettings, UserId
from bot.policy import permits_summary, trim

log = structlog.get_logger()

TRIES = 8


async def pump(world: World, *, stop: asyncio.Event) -> None:
    """Send what is due, then sleep until poked; ends when `stop` is set, after what is under way."""
    while not stop.is_set():
        world.wake.clear()
        try:
            busy = await send_due(world)
        except RefineError as error:
            log.warning("outbox waits", error=error.sentence)
            busy = False
        except Exception:
            log.exception("outbox crashed")
            busy = False
        if not busy:
            with suppress(TimeoutError):
                await asyncio.wait_for(world.wake.wait(), 1.0)


async def send_due(world: World) -> bool:
    """Send one batch; tells whether there was anything."""
    items = await world.store.due(world.clock())
    for item in items:
        await _send(world, item)
    return bool(items)


async def _send(world: World, item: OutboxItem) -> None:
    try:
        await _deliver(world, item)
    except (ThrottledError, UnavailableError, UnknownOutcomeError) as error:
        if item.tries >= TRIES:
            log.error("message given up", key=item.key, error=error.sentence)
            await world.store.dead(item.id, error.sentence)
            return
        pause = min(2.0**item.tries, 300.0)
        await world.store.later(item.id, world.clock() + timedelta(seconds=pause), error.sentence)
    except NotFoundError as error:
        # The card or channel is gone from Slack: say it in the log, the case lives on.
        log.warning("message has no place", key=item.key, error=error.sentence)
        await world.store.dead(item.id, error.sentence)
    except RefineError as error:
        log.error("message refused", key=item.key, error=error.sentence)
        await world.store.dead(item.id, error.sentence)


async def _deliver(world: World, item: OutboxItem) -> None:
    args = dict(item.args)
    if item.kind == "summary":
        payload = await summary(world, item.name, args)
        await _post(world, item, world.settings.refine_channel, payload, None)
        return
    assert item.case_id is not None
    case = await world.store.case(
        item.case_id,
        proposal_id=ProposalId(args["proposal"]) if args.get("proposal") else None,
        change_id=ChangeId(args["change"]) if args.get("change") else None,
    )
    channel = case.channel or world.settings.refine_channel
    if item.kind == "card":
        payload = card(world, case)
        if case.thread_ts:
            await world.slack.update(channel, case.thread_ts, payload)
            await world.store.sent(item.id, channel, case.thread_ts)
            return
        ts = await _post(world, item, channel, payload, None)
        await world.store.bind_card(case.id, channel, ts)
        return
    if item.kind == "files":
        if item.in_doubt:
            await world.store.sent(item.id, channel, "")  # maybe twice is worse than maybe not: the thread has the text
            return
        files = messages.review_files(case) if item.name == "review" else messages.proposal_files(case)
        await world.store.sending(item.id)
        await world.slack.upload(channel, case.thread_ts, files)
        await world.store.sent(item.id, channel, "")
        return
    await _post(world, item, channel, await thread_message(world, case, item.name, args), case.thread_ts)


async def _post(world: World, item: OutboxItem, channel: str, payload: Payload, thread_ts: str | None) -> str:
    """Post once. Where an earlier try may have reached Slack, look for the message by its key first."""
    ts = await world.slack.find(channel, item.key, thread_ts) if item.in_doubt else None
    if ts is None:
        await world.store.sending(item.id)
        ts = await world.slack.post(channel, payload, thread_ts, item.key)
    await world.store.sent(item.id, channel, ts)
    return ts


def card(world: World, case: Case) -> Payload:
    summary = permits_summary(case.role.policies, world.catalogue) if case.role else None
    return messages.card(case, world.clock(), summary)


async def thread_message(world: World, case: Case, name: str, args: dict[str, str]) -> Payload:
    now = world.clock()
    match name:
        case "review":
            return await review(world, case)
        case "proposal":
            return messages.proposal(case, now)
        case "approved":
            return messages.approved_line(case, UserId(args["by"]), args.get("reason", ""))
        case "declined":
            return messages.declined_line(case, UserId(args["by"]), args.get("reason", ""))
        case "applied":
            return messages.applied(case, now)
        case "rolled_back":
            return messages.rolled_back(case, now)
        case "expired":
            return messages.expired(case)
        case "reminder":
            return messages.reminder(case, now)
        case _:
            return messages.notice(name, args.get("text", ""))


async def review(world: World, case: Case) -> Payload:
    """Draw the evidence with the counts that the engine would give in the bot's own mode."""
    assert case.role is not None
    assert case.evidence is not None
    settings: TrimSettings = world.trim_settings(quotas=case.role.quotas)
    answer = await asyncio.to_thread(trim, case.role.policies, case.evidence, world.catalogue, settings)
    return messages.review(case, answer, world.clock())


async def summary(world: World, name: str, args: dict[str, str]) -> Payload:
    counts = await world.store.counts()
    if name == "weekly":
        return messages.weekly_digest(counts, world.clock())
    from bot.model import CaseId

    worst = [await world.store.case(CaseId(c)) for c in args.get("worst", "").split()]
    return messages.burst_summary(int(args.get("opened", "0")), counts, worst)
