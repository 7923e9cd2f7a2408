"""Apply and roll back: a journalled saga over IAM. The row is the truth; AWS is asked what is true before every write.

`drive` may be started any number of times, by an approval, by a clock, after a crash, and ends in the same place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from bot import rules
from bot.errors import (
    LimitError,
    LostRaceError,
    NotAllowedError,
    NotFoundError,
    ProofError,
    RefineError,
    RefusedError,
    StaleError,
    StoreError,
    ThrottledError,
    UnavailableError,
    UnknownOutcomeError,
)
from bot.flows import checks
from bot.flows.decide import PAUSED, not_paused
from bot.flows.world import World, patience, task_text, thread
from bot.messages import sums
from bot.model import (
    Case,
    CaseId,
    CaseState,
    Change,
    ChangeId,
    Proposal,
    Role,
    RolePolicy,
    Step,
    StepKind,
    StepState,
    UserId,
    permissions_digest,
)
from bot.policy import trim
from bot.rules import Button, Event, Permit, Team

log = structlog.get_logger()

SKEW = timedelta(minutes=5)  # between AWS's clock and ours
WRITES = 3  # a write that AWS never showed is sent again at most so often, each time after a read back
# A throttled write was not done: it is sent again for about half a minute, each time after a look.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


LINES = 40  # of what somebody else changed, in one message


class _StepError(RefineError):
    """A step cannot be done; the ones before it have to be taken back."""


class _MovedError(StaleError):
    """Somebody else changed what a step is about; the ones before it have to be taken back."""


class _PausedError(RefineError):
    """Somebody paused Refine: no further write until they lift it."""

    code = "paused"


class _StoppedError(_PausedError):
    """Somebody wants the change taken back: no further write of it."""

    code = "stopped"


# Nothing is decided: the case stays where it is, and the clock starts the flow again.
_TRIES = 3  # so often a change waits for AWS or Slack before people are told
_WAITS = (UnavailableError, ThrottledError, StoreError, _PausedError, LimitError)


async def start_rollback(world: World, case_id: CaseId, revision: int | None, by: UserId, reason: str) -> Case:
    """Begin to put the old policies back.

    A change that is under way is stopped: nothing more of it is written, and what was is taken back. That is asked for
    while Refine is paused too, and then waits like all else.

    Where the settings ask for four eyes, the first approver's press is only noted, and the case returned as it is.
    """
    case = await world.store.case(case_id)
    _, team = await world.allowed(by, Button.ROLL_BACK, case)
    under_way = case.proposal.change_id if case.state is CaseState.APPLYING and case.proposal else None
    if under_way is None:
        await not_paused(world)
        if not rules.can_roll_back(case):
            raise NotAllowedError("Nothing of this case is in force, so there is nothing to roll back.")
    if world.settings.refine_rollback_four_eyes:
        try:
            both = await _second(world, case, team, by, reason)
        except LostRaceError:  # of two presses at the same moment, the later one is the second
            case = await world.store.case(case_id)
            both = await _second(world, case, team, by, reason)
        if not both:
            return case
    moved = await world.store.move(
        case_id,
        Event.ROLL_BACK,
        by=by,
        revision=revision,
        reason=reason,
        sentence="",
        task=task_text(do="take_back", change=under_way) if under_way else "",
        detail={"reason": reason},
    )
    world.poke()
    await world.engine.submit("drive", case_id)
    return moved


async def _second(world: World, case: Case, team: Team, by: UserId, reason: str) -> bool:
    """Tell whether another approver asked for the same within the time; else note that this one does."""
    change = case.change.id if case.change else ""
    if case.state is CaseState.APPLYING and case.proposal:
        change = case.proposal.change_id
    now = world.clock()
    key = f"rollback/{change}"
    was = await world.store.recall(key)
    asked = json.loads(was or "{}")
    hours = timedelta(hours=world.settings.refine_expiry_hours)
    if asked and asked["by"] in team.approvers and now - datetime.fromisoformat(asked["at"]) < hours:
        if asked["by"] != by:
            return True
        raise NotAllowedError(
            "You asked for this already, and a second approver has to press the button too.", "Ask another approver."
        )
    await world.store.note(
        case,
        by,
        "asked_to_roll_back",
        {"reason": reason},
        key=key,
        was=was,
        value=json.dumps({"by": by, "at": now.isoformat()}),
        notes=[thread(case.id, "second", f"{change}-{now.isoformat()}", by=by, reason=reason)],
    )
    world.poke()
    return False


async def drive(world: World, case_id: CaseId) -> None:
    """Bring an APPLYING or ROLLING_BACK case to its end."""
    try:
        case = await world.store.case(case_id)
        try:
            if case.state is CaseState.APPLYING:
                await _apply(world, case)
            elif case.state is CaseState.ROLLING_BACK:
                await _roll_back(world, case)
        except _StoppedError:
            pass  # whoever stopped it has submitted the case again
        except _WAITS as error:
            await _wait(world, case, error)
            return
    except StoreError as error:
        _count(world, case_id, error)  # the log alone: whatever a thread is told goes through the store
        return
    finally:
        world.poke()
    world.waits.pop(case_id, None)


async def _wait(world: World, case: Case, error: RefineError) -> None:
    """Let the clock try again; say so in the thread, once for each reason, where it is no matter of a moment."""
    tries = _count(world, case.id, error)
    by_people = isinstance(error, _PausedError | LimitError)  # then it is known why, and that it may take long
    if isinstance(error, StoreError) or (tries < _TRIES and not by_people):
        return
    said = [error.say()]
    if not by_people:
        said.append("Refine goes on trying.")
    if case.state is CaseState.APPLYING:
        said.append("“Take back…” on the card stops the change.")
    await world.store.queue([thread(case.id, "waits", f"{case.revision}/{error.code}", text=" ".join(said))])


def _count(world: World, case_id: CaseId, error: RefineError) -> int:
    tries = world.waits[case_id] = world.waits.get(case_id, 0) + 1
    log.warning(
        "drive waits", case=case_id, error=error.sentence, code=error.code, tries=tries, waiting=len(world.waits)
    )
    return tries


# -------------------- apply


async def _apply(world: World, case: Case) -> None:
    proposal = case.proposal
    if proposal is None:
        await _fail(world, case, NotFoundError("The approved proposal is gone."))
        return
    change = case.change
    if change is not None and change.undoes == proposal.change_id:
        change = await world.store.change(change.undoes)  # it is being taken back
    elif change is not None and change.id != proposal.change_id:
        change = None
    fresh = change is None
    try:
        if change is None:
            change = await _begin(world, case, proposal)
        why = await world.store.recall(_why(change))
        if why:
            await _take_back(world, case, change, why)
            return
        begun = await _settle(world, change)
        role = await world.aws.role(change.role_arn)
        if not begun and not fresh:  # it may have waited for hours: a pause, a crash, a throttle
            await _ready(world, proposal, role)
        team = await world.team(sure=True)
        permit = rules.permit_apply(change, proposal, case.approvals, role, team, world.guard, begun=begun)
        await _run(world, change, permit)
        role = await _verify(world, change)
        checked = await checks.after(world, change, proposal, role)
    except _WAITS:
        raise
    except _NotAsWritten as error:
        await world.store.finish(change.id if change else proposal.change_id, "unverified")
        await _close(world, case, Event.APPLY_FAILED, error.say())
        return
    except RefineError as error:
        log.warning("change stopped", case=case.id, error=error.sentence)
        if change is not None and await _touched(world, change):
            await _take_back(world, case, change, error.say())
        elif isinstance(error, StaleError):
            await world.store.move(
                case.id,
                Event.WENT_STALE,
                by=rules.REFINE,
                sentence=error.say(),
                notes=[thread(case.id, "stale", proposal.id, text=error.say())],
            )
        else:
            await _fail(world, case, error)
        return
    await world.store.finish(change.id, "done")
    await world.store.move(
        case.id,
        Event.APPLIED,
        by=rules.REFINE,
        asked_by=case.asked_by,
        role=role,
        sentence="",
        until=world.clock() + timedelta(hours=world.settings.refine_watch_hours),
        notes=[thread(case.id, "applied", change.id, change=change.id)],
        detail={
            "change": change.id,
            "permissions": change.expected,
            "checks": checks.in_words(checked),
            **proposal.gives(),
        },
    )


async def _begin(world: World, case: Case, proposal: Proposal) -> Change:
    """Take the snapshot and write the journal."""
    role = await world.aws.role(case.role_arn)
    steps = await _ready(world, proposal, role)
    await checks.before(world, proposal.change_id, proposal, role)
    return await world.store.begin(
        Change(
            id=proposal.change_id,
            case_id=case.id,
            proposal_id=proposal.id,
            kind="apply",
            role_arn=role.arn,
            steps=steps,
            by=case.asked_by,
            at=world.clock(),
            before=role,
            expected=rules.expected(role, steps),
        ),
        limit=world.settings.refine_changes_per_hour,
    )


async def _ready(world: World, proposal: Proposal, role: Role) -> tuple[Step, ...]:
    """Take the last look before the first write, at policies, evidence, proof and quotas; return the writes.

    Raises:
        StaleError: the proposal is out of date.
        ProofError: it would not hold on the live policies.
        NotAllowedError: a quota is in the way.
    """
    if role.live_digest() != proposal.live_digest:
        raise StaleError(
            "The role's policies changed since the proposal was made, so nothing was written.", "Make a new proposal."
        )
    age = world.clock() - proposal.evidence.made_at
    # Evidence from the future tells of a clock that was set back: how old it is nobody knows. A give-back takes nothing
    # away, so that it does not matter what was used meanwhile.
    if proposal.give_back is None and not -SKEW <= age <= timedelta(hours=world.settings.refine_max_report_age_hours):
        await _still_unused(world, proposal, role)
    proof = await checks.proof(world, proposal, role.policies, proposal.trim.policies)
    if not proof.holds:
        raise ProofError("The proof failed on the live policies, so nothing was written.", "Please report this bug.")
    steps = rules.plan(proposal, role)
    if steps != rules.plan(proposal, proposal.role):
        raise StaleError(
            "What the role's policies are attached to, or how many versions they have, changed since the proposal was "
            "made, so nothing was written.",
            "Make a new proposal.",
        )
    copies = sum(s.kind is StepKind.CREATE_POLICY for s in steps)
    room = await world.aws.room(role.arn) if copies else None
    if room is not None and room < copies:
        raise NotAllowedError(
            f"The account has room for {max(room, 0)} more customer managed policies, and the change needs {copies}.",
            "Delete policies that nobody uses, or ask AWS for a higher quota.",
        )
    return steps


async def _still_unused(world: World, proposal: Proposal, role: Role) -> None:
    evidence = await world.aws.evidence(role)
    settings = replace(proposal.settings, now=world.clock())
    again = await asyncio.to_thread(trim, role.policies, evidence, world.catalogue, settings)
    dropped = {a.action for a in proposal.trim.actions if not a.kept}
    used = sorted(a.action for a in again.actions if a.kept and a.action in dropped)
    if used:
        raise StaleError(
            f"{used[0]} was used since the proposal was made, so nothing was written.", "Make a new proposal."
        )


# -------------------- the steps


async def _run(world: World, change: Change, permit: Permit) -> None:
    for entry in await world.store.journal(change.id):
        if entry.state is not StepState.DONE:
            await _step(world, change, permit, entry.step, sent=entry.state is StepState.STARTED)


async def _last_word(world: World, change: Change) -> None:
    """Go right before each write, tries of the same one included: a stop has to hold the very next.

    Raises:
        _StoppedError: the change is to be taken back.
        _PausedError: somebody paused Refine.
        StoreError: another replica drives this change by now, or nobody knows.
    """
    paused = await world.store.flag(PAUSED)
    if paused:
        raise _PausedError(
            f"Refine is paused ({paused}): this change waits where it is.", "`/refine resume` lifts the pause."
        )
    if change.kind == "apply" and await world.store.state(change.case_id) is not CaseState.APPLYING:
        raise _StoppedError("The change is to be taken back.")
    world.sure()  # last: nothing may be waited for between this and the write


async def _step(world: World, change: Change, permit: Permit, step: Step, *, sent: bool) -> None:
    """Send a step's write where AWS shows that it is still to do; `sent`: an earlier process may have sent it.

    Raises:
        _MovedError: somebody else changed what the step is about.
        _StepError: AWS refuses it, or takes it without showing an effect.
        UnavailableError, ThrottledError: it has to wait; nothing was sent, or the journal says that it may have been.
    """
    # On disk before the look, not after it: nothing slow may come between the look and the write.
    await world.store.mark(change.id, step.number, StepState.STARTED)
    pauses = iter(PAUSES)
    again = patience(world)
    unknown = 0
    try:
        seen, policy, why = await _look(world, change, step, patient=sent)
    except RefineError:
        if not sent:  # and it was not: the next try need not wait for an effect
            await world.store.mark(change.id, step.number, StepState.PLANNED)
        raise
    while True:
        if seen == "after" and (sent or unknown or not _inverted(change, step)):
            break
        if seen != "before":
            if not sent and not unknown:
                await world.store.mark(change.id, step.number, StepState.PLANNED)
            raise _MovedError(why, "Compare the documents in the thread.")
        if unknown == WRITES:  # it stays started: its effect may show yet, and is then taken back too
            raise _StepError(
                f"AWS took the write to {step.policy_name} {WRITES} times without an answer, and it shows no effect.",
                "Try again when AWS is well.",
            )
        try:
            made = await world.aws.write(permit, step, lambda: _last_word(world, change))
        except _PausedError:
            if not sent and not unknown:
                await world.store.mark(change.id, step.number, StepState.PLANNED)
            raise
        except UnknownOutcomeError:
            log.warning("outcome unknown, reading back", change=change.id, step=step.number, kind=step.kind.value)
            unknown += 1
        except ThrottledError:
            pause = next(pauses, None)
            if pause is None:
                raise
            await world.sleep(pause)
        except (UnavailableError, StoreError):
            raise
        except RefineError as error:
            # A definite no to this try. But where it was for what AWS holds (LimitExceeded, DeleteConflict,
            # NoSuchEntity …), and AWS shows the step as still to do, the servers that answered may not know yet what
            # was written a moment ago: it is tried again as long as reads are waited for.
            pause = next(again, None) if isinstance(error, RefusedError | NotFoundError) else None
            if pause is None:
                if sent or unknown:  # an earlier try may have had its effect all the same, and be why
                    seen, policy, _ = await _look(world, change, step, patient=True)
                    if seen == "after":
                        break
                else:
                    await world.store.mark(change.id, step.number, StepState.PLANNED)
                raise _StepError(error.sentence, error.next_step) from error
            log.warning("refused, looking again", change=change.id, step=step.number, error=error.sentence)
            await world.sleep(pause)
        else:
            await world.store.mark(change.id, step.number, StepState.DONE, made.version)
            world.poke()
            return
        # Anything may have happened in a pause: look again before sending again.
        seen, policy, why = await _look(world, change, step, patient=unknown > 0 or sent)
    await world.store.mark(change.id, step.number, StepState.DONE, _made(step, policy))
    world.poke()


def _inverted(change: Change, step: Step) -> bool:
    """Whether a rollback would undo the step: done before it was sent, it is somebody else's work and not to undo."""
    return change.kind == "apply" and step.kind is not StepKind.DELETE_VERSION


