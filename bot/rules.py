"""Pure rules: who may do what, which state follows which event, which writes carry out a proposal, what may be written.

No I/O and no clock. `Permit` is made here and nowhere else; the gateway's only writing call asks for one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal, NoReturn

from bot.errors import LostRaceError, NotAllowedError, StaleError
from bot.model import (
    Approval,
    Case,
    CaseState,
    Change,
    ChangeId,
    Digest,
    Outcome,
    Person,
    PolicyKind,
    PolicyOutcome,
    Proposal,
    Role,
    RolePolicy,
    Step,
    StepKind,
    UserId,
    permissions_digest,
)
from bot.policy.language import size

REFINE: Final = UserId("refine")  # the bot's own doing, in the audit log


class Event(StrEnum):
    """What can happen to a case."""

    REVIEW = "review"
    REVIEWED = "reviewed"
    PROPOSE = "propose"
    PROPOSED = "proposed"
    NOTHING_TO_TRIM = "nothing_to_trim"
    CANNOT_TELL = "cannot_tell"
    APPROVE = "approve"  # counted; the case moves with the last one needed
    APPROVED = "approved"
    DECLINE = "decline"
    EXPIRE = "expire"
    WENT_STALE = "went_stale"
    APPLIED = "applied"
    APPLY_FAILED = "apply_failed"
    WATCH_ENDED = "watch_ended"
    ROLL_BACK = "roll_back"
    ROLLED_BACK = "rolled_back"
    ROLL_BACK_FAILED = "roll_back_failed"
    WITHDRAWN = "withdrawn"  # taken back before anything of it was written
    SNOOZE = "snooze"
    ACCEPT = "accept"
    REOPEN = "reopen"
    RESOLVE = "resolve"  # the findings ended at AWS
    FOUND = "found"  # a finding is active (again)


_S = CaseState
# Nothing runs and nobody's answer is awaited: a new look may start.
IDLE: Final = frozenset(
    {
        _S.NEW,
        _S.CANNOT_TELL,
        _S.NOTHING,
        _S.STALE,
        _S.ROLLED_BACK,
        _S.FAILED,
        _S.DECLINED,
        _S.EXPIRED,
        _S.SNOOZED,
        _S.ACCEPTED,
        _S.DONE,
        _S.WATCHING,
    }
)
BUSY: Final = frozenset({_S.WORKING, _S.APPLYING, _S.ROLLING_BACK})
_TOLD: Final = frozenset({_S.WATCHING, _S.DONE, _S.FAILED})  # the outcome of a change: a look does not cover it up
# States in which a change may be in force: after a rollback, the one before; beside a proposal, the one before it.
_IN_FORCE: Final = IDLE | {_S.RESOLVED, _S.WAITING}

TRANSITIONS: Final[Mapping[tuple[CaseState, Event], CaseState]] = {
    **{(s, Event.REVIEW): _S.WORKING for s in IDLE | {_S.RESOLVED}},
    **{(s, Event.PROPOSE): _S.WORKING for s in IDLE | {_S.WAITING, _S.RESOLVED}},
    (_S.WORKING, Event.REVIEWED): _S.NEW,  # or the outcome of a change that it came from: see `after`
    (_S.WORKING, Event.PROPOSED): _S.WAITING,
    (_S.WORKING, Event.NOTHING_TO_TRIM): _S.NOTHING,
    (_S.WORKING, Event.CANNOT_TELL): _S.CANNOT_TELL,
    (_S.WAITING, Event.APPROVE): _S.WAITING,
    (_S.WAITING, Event.APPROVED): _S.APPLYING,
    (_S.WAITING, Event.DECLINE): _S.DECLINED,
    (_S.WAITING, Event.EXPIRE): _S.EXPIRED,
    (_S.WAITING, Event.WENT_STALE): _S.STALE,
    (_S.APPLYING, Event.WENT_STALE): _S.STALE,
    (_S.APPLYING, Event.APPLIED): _S.WATCHING,
    (_S.APPLYING, Event.APPLY_FAILED): _S.FAILED,
    (_S.WATCHING, Event.WATCH_ENDED): _S.DONE,
    # A change that is in force can be taken back, also after a second look at the role came to nothing; and one that is
    # under way, which may wait for long: no further write of it follows then.
    **{(s, Event.ROLL_BACK): _S.ROLLING_BACK for s in _IN_FORCE | {_S.APPLYING}},
    (_S.ROLLING_BACK, Event.WITHDRAWN): _S.DECLINED,
    (_S.ROLLING_BACK, Event.ROLLED_BACK): _S.ROLLED_BACK,
    (_S.ROLLING_BACK, Event.ROLL_BACK_FAILED): _S.FAILED,
    **{(s, Event.SNOOZE): _S.SNOOZED for s in IDLE - {_S.WATCHING, _S.DONE, _S.FAILED}},
    **{(s, Event.ACCEPT): _S.ACCEPTED for s in IDLE - {_S.WATCHING}},
    **{(s, Event.REOPEN): _S.NEW for s in IDLE - {_S.NEW, _S.CANNOT_TELL, _S.WATCHING}},
    # A role that was changed stays rollable: only cases that wait for nobody are closed by AWS's own news. One that
    # failed is, where nothing of it is in force.
    **{(s, Event.RESOLVE): _S.RESOLVED for s in IDLE - {_S.WATCHING, _S.DONE} | {_S.WAITING}},
    (_S.RESOLVED, Event.FOUND): _S.NEW,
}


def after(case: Case, event: Event) -> CaseState:
    """Return the state that follows `event`.

    Raises:
        LostRaceError: the case is in a state that does not take the event; the sentence says who brought it there.
    """
    looked = {Event.REVIEWED, Event.NOTHING_TO_TRIM, Event.CANNOT_TELL}
    if case.state is _S.WORKING and event in looked and case.resume in _TOLD:
        return case.resume
    try:
        return TRANSITIONS[case.state, event]
    except KeyError:
        raise LostRaceError(already(case), "The card shows where it stands now.") from None


def already(case: Case) -> str:
    """Say who brought the case where it is, for somebody who comes too late."""
    who = f"<@{case.asked_by}>" if case.asked_by not in ("", REFINE) else "Refine"
    at = f"{case.updated_at:%H:%M} UTC"
    what = {
        _S.NEW: "put it back to new",
        _S.WORKING: "started reading its last accessed report",
        _S.CANNOT_TELL: "found that the evidence is not good enough",
        _S.WAITING: "proposed a trimmed policy",
        _S.STALE: "found the proposal stale",
        _S.APPLYING: "approved the proposal, and it is being applied",
        _S.WATCHING: "applied the proposal",
        _S.DONE: "applied the proposal",
        _S.ROLLING_BACK: "started the rollback",
        _S.ROLLED_BACK: "rolled it back",
        _S.FAILED: "stopped with an error",
        _S.DECLINED: "declined the proposal",
        _S.EXPIRED: "let the proposal expire",
        _S.SNOOZED: "snoozed it",
        _S.ACCEPTED: "accepted the exposure",
        _S.RESOLVED: "saw its findings resolved at AWS",
        _S.NOTHING: "found nothing to trim",
    }[case.state]
    return f"Too late: {who} {what} at {at}."


class Button(StrEnum):
    """What a card offers; each is an action of a person on a case."""

    REVIEW = "review"
    PROPOSE = "propose"  # a first proposal
    REPLAN = "replan"
    RETRY = "retry"
    EXPLAIN = "explain"
    ADJUST = "adjust"
    APPROVE = "approve"
    DECLINE = "decline"
    ROLL_BACK = "roll_back"
    GIVE_BACK = "give_back"
    NARROW = "narrow"
    ACCEPT = "accept"
    SNOOZE = "snooze"
    REOPEN = "reopen"


BUTTONS: Final[Mapping[CaseState, tuple[Button, ...]]] = {
    _S.NEW: (Button.REVIEW, Button.PROPOSE, Button.NARROW, Button.ACCEPT, Button.SNOOZE),
    _S.WORKING: (),
    _S.CANNOT_TELL: (Button.RETRY, Button.EXPLAIN, Button.ACCEPT, Button.SNOOZE),
    _S.NOTHING: (Button.REVIEW, Button.NARROW, Button.ACCEPT, Button.REOPEN),
    _S.WAITING: (Button.APPROVE, Button.DECLINE, Button.ADJUST),
    _S.STALE: (Button.REPLAN, Button.REOPEN),
    _S.APPLYING: (Button.ROLL_BACK,),
    _S.WATCHING: (Button.ROLL_BACK, Button.GIVE_BACK),
    _S.DONE: (Button.ROLL_BACK, Button.GIVE_BACK, Button.REOPEN),
    _S.ROLLING_BACK: (),
    _S.ROLLED_BACK: (Button.REPLAN, Button.REOPEN),
    _S.FAILED: (Button.RETRY, Button.ACCEPT, Button.REOPEN),
    _S.DECLINED: (Button.REOPEN,),
    _S.EXPIRED: (Button.REOPEN,),
    _S.SNOOZED: (Button.REOPEN,),
    _S.ACCEPTED: (Button.REOPEN,),
    _S.RESOLVED: (),
}


def buttons(case: Case) -> tuple[Button, ...]:
    """Return what the card of the case offers, in the order to draw them."""
    offered = BUTTONS[case.state]
    if case.state is _S.WAITING and case.proposal is not None and case.proposal.give_back is not None:
        # Its mode and window are those of the change: there is nothing to adjust.
        offered = tuple(b for b in offered if b is not Button.ADJUST)
    if case.state is _S.FAILED and can_roll_back(case):
        return Button.RETRY, Button.ROLL_BACK  # what is in force is dealt with first
    if case.state in _IN_FORCE and Button.ROLL_BACK not in offered and can_roll_back(case):
        return (*offered, Button.ROLL_BACK, *((Button.GIVE_BACK,) if can_give_back(case) else ()))
    return offered


def can_roll_back(case: Case) -> bool:
    """Tell whether a change is in force, wholly or in part: applied and not taken back, or taken back half-way.

    The case's change is the latest one, and, once that is taken back, the latest before it that is in force.
    """
    change = case.change
    if change is None:
        return False
    return case.steps_done > 0 if change.kind == "apply" else case.steps_done < len(change.steps)


def can_give_back(case: Case) -> bool:
    """Tell whether a part of what the change in force took away can be asked for: one proposal at a time."""
    asked = case.state in _IN_FORCE - {_S.WAITING}
    return asked and case.change is not None and case.change.kind == "apply" and can_roll_back(case)


# The event that a press leads to; of the yeses, the last one needed is APPROVED. The others happen without a person.
LEADS: Final[Mapping[Button, Event]] = {
    Button.REVIEW: Event.REVIEW,
    Button.PROPOSE: Event.PROPOSE,
    Button.REPLAN: Event.PROPOSE,
    Button.RETRY: Event.PROPOSE,
    Button.ADJUST: Event.PROPOSE,
    Button.APPROVE: Event.APPROVE,
    Button.DECLINE: Event.DECLINE,
    Button.ROLL_BACK: Event.ROLL_BACK,
    Button.GIVE_BACK: Event.PROPOSE,
    Button.ACCEPT: Event.ACCEPT,
    Button.SNOOZE: Event.SNOOZE,
    Button.REOPEN: Event.REOPEN,
}


# -------------------- people

# For every full member of the workspace; all other buttons are for approvers.
FOR_MEMBERS: Final = frozenset(
    {
        Button.REVIEW,
        Button.PROPOSE,
        Button.REPLAN,
        Button.RETRY,
        Button.EXPLAIN,
        Button.ADJUST,
        Button.GIVE_BACK,
        Button.NARROW,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Who may approve, and how many must. An empty set of approvers means nobody."""

    workspace: str  # team id; people of another one are strangers
    approvers: frozenset[UserId] = frozenset()
    needed: int = 1
    four_eyes: bool = True


