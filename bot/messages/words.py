"""Words that several messages share: marks and sentences of the states, labels of the buttons, names of things."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from bot.messages.text import Mrk, many, mention, mrk, when
from bot.model import Case, CaseState, PolicyKind, StepKind, Verdict
from bot.rules import Button

_S = CaseState

MARKS: Final[Mapping[CaseState, tuple[str, str]]] = {
    _S.NEW: ("🔴", "New"),
    _S.WORKING: ("⏳", "Working"),
    _S.CANNOT_TELL: ("⚠️", "Cannot tell"),
    _S.WAITING: ("🟡", "Waiting for approval"),
    _S.STALE: ("♻️", "Stale"),
    _S.APPLYING: ("⚙️", "Applying"),
    _S.WATCHING: ("👀", "Applied, under watch"),
    _S.DONE: ("🟢", "Done"),
    _S.ROLLING_BACK: ("↩️", "Rolling back"),
    _S.ROLLED_BACK: ("🔵", "Rolled back"),
    _S.FAILED: ("🟥", "Failed"),
    _S.DECLINED: ("⚪", "Declined"),
    _S.EXPIRED: ("⚪", "Expired"),
    _S.SNOOZED: ("⚪", "Snoozed"),
    _S.ACCEPTED: ("⚪", "Accepted"),
    _S.RESOLVED: ("✅", "Resolved at AWS"),
    _S.NOTHING: ("⚪", "No proposal"),
}

LABELS: Final[Mapping[Button, str]] = {
    Button.REVIEW: "Review last accessed",
    Button.PROPOSE: "Propose trimmed policy",
    Button.REPLAN: "Propose again",
    Button.RETRY: "Retry",
    Button.EXPLAIN: "Explain",
    Button.ADJUST: "Adjust…",
    Button.APPROVE: "Approve…",
    Button.DECLINE: "Decline…",
    Button.ROLL_BACK: "Roll back…",
    Button.GIVE_BACK: "Give actions back…",
    Button.NARROW: "Narrow trust…",
    Button.ACCEPT: "Accept…",
    Button.SNOOZE: "Snooze…",
    Button.REOPEN: "Re-open",
}


def button_label(button: Button, state: CaseState) -> str:
    """Return what the button is called on a case in that state."""
    return "Take back…" if (button, state) == (Button.ROLL_BACK, _S.APPLYING) else LABELS[button]


VERDICTS: Final[Mapping[Verdict, str]] = {
    Verdict.USED: "used",
    Verdict.PROTECTED: "kept by settings",
    Verdict.STALE: "not used lately",
    Verdict.UNUSED: "not used",
    Verdict.NEEDED: "needed by another",
    Verdict.NOT_NEEDED: "not needed",
    Verdict.INVISIBLE: "IAM cannot see it",
    Verdict.SERVICE_UNUSED: "service not used",
    Verdict.UNTRACKED: "IAM does not track it",
    Verdict.UNKNOWN: "not in the report",
}

KINDS: Final[Mapping[PolicyKind, str]] = {
    PolicyKind.INLINE: "inline",
    PolicyKind.CUSTOMER: "customer managed",
    PolicyKind.AWS: "AWS managed",
}

STEPS: Final[Mapping[StepKind, str]] = {
    StepKind.CREATE_POLICY: "create the customer managed policy {}",
    StepKind.CREATE_VERSION: "write a new default version of {}",
    StepKind.DELETE_VERSION: "delete version {1} of {0}",
    StepKind.SET_DEFAULT_VERSION: "make version {1} the default version of {0} again",
    StepKind.ATTACH: "attach {}",
    StepKind.DETACH: "detach {}",
    StepKind.PUT_INLINE: "write the inline policy {}",
    StepKind.DELETE_INLINE: "delete the inline policy {}",
    StepKind.DELETE_POLICY: "delete the customer managed policy {}, which Refine made",
}


def mark(state: CaseState) -> str:
    return MARKS[state][0]


def label(state: CaseState) -> str:
    return MARKS[state][1]


def primary(case: Case) -> Button | None:
    """The one button of the case that is drawn as the next thing to do."""
    return {
        _S.NEW: Button.PROPOSE if case.evidence else Button.REVIEW,
        _S.CANNOT_TELL: Button.RETRY,
        _S.WAITING: Button.APPROVE,
        _S.STALE: Button.REPLAN,
        _S.ROLLED_BACK: Button.REPLAN,
    }.get(case.state)


def state_line(case: Case, _now: datetime) -> Mrk:
    """Return mark and sentence: where the case stands, who brought it there, until when it stays so."""
    return mrk("{} {}", Mrk(mark(case.state)), _sentence(case))


def task(case: Case) -> dict[str, object]:
    return dict(json.loads(case.task)) if case.task else {}


def _sentence(case: Case) -> Mrk:
    by, at = mention(case.asked_by), when(case.updated_at)
    until = when(case.until) if case.until else Mrk("then")
    match case.state:
        case _S.NEW if case.evidence:
            return mrk("*New, and reviewed.* What the role used is in the thread. Nobody has decided yet.")
        case _S.NEW:
            return mrk("*New.* Nobody has decided about this role yet.")
        case _S.WORKING:
            todo = task(case)
            if todo.get("do") == "give_back":
                return mrk("*Working.* Making a proposal that gives actions back, for {}, since {}.", by, at)
            if todo.get("do") == "review":
                return mrk("*Working.* Reading the last accessed report for {}, since {}.", by, at)
            mode = mrk(" in {} mode", str(todo["mode"])) if todo.get("mode") else Mrk("")
            over = mrk(" over {}", many(window, "day")) if isinstance(window := todo.get("window"), int) else Mrk("")
            return mrk("*Working.* Making a proposal{}{} for {}, since {}.", mode, over, by, at)
        case _S.CANNOT_TELL:
            return mrk("*Cannot tell*, {}. Without complete evidence nothing is called unused.", at)
        case _S.NOTHING:
            return mrk("*No proposal*, {}. Nothing was changed.", at)
        case _S.WAITING:
            return _waiting(case)
        case _S.STALE:
            return mrk("*Stale* since {}. The proposal no longer fits the role, and nothing of it was written.", at)
        case _S.APPLYING:
            return _applying(case)
        case _S.WATCHING:
            return mrk("*Applied and verified.* {} Under watch until {}.", trimmed(case), until)
        case _S.DONE:
            return mrk("*Done.* {} The watch ended {}.", trimmed(case), at)
        case _S.ROLLING_BACK:
            return mrk("*Rolling back* for {}. {}", by, _progress(case, "rollback"))
        case _S.ROLLED_BACK:
            return mrk("*Rolled back* by {}, {}. The role may do what it could before the change.", by, at)
        case _S.FAILED:
            return mrk("*Failed*, {}. Why, and what is in force now:", at)
        case _S.DECLINED:
            return mrk("*Declined* by {}, {}. Nothing was changed.", by, at)
        case _S.EXPIRED:
            return mrk("*Expired*, {}. The proposal was not approved in time. Nothing was changed.", at)
        case _S.SNOOZED:
            return mrk("*Snoozed* by {} until {}. The role stays as it is{}.", by, until, _active(case))
        case _S.ACCEPTED:
            owner = str(task(case).get("owner") or "")
            answers = mrk(" {} answers for it.", mention(owner)) if owner else Mrk("")
            return mrk("*Accepted* by {} until {}.{} The role stays as it is{}.", by, until, answers, _shelved(case))
        case _S.RESOLVED:
            return mrk("*Resolved at AWS*, seen {}. Access Analyzer ended its findings, which closes the case.", at)


def _waiting(case: Case) -> Mrk:
    proposal = case.proposal
    if proposal is None:
        return mrk("*Waiting for approval.*")
    until = mrk(" It expires {}.", when(case.until)) if case.until else Mrk("")
    if proposal.give_back is not None:
        return mrk(
            "*Waiting for approval.* Give {} back, proposed by {}; until then the change stays in force whole. "
            "{} of {} approvals given.{}",
            many(len(proposal.give_back.actions), "action"),
            mention(proposal.proposed_by),
            len(case.approvals),
            max(1, case.approvals_needed),
            until,
        )
    return mrk(
        "*Waiting for approval.* Remove {} of {}, in {} mode over {}, proposed by {}. {} of {} approvals given.{}",
        proposal.trim.removed,
        many(proposal.trim.granted, "action"),
        proposal.settings.mode.value,
        many(proposal.settings.window_days, "day"),
        mention(proposal.proposed_by),
        len(case.approvals),
        max(1, case.approvals_needed),
        until,
    )


def _applying(case: Case) -> Mrk:
    if case.change and case.change.kind == "rollback" and _is_ours(case):
        return mrk("*Applying failed*, and Refine takes the steps back. {}", _progress(case, "rollback"))
    by = approved_by(case)
    return mrk("*Applying*{} {}", mrk(", approved by {}.", by) if by else Mrk("."), _progress(case, "apply"))


def _is_ours(case: Case) -> bool:
    """Whether the case's latest change belongs to its latest proposal, not to an earlier one."""
    return bool(case.change and case.proposal and case.change.proposal_id == case.proposal.id)