async def _settle(world: World, change: Change) -> bool:
    """Find out what became of a step that was sent and never answered; tells whether any step is done."""
    journal = await world.store.journal(change.id)
    done = any(j.state is StepState.DONE for j in journal)
    for entry in journal:
        if entry.state is StepState.STARTED:
            seen, policy, _ = await _look(world, change, entry.step, patient=True)
            if seen == "after":
                await world.store.mark(change.id, entry.step.number, StepState.DONE, _made(entry.step, policy))
                done = True
    return done


async def _touched(world: World, change: Change) -> bool:
    return any(j.state is not StepState.PLANNED for j in await world.store.journal(change.id))


async def _look(
    world: World, change: Change, step: Step, *, patient: bool
) -> tuple[rules.Effect, RolePolicy | None, str]:
    """Return what AWS shows of the step, its policy, and where it is not to be done, why.

    Patient: wait for the effect of a write that may have been sent.
    """

    async def once() -> tuple[rules.Effect, RolePolicy | None, str]:
        role = await world.aws.role(change.role_arn)
        policy = await world.aws.policy(step.policy_arn, role_arn=change.role_arn) if step.policy_arn else None
        seen = rules.effect(step, role, policy)
        if seen == "before" and (why := rules.hindrance(change, step, role, policy)):
            return "other", policy, why
        return seen, policy, f"{step.policy_name} is not what it was any more: somebody else changed it."

    seen = await once()
    for pause in patience(world):
        if seen[0] == "after" or (seen[0] == "before" and not patient):
            break
        await world.sleep(pause)
        seen = await once()
    return seen


