"""Review and propose: from a click to evidence in the thread, and on to a proposal that people can say yes to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from bot import rules
from bot.errors import NoEvidenceError, NotAllowedError, NotFoundError, PolicyError, ProofError, RefineError, StaleError
from bot.flows.ports import Note
from bot.flows.world import World, files, task_text, thread
from bot.model import (
    Case,
    CaseId,
    CaseState,
    ChangeId,
    Evidence,
    GiveBack,
    Mode,
    PolicyKind,
    Proposal,
    ProposalId,
    Role,
    StepKind,
    Trim,
    TrimSettings,
    UserId,
)
from bot.policy import give, trim
from bot.rules import Button, Event

log = structlog.get_logger()


async def start_look(
    world: World, case_id: CaseId, revision: int | None, by: UserId, button: Button = Button.REVIEW
) -> Case:
    """Begin reading the last accessed report, for the thread."""
    case = await world.store.case(case_id)
    await world.allowed(by, button, case)
    return await _start(world, case, Event.REVIEW, revision, by, task_text(do="review"))


NAME = 128  # characters of a policy's name
WINDOW = 400  # days: IAM's tracking period, beyond which nobody knows
_AGAIN = frozenset({Button.REPLAN, Button.RETRY})


async def start_proposal(
    world: World,
    case_id: CaseId,
    revision: int | None,
    by: UserId,
    *,
    mode: str = "",
    window: int = 0,
    keep_by_hand: tuple[str, ...] = (),
    reason: str = "",
    button: Button = Button.PROPOSE,
) -> Case:
    """Begin a proposal. Where one waits already, the new one replaces it and its approvals are void.

    Args:
        world: the ports and settings.
        case_id: the case.
        revision: what the clicker saw.
        by: the clicker.
        mode: "safe" or "strict"; empty: as the settings say, or as it was where it is proposed again.
        window: days; 0: as with `mode`.
        keep_by_hand: actions and patterns to keep.
        reason: why it is adjusted.
        button: what was pressed.

    Raises:
        NotAllowedError: the person may not, or the window is longer than IAM looks back.
    """
    case = await world.store.case(case_id)
    await world.allowed(by, button, case)
    if not 0 <= window <= WINDOW:
        raise NotAllowedError(f"IAM looks back {WINDOW} days at most.", f"Pick a window of 1 to {WINDOW} days.")
    if button in _AGAIN and _gives_back(case):
        return await _start(world, case, Event.PROPOSE, revision, by, case.task)
    asked = _asked(case) if button in _AGAIN else {}
    task = {
        "do": "propose",
        "mode": Mode(mode).value if mode else asked.get("mode") or world.settings.refine_mode.value,
        "keep": sorted(keep_by_hand or asked.get("keep", ())),
    }
    if window or asked.get("window"):
        task["window"] = window or asked["window"]
    if reason:
        task["reason"] = reason
    return await _start(world, case, Event.PROPOSE, revision, by, task_text(**task), reason)


async def start_give_back(
    world: World, case_id: CaseId, revision: int | None, by: UserId, actions: Collection[str]
) -> Case:
    """Begin a proposal that gives back what is named of what the change in force took away; that stays until it is
    approved.

    Raises:
        NotAllowedError: the person may not, or no change is in force.
    """
    case = await world.store.case(case_id)
    await world.allowed(by, Button.GIVE_BACK, case)
    if case.change is None or not rules.can_give_back(case):
        raise NotAllowedError("No change of this case is in force, so there is nothing to give back.")
    task = task_text(do="give_back", change=case.change.id, actions=sorted(actions))
    return await _start(world, case, Event.PROPOSE, revision, by, task)


def _gives_back(case: Case) -> bool:
    """Whether what was asked for last is a give-back, and of the change that is in force."""
    task: dict[str, Any] = json.loads(case.task or "{}")
    return (
        task.get("do") == "give_back"
        and case.change is not None
        and task.get("change") == case.change.id
        and rules.can_give_back(case)
    )


def _asked(case: Case) -> dict[str, Any]:
    """Return what was asked of the case's last proposal: who asks again means the same."""
    task: dict[str, Any] = json.loads(case.task or "{}")
    if task.get("do") == "propose":
        return task
    made = case.proposal.settings if case.proposal else None
    return {"mode": made.mode.value, "window": made.window_days, "keep": made.keep_by_hand} if made else {}


