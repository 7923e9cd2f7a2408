"""The outbox: draws what the store says and posts it, in order, at Slack's pace, never twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from bot import messages
from bot.errors import DeniedError, NotFoundError, RefineError, ThrottledError, UnavailableError, UnknownOutcomeError
from bot.flows.ports import OutboxItem, Payload
from bot.flows.world import World
from bot.model import Case, CaseId, CaseState, ChangeId, ProposalId, Trim, UserId
from bot.policy import permits_summary, trim

log = structlog.get_logger()

TRIES = 5  # of a message that cannot be drawn
AGAIN = timedelta(minutes=1)  # until a channel that does not take the bot's posts is tried again


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
    except (ThrottledError, UnavailableError, UnknownOutcomeError, DeniedError) as error:
        if isinstance(error, DeniedError):
            log.error("message not allowed", key=item.key, error=error.say())  # until somebody gives the scope back
        await _again(world, item, error.sentence)
    except NotFoundError as error:
        if item.kind in {"card", "summary"} and not await _known(world, item):
            # The channel is not there for us yet: a person has to invite the bot, and then nothing must be missing.
            log.warning("channel cannot be written to", key=item.key, error=error.say())
            await world.store.later(item.id, world.clock() + AGAIN, error.sentence)
            return
        # The card is gone from Slack: say it in the log, the case lives on.
        log.warning("message has no place", key=item.key, error=error.sentence)
        await world.store.dead(item.id, error.sentence)
    except RefineError as error:
        log.error("message refused", key=item.key, error=error.sentence)
        await world.store.dead(item.id, error.sentence)
    except Exception:
        # A bug in the drawing of one message must not hold up everybody else's.
        log.exception("message could not be drawn", key=item.key)
        if item.tries >= TRIES:
            await world.store.dead(item.id, "A bug kept it from being drawn.")
        else:
            await _again(world, item, "A bug kept it from being drawn.")


async def _again(world: World, item: OutboxItem, why: str) -> None:
    # Slack may be away for hours: nothing is given up for that.
    pause = min(2.0 ** min(item.tries, 9), 300.0)
    await world.store.later(item.id, world.clock() + timedelta(seconds=pause), why)


async def _known(world: World, item: OutboxItem) -> bool:
    return item.case_id is not None and bool((await world.store.case(item.case_id)).thread_ts)


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
        payload = await card(world, case)
        if case.thread_ts:
            await world.slack.update(channel, case.thread_ts, payload)
            await _redraw_thread(world, case)
            await world.store.sent(item.id, channel, case.thread_ts)
            return
        if case.state is CaseState.RESOLVED:
            await world.store.sent(item.id, channel, "")  # over before it had a card: nothing to tell anybody
            return
        ts = await _post(world, item, channel, payload, None)
        await world.store.bind_card(case.id, channel, ts)
        return
    if not case.thread_ts:
        raise UnavailableError("The card of this message is not posted yet.")
    if item.kind == "files":
        if item.in_doubt:
            await world.store.sent(item.id, channel, "")  # maybe twice is worse than maybe not: the thread has the text
            return
        if item.name == "review":
            files = messages.review_files(case, await judged(world, case))
        else:
            files = messages.proposal_files(case)
        await world.store.sending(item.id)
        await world.slack.upload(channel, case.thread_ts, files)
        await world.store.sent(item.id, channel, "")
        return
    await _post(world, item, channel, await thread_message(world, case, item.name, args), case.thread_ts)


async def _redraw_thread(world: World, case: Case) -> None:
    """Draw the latest proposal and outcome in the thread anew: their buttons must not outlive the state they act on."""
    drawn: list[tuple[str, Payload]] = []
    now = world.clock()
    if case.proposal is not None:
        team = await world.team_to_show()
        drawn.append((f"proposal/{case.id}/{case.proposal.id}", messages.proposal(case, now, team=team)))
        older = case.proposal.supersedes
        if older is not None:
            then = await world.store.case(case.id, proposal_id=older)
            drawn.append((f"proposal/{case.id}/{older}", messages.proposal(then, now, latest=False)))
    if case.change is not None:
        applied = case.change.undoes or case.change.id
        then = await world.store.case(case.id, proposal_id=case.change.proposal_id, change_id=applied)
        drawn.append((f"applied/{case.id}/{applied}", messages.applied(then, now)))
    for key, payload in drawn:
        place = await world.store.message(key)
        if place is not None:
            with suppress(NotFoundError):  # somebody deleted the message: the card still tells
                await world.slack.update(*place, payload)


async def _post(world: World, item: OutboxItem, channel: str, payload: Payload, thread_ts: str | None) -> str:
    """Post once. Where an earlier try may have reached Slack, look for the message by its key first."""
    ts = await world.slack.find(channel, item.key, thread_ts) if item.in_doubt else None
    if ts is None:
        await world.store.sending(item.id)
        ts = await world.slack.post(channel, payload, thread_ts, item.key)
    await world.store.sent(item.id, channel, ts)
    return ts


async def card(world: World, case: Case) -> Payload:
    """Draw the card from the stored case, with the counts of its evidence as soon as there is any."""
    summary = permits_summary(case.role.policies, world.catalogue) if case.role else None
    seen = await judged(world, case) if case.proposal is None else None
    return messages.card(case, world.clock(), summary, trim=seen, team=await world.team_to_show())


async def judged(world: World, case: Case) -> Trim | None:
    """Return what the engine makes of the case's evidence in the bot's own mode; None where it cannot tell."""
    if case.role is None or case.evidence is None:
        return None
    settings = world.trim_settings(quotas=case.role.quotas)
    try:
        return await asyncio.to_thread(trim, case.role.policies, case.evidence, world.catalogue, settings)
    except RefineError:
        return None  # the case's own sentence says why


async def thread_message(world: World, case: Case, name: str, args: dict[str, str]) -> Payload:
    now = world.clock()
    match name:
        case "review":
            seen = await judged(world, case)
            if seen is None:
                raise NotFoundError("The evidence of this review is gone.")
            return messages.review(case, seen, now, window_days=world.settings.refine_window_days)
        case "proposal":
            latest = (await world.store.case(case.id)).proposal
            newest = latest is None or case.proposal is None or latest.id == case.proposal.id
            return messages.proposal(case, now, latest=newest, team=await world.team_to_show())
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
            return messages.reminder(case, now, team=await world.team_to_show())
        case _:
            return messages.notice(name, args.get("text", ""))


async def summary(world: World, name: str, args: dict[str, str]) -> Payload:
    counts = await world.store.counts()
    if name == "weekly":
        return messages.weekly_digest(counts, world.clock())
    worst = [await world.store.case(CaseId(c)) for c in args.get("worst", "").split()]
    opened = int(args.get("opened", "0"))
    return messages.burst_summary(opened, counts, worst, cards=min(opened, world.settings.refine_burst_cards))