def _made(step: Step, policy: RolePolicy | None) -> str:
    return policy.default_version if step.kind is StepKind.CREATE_VERSION and policy is not None else ""


class _NotAsWritten(RefineError):  # noqa: N818  # a finding of the verification, not a failure of ours
    pass


async def _verify(world: World, change: Change) -> Role:
    """Read back until IAM shows what was written.

    Raises:
        _MovedError: what the change gave is not there: what it took for it has to come back.
        _NotAsWritten: there is something else beside it.
    """
    role = await _read_until(world, change.role_arn, lambda r: permissions_digest(r.policies) == change.expected)
    lost = rules.lacking(change.steps, role)
    if lost:
        raise _MovedError(
            f"Every write was taken, but {lost} is not in force as it was written: somebody else changed it.",
            "Compare the documents in the thread.",
        )
    if permissions_digest(role.policies) != change.expected:
        raise _NotAsWritten(
            "Every write was taken, but reading back shows other policies than were written. "
            f"In force now: {force(role)}.",
            "Somebody else may be changing the role: look at it before you roll back.",
        )
    return role


async def _read_until(world: World, arn: str, good: Callable[[Role], bool]) -> Role:
    role = await world.aws.role(arn)
    for pause in patience(world):
        if good(role):
            break
        await world.sleep(pause)
        role = await world.aws.role(arn)
    return role