async def _start(
    world: World, case: Case, event: Event, revision: int | None, by: UserId, task: str, reason: str = ""
) -> Case:
    resume = case.resume if case.state is CaseState.WORKING else case.state
    moved = await world.store.move(
        case.id,
        event,
        by=by,
        revision=revision,
        task=task,
        resume=resume,
        sentence="",
        reason=reason,
        detail={"task": task, "reason": reason},
    )
    world.poke()
    await world.engine.submit("work", moved.id)
    return moved


async def retry(world: World, case_id: CaseId, revision: int | None, by: UserId) -> Case:
    """Begin anew what could not be done: reading the report, or the proposal as it was asked for."""
    case = await world.store.case(case_id)
    if case.state is CaseState.CANNOT_TELL and json.loads(case.task or "{}").get("do") == "review":
        return await start_look(world, case_id, revision, by, Button.RETRY)
    return await start_proposal(world, case_id, revision, by, button=Button.RETRY)


async def work(world: World, case_id: CaseId) -> None:
    """Do what a WORKING case is about. May be started any number of times: the row says what is left to do."""
    case = await world.store.case(case_id)
    if case.state is not CaseState.WORKING:
        return
    task: dict[str, Any] = json.loads(case.task or '{"do": "review"}')
    try:
        await _work(world, case, task)
    except StaleError:
        # Somebody moved the case while we read (a resolved finding, say): their move stands, ours is void.
        log.info("work superseded", case=case_id)
    except NoEvidenceError as error:
        await _end(world, case, Event.CANNOT_TELL, error, "no_evidence")
    except (PolicyError, NotAllowedError) as error:
        await _end(world, case, Event.NOTHING_TO_TRIM, error, "no_proposal")
    except ProofError as error:
        log.error("proof failed", case=case_id, error=error.sentence)
        await _end(world, case, Event.CANNOT_TELL, error, "no_proposal")
    except RefineError as error:
        log.warning("work failed", case=case_id, error=error.sentence, code=error.code)
        await _end(world, case, Event.CANNOT_TELL, error, "no_evidence")
    except Exception:
        log.exception("work crashed", case=case_id)
        crash = RefineError(
            "Something went wrong on our side; nothing was changed.", "Press Retry; the log of Refine tells more."
        )
        await _end(world, case, Event.CANNOT_TELL, crash, "no_evidence")
    world.poke()


async def _end(world: World, case: Case, event: Event, error: RefineError, name: str) -> None:
    note = thread(case.id, name, str(case.revision), text=error.say())
    try:
        await world.store.move(
            case.id,
            event,
            by=rules.REFINE,
            revision=case.revision,
            sentence=error.say(),
            reason="",
            notes=[note],
            detail={"error": error.code},
        )
    except StaleError:
        log.info("work superseded", case=case.id)


