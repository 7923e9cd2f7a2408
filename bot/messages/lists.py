"""Answers about many cases: the burst, the week, lists, status, history, help."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bot.messages import door, parts, words
from bot.messages.pictures import Picture
from bot.messages.render import Payload, render
from bot.messages.text import Mrk, code, cut, fitting, listed, many, mention, mrk, shown, when
from bot.model import AuditEntry, Case, CaseId, CaseState, Tally
from bot.rules import BUSY

_S = CaseState
# What people ask first, in this order.
GROUPS = (
    ("need a decision", frozenset({_S.NEW, _S.CANNOT_TELL, _S.STALE, _S.NOTHING, _S.ROLLED_BACK})),
    ("wait for approval", frozenset({_S.WAITING})),
    ("under way", BUSY),
    ("failed", frozenset({_S.FAILED})),
    ("trimmed", frozenset({_S.WATCHING, _S.DONE})),
    ("put aside", frozenset({_S.DECLINED, _S.EXPIRED, _S.SNOOZED, _S.ACCEPTED})),
    ("resolved at AWS", frozenset({_S.RESOLVED})),
)
OPEN = frozenset().union(*(states for _, states in GROUPS[:4]))
CHANGED = frozenset({_S.APPLYING, _S.WATCHING, _S.DONE, _S.ROLLING_BACK, _S.ROLLED_BACK, _S.FAILED})
# What App Home can show beside the cases of one state, with the order that it is in.
VIEWS = {
    "open": ("Open", "the worst first"),
    "mine": ("Mine to approve", "the longest waiting first"),
    "changes": ("Recent changes", "the latest first"),
    "every": ("All cases", "the latest first"),
}
PAGE = 10  # cases on a page of App Home
_LISTED = 20
_ENTRIES = 30
_WORST = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What stands above a list of cases, or in the week's digest."""

    mine: int = 0  # proposals that the person may approve
    longest: Case | None = None  # the proposal that has waited for the longest time
    ever: Tally = field(default_factory=Tally)
    lately: Tally = field(default_factory=Tally)  # of the last 30 days in App Home, of the last week in the digest
    worst: Mapping[CaseId, str] = field(default_factory=dict)  # the end of "this role …", by case


def removed(tally: Tally) -> Mrk:
    """Say what was removed, and from how many roles' policies."""
    return mrk("*{} removed* in {}", many(tally.removed, "permission"), many(tally.trimmed, "change"))


def totals(counts: Mapping[CaseState, int]) -> Mrk:
    """Say how many cases are where, leaving out what is empty."""
    said = [
        mrk("*{}* {}", sum(counts.get(s, 0) for s in states), name)
        for name, states in GROUPS
        if any(counts.get(s) for s in states)
    ]
    return Mrk(" · ".join(said)) if said else mrk("There are no cases.")


# -------------------- a burst, a week


@dataclass(frozen=True, slots=True, kw_only=True)
class _Burst:
    title: str
    text: Mrk
    totals: Mrk
    rows: list[list[str]]
    said: Mrk


def burst_summary(
    opened: int, counts: Mapping[CaseState, int], worst: Sequence[Case], *, cards: int | None = None
) -> Payload:
    """Draw one message for many new roles at once: a table of the worst, and where the rest is.

    `cards` is how many of them get a card in the channel; as many as are listed, where it is not given.
    """
    title = f"{many(opened, 'new role')} can be assumed from outside"
    posted = min(opened, len(worst) if cards is None else cards)
    follow = mrk("Cards follow for {}, the worst first.", many(posted, "role")) if posted else mrk("No cards follow.")
    rest = (
        mrk(" The other {}: `/refine list`, or the Home tab of this app.", opened - posted)
        if opened > posted
        else Mrk("")
    )
    return render(
        "burst",
        _Burst(
            title=title,
            text=mrk("{}. {}{}", title, follow, rest),
            totals=totals(counts),
            rows=parts.rows_within([_row(c) for c in worst[:_WORST]], _WORST, 5_000),
            said=mrk("{}{}", follow, rest),
        ),
    )


