"""The proposal in the thread, its files, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bot import rules
from bot.errors import RefineError
from bot.messages import cards, parts, reviews, sums, words
from bot.messages.outcomes import happened
from bot.messages.render import Payload, render
from bot.messages.reviews import File
from bot.messages.text import Mrk, code, cut, line, many, mention, mrk, shown, some, when
from bot.model import Case, CaseState, Outcome, PolicyKind, Proposal, Step, StepKind, UserId
from bot.policy import GIVEN
from bot.rules import Button, Team

# What the message shows; the files have everything. Together well below the 10,000 characters that a message may have.
_DIFFS = 2_500  # characters of all diffs
_BOXES = 6
_LOOKS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """One policy as the message shows it."""

    about: Mrk
    rows: tuple[str, ...]
    room: int  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proposal:
    headline: str
    text: Mrk
    summary: list[Mrk]
    looks: list[Mrk]
    warnings: list[Mrk]
    told: str
    removed: list[Mrk]
    diffs: list[Diff]
    diffs_of: int
    kept_unseen: Mrk
    proof: list[Mrk]
    origin: Mrk
    became: Mrk
    approval: Mrk
    reason: str
    adjusted: str
    foot: Mrk
    offered: list[parts.Press]


def proposal(case: Case, now: datetime, *, newer: Proposal | None = None, team: Team | None = None) -> Payload:
    """Draw the case's proposal: what goes, what stays and why, the diffs, the proof; with buttons while it waits.

    `newer` is the case's latest proposal where that is another than the one shown: it then says so, without buttons.
    `team` says who may approve.
    """
    made = case.proposal
    if made is None:
        return happened("⚪", mrk("There is no proposal for {}.", code(case.role_name)))
    waiting = newer is None and case.state is CaseState.WAITING and not (case.until and now >= case.until)
    headline = sums.headline(made)
    documents = sums.documents(made)
    steps = plan(made)
    return render(
        "proposal",
        _Proposal(
            headline=headline,
            text=mrk(
                "{} in account {}: {}, proposed by {}.{}",
                headline,
                code(case.account),
                sums.arrow(made),
                mention(made.proposed_by),
                Mrk("") if waiting else mrk(" {}", became(case, newer)),
            ),
            summary=summary(made),
            looks=looks(made),
            warnings=warnings(made),
            told=told(made),
            removed=removed(made, services=6, names=10, room=1_700),
            diffs=_diffs(documents[:_BOXES], steps),
            diffs_of=len(documents),
            kept_unseen=kept_unseen(made),
            proof=proof(made),
            origin=origin(made),
            became=Mrk("") if waiting else became(case, newer),
            approval=cards.approval(case, team) if waiting else Mrk(""),
            reason=_why(case, newer),
            adjusted=made.reason,
            foot=mrk(
                "Proposal {}, digest {}{}.",
                code(made.id),
                code(made.digest()[:12]),
                mrk(", expires {}", when(case.until)) if waiting and case.until else Mrk(""),
            ),
            offered=[
                parts.press(case, Button.APPROVE, style="primary"),
                parts.press(case, Button.DECLINE),
                *([parts.press(case, Button.ADJUST)] if made.give_back is None else []),
            ]
            if waiting
            else [],
        ),
    )


# -------------------- its parts, for the message and for the dialogs


def summary(made: Proposal) -> list[Mrk]:
    """Say in numbers what goes and what stays, with window and mode."""
    trim, settings = made.trim, made.settings
    if made.give_back is not None:
        return [
            mrk("*{}*, of {} before the change was made.", sums.arrow(made), trim.granted),
            mrk("*Given back*: {}.", many(len(made.give_back.actions), "action")),
            mrk("*Still removed*: {}.", many(trim.removed, "action")),
        ]
    return [
        mrk(
            "*{} → {} actions*, in {} mode, over {} days.",
            trim.granted,
            trim.kept,
            settings.mode.value,
            settings.window_days,
        ),
        mrk("*Removed*: {}.", _counted(sums.Counts.of(a for a in trim.actions if not a.kept))),
        mrk("*Kept*: {}.", _counted(sums.Counts.of(a for a in trim.actions if a.kept))),
    ]


def origin(made: Proposal) -> Mrk:
    """Say whose proposal it is, and what it was made of."""
    if made.give_back is not None:
        return mrk(
            "Proposed by {}, {}, out of what the change {} removed.",
            mention(made.proposed_by),
            when(made.proposed_at),
            code(made.give_back.change),
        )
    return mrk(
        "{} by {}, {}, from the last accessed report of {}.",
        "Adjusted" if made.reason else "Proposed",
        mention(made.proposed_by),
        when(made.proposed_at),
        when(made.evidence.made_at),
    )


def _counted(counts: sums.Counts) -> str:
    said = [
        f"{counts.used:,} used" if counts.used else "",
        f"{counts.unused:,} not used" if counts.unused else "",
        f"{counts.hidden:,} whose use cannot be known" if counts.hidden else "",
        f"{counts.no_call:,} without an API call of their own" if counts.no_call else "",
        f"{counts.protected:,} protected by settings or by hand" if counts.protected else "",
    ]
    return ", ".join(s for s in said if s) or "nothing"


def looks(made: Proposal) -> list[Mrk]:
    """Name the removals that deserve a second look, those of one reason together."""
    by: dict[str, list[Mrk]] = {}
    for action in sums.sensitive(made.trim) if made.give_back is None else ():
        by.setdefault(cut(line(action.sensitive), 120), []).append(code(action.action, 80))
    found = [mrk("• {}: {}", some(names, _LOOKS, "in reasons.csv", room=600), why) for why, names in by.items()]
    return shown(found, _LOOKS, 1_000, "the rest is in reasons.csv")


def warnings(made: Proposal, *, most: int = 6, room: int = 1_200, rest: str = "Approve… has more") -> list[Mrk]:
    """Return what a person must see before saying yes."""
    return shown([mrk("⚠️ {}", cut(line(w.message), 290)) for w in made.trim.warnings], most, room, rest)


def told(made: Proposal) -> str:
    """Return what stands above the lines of `removed`."""
    return "What goes" if made.give_back is None else "What comes back, and why it had gone"


def removed(made: Proposal, *, services: int, names: int, room: int) -> list[Mrk]:
    """Name what goes, a line for each service, the one that loses most first; or of a give-back, what comes back."""
    if made.give_back is not None:
        return _given(made, services, names, room)
    found = sums.by_service(a for a in made.trim.actions if not a.kept)
    said = [
        mrk(
            "• {}, {}: {}",
            code(service, 40),
            many(len(actions), "action"),
            some([code(a, 60) for a in actions[: names + 1]], names, "in reasons.csv", of=len(actions)),
        )
        for service, actions in found
    ]
    return shown(said, services, room, "the rest is in reasons.csv")


def _given(made: Proposal, most: int, names: int, room: int) -> list[Mrk]:
    """Name what comes back, what went for one reason together."""
    given = made.give_back.actions if made.give_back is not None else ()
    by: dict[str, list[Mrk]] = {}
    for action in made.trim.actions:
        if action.action in given:
            by.setdefault(action.reason.removeprefix(GIVEN), []).append(code(action.action, 80))
    said = [
        mrk("• {}: {}", some(of, names, "in reasons.csv", room=1_000), cut(line(why), 200)) for why, of in by.items()
    ]
    return shown(said, most, room, "the rest is in reasons.csv")


def kept_unseen(made: Proposal) -> Mrk:
    """Name what stays only because IAM cannot see whether it is used."""
    found = sums.unseen_kept(made.trim)
    if not found or made.give_back is not None:
        return Mrk("")
    return mrk(
        "*Kept because IAM cannot see their use*, {}: {}",
        many(len(found), "action"),
        some([code(a.action, 60) for a in found], 10, "in reasons.csv"),
    )


def proof(made: Proposal) -> list[Mrk]:
    """Say what the checker proved; a proposal whose proof fails is never stored, and would say so here."""
    found = made.trim.proof
    if made.give_back is not None:
        return [
            mrk("✓ Nothing but what is named is allowed anew, and nothing that was not allowed before the change.")
            if found.no_new_access
            else mrk("✗ Not proved: that nothing but what is named is allowed anew."),
            mrk("✓ What is named is allowed again by the statements that allowed it, and nothing else is lost.")
            if found.nothing_used_lost
            else mrk("✗ Not proved: that what is named is allowed again, and nothing else lost."),
        ]
    return [
        mrk("✓ Nothing new is allowed: every new statement lies within an old one, and every Deny is still there.")
        if found.no_new_access
        else mrk("✗ Not proved: that nothing new is allowed."),
        mrk("✓ Nothing used is lost: what is in use or protected is still allowed by the statements that allowed it.")
        if found.nothing_used_lost
        else mrk("✗ Not proved: that nothing used is lost."),
    ]


def plan(made: Proposal) -> tuple[Step, ...]:
    """Return the writes that an approval starts, in order; none where the rules refuse the plan."""
    try:
        return rules.plan(made, made.role)
    except RefineError:
        return ()


def _diffs(documents: Sequence[sums.Document], steps: Sequence[Step]) -> list[Diff]:
    boxes = sum(d.outcome is not Outcome.REMOVED for d in documents)
    return [
        Diff(
            about=_about(d, steps),
            rows=() if d.outcome is Outcome.REMOVED else d.diff,  # all of it goes: the sentence says so
            room=_DIFFS // max(1, boxes),
        )
        for d in documents
    ]


def _about(document: sums.Document, steps: Sequence[Step]) -> Mrk:
    """Say of one policy what it is, and how it will be changed."""
    policy = document.policy
    names = [code(name) for name, _ in document.new]
    own = any(s.kind is StepKind.CREATE_VERSION and s.policy_arn == policy.arn for s in steps)
    room = next((s.version for s in steps if s.kind is StepKind.DELETE_VERSION and s.policy_arn == policy.arn), "")
    if document.outcome is Outcome.REMOVED and policy.kind is PolicyKind.INLINE:
        how = mrk("nothing of it is left, so it is deleted")
    elif document.outcome is Outcome.REMOVED:
        how = mrk("nothing of it is left, so it is detached from this role; the policy itself stays")
    elif not policy.text and policy.kind is PolicyKind.INLINE:
        how = mrk("it is written again")
    elif not policy.text and any(s.kind is StepKind.ATTACH and s.policy_arn == policy.arn for s in steps):
        how = mrk("it is attached again, as it was")
    elif not policy.text:
        how = mrk("the role gets {} in its place", some(names, 3))
    elif document.outcome is Outcome.GIVEN_BACK and all(name != policy.name for name, _ in document.new):
        how = mrk("it stays as it is, and the role gets {} beside it", some(names, 3))
    elif policy.kind is PolicyKind.INLINE:
        how = mrk("the document is replaced") if len(names) == 1 else mrk("it is split into {}", some(names, 4))
    elif policy.kind is PolicyKind.AWS:
        how = mrk("it belongs to AWS, so this role gets {} in its place", some(names, 3))
    elif policy.attachments > 1 or policy.boundary_uses:
        how = mrk("others use it too, so this role gets {} in its place", some(names, 3))
    else:
        version = code(policy.default_version) if policy.default_version else Mrk("the old one")
        how = mrk("it gets a new default version; {} stays beside it", version) if own else mrk("it is replaced")
        if len(names) > 1:
            how = mrk("{}, and the rest goes to {}", how, some(names[1:], 3))
        if room:
            how = mrk("{}; {}, the oldest, is deleted to make room", how, code(room))
    return mrk("{}, {}: {}.", code(policy.name), words.KINDS[policy.kind], how)


def _why(case: Case, newer: Proposal | None) -> str:
    """Return the reason given for what became of it."""
    if newer is not None:
        return newer.reason if newer.supersedes == (case.proposal and case.proposal.id) else ""
    return case.reason if case.state is CaseState.DECLINED else ""


def became(case: Case, newer: Proposal | None) -> Mrk:
    """Say what became of a proposal that waits no longer."""
    by, at = mention(case.asked_by), when(case.updated_at)
    approved = words.approved_by(case)
    if newer is not None and len(case.approvals) >= max(1, case.approvals_needed):
        return mrk("⚪ Approved by {}. A newer proposal in this thread has followed it.", approved)
    if newer is not None:
        void = mrk(" The approval by {} does not count for that one.", approved) if approved else Mrk("")
        return mrk(
            "⚪ *Replaced* by {}, {}: the proposal that keeps {} of {} is below in this thread. This one can no longer "
            "be approved.{}",
            mention(newer.proposed_by),
            when(newer.proposed_at),
            newer.trim.kept,
            many(newer.trim.granted, "action"),
            void,
        )
    match case.state:
        case CaseState.WAITING:
            return mrk("⚪ Expired {}: it can no longer be approved.", when(case.until) if case.until else at)
        case CaseState.DECLINED:
            return mrk("⚪ Declined by {}, {}.", by, at)
        case CaseState.EXPIRED:
            return mrk("⚪ Expired {}: it was not approved in time.", at)
        case CaseState.STALE:
            return mrk("♻️ Stale since {}: it no longer fits the role, and can no longer be approved.", at)
        case CaseState.APPLYING:
            return mrk("⚙️ Approved by {}; it is being applied.", approved)
        case CaseState.WATCHING | CaseState.DONE:
            return mrk("🟢 Approved by {} and applied.", approved)
        case CaseState.ROLLING_BACK:
            return mrk("↩️ Approved by {} and applied; it is being rolled back.", approved)
        case CaseState.ROLLED_BACK:
            return mrk("🔵 Approved by {}, applied, and rolled back by {}, {}.", approved, by, at)
        case CaseState.FAILED:
            return mrk(
                "🟥 Approved by {}; applying it or rolling it back failed. The card says what is in force.", approved
            )
        case CaseState.WORKING:
            return mrk("⏳ {} asked for a new one, which will replace it.", by)
        case _:
            return mrk("⚪ It no longer waits for approval. The card shows where the case stands now.")


# -------------------- files


def proposal_files(case: Case) -> list[File]:
    """Return the whole documents, old and new, each policy's diff, and a reason for every action."""
    made = case.proposal
    if made is None:
        return []
    files: list[File] = []
    taken: set[str] = set()
    for document in sums.documents(made):
        old = document.policy
        name = _free(reviews.file_name(old.name), taken)
        for number, (new, text) in enumerate(document.new):
            own = name if number == 0 and new == old.name else _free(reviews.file_name(new), taken)
            files.append((f"{own}.new.json", text.encode(), f"{new}: the new document"))
        if old.text:
            about = f"{old.name}: the document that the proposal starts from"
            files.append((f"{name}.old.json", old.text.encode(), about))
        diff = [f"--- {old.name} (old)", f"+++ {document.outcome.value}", *document.diff]
        files.append((f"{name}.diff", ("\n".join(diff) + "\n").encode(), f"{old.name}: what changes"))
    reasons = reviews.as_csv(reviews.judged(made.trim))
    files.append(("reasons.csv", reasons, f"A reason for each of {many(made.trim.granted, 'action')}"))
    return files


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no file has yet: an inline and a managed policy may share theirs."""
    number, free = 1, name
    while free.lower() in taken:
        number += 1
        free = f"{name}-{number}"
    taken.add(free.lower())
    return free


# -------------------- lines about it


def approved_line(case: Case, by: UserId, reason: str) -> Payload:
    given, needed = len(case.approvals), max(1, case.approvals_needed)
    more = mrk(" {} of {} approvals given.", given, needed) if given < needed else Mrk("")
    return happened("👍", mrk("{} approved {}.{}", mention(by), _named(case), more), reason, _digest(case))


def declined_line(case: Case, by: UserId, reason: str) -> Payload:
    said = mrk("{} declined {}. Nothing was changed.", mention(by), _named(case))
    return happened("👎", said, reason, _digest(case))


def _named(case: Case) -> Mrk:
    if case.proposal is None:
        return mrk("the proposal for {}", code(case.role_name))
    return sums.removing(case.proposal)


def _digest(case: Case) -> Mrk:
    return mrk("Proposal digest {}.", code(case.proposal.digest()[:12])) if case.proposal else Mrk("")
