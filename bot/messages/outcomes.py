"""What happened to a case, one message each for its thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot import rules
from bot.messages import cards, parts, sums, words
from bot.messages.render import Payload, render
from bot.messages.text import Mrk, code, cut, escape, line, many, mention, mrk, shown, some, when
from bot.model import Case, CaseState, Checked, Step
from bot.rules import Button, Team

_STEPS = 20


def happened(mark: str, said: Mrk, reason: str = "", foot: Mrk = Mrk("")) -> Payload:  # noqa: B008  # frozen text
    """Draw one line for the thread, with what a person wrote and a grey foot."""
    return render("line", said=mrk("{} {}", Mrk(mark), said), reason=reason, foot=foot)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    text: Mrk
    said: Mrk
    reason: str
    done: list[Mrk]
    proof: Mrk
    checks: str
    foot: list[Mrk]
    offered: list[parts.Press]


def applied(
    case: Case, now: datetime, checks: Sequence[Checked] = (), *, back: bool | None = None, latest: bool = True
) -> Payload:
    """Say what was applied and verified, by which checks; with the way back while there is one.

    `back` says whether this very change was taken back since; where it is not known, the state of the case tells.
    `latest` says whether it is the one that the case's buttons are about.
    """
    back = case.state is CaseState.ROLLED_BACK if back is None else back
    change, proposal = case.change, case.proposal
    ours = proposal is not None and change is not None and proposal.id == change.proposal_id
    said = mrk(
        "🟢 *Applied and verified*: {}. {}",
        code(case.role_name),
        words.trimmed(case) if ours else mrk("Begun {}.", when(change.at)) if change else Mrk(""),
    )
    foot = [mrk("The finding stays active: the trust policy is unchanged.")]
    if case.state is CaseState.ROLLING_BACK:
        foot.insert(0, mrk("It is being rolled back."))
    if back:
        foot.insert(0, mrk("Taken back since: see below."))
    if case.state is CaseState.WATCHING and case.until and now < case.until:
        foot.insert(
            0,
            mrk("Under watch until {}. If something misses a permission, roll back or give it back.", when(case.until)),
        )
    return render(
        "outcome",
        _Outcome(
            text=said,
            said=said,
            reason="",
            done=steps(case.change.steps if case.change else ()),
            proof=mrk(
                "*Verified by reading back*: documents, attachments and default versions are what was approved "
                "(permissions digest {}).",
                code(change.expected[:12]),
            )
            if change
            else Mrk(""),
            checks="\n".join(_check(c) for c in checks),
            foot=[*foot, mrk("Proposal digest {}.", code(proposal.digest()[:12]))] if proposal and ours else foot,
            offered=[parts.press(case, Button.ROLL_BACK, style="danger")]
            if latest and not back and Button.ROLL_BACK in rules.buttons(case)
            else [],
        ),
    )


def rolled_back(case: Case, now: datetime, left: Sequence[str] = ()) -> Payload:  # noqa: ARG001  # all take the time
    """Say that the old policies are back, and how that is known; `left` names what somebody else changed meanwhile."""
    change = case.change
    by = mention(change.by) if change else mention(case.asked_by)
    said = mrk("🔵 *Rolled back* by {}: {} may do again what it could before the change.", by, code(case.role_name))
    proof = mrk(
        "*Proved by digest*: the role's policies, read back, have the digest of the snapshot taken before the "
        "change ({}).",
        code(change.expected[:12] if change else ""),
    )
    if left:
        said = mrk("🔵 *Rolled back* by {}: all that the change touched in {} is as before.", by, code(case.role_name))
        proof = mrk(
            "*Proved policy by policy* by reading back. Left as somebody else made it since the change: {}.",
            some([code(name) for name in left], 5),
        )
    return render(
        "outcome",
        _Outcome(
            text=said,
            said=said,
            reason=case.reason,
            done=steps(change.steps if change else ()),
            proof=proof if change else Mrk(""),
            checks="",
            foot=[
                mrk("What was given back is removed again: the change before it is in force, and can be rolled back.")
                if _gave_back(case)
                else mrk("Nothing is removed any more. The card offers a new proposal.")
            ],
            offered=[],
        ),
    )


def _gave_back(case: Case) -> bool:
    """Whether the case's change is of its latest proposal, and that a give-back."""
    made, change = case.proposal, case.change
    return made is not None and change is not None and made.give_back is not None and change.proposal_id == made.id


def second(case: Case, by: str, reason: str = "") -> Payload:
    """Say that a rollback was asked for, and what is missing for it."""
    return happened(
        "🟡",
        mrk(
            "{} pressed Roll back for {}. A second approver has to press it too: nothing is written yet.",
            mention(by),
            code(case.role_name),
        ),
        reason,
    )


def _check(check: Checked) -> str:
    """Return a line that is drawn as plain text: AWS's words are in it."""
    how = f"✅ {check.name}" if check.made else f"⚪ {check.name} was not made"
    return f"{how}: {cut(line(check.said), 400)}"