def _row(case: Case) -> tuple[str, str, str, str]:
    found = door.ways(case)
    who = door.in_short(found[0]) if found else "nobody that is known"
    if len(found) > 1:
        who = f"{cut(who, 80)} and {len(found) - 1:,} more"
    at = case.role.last_used_at if case.role else None
    last = f"{at:%Y-%m-%d}" if at else "not in 400 days" if case.role else "not known"
    return case.role_name, case.account, who, last


def weekly_digest(
    counts: Mapping[CaseState, int], now: datetime, glance: Glance | None = None, picture: Picture | None = None
) -> Payload:
    """Draw the week's summary: what came, what was done, and what has waited for the longest time."""
    year, week, _ = now.isocalendar()
    glance = glance or Glance()
    lately = glance.lately
    back = mrk(", {} rolled back", many(lately.rolled_back, "change")) if lately.rolled_back else Mrk("")
    done = mrk("*{} opened*, *{} closed*, {}{}.", many(lately.opened, "case"), lately.closed, removed(lately), back)
    return render(
        "weekly",
        title=f"Roles open to the outside, week {week} of {year}",
        text=mrk("Refine, week {} of {}: {}", week, str(year), done),
        done=done,
        picture=picture,
        ever=mrk("Since the beginning: {}.", removed(glance.ever)),
        totals=totals(counts),
        todo=waits(counts.get(_S.WAITING, 0), glance.longest),
    )


def waits(count: int, longest: Case | None) -> Mrk:
    """Say how many proposals wait, and which for the longest time."""
    if not count:
        return Mrk("")
    said = "*1 proposal waits* for an approver" if count == 1 else f"*{count:,} proposals wait* for an approver"
    if longest is None:
        return mrk("🟡 {}.", Mrk(said))
    lead = Mrk("the longest ") if count > 1 else Mrk("")
    return mrk("🟡 {}, {}since {}: {}.", Mrk(said), lead, when(longest.updated_at), code(longest.role_name))


# -------------------- answers to /refine


def list_cases(cases: Sequence[Case], counts: Mapping[CaseState, int], now: datetime) -> Payload:
    """Draw the cases that somebody asked for."""
    rows = fitting([entry(c, now) for c in cases[:_LISTED]], 8_000)
    every = sum(counts.values())
    return render(
        "list",
        text=mrk("{}. {}", many(every, "case"), totals(counts)),
        totals=totals(counts),
        rows=rows,
        foot=mrk("{} of {} shown. `/refine list NAME` searches; the Home tab has them all.", len(rows), every)
        if len(rows) < every
        else Mrk(""),
        empty=mrk("No case fits." if every else "Refine opens one for each role that is found open to the outside."),
    )


def entry(case: Case, now: datetime, worst: str = "") -> Mrk:
    """One case in a line or two of a list; `worst` is the end of "this role …"."""
    found = door.ways(case)
    who = (
        mrk(" Open to {}.", door.in_short(found[0]) if len(found) == 1 else many(len(found), "principal"))
        if found
        else Mrk("")
    )
    can = mrk(" It {}.", worst) if worst else Mrk("")
    state = words.state_line(case, now)
    if case.state is _S.FAILED:  # on the card the reason follows
        state = mrk(
            "{} *Failed*, {}. Its card says why, and what is in force now.",
            Mrk(words.mark(case.state)),
            when(case.updated_at),
        )
    return mrk("*{}* in {}\n{}{}{}", code(case.role_name), code(case.account), state, who, can)


def status(counts: Mapping[CaseState, int], paused: str, now: datetime) -> Payload:
    """Draw what Refine is at, and whether it may write."""
    mode = (
        mrk("⏸️ *Paused* {}: it shows and proposes, and writes nothing until `/refine resume`.", _paused(paused))
        if paused
        else mrk("▶️ *At work*: approved changes are written.")
    )
    return render("status", text=mode, mode=mode, totals=totals(counts), at=mrk("As of {}.", when(now)))