def may_look(person: Person, team: Team) -> None:
    """Return where the person is a full member of this workspace: what everybody has to be, to read too.

    Raises:
        NotAllowedError: with one sentence that says what keeps them from it.
    """
    if person.deleted:
        raise NotAllowedError("This Slack account is deactivated.", "Ask an approver.")
    if person.bot:
        raise NotAllowedError("Bots and workflows may not act on a role.", "A person has to press the button.")
    if person.stranger or (team.workspace and person.team and person.team != team.workspace):
        raise NotAllowedError("You are from another workspace.", "Only members of this workspace may act on a role.")
    if person.guest:
        raise NotAllowedError("Guests may not act on a role.", "Ask a full member of this workspace.")


def may(person: Person, button: Button, case: Case, team: Team) -> None:
    """Return where the person may press the button on the case.

    Raises:
        NotAllowedError: with one sentence that says what keeps them from it.
    """
    may_look(person, team)
    if button in FOR_MEMBERS:
        return
    if person.id not in team.approvers:
        if not team.approvers:
            raise NotAllowedError(
                "Nobody is set up to approve changes.", "Ask whoever runs Refine to set REFINE_APPROVERS."
            )
        raise NotAllowedError("You are not one of the approvers.", "Ask an approver to press the button.")
    if button is Button.APPROVE and case.proposal is not None:
        if team.four_eyes and person.id == case.proposal.proposed_by:
            raise NotAllowedError(
                "You proposed this change, so somebody else has to approve it.", "Ask another approver."
            )
        # Past that, it is too late for everybody, and who brought the case where it is says so.
        if case.state is _S.WAITING and any(a.by == person.id for a in case.approvals):
            raise NotAllowedError("You have approved this proposal already.", "Another approver has to approve it too.")


