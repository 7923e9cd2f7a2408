"""The outbox: draws what the store says and posts it, in order, at Slack's pace, never twice."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from bot import messages, rules
from bot.errors import (
    DeniedError,
    NotFoundError,
    RefineError,
    StoreError,
    ThrottledError,
    UnavailableError,
    UnknownOutcomeError,
)
from bot.flows import checks, overview, pictures
from bot.flows.ports import Note, OutboxItem, Payload
from bot.flows.world import World
from bot.model import Case, CaseId, CaseState, ChangeId, ProposalId, Trim, UserId, digest
from bot.policy import permits_summary, trim

log = structlog.get_logger()

TRIES = 5  # of a message that cannot be drawn
OUTCOMES = frozenset({"applied", "failed", "declined", "expired", "stale", "rolled_back"})  # of a proposal
BROADCAST = frozenset({"failed", "rolled_back"})  # what the whole channel must see; all else stays in the thread
THREADS = 8  # cases whose threads are written to side by side
REDRAWS = 16  # cards that are redrawn side by side; each waits a second after the last time, for Slack
_MEMBER = re.compile(r"[UW][A-Z0-9]{4,20}")
AGAIN = timedelta(minutes=1)  # until a channel that does not take the bot's posts is tried again


async def pump(world: World, *, stop: asyncio.Event) -> None:
    """Send what is due until `stop` is set, and end what is under way then.

    What opens a thread goes one by one and in order, at the channel's pace: a first start may take minutes. Answers in
    threads keep the same pace, and do not wait for each other's cases. Redraws wait for neither: that a click is at
    work is seen on the card at once, however much there is to post.
    """
    await asyncio.gather(
        _lane(world, stop, at_once=1, first=True),
        _lane(world, stop, at_once=THREADS, first=False, cards=False),
        _lane(world, stop, at_once=REDRAWS, first=False, cards=True),
    )


async def _lane(world: World, stop: asyncio.Event, *, at_once: int, **which: bool) -> None:
    under_way: dict[CaseId | None, asyncio.Task[None]] = {}
    try:
        await _feed(world, stop, under_way, at_once, which)
        if under_way:
            await asyncio.wait(under_way.values())
    finally:
        for task in under_way.values():
            task.cancel()  # where the lane itself was cut off


async def _feed(
    world: World,
    stop: asyncio.Event,
    under_way: dict[CaseId | None, asyncio.Task[None]],
    at_once: int,
    which: Mapping[str, bool],
) -> None:
    while not stop.is_set():
        wake = world.wake
        free = at_once - len(under_way)
        items: Sequence[OutboxItem] = ()
        if free:
            try:
                drawn = [case_id for case_id in under_way if case_id]
                items = await world.store.due(world.clock(), free, but=drawn, **which)
            except RefineError as error:
                log.warning("outbox waits", error=error.sentence)
            except Exception:
                log.exception("outbox crashed")
        for item in items:
            under_way[item.case_id] = asyncio.create_task(_send(world, item))
        poked = asyncio.create_task(wake.wait())
        await asyncio.wait({poked, *under_way.values()}, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
        poked.cancel()
        for whose in [w for w, task in under_way.items() if task.done()]:
            del under_way[whose]


async def _send(world: World, item: OutboxItem) -> None:
    try:
        await _try(world, item)
    except Exception as error:
        # Nothing could be noted: the store is away. It is tried again, a little later.
        log.error("outbox waits", key=item.key, error=str(error))
        await world.sleep(1.0)


async def _try(world: World, item: OutboxItem) -> None:
    try:
        await _deliver(world, item)
    except StoreError:
        raise  # nothing is known of what was sent: it stays as it is
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
            # Whoever clicked looks at the card, and sees within half a second that it works. Steps keep Slack's pace.
            begun = case.state in rules.BUSY and not case.steps_done
            await world.slack.update(channel, case.thread_ts, payload, at_once=begun)
            await _redraw_thread(world, case)
            await world.store.sent(item.id, channel, case.thread_ts)
            world.moved.set()
            return
        if case.state is CaseState.RESOLVED:
            await world.store.sent(item.id, channel, "")  # over before it had a card: nothing to tell anybody
            return
        ts = await _post(world, item, channel, payload, None)
        await world.store.bind_card(case.id, channel, ts)
        world.moved.set()
        return
    if item.kind == "direct":
        if item.in_doubt:
            await world.store.sent(item.id, args["to"], "")  # not looked for there: once too few is better than twice
            return
        link = await world.slack.permalink(channel, case.thread_ts) if case.thread_ts else ""
        await _post(world, item, args["to"], messages.outcome(case, args["of"], link), None)
        return
    if not case.thread_ts:
        raise UnavailableError("The card of this message is not posted yet.")
    if item.kind == "files":
        # In doubt they are sent again: people approve these documents, so twice beats not at all.
        if item.name == "review":
            files = messages.review_files(case, await judged(world, case))
        else:
            files = messages.proposal_files(case)
        await world.store.sending(item.id)
        await world.slack.upload(channel, case.thread_ts, files)
        await world.store.sent(item.id, channel, "")
        return
    payload = await thread_message(world, case, item.name, args)
    asker = _asker(case, item.name)
    if asker:
        # Before it is said in the thread, so that no crash between the two forgets it; sent after it all the same.
        await world.store.queue(
            [
                Note(
                    kind="direct",
                    name="outcome",
                    key=f"to/{item.key}",
                    case_id=case.id,
                    args=(("to", asker), ("of", item.name)),
                )
            ]
        )
    if item.name in BROADCAST:
        payload = {**payload, "reply_broadcast": True}
    await _post(world, item, channel, payload, case.thread_ts)
    if (await world.store.case(case.id)).revision != case.revision:
        # It moved while this was posted, and its card was redrawn without it: its buttons must not outlive the state.
        await world.store.queue([Note(kind="card", name="card", key=f"card/{case.id}", case_id=case.id)])


def _asker(case: Case, name: str) -> UserId | None:
    """Who made the proposal that came to its end, where somebody else, or nobody, ended it."""
    if case.proposal is None or name not in OUTCOMES:
        return None
    by = case.proposal.proposed_by
    if by in {"", rules.REFINE} or (name in {"declined", "rolled_back"} and by == case.asked_by):
        return None
    return by


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
            drawn.append((f"proposal/{case.id}/{older}", messages.proposal(then, now, newer=case.proposal)))
    if case.change is not None:
        changes = {case.change.undoes or case.change.id: case.change.proposal_id}
        if case.proposal is not None:  # taken back, it is not the case's change any more where an earlier one is
            changes.setdefault(case.proposal.change_id, case.proposal.id)
        for change_id, proposal_id in changes.items():
            if await world.store.message(f"applied/{case.id}/{change_id}") is not None:
                drawn.append(await _applied(world, case, change_id, proposal_id))
    for key, payload in drawn:
        place = await world.store.message(key)
        if place is not None:
            with suppress(NotFoundError):  # somebody deleted the message: the card still tells
                await world.slack.update(*place, payload)


async def _applied(world: World, case: Case, change_id: ChangeId, proposal_id: ProposalId) -> tuple[str, Payload]:
    """Return the key and the drawing of what the thread says of an applied change, as the case is now."""
    then = await world.store.case(case.id, proposal_id=proposal_id, change_id=change_id)
    return f"applied/{case.id}/{change_id}", await _said_applied(world, case, then, change_id)


async def _said_applied(world: World, case: Case, then: Case, change_id: ChangeId) -> Payload:
    latest = case.change is not None and change_id in {case.change.id, case.change.undoes}
    made, back = await checks.made(world, change_id), _is_back(case, change_id)
    return messages.applied(then, world.clock(), made, back=back, latest=latest)


def _is_back(case: Case, change_id: ChangeId) -> bool:
    """Whether a change that was applied was taken back since.

    The case's change is the latest one in force: that of the latest proposal, unless it was taken back. One before it
    is in force still.
    """
    change = case.change
    if change is None or change.id == change_id:
        return False
    if change.undoes == change_id:
        return case.state not in rules.BUSY and not rules.can_roll_back(case)
    return case.proposal is not None and case.proposal.change_id == change_id


async def _post(world: World, item: OutboxItem, channel: str, payload: Payload, thread_ts: str | None) -> str:
    """Post once. Where an earlier try may have reached Slack, look for the message by its key first."""
    ts = await world.slack.find(channel, item.key, thread_ts) if item.in_doubt else None
    if ts is None:
        await world.store.sending(item.id)
        world.sure()
        ts = await world.slack.post(channel, payload, thread_ts, item.key)
    await world.store.sent(item.id, channel, ts)
    return ts


async def card(world: World, case: Case) -> Payload:
    """Draw the card from the stored case, with the counts of its evidence as soon as there is any."""
    summary = await asyncio.to_thread(permits_summary, case.role.policies, world.catalogue) if case.role else None
    return messages.card(
        case,
        world.clock(),
        summary,
        counts=await _counts(world, case) if case.proposal is None else None,
        window_days=world.settings.refine_window_days,
        team=await world.team_to_show(),
        owned_by=await _owner(world, case),
    )


async def _counts(world: World, case: Case) -> messages.Counts | None:
    """Return the counts of the case's evidence: the engine is asked once for it, not at every redraw."""
    if case.role is None or case.evidence is None:
        return None
    of = digest([case.role.live_digest(), case.evidence.digest(), case.evidence.made_at.isoformat()])
    known = world.counts.get(case.id)
    if known is None or known[0] != of:
        seen = await judged(world, case)
        if seen is None:
            return None
        known = world.counts[case.id] = of, messages.Counts.of(seen.actions)
    return known[1]