def force(role: Role) -> str:
    """Name what is in force now, for a sentence."""
    if not role.policies:
        return "no permissions policy at all"
    return ", ".join(f"{p.name} ({p.default_version or p.kind.value})" for p in role.policies)


# -------------------- back


async def _roll_back(world: World, case: Case) -> None:
    undone = await _undone(world, case)
    if undone is None:
        await world.store.move(
            case.id,
            Event.WITHDRAWN,
            by=rules.REFINE,
            asked_by=case.asked_by,
            sentence="",
            notes=[thread(case.id, "declined", str(case.revision), by=case.asked_by, reason=case.reason)],
        )
        return
    try:
        back, role = await _back(world, case, undone, half=_task(case).get("do") == "take_back")
    except _WAITS:
        raise
    except RefineError as error:
        stopped = "" if isinstance(error, StaleError | NotAllowedError) else "The rollback stopped: "
        now = await _in_force(world, case)
        await _close(world, case, Event.ROLL_BACK_FAILED, f"{stopped}{error.say()} In force now: {now}.", _more(error))
        return
    beyond = rules.beyond(undone.before, role)
    await world.store.move(
        case.id,
        Event.ROLLED_BACK,
        by=rules.REFINE,
        asked_by=case.asked_by,
        role=role,
        sentence="",
        notes=[thread(case.id, "rolled_back", back.id, change=back.id, left=" ".join(beyond))],
        detail={"change": back.id, "permissions": permissions_digest(role.policies), "left": " ".join(beyond)},
    )