def enough(case: Case, approvals: Collection[Approval], team: Team) -> bool:
    """Whether the approvals carry the case's proposal: of its digest, by distinct approvers, as many as are needed."""
    return len(_valid(case.proposal, approvals, team)) >= max(1, team.needed)


def _valid(proposal: Proposal | None, approvals: Collection[Approval], team: Team) -> set[UserId]:
    if proposal is None:
        return set()
    digest = proposal.digest()
    return {
        a.by
        for a in approvals
        if a.proposal_id == proposal.id
        and a.digest == digest
        and a.by in team.approvers
        and not (team.four_eyes and a.by == proposal.proposed_by)
    }


# -------------------- what is never touched

_OFF_LIMITS: Final = (
    (re.compile(r"^/aws-service-role/"), "", "it is a service-linked role: only its AWS service may change it"),
    (re.compile(r"^/aws-reserved/"), "", "it is reserved for an AWS service (IAM Identity Center rewrites it)"),
    (re.compile(r""), r"^AWSReservedSSO_", "IAM Identity Center owns it: change the permission set instead"),
    (re.compile(r""), r"^OrganizationAccountAccessRole$", "it is the organization's way into the account"),
    (re.compile(r""), r"^AWSControlTowerExecution$", "AWS Control Tower needs it as it is"),
    (re.compile(r""), r"^stacksets-exec-", "CloudFormation StackSets own it"),
    (re.compile(r""), r"^cdk-", "it belongs to a CDK bootstrap stack: change the bootstrap template instead"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Roles that Refine keeps its hands off, beside AWS's own."""

    own_roles: tuple[str, ...] = ()  # ARNs of the roles the bot itself runs as; a session does not tell their paths
    member_role: str = ""  # name of the role that it assumes, in every account
    patterns: tuple[str, ...] = ()  # shell-like patterns over role names, or with a slash over path and name
    tag: str = "refine:protected"


def off_limits(role: Role, guard: Guard) -> str:
    """Return why Refine must not touch the role, as the end of a sentence; empty where it may."""
    for path, name, why in _OFF_LIMITS:
        if path.search(role.path) and re.search(name, role.name):
            return why
    own = {(arn.split(":")[4], arn.rsplit("/", 1)[-1]) for arn in guard.own_roles}
    if (role.account, role.name) in own or role.name == guard.member_role:
        return "Refine itself runs as it"
    if any(k == "SourceRoleTemplate" for k, _ in role.tags):
        return "an AWS service made it from a template"
    for key, value in role.tags:
        if key == guard.tag and value.lower() not in {"false", "no", "0"}:
            return f"its tag {key} protects it"
    for pattern in guard.patterns:
        whole = f"{role.path}{role.name}" if "/" in pattern else role.name
        if re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), whole):
            return f"the pattern {pattern} of REFINE_PROTECTED_ROLES protects it"
    if role.stack:
        return f"the CloudFormation stack {role.stack} owns it, and its next update would undo the change"
    return ""


