"""Decisions of people: approve, decline, snooze, accept, re-open. Each is one transaction; the first one wins."""

from __future__ import annotations

from datetime import timedelta

from bot import rules
from bot.errors import LimitError, NotAllowedError, StaleError
from bot.flows.world import World, task_text, thread
from bot.model import Approval, Case, CaseId, CaseState, UserId
from bot.rules import Button, Event

PAUSED = "paused"  # the flag that stops every write; its value says who set it


async def approve(world: World, case_id: CaseId, revision: int | None, by: UserId, reason: str) -> Case:
    """Say yes to the proposal that the clicker saw; the last yes needed starts the change.

    Raises:
        NotAllowedError: the person may not, Refine is paused, or the hourly limit of changes is reached.
        StaleError: the proposal is not the one on the card any more.
    """
    case = await world.store.case(case_id)
    _, team = await world.allowed(by, Button.APPROVE, case)
    rules.after(case, Event.APPROVE)
    proposal = case.proposal
    if proposal is None:
        raise StaleError("There is no proposal waiting for approval here.", "The card shows where it stands now.")
    await may_write(world)
    now = world.clock()
    if case.until is not None and now >= case.until:
        raise StaleError("This proposal has expired.", "Re-open the case and make a new one.")
    approval = Approval(proposal_id=proposal.id, digest=proposal.digest(), by=by, at=now, reason=reason)
    note = thread(case_id, "approved", f"{proposal.id}-{by}", proposal=proposal.id, by=by, reason=reason)
    # The revision of the click, or of the case as just read: either way the digest above is the one approved.
    clicked = case.revision if revision is None else revision
    moved = await world.store.approve(case_id, clicked, approval, team=team, notes=[note])
    world.poke()
    if moved.state is CaseState.APPLYING:
        await world.engine.submit("drive", case_id)
    return moved


async def may_write(world: World) -> None:
    """Raise NotAllowedError where writes are paused or too many changes started within the hour."""
    await not_paused(world)
    limit = world.settings.refine_changes_per_hour
    if await world.store.changes_since(world.clock() - timedelta(hours=1)) >= limit:
        raise LimitError(limit)


async def not_paused(world: World) -> None:
    """Raise NotAllowedError where writes are paused."""
    paused = await world.store.flag(PAUSED)
    if paused:
        raise NotAllowedError(f"Refine is paused ({paused}): nothing is written.", "`/refine resume` lifts the pause.")


async def decline(world: World, case_id: CaseId, revision: int | None, by: UserId, reason: str) -> Case:
    case = await world.store.case(case_id)
    await world.allowed(by, Button.DECLINE, case)
    moved = await world.store.move(
        case_id,
        Event.DECLINE,
        by=by,
        revision=revision,
        reason=reason,
        sentence="",
        until=None,
        notes=[thread(case_id, "declined", str(case.revision), by=by, reason=reason)],
        detail={"reason": reason, "proposal": case.proposal.digest() if case.proposal else ""},
    )
    world.poke()
    return moved


async def snooze(world: World, case_id: CaseId, revision: int | None, by: UserId, reason: str, days: int) -> Case:
    """Put the case aside for some days, with a reason: nothing is changed at AWS."""
    case = await world.store.case(case_id)
    await world.allowed(by, Button.SNOOZE, case)
    if not reason.strip():
        raise NotAllowedError("A snooze needs a reason.", "Say what it waits for.")
    return await _put_aside(world, case, revision, by, Event.SNOOZE, reason, days)


async def accept(
    world: World, case_id: CaseId, revision: int | None, by: UserId, reason: str, days: int, owner: UserId
) -> Case:
    """Accept the exposure for some days, with a reason; `owner` answers for it.

    Raises:
        NotAllowedError: the person may not, there is no reason, or the owner is no full member of the workspace.
    """
    case = await world.store.case(case_id)
    _, team = await world.allowed(by, Button.ACCEPT, case)
    if not reason.strip():
        raise NotAllowedError("Accepting an exposure needs a reason.", "Say why it is meant to be so.")
    if owner != by:
        try:
            rules.may_look(await world.slack.person(owner), team)
        except NotAllowedError:
            raise NotAllowedError(
                f"<@{owner}> cannot answer for it: only an active, full member of this workspace can.",
                "Accept it again and pick another owner.",
            ) from None
    return await _put_aside(world, case, revision, by, Event.ACCEPT, reason, days, owner)


async def _put_aside(
    world: World,
    case: Case,
    revision: int | None,
    by: UserId,
    event: Event,
    reason: str,
    days: int,
    owner: str = "",
) -> Case:
    until = world.clock() + timedelta(days=days)
    said = {"by": by, "reason": reason, "until": until.isoformat(), "owner": owner}
    moved = await world.store.move(
        case.id,
        event,
        by=by,
        revision=revision,
        reason=reason,
        until=until,
        sentence="",
        task=task_text(do=event.value, owner=owner),
        notes=[thread(case.id, event.value, str(case.revision), **said)],
        detail={k: v for k, v in said.items() if v and k != "by"},
    )
    world.poke()
    return moved


async def reopen(world: World, case_id: CaseId, revision: int | None, by: UserId) -> Case:
    case = await world.store.case(case_id)
    await world.allowed(by, Button.REOPEN, case)
    moved = await world.store.move(
        case_id,
        Event.REOPEN,
        by=by,
        revision=revision,
        reason="",
        until=None,
        sentence="",
        notes=[thread(case_id, Event.REOPEN.value, str(case.revision), by=by, was=case.state.value)],
    )
    world.poke()
    return moved


async def pause(world: World, by: UserId, *, on: bool) -> str:
    """Stop or allow every write; says what is so now. Approvers only."""
    person = await world.slack.person(by)
    team = await world.team()
    if person.id not in team.approvers or person.deleted or person.guest or person.bot or person.stranger:
        raise NotAllowedError("You are not one of the approvers.", "Ask an approver to do it.")
    now = world.clock()
    await world.store.set_flag(PAUSED, f"by <@{by}> since {now:%Y-%m-%d %H:%M} UTC" if on else "", by)
    if on:
        return "Refine is paused: it shows and proposes, and writes nothing until `/refine resume`."
    return "Refine is at work again."