async def _undone(world: World, case: Case) -> Change | None:
    """Return the change that is to be taken back; None where it was stopped before it began."""
    task = _task(case)
    if task.get("do") == "take_back":
        try:
            return await world.store.change(task["change"])
        except NotFoundError:
            return None
    assert case.change is not None, "what is in force is the case's change"
    return await world.store.change(case.change.undoes) if case.change.undoes else case.change


def _task(case: Case) -> dict[str, Any]:
    return dict(json.loads(case.task)) if case.task else {}


class _OvertakenError(StaleError):
    """A rollback would overwrite what somebody did since; nothing of it was written. `more` shows what they did."""

    def __init__(self, sentence: str, next_step: str, more: str = "") -> None:
        super().__init__(sentence, next_step)
        self.more = more


async def _back(world: World, case: Case, undone: Change, *, half: bool) -> tuple[Change, Role]:
    """Drive the inverses of what was done of a change, and return them, and the role, as read back and compared.

    A write whose answer was lost may show its effect only after the look that was to settle it: where reading back
    finds one, its inverse follows.

    Args:
        world: the world.
        case: as it is now.
        undone: the change to take back.
        half: it never got to its end, or began to be taken back before: see `rules.permit_back`.
    """
    back = case.change  # ours, from before a crash
    if back is None or not back.id.startswith(_back_id(undone, case)):
        back = None
    while True:
        done = await _done(world, undone)
        if back is None:
            back = await _begin_back(world, case, undone, done)
        role, wrong = await _write_back(world, undone, back, done, half=half)
        if not wrong:
            await world.store.finish(back.id, "done")
            return back, role
        await world.store.finish(back.id, "unverified")
        if len(await _done(world, undone)) == len(done):
            raise _NotAsWritten(
                "Every write was taken, but reading back shows other policies than before the change: "
                f"{', '.join(wrong)}.",
                "Somebody else may be changing the role: look at it before you roll back again.",
            )
        back, half = None, True