# -------------------- the plan of a change


def plan(proposal: Proposal, role: Role) -> tuple[Step, ...]:
    """Return the ordered writes that bring the role from its live policies to the proposal's documents.

    New before old: what gives access comes before what takes it. A customer managed policy that is this role's alone
    gets a new default version; one that others use too, and AWS's own, is left alone and replaced by a copy.

    Raises:
        StaleError: the live policies are not those of the proposal.
        NotAllowedError: one of the role's quotas is in the way: no free slot for a copy, say.
    """
    if role.live_digest() != proposal.live_digest:
        raise StaleError(
            "The role's policies changed since the proposal was made, so nothing was written.", "Make a new proposal."
        )
    old = {p.key: p for p in role.policies}
    outcomes: dict[str, list[PolicyOutcome]] = {}
    for outcome in proposal.trim.policies:
        if outcome.outcome is not Outcome.UNCHANGED:
            outcomes.setdefault(outcome.source, []).append(outcome)
    give: list[Step] = []
    change: list[Step] = []
    take: list[Step] = []
    base = role.arn.split(":role/")[0]
    for source, parts in outcomes.items():
        policy = old.get(source)  # none: a give-back brings one that the role has not any more
        documents = [p for p in parts if p.text is not None]
        own = (
            policy is not None
            and policy.kind is PolicyKind.CUSTOMER
            and policy.attachments <= 1
            and policy.boundary_uses == 0
        )
        for part in documents:
            text = part.text or ""
            if policy is not None and part.name == policy.name and text == policy.text:
                pass  # a give-back leaves it as it is, and brings another one beside it
            elif part.kind is PolicyKind.INLINE:
                before = next((p.text for p in role.policies if p.key == f"inline/{part.name}"), "")
                into = change if before else give
                into.append(_step(StepKind.PUT_INLINE, part.name, text=text, before=before))
            elif policy is None and part.name == _name(source):
                give.append(_step(StepKind.ATTACH, part.name, arn=source, text=text))
            elif policy is not None and own and part.name == policy.name:
                if len(policy.versions) >= role.quotas.policy_versions:
                    change.append(_room(policy))
                change.append(
                    _step(StepKind.CREATE_VERSION, policy.name, arn=policy.arn, text=text, before=policy.text)
                )
            else:
                arn = f"{base}:policy/refine/{part.name}"
                give.append(_step(StepKind.CREATE_POLICY, part.name, arn=arn, text=text))
                give.append(_step(StepKind.ATTACH, part.name, arn=arn, text=text))
        if policy is None:
            continue
        kept_in_place = any(
            p.name == policy.name
            and (p.kind is PolicyKind.INLINE) == (policy.kind is PolicyKind.INLINE)
            and (own or policy.kind is PolicyKind.INLINE or p.text == policy.text)
            for p in documents
        )
        if not kept_in_place:
            kind = StepKind.DELETE_INLINE if policy.kind is PolicyKind.INLINE else StepKind.DETACH
            take.append(_step(kind, policy.name, arn=policy.arn, before=policy.text))
    attached = sum(p.kind is not PolicyKind.INLINE for p in role.policies)
    most = attached + sum(s.kind is StepKind.ATTACH for s in give)
    if most > role.quotas.attached_policies:
        raise NotAllowedError(
            f"The role may have {role.quotas.attached_policies} attached policies, and the change would need {most} "
            "for a moment, because a trimmed copy is attached before the old policy is detached.",
            "Detach a policy that is not needed, or ask AWS for a higher quota.",
        )
    steps = [*give, *change, *take]
    _inline_room(role, steps)
    return tuple(replace(s, number=n) for n, s in enumerate(steps, 1))