async def _owner(world: World, case: Case) -> UserId | None:
    """Return the member whom the role's tag names by their id in Slack; None where it says anything else."""
    named = UserId(messages.owner(case.role).removeprefix("@"))
    return named if _MEMBER.fullmatch(named) and await world.is_member(named) else None


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
            picture = await pictures.of_review(world, case, seen)
            return messages.review(case, seen, now, window_days=world.settings.refine_window_days, picture=picture)
        case "proposal":
            latest = (await world.store.case(case.id)).proposal
            newest = latest is None or case.proposal is None or latest.id == case.proposal.id
            return messages.proposal(case, now, newer=None if newest else latest, team=await world.team_to_show())
        case "approved":
            return messages.approved_line(case, UserId(args["by"]), args.get("reason", ""))
        case "declined":
            return messages.declined_line(case, UserId(args["by"]), args.get("reason", ""))
        case "applied":
            change_id = ChangeId(args["change"])
            return await _said_applied(world, await world.store.case(case.id), case, change_id)
        case "second":
            return messages.second(case, args["by"], args["reason"])
        case "rolled_back":
            return messages.rolled_back(case, now, args.get("left", "").split())
        case "expired":
            return messages.expired(case)
        case "snooze" | "accept" | "reopen" | "back":
            return messages.aside_line(case, name, args)
        case "reminder":
            return messages.reminder(case, now, team=await world.team_to_show())
        case _:
            return messages.notice(name, args.get("text", ""))


async def summary(world: World, name: str, args: dict[str, str]) -> Payload:
    counts = await world.store.counts()
    if name == "weekly":
        picture, _ = await pictures.of_removed(world)
        return messages.weekly_digest(counts, world.clock(), await overview.week(world), picture)
    worst = [await world.store.case(CaseId(c)) for c in args.get("worst", "").split()]
    opened = int(args.get("opened", "0"))
    return messages.burst_summary(opened, counts, worst, cards=min(opened, world.settings.refine_burst_cards))
