"""Apply and roll back: a journalled saga over IAM. The row is the truth; AWS is asked what is true before every write.

`drive` may be started any number of times, by an approval, by a clock, after a crash, and ends in the same place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from bot import rules
from bot.errors import (
    DeniedError,
    NoEvidenceError,
    NotAllowedError,
    NotFoundError,
    PolicyError,
    ProofError,
    RefineError,
    StaleError,
    ThrottledError,
    UnavailableError,
    UnknownOutcomeError,
)
from bot.flows.world import World, task_text, thread
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
from bot.policy import check, trim
from bot.rules import Button, Event, Permit

log = structlog.get_logger()

LOOKS = 1.5  # how the pause between two looks grows
WRITES = 3  # a write that AWS never showed is sent again at most so often, each time after a read back


class _StepError(RefineError):
    """A step cannot be done; the ones before it have to be taken back."""


async def start_rollback(
    world: World, case_id: CaseId, revision: int | None, by: UserId, reason: str, *, keep: tuple[str, ...] = ()
) -> Case:
    """Begin to put the old policies back; with `keep`, a new proposal that keeps those actions follows at once."""
    case = await world.store.case(case_id)
    await world.allowed(by, Button.GIVE_BACK if keep else Button.ROLL_BACK, case)
    if not rules.can_roll_back(case):
        raise NotAllowedError("Nothing of this case is in force, so there is nothing to roll back.")
    moved = await world.store.move(
        case_id,
        Event.ROLL_BACK,
        by=by,
        revision=revision,
        reason=reason,
        sentence="",
        task=task_text(do="give_back", keep=sorted(keep)) if keep else "",
        detail={"reason": reason, "give_back": " ".join(sorted(keep))},
    )
    world.poke()
    await world.engine.submit("drive", case_id)
    return moved


async def drive(world: World, case_id: CaseId) -> None:
    """Bring an APPLYING or ROLLING_BACK case to its end."""
    case = await world.store.case(case_id)
    try:
        if case.state is CaseState.APPLYING:
            await _apply(world, case)
        elif case.state is CaseState.ROLLING_BACK:
            await _roll_back(world, case)
    except (UnavailableError, ThrottledError) as error:
        # AWS is away: nothing is decided, the clock starts this flow again.
        log.warning("drive waits for AWS", case=case_id, error=error.sentence)
    finally:
        world.poke()


# -------------------- apply


async def _apply(world: World, case: Case) -> None:
    proposal = case.proposal
    if proposal is None:
        await _close(world, case, Event.APPLY_FAILED, "The approved proposal is gone, so nothing was written.")
        return
    change = case.change
    if change is not None and change.kind == "rollback" and change.undoes == _change_id(proposal):
        await _take_back(world, case, await world.store.change(change.undoes), "")
        return
    if change is None or change.id != _change_id(proposal):
        change = None
    started = False
    try:
        if change is None:
            change = await _begin(world, case, proposal)
        journal = await world.store.journal(change.id)
        started = any(j.state is not StepState.PLANNED for j in journal)
        role = await world.aws.role(change.role_arn)
        permit = rules.permit_apply(
            change, proposal, case.approvals, role, await world.team(), world.guard, begun=started
        )
    except StaleError as error:
        if started:
            await _fail(world, case, error)
            return
        if change is not None:
            await world.store.finish(change.id, "stale")
        await world.store.move(
            case.id,
            Event.WENT_STALE,
            by=rules.REFINE,
            sentence=error.say(),
            notes=[thread(case.id, "stale", proposal.id, text=error.say())],
        )
        return
    except (NotAllowedError, NotFoundError, DeniedError, ProofError, PolicyError, NoEvidenceError) as error:
        await _fail(world, case, error)
        return
    try:
        await _run(world, change, permit)
        await _verify(world, change)
    except _StepError as error:
        log.warning("change failed", case=case.id, change=change.id, error=error.sentence)
        await _take_back(world, case, change, error.say())
        return
    except _NotAsWritten as error:
        await world.store.finish(change.id, "unverified")
        await _close(world, case, Event.APPLY_FAILED, error.say())
        return
    await world.store.finish(change.id, "done")
    await world.store.move(
        case.id,
        Event.APPLIED,
        by=rules.REFINE,
        asked_by=case.asked_by,
        role=await world.aws.role(change.role_arn),
        sentence="",
        until=world.clock() + timedelta(hours=world.settings.refine_watch_hours),
        notes=[thread(case.id, "applied", change.id, change=change.id)],
        detail={"change": change.id, "permissions": change.expected},
    )


def _change_id(proposal: Proposal) -> ChangeId:
    # One proposal is applied once: the id makes a second change of it impossible, whoever starts it.
    return ChangeId(f"{proposal.id}-apply")


async def _begin(world: World, case: Case, proposal: Proposal) -> Change:
    """Take the snapshot and write the journal, after a last look at policies, evidence and proof."""
    role = await world.aws.role(case.role_arn)
    if role.live_digest() != proposal.live_digest:
        raise StaleError(
            "The role's policies changed since the proposal was made, so nothing was written.", "Make a new proposal."
        )
    age = world.clock() - proposal.evidence.made_at
    if age > timedelta(hours=world.settings.refine_max_report_age_hours):
        await _still_unused(world, proposal, role)
    keep = tuple(a.action for a in proposal.trim.actions if a.verdict.value in {"used", "protected"})
    proof = check(role.policies, proposal.trim.policies, keep, world.catalogue)
    if not proof.holds:
        raise ProofError("The proof failed on the live policies, so nothing was written.", "Please report this bug.")
    steps = rules.plan(proposal, role)
    return await world.store.begin(
        Change(
            id=_change_id(proposal),
            case_id=case.id,
            proposal_id=proposal.id,
            kind="apply",
            role_arn=role.arn,
            steps=steps,
            by=case.asked_by,
            at=world.clock(),
            before=role,
            expected=rules.expected(role, steps),
        )
    )


async def _still_unused(world: World, proposal: Proposal, role: Role) -> None:
    from dataclasses import replace

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
        if entry.state is StepState.DONE:
            continue
        await _step(world, change, permit, entry.step, resumed=entry.state is StepState.STARTED)


async def _step(world: World, change: Change, permit: Permit, step: Step, *, resumed: bool) -> None:
    # A started step may have been sent. IAM's reads lag behind its writes: "not there" is believed only after a wait.
    seen, policy = await _look(world, change, step, patient=resumed)
    for _ in range(WRITES):
        if seen == "after":
            await world.store.mark(change.id, step.number, StepState.DONE, _made(step, policy))
            world.poke()
            return
        if seen == "other":
            raise _StepError(
                f"{step.policy_name} is not what was approved any more: somebody else changed it.",
                "Compare the documents in the thread.",
            )
        await world.store.mark(change.id, step.number, StepState.STARTED)
        try:
            made = await world.aws.write(permit, step)
        except UnknownOutcomeError:
            log.warning("outcome unknown, reading back", change=change.id, step=step.number, kind=step.kind.value)
            seen, policy = await _look(world, change, step, patient=True)
            continue
        except RefineError as error:
            raise _StepError(error.sentence, error.next_step) from error
        await world.store.mark(change.id, step.number, StepState.DONE, made.version)
        world.poke()
        return
    raise _StepError(
        f"AWS took the write to {step.policy_name} {WRITES} times without an answer, and it shows no effect.",
        "Try again when AWS is well.",
    )


async def _look(world: World, change: Change, step: Step, *, patient: bool) -> tuple[rules.Effect, RolePolicy | None]:
    """Return what AWS shows of the step; patient: wait for the effect of a write that may have been sent."""

    async def once() -> tuple[rules.Effect, RolePolicy | None]:
        role = await world.aws.role(change.role_arn)
        policy = await world.aws.policy(step.policy_arn, role_arn=change.role_arn) if step.policy_arn else None
        return rules.effect(step, role, policy), policy

    waited = 0.0
    pause = 0.2
    while True:
        seen = await once()
        if seen[0] == "after" or waited >= world.settings.refine_settle_seconds:
            return seen
        if not patient and seen[0] == "before":
            return seen
        await world.sleep(pause)
        waited += pause
        pause = min(pause * LOOKS, 3.0)


def _made(step: Step, policy: RolePolicy | None) -> str:
    return policy.default_version if step.kind is StepKind.CREATE_VERSION and policy is not None else ""


class _NotAsWritten(RefineError):  # noqa: N818  # a finding of the verification, not a failure of ours
    pass


async def _verify(world: World, change: Change) -> Role:
    """Read back until IAM shows what was written.

    Raises:
        _NotAsWritten: it shows something else after all patience.
    """
    role = await _read_until(world, change.role_arn, lambda r: permissions_digest(r.policies) == change.expected)
    if permissions_digest(role.policies) != change.expected:
        raise _NotAsWritten(
            "Every write was taken, but reading back shows other policies than were written. "
            f"In force now: {force(role)}.",
            "Somebody else may be changing the role: look at it before you roll back.",
        )
    return role


async def _read_until(world: World, arn: str, good: Callable[[Role], bool]) -> Role:
    waited = 0.0
    pause = 0.2
    while True:
        role = await world.aws.role(arn)
        if good(role) or waited >= world.settings.refine_settle_seconds:
            return role
        await world.sleep(pause)
        waited += pause
        pause = min(pause * LOOKS, 3.0)


def force(role: Role) -> str:
    """Name what is in force now, for a sentence."""
    if not role.policies:
        return "no permissions policy at all"
    return ", ".join(f"{p.name} ({p.default_version or p.kind.value})" for p in role.policies)


# -------------------- back


async def _roll_back(world: World, case: Case) -> None:
    change = case.change
    if change is None:
        await _close(world, case, Event.ROLL_BACK_FAILED, "There is no change to roll back.")
        return
    undone = await world.store.change(change.undoes) if change.undoes else change
    try:
        back = await _back(world, case, undone)
    except StaleError as error:
        await _close(
            world, case, Event.ROLL_BACK_FAILED, f"{error.say()} In force now: {await _in_force(world, case)}."
        )
        return
    except (_StepError, _NotAsWritten, NotAllowedError, NotFoundError, DeniedError) as error:
        await _close(
            world,
            case,
            Event.ROLL_BACK_FAILED,
            f"The rollback stopped: {error.say()} In force now: {await _in_force(world, case)}.",
        )
        return
    keep = tuple(_task(case).get("keep", ()))
    moved = await world.store.move(
        case.id,
        Event.ROLLED_BACK,
        by=rules.REFINE,
        asked_by=case.asked_by,
        role=await world.aws.role(case.role_arn),
        sentence="",
        task="",
        notes=[thread(case.id, "rolled_back", back.id, change=back.id)],
        detail={"change": back.id, "permissions": back.expected},
    )
    if keep:
        from bot.flows.propose import start_proposal

        by_hand = case.proposal.settings.keep_by_hand if case.proposal else ()
        await start_proposal(
            world, case.id, moved.revision, case.asked_by, keep_by_hand=tuple(sorted({*by_hand, *keep}))
        )


def _task(case: Case) -> dict[str, list[str]]:
    import json

    return dict(json.loads(case.task)) if case.task else {}


async def _back(world: World, case: Case, undone: Change) -> Change:
    """Drive the inverse of what was done of a change, and prove the result by its digest."""
    journal = await world.store.journal(undone.id)
    done = {j.step.number for j in journal if j.state is StepState.DONE}
    made = {j.step.number: j.made for j in journal}
    steps = rules.undo([(j.step, j.made) for j in journal if j.state is StepState.DONE], undone.before)
    current = case.change
    if current is not None and current.kind == "rollback" and current.undoes == undone.id and current.steps == steps:
        back = current  # ours, from before a crash
    else:
        back = await world.store.begin(
            Change(
                id=ChangeId(f"{undone.id}-back{case.revision}"),
                case_id=case.id,
                proposal_id=undone.proposal_id,
                kind="rollback",
                role_arn=undone.role_arn,
                steps=steps,
                by=case.asked_by,
                at=world.clock(),
                before=await world.aws.role(undone.role_arn),
                expected=permissions_digest(undone.before.policies),
                undoes=undone.id,
            )
        )
    begun = any(j.state is not StepState.PLANNED for j in await world.store.journal(back.id))
    role = await world.aws.role(undone.role_arn)
    permit = rules.permit_back(back, undone, made, done, role, begun=begun)
    await _run(world, back, permit)
    await _verify(world, back)
    await world.store.finish(back.id, "done")
    return back


async def _take_back(world: World, case: Case, change: Change, why: str) -> None:
    """A step failed: take back the ones before it, and say what is in force."""
    why = why or await world.store.recall(f"why/{change.id}")
    await world.store.remember(f"why/{change.id}", why)
    journal = await world.store.journal(change.id)
    if any(j.state is StepState.STARTED for j in journal):
        await _settle_started(world, change)
    try:
        await _back(world, await world.store.case(case.id), change)
    except (_StepError, _NotAsWritten, NotAllowedError, NotFoundError, StaleError, DeniedError) as error:
        await world.store.finish(change.id, "failed")
        text = (
            f"{why} Taking back the steps before it stopped too: {error.say()} "
            f"In force now: {await _in_force(world, case)}."
        )
        await _close(world, case, Event.APPLY_FAILED, text)
        return
    await world.store.finish(change.id, "taken back")
    await _close(
        world, case, Event.APPLY_FAILED, f"{why} The role's old policies are in force, as if nothing had been written."
    )


async def _settle_started(world: World, change: Change) -> None:
    """Find out what became of a step that was sent but never answered, so that its inverse is not forgotten."""
    for entry in await world.store.journal(change.id):
        if entry.state is not StepState.STARTED:
            continue
        seen, policy = await _look(world, change, entry.step, patient=True)
        if seen == "after":
            await world.store.mark(change.id, entry.step.number, StepState.DONE, _made(entry.step, policy))
        else:
            await world.store.mark(change.id, entry.step.number, StepState.PLANNED)


async def _in_force(world: World, case: Case) -> str:
    try:
        return force(await world.aws.role(case.role_arn))
    except RefineError as error:
        return f"unknown, because AWS could not be asked ({error.sentence})"


async def _fail(world: World, case: Case, error: RefineError) -> None:
    sentence = f"{error.say()} Nothing was written by this step. In force now: {await _in_force(world, case)}."
    await _close(world, case, Event.APPLY_FAILED, sentence)


async def _close(world: World, case: Case, event: Event, sentence: str) -> None:
    await world.store.move(
        case.id,
        event,
        by=rules.REFINE,
        sentence=sentence,
        notes=[thread(case.id, "failed", str(case.revision), text=sentence)],
        detail={"outcome": "failed"},
    )