def _inline_room(role: Role, steps: Iterable[Step]) -> None:
    """Return where the role's inline policies fit in their common quota at every moment between the steps."""
    sizes = {p.name: size(p.text) for p in role.policies if p.kind is PolicyKind.INLINE}
    for step in steps:
        before = sum(sizes.values())
        if step.kind is StepKind.PUT_INLINE:  # what is deleted goes last, and makes no room
            sizes[step.policy_name] = size(step.text)
        if before < sum(sizes.values()) > role.quotas.role_policies_size:
            raise NotAllowedError(
                f"The role's inline policies may have {role.quotas.role_policies_size:,} characters together, and the "
                f"change would need {sum(sizes.values()):,} for a moment, because what is new is written before what "
                "is old is removed.",
                "Remove an inline policy that is not needed, or ask AWS for a higher quota.",
            )


def _room(policy: RolePolicy) -> Step:
    """Return the step that removes the oldest version; its document is in the step, and so in the journal before it."""
    if not policy.oldest_text:
        raise NotAllowedError(
            f"{policy.name} has no room for a new version, and its oldest one could not be read, so it would be lost.",
            "Give Refine iam:GetPolicyVersion, or delete a version by hand.",
        )
    oldest = next(v for v in policy.versions if v != policy.default_version)
    return _step(StepKind.DELETE_VERSION, policy.name, arn=policy.arn, before=policy.oldest_text, version=oldest)


def _step(kind: StepKind, name: str, *, arn: str = "", text: str = "", before: str = "", version: str = "") -> Step:
    return Step(number=0, kind=kind, policy_name=name, policy_arn=arn, text=text, before=before, version=version)


def undo(steps: Iterable[tuple[Step, str]], before: Role, gone: Collection[str] = frozenset()) -> tuple[Step, ...]:
    """Return the writes that take the done steps back; `steps` pairs each with the version id that it made.

    `gone` are ARNs of policies whose old version somebody deleted: its document, from the journal, is made a new one.
    """
    old = {p.arn: p for p in before.policies if p.arn}
    back: list[Step] = []
    last: list[Step] = []
    for step, made in reversed(list(steps)):
        match step.kind:
            case StepKind.CREATE_VERSION:
                again = replace(step, text=step.before, before=step.text)
                if step.policy_arn not in gone:
                    version = old[step.policy_arn].default_version
                    again = replace(again, kind=StepKind.SET_DEFAULT_VERSION, version=version)
                back.append(again)
                if made:
                    last.append(replace(step, kind=StepKind.DELETE_VERSION, version=made, before=step.text, text=""))
            case StepKind.PUT_INLINE if step.before:
                back.append(replace(step, text=step.before, before=step.text))
            case StepKind.PUT_INLINE:
                last.append(replace(step, kind=StepKind.DELETE_INLINE, text="", before=step.text))
            case StepKind.DELETE_INLINE:
                back.append(replace(step, kind=StepKind.PUT_INLINE, text=step.before, before=""))
            case StepKind.DETACH:
                back.append(replace(step, kind=StepKind.ATTACH, text=step.before))
            case StepKind.ATTACH:
                last.append(replace(step, kind=StepKind.DETACH, before=step.text))
            case StepKind.CREATE_POLICY:
                last.append(replace(step, kind=StepKind.DELETE_POLICY, before=step.text))
            case _:
                # A deleted version was never in force: its document stays in the journal, nothing to put back.
                pass
    return tuple(replace(s, number=n) for n, s in enumerate([*back, *last], 1))