async def _write_back(
    world: World, undone: Change, back: Change, done: Sequence[tuple[Step, str]], *, half: bool
) -> tuple[Role, tuple[str, ...]]:
    """Write what is still to write of a rollback; return the role as read back, and what of it is not as it was."""
    begun = half or await _touched(world, back)
    await _settle(world, back)
    role = await world.aws.role(undone.role_arn)
    made = {step.number: version for step, version in done}
    await _run(world, back, rules.permit_back(back, undone, made, role, world.guard, begun=begun))
    # Also where a write may have gone out whose effect nobody saw: it may show by now.
    sent = [(j.step, j.made) for j in await world.store.journal(undone.id) if j.state is not StepState.PLANNED]
    amiss = partial(rules.amiss, rules.undo(sent, undone.before), back.steps, undone.before)
    role = await _read_until(world, undone.role_arn, lambda r: not amiss(r))
    return role, amiss(role)


def _back_id(undone: Change, case: Case) -> str:
    return f"{undone.id}-back{case.revision}-"


async def _done(world: World, change: Change) -> list[tuple[Step, str]]:
    """Return the steps that were done, with the version that each made, once no answer is missing."""
    await _settle(world, change)
    return [(j.step, j.made) for j in await world.store.journal(change.id) if j.state is StepState.DONE]


async def _begin_back(world: World, case: Case, undone: Change, done: list[tuple[Step, str]]) -> Change:
    """Look over all inverses and put those that are to write into the journal.

    Raises:
        _OvertakenError: not all of them can be done; nothing was written.
    """
    pauses = patience(world)
    while True:
        live = await world.aws.role(undone.role_arn)
        steps = rules.undo(done, undone.before, _gone(undone, live))
        arns = dict.fromkeys(s.policy_arn for s in steps if s.policy_arn)
        policies = {arn: await world.aws.policy(arn, role_arn=undone.role_arn) for arn in arns}
        ahead = rules.ahead(steps, live, policies)
        # Reads may still lag behind what was applied a moment ago: another's work is believed in only after a wait.
        pause = None if len(ahead.todo) == len(steps) else next(pauses, None)
        if pause is None:
            break
        await world.sleep(pause)
    if live.role_id != undone.before.role_id:
        raise StaleError("The role was deleted and made anew since the change.", "Restore its policies by hand.")
    if ahead.overtaken:
        first = ahead.overtaken[0]
        what = "in use beyond this role by now" if first.left == first.live else "not what the change left any more"
        raise _OvertakenError(
            f"{first.name} is {what}, so nothing was written: rolling back would overwrite what somebody else did.",
            "Restore by hand what is still needed and roll back again, or make a new proposal.",
            _shown(ahead.overtaken),
        )
    if ahead.full:
        raise _OvertakenError(
            f"There is no room for the rollback, so nothing was written: {ahead.full}, and it would need more for a "
            "moment.",
            "Make room by hand and roll back again.",
        )
    return await world.store.begin(
        Change(
            id=ChangeId(f"{_back_id(undone, case)}{world.new_id()}"),
            case_id=case.id,
            proposal_id=undone.proposal_id,
            kind="rollback",
            role_arn=undone.role_arn,
            steps=ahead.todo,
            by=case.asked_by,
            at=world.clock(),
            before=live,
            expected=rules.expected(live, ahead.todo),
            undoes=undone.id,
        )
    )