async def _work(world: World, case: Case, task: dict[str, Any]) -> None:
    try:
        role = await world.aws.role(case.role_arn)
    except NotFoundError:
        raise NotAllowedError("AWS does not know this role any more.", "Nothing is left to trim.") from None
    if task["do"] != "review":
        why = rules.off_limits(role, world.guard)
        if why:
            raise NotAllowedError(f"Refine makes no proposal for this role: {why}.", _instead(role))
    if task["do"] == "give_back":
        await _propose(world, case, await _given_back(world, case, task, role), [])
        return
    proposing = task["do"] == "propose"
    if proposing and not role.policies:
        raise NotAllowedError("The role has no permissions policies, so there is nothing to trim.")
    evidence = await fresh_evidence(world, case, role)
    settings = world.trim_settings(
        mode=task.get("mode", ""),
        window_days=task.get("window", 0),
        keep_by_hand=tuple(task.get("keep", ())),
        quotas=role.quotas,
    )
    answer = await asyncio.to_thread(trim, role.policies, evidence, world.catalogue, settings)
    new_evidence = case.evidence is None or case.evidence.made_at != evidence.made_at
    notes: list[Note] = []
    if new_evidence or not proposing:
        seen = f"{case.revision}"
        notes += [thread(case.id, "review", seen), files(case.id, "review", seen)]
    if not proposing:
        await world.store.move(
            case.id,
            Event.REVIEWED,
            by=rules.REFINE,
            revision=case.revision,
            role=role,
            evidence=evidence,
            notes=notes,
            detail={"evidence": evidence.digest()},
        )
        return
    if not answer.changes:
        await world.store.move(
            case.id,
            Event.NOTHING_TO_TRIM,
            by=rules.REFINE,
            revision=case.revision,
            role=role,
            evidence=evidence,
            sentence=nothing(answer, settings),
            reason="",
            notes=[*notes, thread(case.id, "no_proposal", str(case.revision), text=nothing(answer, settings))],
            detail={"evidence": evidence.digest()},
        )
        return
    proposal = _proposal(world, case, role, evidence, settings, answer, reason=task.get("reason", ""))
    await _propose(world, case, proposal, notes, evidence=evidence)


async def _given_back(world: World, case: Case, task: dict[str, Any], role: Role) -> Proposal:
    """Return the proposal that gives back what the task names: the evidence is that of the change, for it only gives.

    Raises:
        NotAllowedError: it cannot be given back, as things are.
    """
    change = await world.store.change(ChangeId(task["change"]))
    last = (await world.store.case(case.id, proposal_id=change.proposal_id)).proposal
    if last is None:
        raise NotAllowedError("The proposal of this change is gone.", "Roll the change back.")
    first = await world.store.change(last.give_back.change) if last.give_back is not None else change
    try:
        answer, back = await asyncio.to_thread(
            give, last, first.id, first.before, role, task["actions"], world.catalogue
        )
    except StaleError as error:
        raise NotAllowedError(error.sentence, error.next_step) from None
    kept = tuple(sorted({*last.settings.keep_by_hand, *back.actions}))
    settings = replace(last.settings, keep_by_hand=kept, quotas=role.quotas)
    return _proposal(world, case, role, last.evidence, settings, answer, give_back=back)


def _proposal(
    world: World,
    case: Case,
    role: Role,
    evidence: Evidence,
    settings: TrimSettings,
    answer: Trim,
    *,
    reason: str = "",
    give_back: GiveBack | None = None,
) -> Proposal:
    return Proposal(
        id=ProposalId(f"{case.id}-{case.revision}"),
        case_id=case.id,
        role=role,
        evidence=evidence,
        settings=settings,
        trim=answer,
        proposed_by=case.asked_by,
        proposed_at=world.clock(),
        supersedes=case.proposal.id if case.proposal else None,
        reason=reason,
        give_back=give_back,
    )