def expected(before: Role, steps: Iterable[Step]) -> Digest:
    """Digest of the role's permissions once the steps are done."""
    return permissions_digest(
        tuple(
            RolePolicy(name=_name(k), kind=_kind(k), text=t, arn="" if _kind(k) is PolicyKind.INLINE else k)
            for k, t in _texts(before.policies, steps).items()
        )
    )


def _texts(policies: Iterable[RolePolicy], steps: Iterable[Step]) -> dict[str, str]:
    """Return the document of each policy of a role with these policies once the steps are done, by its key."""
    texts = {p.key: p.text for p in policies}
    for step in steps:
        key = step.policy_arn or f"inline/{step.policy_name}"
        match step.kind:
            case StepKind.ATTACH | StepKind.PUT_INLINE | StepKind.CREATE_VERSION | StepKind.SET_DEFAULT_VERSION:
                texts[key] = step.text
            case StepKind.DETACH | StepKind.DELETE_INLINE:
                texts.pop(key, None)
            case _:
                pass
    return texts


def _kind(key: str) -> PolicyKind:
    if key.startswith("inline/"):
        return PolicyKind.INLINE
    return PolicyKind.AWS if ":iam::aws:policy/" in key else PolicyKind.CUSTOMER


def _name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


Effect = Literal["before", "after", "other"]


def effect(step: Step, role: Role, policy: RolePolicy | None) -> Effect:
    """Tell from what AWS shows whether a step is still to do, done, or overtaken by somebody else's write.

    `policy` is the managed policy of the step as read by its ARN, None where there is none. Whether a step that is to
    do may be done is another question: see `hindrance`.
    """
    attached = any(p.arn == step.policy_arn for p in role.policies)
    inline = next((p.text for p in role.policies if p.key == f"inline/{step.policy_name}"), "")
    match step.kind:
        case StepKind.CREATE_POLICY:
            return "before" if policy is None else "after" if policy.text == step.text else "other"
        case StepKind.DELETE_POLICY:
            return "after" if policy is None else "before" if policy.text == step.before else "other"
        case StepKind.ATTACH:
            if policy is None or (step.text and policy.text != step.text):
                return "other"
            return "after" if attached else "before"
        case StepKind.DETACH:
            if not attached:
                return "after"
            return "before" if policy is not None and policy.text == step.before else "other"
        case StepKind.CREATE_VERSION | StepKind.SET_DEFAULT_VERSION:
            if policy is None:
                return "other"
            if policy.text == step.text and (
                step.kind is StepKind.CREATE_VERSION or policy.default_version == step.version
            ):
                return "after"
            return "before" if policy.text == step.before else "other"
        case StepKind.DELETE_VERSION:
            if policy is None or step.version == policy.default_version:
                return "other"
            return "before" if step.version in policy.versions else "after"
        case StepKind.PUT_INLINE:
            return "after" if inline == step.text else "before" if inline == step.before else "other"
        case StepKind.DELETE_INLINE:
            return "after" if not inline else "before" if inline == step.before else "other"


def hindrance(change: Change, step: Step, role: Role, policy: RolePolicy | None) -> str:
    """Return why a step that is still to do must not be done as things are, as a sentence; empty where it may.

    A version changes its policy wherever that is attached: it may be this role's alone. And what takes access away
    relies on what the change gave for it: all that has to be in force as the earlier steps left it.
    """
    apply = change.kind == "apply"
    kind = step.kind
    if kind in {StepKind.CREATE_VERSION, StepKind.SET_DEFAULT_VERSION} or (apply and kind is StepKind.DELETE_VERSION):
        if policy is not None and (policy.attachments > 1 or policy.boundary_uses):
            return f"{step.policy_name} is in use beyond this role by now, and a new version would change that too."
        if all(p.arn != step.policy_arn for p in role.policies):
            return f"{step.policy_name} is not attached to this role any more, so it was left alone."
    takes = kind in {StepKind.DETACH, StepKind.DELETE_INLINE}
    if takes or (apply and step.before and kind in {StepKind.CREATE_VERSION, StepKind.PUT_INLINE}):
        lost = lacking(change.steps[: step.number - 1], role)
        if lost:
            return (
                f"{lost} is not in force any more as Refine left it: somebody else changed it, so {step.policy_name} "
                "was left as it is."
            )
    return ""


def lacking(steps: Iterable[Step], role: Role) -> str:
    """Name a policy that is not in force as the steps left it, or not at all; empty where none is."""
    live = {p.key: p.text for p in role.policies}
    return next((_name(key) for key, text in _texts((), steps).items() if live.get(key) != text), "")