def steps(every: Sequence[Step]) -> list[Mrk]:
    """Return the writes of a change in order, a line each."""
    said = [mrk("{}. {}", s.number, sums.step_line(s)) for s in every]
    return shown(said, _STEPS, 2_700, "the audit log has them all")


def expired(case: Case) -> Payload:
    return happened(
        "⚪",
        mrk(
            "The proposal for {} expired: it was not approved in time. Nothing was changed. Re-open the case on its "
            "card to propose again.",
            code(case.role_name),
        ),
    )


def aside_line(case: Case, name: str, args: Mapping[str, str]) -> Payload:
    """Say in the thread that somebody put the case aside ("snooze", "accept"), took it up again ("reopen"), or that
    its time is over ("back"), as it was then: `args` has who, until when, why, and who answers for it.
    """
    by, role, reason = mention(args.get("by", "")), code(case.role_name), args.get("reason", "")
    until = when(datetime.fromisoformat(args["until"])) if args.get("until") else Mrk("then")
    owner = args.get("owner", "")
    answers = mrk(" {} answers for it.", mention(owner)) if owner else Mrk("")
    match name:
        case "snooze":
            said = mrk("{} snoozed {} until {}.", by, role, until)
            foot = mrk("{} Nothing is changed at AWS, and a new way in ends the snooze.", _stay(case))
            return happened("⚪", said, reason, foot)
        case "accept":
            said = mrk("{} accepted until {} that {} is open to the outside.{}", by, until, role, answers)
            foot = mrk("The role keeps its permissions, and a new way in ends the acceptance.{}", _archived(case))
            return happened("⚪", said, reason, foot)
        case "reopen":
            return happened("🔴", mrk("{} re-opened {}: it needs a decision.", by, role))
        case _:
            was = "accepted" if args.get("was") == CaseState.ACCEPTED else "snoozed"
            why = args.get("why", "")
            said = mrk("{} is back and needs a decision. {} It was {} by {}.{}", role, why, was, by, answers)
            return happened("🔴", said, reason)


def _archived(case: Case) -> Mrk:
    if not case.findings:
        return Mrk("")
    count = len(case.findings)
    goes = "goes" if count == 1 else "go"
    return mrk(
        " Its {} {} to Access Analyzer's archive; the card says whether AWS took that.", many(count, "finding"), goes
    )


def _stay(case: Case) -> Mrk:
    if not case.findings:
        return Mrk("")
    count = len(case.findings)
    return mrk("Its {} {} active in Access Analyzer.", many(count, "finding"), "stays" if count == 1 else "stay")


def reminder(case: Case, now: datetime, *, team: Team | None = None) -> Payload:
    """Remind the thread of a proposal that waits; what has been decided meanwhile is said instead."""
    proposal = case.proposal
    if proposal is None or case.state is not CaseState.WAITING:
        return happened("⚪", mrk("The proposal for {} no longer waits for approval.", code(case.role_name)))
    hours = max(1, int((now - proposal.proposed_at).total_seconds() // 3600))
    return happened(
        "🟡",
        mrk(
            "A proposal has waited for {}: {}. {}",
            many(hours, "hour"),
            sums.removing(proposal),
            cards.approval(case, team),
        ),
        foot=mrk("It expires {}. The proposal is above, with its buttons.", when(case.until))
        if case.until
        else Mrk(""),
    )


_NOTICES = {
    "stale": ("♻️", "Stale"),
    "failed": ("🟥", "Failed"),
    "waits": ("⏸️", "Waits"),
    "no_evidence": ("⚠️", "Cannot tell"),
    "no_proposal": ("⚪", "No proposal"),
}


_ENDS = {
    "applied": ("🟢", "was approved, applied and verified"),
    "failed": ("🟥", "ran into an error; its thread says what is in force now"),
    "declined": ("⚪", "was declined; nothing was changed"),
    "expired": ("⚪", "expired before it had the approvals that it needs; nothing was changed"),
    "stale": ("♻️", "went stale; nothing was written"),
    "rolled_back": ("🔵", "was rolled back; the role has its old policies again"),
}


def outcome(case: Case, name: str, link: str = "") -> Payload:
    """Tell the one who proposed, directly, how it ended; `link` is Slack's own address of the card."""
    mark, ending = _ENDS[name]
    back = case.proposal is not None and case.proposal.give_back is not None
    what = mrk("to give actions back to {}" if back else "to trim {}", code(case.role_name))
    more = Mrk(f" <{escape(link)}|Open its card>") if link else Mrk("")
    return happened(mark, mrk("Your proposal {} {}.{}", what, Mrk(ending), more))


def notice(name: str, text: str) -> Payload:
    """Say a sentence of the flows as it is: it may hold AWS's words, so nothing in it is parsed."""
    mark, title = _NOTICES.get(name, ("⚪", name.replace("_", " ").capitalize()))
    return render("notice", mark=mark, title=title, sentence=text, short=mrk("{} {}: {}", Mrk(mark), title, line(text)))