async def _propose(world: World, case: Case, proposal: Proposal, notes: Sequence[Note], **more: Evidence) -> None:
    """Let the proposal wait for approval, with its messages; `more` is set on the case.

    Raises:
        ProofError: its proof does not hold.
        PolicyError, NotAllowedError: it could not be written.
    """
    answer = proposal.trim
    if not answer.proof.holds:
        raise ProofError(
            "The proof of this proposal failed, so it was thrown away: " + "; ".join(answer.proof.problems[:3]) + ".",
            "This is a bug in Refine: please report it.",
        )
    proposal = await _with_free_names(world, proposal)
    for outcome in answer.policies:
        if outcome.text is not None and outcome.tier:
            problems = await world.aws.validate(outcome.text)
            if problems:
                raise PolicyError(
                    f"AWS finds fault with the new {outcome.name}: {problems[0]}",
                    "Propose again in safe mode, or correct the policy by hand.",
                )
    await world.store.move(
        case.id,
        Event.PROPOSED,
        by=rules.REFINE,
        revision=case.revision,
        asked_by=case.asked_by,
        role=proposal.role,
        proposal=proposal,
        reason="",
        approvals_needed=world.settings.refine_approvals_needed,
        until=proposal.proposed_at + timedelta(hours=world.settings.refine_expiry_hours),
        notes=[
            *notes,
            thread(case.id, "proposal", proposal.id, proposal=proposal.id),
            files(case.id, "proposal", proposal.id, proposal=proposal.id),
        ],
        detail={
            "proposal": proposal.digest(),
            "live": proposal.live_digest,
            "evidence": proposal.evidence.digest(),
            "documents": proposal.trim.documents_digest(),
            **proposal.gives(),
        },
        **more,
    )


async def _with_free_names(world: World, proposal: Proposal) -> Proposal:
    """Return the proposal with names for its copies that are free in the account: an older change may have left one.

    Refuses here, before anybody says yes to it, what cannot be written.
    """
    taken = {p.name.lower() for p in proposal.role.policies} | {o.name.lower() for o in proposal.trim.policies}
    names: dict[str, str] = {}
    for step in rules.plan(proposal, proposal.role):
        if step.kind is not StepKind.CREATE_POLICY:
            continue
        name, number = step.policy_name, 1
        taken.discard(name.lower())
        # A name is taken in every path, and a policy is asked for by its path: the copies' own, and the usual one.
        paths = (step.policy_arn.removesuffix(name), step.policy_arn.partition("refine/")[0])
        while name.lower() in taken or await _any(world, [path + name for path in paths], proposal.role):
            number += 1
            name = f"{step.policy_name[: NAME - 4]}-{number}"
        taken.add(name.lower())
        names[step.policy_name] = name
    policies = tuple(
        replace(o, name=names.get(o.name, o.name)) if o.kind is not PolicyKind.INLINE else o
        for o in proposal.trim.policies
    )
    return replace(proposal, trim=replace(proposal.trim, policies=policies))


async def _any(world: World, arns: list[str], role: Role) -> bool:
    return any([await world.aws.policy(arn, role_arn=role.arn) is not None for arn in arns])


def _instead(role: Role) -> str:
    if role.stack:
        return "Change the stack's template; the review shows what to take out."
    return "The review still shows what it used."


def nothing(answer: Trim, settings: TrimSettings) -> str:
    """Say why there is no proposal, in one plain sentence with a next step."""
    hidden = sum(a.kept and a.verdict.value in {"untracked", "unknown", "invisible"} for a in answer.actions)
    if not answer.granted:
        return "The role's policies grant nothing, so there is nothing to trim."
    window = f"in the last {settings.window_days} days"
    if hidden and settings.mode is Mode.SAFE:
        return (
            f"Nothing to trim in safe mode: of {answer.granted} granted actions, {hidden} cannot be known to be "
            f"unused, and the rest were used {window} or are kept. Strict mode would drop what IAM cannot tell about."
        )
    return (
        f"Nothing to trim: all {answer.granted} granted actions were used {window}, or are kept by settings or by hand."
    )


async def fresh_evidence(world: World, case: Case, role: Role) -> Evidence:
    """Return the case's evidence where it is young enough, else a new report."""
    age = timedelta(hours=world.settings.refine_max_report_age_hours)
    old = case.evidence
    same_policies = case.role is not None and case.role.live_digest() == role.live_digest()
    if old is not None and same_policies and world.clock() - old.made_at < age:
        return old
    return await world.aws.evidence(role)