# -------------------- back, over what others did meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A policy that a rollback cannot put back, because somebody changed it since; None where it is not there."""

    name: str
    left: str | None  # as the change left it, or as it was where the change only detached it
    live: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """What a look at AWS says of a rollback before its first write."""

    todo: tuple[Step, ...] = ()  # the inverses that are still to write; the others somebody did by hand
    overtaken: tuple[Difference, ...] = ()  # where there is any, nothing may be written
    full: str = ""  # a quota that has no room for it, as the end of a sentence


def ahead(steps: Iterable[Step], role: Role, policies: Mapping[str, RolePolicy | None]) -> Ahead:
    """Look over all inverses at once, so that a rollback is either done whole or not begun.

    Only what the steps are about is judged: whatever else the role has by now is not Refine's to judge. `policies` are
    the managed policies of the steps, by ARN, as read a moment ago.
    """
    todo: list[Step] = []
    overtaken: list[Difference] = []
    attached = {p.arn for p in role.policies if p.arn}
    restored: set[str] = set()  # policies whose old document becomes the default on the way
    full = ""
    for step in steps:
        policy = policies.get(step.policy_arn)
        match _inverse(step, role, policy, restored):
            case "before":
                todo.append(step)
                if step.kind is StepKind.ATTACH:
                    attached.add(step.policy_arn)
                    if len(attached) > role.quotas.attached_policies:
                        full = f"the role may have {role.quotas.attached_policies} attached policies"
                if step.kind in {StepKind.SET_DEFAULT_VERSION, StepKind.CREATE_VERSION}:
                    restored.add(step.policy_arn)
                if (
                    step.kind is StepKind.CREATE_VERSION
                    and policy is not None
                    and len(policy.versions) >= role.quotas.policy_versions
                ):
                    full = f"{step.policy_name} may have {role.quotas.policy_versions} versions"
            case "other":
                if step.policy_arn:
                    there = policy is not None and (step.policy_arn in attached or step.kind is StepKind.ATTACH)
                    live = policy.text if policy is not None and there else None
                else:
                    live = next((p.text for p in role.policies if p.key == f"inline/{step.policy_name}"), None)
                left = step.text if step.kind is StepKind.ATTACH else step.before or None
                overtaken.append(Difference(name=step.policy_name, left=left, live=live))
            case _:
                pass
    try:
        _inline_room(role, todo)
    except NotAllowedError:
        full = f"the role's inline policies may have {role.quotas.role_policies_size:,} characters together"
    todo = [replace(s, number=n) for n, s in enumerate(todo, 1)]
    return Ahead(todo=tuple(todo), overtaken=tuple(overtaken), full=full)


def _inverse(step: Step, role: Role, policy: RolePolicy | None, restored: Collection[str]) -> Effect:
    """Tell whether an inverse is still to do, done (by whomever), or overtaken; documents matter, not versions."""
    attached = any(p.arn == step.policy_arn for p in role.policies)
    match step.kind:
        case StepKind.ATTACH if attached:
            return "after"  # somebody put it back, and its text is its owner's
        case StepKind.CREATE_VERSION | StepKind.SET_DEFAULT_VERSION if not attached:
            return "other"  # somebody took the whole policy away
        case StepKind.SET_DEFAULT_VERSION if policy is not None and policy.text == step.text:
            return "after"
        case StepKind.DELETE_VERSION if policy is not None and step.policy_arn in restored:
            return "before" if step.version in policy.versions else "after"
        case StepKind.DELETE_VERSION if policy is None or step.version == policy.default_version:
            return "after"  # not ours to delete: it is in force again, by somebody else's hand
        case StepKind.DELETE_POLICY if policy is not None and (
            policy.attachments > attached or policy.boundary_uses or len(policy.versions) > 1
        ):
            return "after"  # somebody else uses the copy by now, or keeps versions in it: it is theirs
        case StepKind.CREATE_VERSION | StepKind.SET_DEFAULT_VERSION if policy is not None and (
            policy.text != step.text and (policy.attachments > 1 or policy.boundary_uses)
        ):
            return "other"  # it would change for somebody else too
        case _:
            return effect(step, role, policy)


def amiss(inverses: Iterable[Step], written: Iterable[Step], before: Role, role: Role) -> tuple[str, ...]:
    """Name the policies that a rollback was to bring back and that are not as in the snapshot, once it is done.

    An original that somebody attached by hand counts as it is: its text is its owner's.
    """
    old = {p.key: (p.kind, p.text) for p in before.policies}
    now = {p.key: (p.kind, p.text) for p in role.policies}
    attached = {s.policy_arn for s in written if s.kind is StepKind.ATTACH}
    found = []
    for step in inverses:
        key = step.policy_arn or f"inline/{step.policy_name}"
        by_hand = step.kind is StepKind.ATTACH and step.policy_arn not in attached and key in now
        if old.get(key) != now.get(key) and not by_hand:
            found.append(step.policy_name)
    return tuple(dict.fromkeys(found))