_BY = re.compile(r"by <@([UW][A-Z0-9]{1,20})> since ([\d: -]+ UTC)")


def _paused(flag: str) -> Mrk:
    """The flag's text as the flows write it, and as plain text where it is anything else."""
    match = _BY.fullmatch(flag.strip())
    return mrk("by {} since {}", mention(match[1]), match[2]) if match else mrk("({})", flag)


_DONE = {
    "opened": "opened the case",
    "review": "asked for the last accessed report",
    "reviewed": "read the last accessed report",
    "propose": "asked for a proposal",
    "proposed": "made a proposal",
    "nothing_to_trim": "found nothing to trim",
    "cannot_tell": "found the evidence not good enough",
    "approve": "approved",
    "approved": "approved, which was enough",
    "decline": "declined",
    "expire": "let the proposal expire",
    "went_stale": "found the proposal stale",
    "applied": "applied and verified the change",
    "apply_failed": "could not apply the change",
    "watch_ended": "ended the watch",
    "roll_back": "asked for a rollback",
    "rolled_back": "rolled the change back",
    "withdrawn": "took it back before anything was written",
    "roll_back_failed": "could not roll the change back",
    "snooze": "snoozed it",
    "accept": "accepted the exposure",
    "reopen": "re-opened it",
    "resolve": "saw the findings resolved at AWS",
    "found": "found it open again",
    "findings": "noted other findings",
    "archived": "archived findings at AWS",
    "unarchived": "made findings active again at AWS",
    "begun": "began to write",
    "step_done": "wrote a step",
    "step_undone": "took a step back",
    "finished": "finished writing",
}
_DETAILS = (
    "reason",
    "until",
    "owner",
    "kind",
    "policy",
    "version",
    "proposal",
    "change",
    "error",
    "outcome",
    "give_back",
)


def history(entries: Sequence[AuditEntry], case: Case) -> Payload:
    """Draw who did what to the case, the newest first."""
    ordered = sorted(entries, key=lambda e: e.seq, reverse=True)
    rows = shown([_entry(e) for e in ordered], _ENTRIES, 2_800, "the audit log has them all")
    return render(
        "history",
        role=case.role_name,
        text=mrk(
            "History of {} in {}: {}.", code(case.role_name), code(case.account), many(len(entries), "entry", "entries")
        ),
        rows=rows or [mrk("Nothing is on record.")],
    )


def _entry(entry: AuditEntry) -> Mrk:
    known = dict(entry.detail)
    details = [
        mrk("{} {}", key.replace("_", " "), code(known[key][:12] if key in {"proposal", "change"} else known[key], 80))
        for key in _DETAILS
        if known.get(key)
    ]
    more = mrk(" ({})", listed(details)) if details else Mrk("")
    return mrk(
        "{}: {} {}{}", when(entry.at), mention(entry.who), _DONE.get(entry.what, entry.what.replace("_", " ")), more
    )


def help_text(commands: Sequence[tuple[str, str]]) -> Payload:
    """Draw what `/refine` understands, a row of what to type and what comes of it, and what Refine never does."""
    return render(
        "help", commands=[mrk("{}\n{}", code(c), about) for c, about in commands], text=mrk("What /refine understands")
    )


def near_matches(name: str, names: Collection[str]) -> tuple[str, ...]:
    """Return up to three names that somebody may have meant, the nearest first."""
    by_lower: dict[str, str] = {}
    for each in sorted(names):
        by_lower.setdefault(each.lower(), each)
    wanted = name.lower()
    near = difflib.get_close_matches(wanted, by_lower, n=3, cutoff=0.6)
    holding = sorted(
        (n for n in by_lower if len(wanted) >= 3 and (wanted in n or n in wanted)), key=lambda n: (len(n), n)
    )
    return tuple(by_lower[n] for n in dict.fromkeys([*near, *holding]))[:3]