def _gone(undone: Change, live: Role) -> frozenset[str]:
    """Return the ARNs of policies whose old version, which a rollback would make the default again, is not there."""
    versions = {p.arn: p.versions for p in live.policies if p.arn}
    return frozenset(
        p.arn for p in undone.before.policies if p.arn in versions and p.default_version not in versions[p.arn]
    )


def _shown(differences: Sequence[rules.Difference]) -> str:
    """Show what somebody did since the change, as lines."""
    lines: list[str] = []
    for each in differences:
        if each.left == each.live:
            lines.append(f"{each.name} is in use beyond this role by now, and would change there too.")
            continue
        how = "was taken away" if each.live is None else "was added" if each.left is None else "was edited"
        lines.append(f"{each.name} {how} since the change.")
        if each.left is not None and each.live is not None:
            lines += sums.diff(each.left, each.live)
    return "\n".join(lines if len(lines) <= LINES else [*lines[:LINES], f"… {len(lines) - LINES} more lines"])


def _more(error: RefineError) -> str:
    return error.more if isinstance(error, _OvertakenError) else ""


def _why(change: Change) -> str:
    return f"why/{change.id}"


async def _take_back(world: World, case: Case, change: Change, why: str) -> None:
    """A step failed: take back the ones before it, and say what is in force."""
    # On disk before the first inverse: whoever takes over goes on backwards, never forwards again.
    await world.store.remember(_why(change), why)
    more = ""
    try:
        _, role = await _back(world, await world.store.case(case.id), change, half=True)
    except _WAITS:
        raise
    except _NotAsWritten:
        outcome = "failed"
        text = (
            f"{why} The steps before it were taken back, and the role's policies are still not what they were: "
            f"somebody else changed them. In force now: {await _in_force(world, case)}."
        )
    except RefineError as error:
        outcome, more = "failed", _more(error)
        text = (
            f"{why} Taking back the steps before it stopped too: {error.say()} "
            f"In force now: {await _in_force(world, case)}."
        )
    else:
        outcome = "taken back"
        left = rules.beyond(change.before, role)
        text = (
            f"{why} All that was written is taken back. {', '.join(left)} is as somebody else made it meanwhile. "
            f"In force now: {force(role)}."
            if left
            else f"{why} The role's old policies are in force, as if nothing had been written."
        )
    await world.store.finish(change.id, outcome)
    await _close(world, case, Event.APPLY_FAILED, text, more)


async def _in_force(world: World, case: Case) -> str:
    try:
        return force(await world.aws.role(case.role_arn))
    except RefineError as error:
        return f"unknown, because AWS could not be asked ({error.sentence})"


async def _fail(world: World, case: Case, error: RefineError) -> None:
    sentence = f"{error.say()} Nothing was written. In force now: {await _in_force(world, case)}."
    await _close(world, case, Event.APPLY_FAILED, sentence)


async def _close(world: World, case: Case, event: Event, sentence: str, more: str = "") -> None:
    await world.store.move(
        case.id,
        event,
        by=rules.REFINE,
        sentence=sentence,
        notes=[thread(case.id, "failed", str(case.revision), text=f"{sentence}\n{more}".strip())],
        detail={"outcome": "failed"},
    )