def beyond(before: Role, role: Role) -> tuple[str, ...]:
    """Name the policies in which the role is not what it was in the snapshot."""
    old = {p.key: (p.kind, p.text) for p in before.policies}
    now = {p.key: (p.kind, p.text) for p in role.policies}
    return tuple(_name(key) for key in sorted(old.keys() | now.keys()) if old.get(key) != now.get(key))


# -------------------- the permit


@dataclass(frozen=True, slots=True, init=False)
class Permit:
    """The right to send the writes of one change, and no others. Only this module can make one, or another from it."""

    change_id: ChangeId
    role_arn: str
    steps: frozenset[Step]

    def __init__(self, *_: object, **__: object) -> None:  # so `dataclasses.replace` makes none either
        raise NotAllowedError("A permit that the rules did not make was refused.", "This is a bug: report it.")

    def __reduce__(self) -> NoReturn:  # nor `copy`, nor `pickle`
        raise NotAllowedError("A permit cannot be copied.", "This is a bug: report it.")

    def covers(self, step: Step) -> bool:
        return step in self.steps


def _permit(change_id: ChangeId, role_arn: str, steps: Iterable[Step]) -> Permit:
    made = object.__new__(Permit)
    for name, value in (("change_id", change_id), ("role_arn", role_arn), ("steps", frozenset(steps))):
        object.__setattr__(made, name, value)
    return made


def permit_apply(
    change: Change,
    proposal: Proposal,
    approvals: Collection[Approval],
    role: Role,
    team: Team,
    guard: Guard,
    *,
    begun: bool,
) -> Permit:
    """Return the permit for a change's writes, from the proposal, its approvals, and the live role as just read.

    `begun` says that the journal holds started steps: the live policies are then partly new, and each step is held
    against its own policy by `effect` before it is sent.

    Raises:
        NotAllowedError: not enough valid approvals, a proof that does not hold, or a role that is off limits.
        StaleError: the live policies are not what was reviewed.
    """
    if change.kind != "apply" or change.proposal_id != proposal.id or change.role_arn != role.arn:
        raise NotAllowedError("The change does not belong to this proposal.", "Make a new proposal.")
    if not proposal.trim.proof.holds:
        raise NotAllowedError("The proof of this proposal does not hold.", "Report it: this is a bug.")
    if len(_valid(proposal, approvals, team)) < max(1, team.needed):
        raise NotAllowedError("The proposal has not enough valid approvals.", "Ask an approver.")
    why = off_limits(role, guard)
    if why:
        raise NotAllowedError(f"Refine must not touch this role: {why}.")
    if role.role_id != proposal.role.role_id:
        raise StaleError("The role was deleted and made anew since the proposal.", "Make a new proposal.")
    if not begun and role.live_digest() != proposal.live_digest:
        raise StaleError(
            "The role's policies changed since the proposal was made, so nothing was written.", "Make a new proposal."
        )
    if change.steps != plan(proposal, proposal.role):
        raise NotAllowedError("The change is not the one that was approved.", "Make a new proposal.")
    return _permit(change.id, role.arn, change.steps)


def permit_back(
    change: Change,
    undone: Change,
    made: Mapping[int, str],
    role: Role,
    guard: Guard,
    *,
    begun: bool,
) -> Permit:
    """Return the permit for taking a change back: only inverses of its done steps, `made` with the versions they made.

    Not the role's policies as a whole are compared: `ahead` looks at what the inverses are about, and each step is held
    against its own policy by `effect` before it is sent.

    `begun` says that the role is half-way, between an apply that did not get to its end, or this rollback's own first
    write, and its old policies. It is brought out of there even where it became protected meanwhile: protection asks
    that Refine changes nothing, and what is half-way is Refine's own change, which nobody wanted to be left like that.

    Raises:
        StaleError: the role was deleted and made anew.
        NotAllowedError: the role is off limits by now, or the steps are not the inverses of the journalled ones.
    """
    done = [(s, made[s.number]) for s in undone.steps if s.number in made]
    anew = {s.policy_arn for s in change.steps if s.kind is StepKind.CREATE_VERSION}
    inverses = {replace(s, number=0) for s in undo(done, undone.before, anew)}
    if change.role_arn != role.arn or not {replace(s, number=0) for s in change.steps} <= inverses:
        raise NotAllowedError("These are not the inverses of what was applied.", "Report it: this is a bug.")
    if role.role_id != undone.before.role_id:
        raise StaleError("The role was deleted and made anew since the change.", "Restore its policies by hand.")
    why = off_limits(role, guard)
    if why and not begun:
        raise NotAllowedError(
            f"Refine must not touch this role any more: {why}. Nothing was written.",
            "Lift the protection and roll back again, or restore the old policies by hand.",
        )
    return _permit(change.id, role.arn, change.steps)