def _progress(case: Case, kind: str) -> Mrk:
    change = case.change
    if change is None or change.kind != kind or (kind == "apply" and not _is_ours(case)):
        return Mrk("Taking the snapshot.")
    steps = len(change.steps)
    if case.steps_done >= steps:
        return mrk("{} done; reading back.", many(steps, "step"))
    return mrk("Step {} of {}.", case.steps_done + 1, steps)


def _active(case: Case) -> str:
    """Say that a snooze leaves a case's findings alone."""
    every = len(case.findings)
    return f", and its {many(every, 'finding')} {'stays' if every == 1 else 'stay'} active at AWS" if every else ""


def _shelved(case: Case) -> str:
    """Say what became of an accepted case's findings at AWS: as far as AWS took it."""
    every, aside = len(case.findings), sum(f.status == "ARCHIVED" for f in case.findings)
    if not every:
        return ""
    if aside == every:
        return f", and its {many(every, 'finding')} {'is' if every == 1 else 'are'} archived at AWS until then"
    if not aside:
        return f"; its {many(every, 'finding')} {'stays' if every == 1 else 'stay'} active at AWS"
    return f"; {aside:,} of its {many(every, 'finding')} are archived at AWS until then, the rest stays active"


def approved_by(case: Case) -> Mrk:
    return Mrk(", ".join(dict.fromkeys(mention(a.by) for a in case.approvals)))


def trimmed(case: Case) -> Mrk:
    """Say what an applied change did, and who approved it."""
    by = approved_by(case)
    who = mrk(", approved by {}", by) if by else Mrk("")
    if case.proposal is None or not _is_ours(case):
        return mrk("The trimmed policies are in force.")
    trim, back = case.proposal.trim, case.proposal.give_back
    if back is not None:
        given = len(back.actions)
        return mrk("{} → {} actions: {} given back{}.", trim.kept - given, trim.kept, given, who)
    return mrk("{} → {} actions{}.", trim.granted, trim.kept, who)
