"""The review: what a role used, what it did not, and what nobody can tell, for the thread."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot import rules
from bot.messages import cards, parts, sums, words
from bot.messages.outcomes import happened
from bot.messages.render import Payload, render
from bot.messages.text import Mrk, clean, code, cut, many, mrk, shown, stamp, when
from bot.model import ActionUse, ActionVerdict, Case, CaseState, Evidence, ServiceSummary, ServiceUse, Trim, Verdict

File = tuple[str, bytes, str]

_ROWS = 25  # of the message's table; the file has them all
_SERVICES = 12  # of each group
_PICKS = 100  # options that a select may have
_VALUE = 150  # characters of one's value
# A proposal can start from here: nothing is in force that it would pass over.
_CAN_PROPOSE = rules.IDLE - {
    CaseState.WATCHING,
    CaseState.DONE,
    CaseState.FAILED,
    CaseState.SNOOZED,
    CaseState.ACCEPTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Review:
    role: str
    text: Mrk
    tally: Mrk
    report: Mrk
    used: list[Mrk]
    untracked: list[Mrk]
    hidden: list[Mrk]
    unused: list[Mrk]
    rows: list[list[str]]
    rows_of: Mrk
    pick_block: str
    picks: list[parts.Option]
    picks_of: int
    offered: list[parts.Press]
    unseen: str


def review(case: Case, trim: Trim, now: datetime, *, window_days: int | None = None) -> Payload:
    """Draw the last accessed report: services in use first, then those not used, and the actions of the former.

    `window_days` is the window that the verdicts of `trim` were made with, so that it can be said.
    """
    services = [_Service.of(s, actions) for s, actions in _with_actions(trim)]
    since = now - timedelta(days=window_days) if window_days else None
    used = sorted((s for s in services if s.in_use(since)), key=lambda s: (-s.at(), s.summary.namespace))
    quiet = sorted((s for s in services if not s.in_use(since)), key=lambda s: (-s.counts.granted, s.summary.namespace))
    unused = [s for s in quiet if s.counts.unused or not s.counts.granted]
    hidden = [s for s in quiet if s not in unused]
    every = _ordered(a for s in used for a in s.actions)
    # Rows of what nobody can tell say nothing: they are counted, and stand in the file.
    known = [a for a in every if a.verdict not in sums.HIDDEN]
    rows = parts.rows_within(
        [
            (a.action, stamp(a.last_accessed) if a.last_accessed else "–", a.region or "–", words.VERDICTS[a.verdict])
            for a in known
        ],
        _ROWS,
        3_500,
    )
    counts = sums.Counts.of(trim.actions)
    tally = cards.tally(counts, window_days)
    picks = [s.option() for s in [*used, *hidden, *unused] if len(s.summary.namespace) <= _VALUE]
    return render(
        "review",
        _Review(
            role=case.role_name,
            text=mrk("Review of {}: {}.", code(case.role_name), tally),
            tally=tally,
            report=_report(case.evidence, now),
            used=_lines([s for s in used if s.summary.tracked]),
            untracked=_lines([s for s in used if not s.summary.tracked]),
            hidden=_lines(hidden),
            unused=_lines(unused),
            rows=rows,
            rows_of=_rows_of(len(rows), len(every), len(every) - len(known)),
            pick_block=f"review:{case.id}",
            picks=picks[:_PICKS],
            picks_of=len(picks),
            offered=[
                parts.press(
                    case, rules.Button.PROPOSE, action="propose_safe", label="Propose in safe mode", style="primary"
                ),
                parts.press(case, rules.Button.PROPOSE, action="propose_strict", label="Propose in strict mode"),
            ]
            if case.state in _CAN_PROPOSE
            else [],
            unseen=many(counts.hidden, "action"),
        ),
    )


def _report(evidence: Evidence | None, now: datetime) -> Mrk:
    if evidence is None:
        return Mrk("")
    hours = max(0, int((now - evidence.made_at).total_seconds() // 3600))
    return mrk(
        "Last accessed report of {}, {} old. IAM looks back {}.",
        when(evidence.made_at),
        many(hours, "hour"),
        many(evidence.tracking_days, "day"),
    )


def _rows_of(shown_: int, every: int, hidden: int) -> Mrk:
    if shown_ == every:
        return Mrk("")
    more = mrk("; of {} the use cannot be known", hidden) if hidden else Mrk("")
    return mrk("{} of {} of the services in use shown{}. The rest is in the file.", shown_, many(every, "action"), more)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """A service of the report with the verdicts on its actions."""

    summary: ServiceSummary
    actions: tuple[ActionVerdict, ...]
    counts: sums.Counts

    @classmethod
    def of(cls, summary: ServiceSummary, actions: Sequence[ActionVerdict]) -> _Service:
        return cls(summary=summary, actions=tuple(actions), counts=sums.Counts.of(actions))

    def at(self) -> float:
        return self.summary.last_accessed.timestamp() if self.summary.last_accessed else 0.0

    def in_use(self, since: datetime | None) -> bool:
        """Whether it was used inside the window; where that is not told, by what its actions are called."""
        at = self.summary.last_accessed
        if at is None or since is not None:
            return at is not None and since is not None and at >= since
        verdicts = {a.verdict for a in self.actions}
        return Verdict.SERVICE_UNUSED not in verdicts and bool(verdicts & {Verdict.USED, Verdict.UNTRACKED})

    def line(self) -> Mrk:
        summary, counts = self.summary, self.counts
        said = []
        if summary.last_accessed:
            where = mrk(" in {}", code(summary.region, 40)) if summary.region else Mrk("")
            said.append(mrk("last accessed {}{}", when(summary.last_accessed), where))
        elif counts.unused:
            said.append(mrk("never accessed"))
        rest = counts.no_call + counts.protected
        known = [
            f"{counts.used:,} used" if counts.used else "",
            f"{counts.unused:,} not used" if counts.unused else "",
            f"{counts.hidden:,} cannot be known" if counts.hidden else "",
            f"{rest:,} other" if rest else "",
        ]
        said.append(mrk("{}", ", ".join(k for k in known if k) or "nothing of it is granted"))
        return mrk("• {}: {}", code(summary.namespace, 40), Mrk("; ".join(said)))

    def option(self) -> parts.Option:
        at = self.summary.last_accessed
        about = f"{at:%Y-%m-%d}" if at else "never" if self.counts.unused else ""
        return parts.Option(label=self.summary.namespace, value=self.summary.namespace, about=about)


def _with_actions(trim: Trim) -> Iterator[tuple[ServiceSummary, list[ActionVerdict]]]:
    by: dict[str, list[ActionVerdict]] = {}
    for action in trim.actions:
        by.setdefault(_of(action), []).append(action)
    for service in trim.services:
        yield service, by.get(service.namespace.lower(), [])


def _of(action: ActionVerdict) -> str:
    return action.action.partition(":")[0].lower()


def _lines(services: Sequence[_Service]) -> list[Mrk]:
    return shown([s.line() for s in services], _SERVICES, 1_400, "the rest is in the file")


_ORDER = (sums.USED, frozenset({Verdict.PROTECTED}), sums.NOT_USED, sums.HIDDEN, sums.NO_CALL)


def _ordered(actions: Iterable[ActionVerdict]) -> list[ActionVerdict]:
    """Used first, the latest first; then what is not used; then what nobody can tell."""

    def place(action: ActionVerdict) -> tuple[int, float, str]:
        group = next(n for n, verdicts in enumerate(_ORDER) if action.verdict in verdicts)
        return group, -(action.last_accessed.timestamp() if action.last_accessed else 0.0), action.action

    return sorted(actions, key=place)


# -------------------- one service


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    title: str
    role: str
    said: list[Mrk]
    rows: list[list[str]]
    rows_of: int
    text: Mrk


def review_service(case: Case, namespace: str) -> Payload:
    """Draw one service of the report with its actions, for the person who picked it."""
    evidence = case.evidence
    service = next((s for s in evidence.services if s.namespace == namespace), None) if evidence else None
    if evidence is None or service is None:
        return _not_there(case, namespace)
    verdicts = _verdicts(case, namespace)
    tracked = sorted(
        service.actions, key=lambda a: (-(a.last_accessed.timestamp() if a.last_accessed else 0.0), a.action)
    )
    seen = {f"{namespace}:{a.action}".lower() for a in tracked}
    hidden = [v for key, v in verdicts.items() if key not in seen]
    rows = [_row(a, verdicts.get(f"{namespace}:{a.action}".lower())) for a in tracked]
    rows += [(v.action.partition(":")[2], "–", "–", words.VERDICTS[v.verdict]) for v in hidden]
    used = sum(a.last_accessed is not None for a in tracked)
    said = [
        mrk(
            "Last accessed {}{}.",
            when(service.last_accessed) if service.last_accessed else "never",
            mrk(" in {}", code(service.region)) if service.region else Mrk(""),
        )
    ]
    if service.entity:
        said.append(mrk("By {}.", code(service.entity)))
    if tracked:
        said.append(
            mrk(
                "{} tracked, {} of them accessed. What IAM does not track is not known.",
                many(len(tracked), "action"),
                used,
            )
        )
    else:
        said.append(mrk("IAM tracks none of its actions: which of them were used is not known."))
    return render(
        "review_service",
        _Opened(
            title=f"{service.name or namespace} ({namespace})",
            role=case.role_name,
            said=said,
            rows=parts.rows_within(rows, _PICKS - 1, 8_500),
            rows_of=len(rows),
            text=mrk("{} in the report of {}: {}", code(namespace), code(case.role_name), said[0]),
        ),
    )


def _not_there(case: Case, namespace: str) -> Payload:
    return happened("⚪", mrk("The latest report of {} has no service {}.", code(case.role_name), code(namespace)))


def _verdicts(case: Case, namespace: str) -> dict[str, ActionVerdict]:
    """Return the proposal's verdicts on the service where it was made of the evidence shown."""
    proposal = case.proposal
    if proposal is None or case.evidence is None or proposal.evidence.digest() != case.evidence.digest():
        return {}
    return {a.action.lower(): a for a in proposal.trim.actions if _of(a) == namespace.lower()}


def _row(use: ActionUse, verdict: ActionVerdict | None) -> tuple[str, str, str, str]:
    if verdict is not None:
        said = words.VERDICTS[verdict.verdict]
    else:
        said = "accessed" if use.last_accessed else "not accessed"
    return use.action, stamp(use.last_accessed) if use.last_accessed else "–", use.region or "–", said


# -------------------- the whole report, as a file


def review_files(case: Case, trim: Trim | None = None) -> list[File]:
    """Return the whole report as CSV: a verdict for every action where it is known, else what IAM reported."""
    if trim is None and case.proposal and _verdicts_fit(case):
        trim = case.proposal.trim
    rows = [*judged(trim)] if trim else [*_reported(case.evidence.services if case.evidence else ())]
    name = file_name(case.role_name)
    title = f"Last accessed report of {case.role_name}: {many(len(rows) - 1, 'row')}"
    return [(f"{name}-last-accessed.csv", as_csv(rows), title)]


def _verdicts_fit(case: Case) -> bool:
    proposal = case.proposal
    return bool(proposal and case.evidence and proposal.evidence.digest() == case.evidence.digest())


def judged(trim: Trim) -> Iterable[Sequence[str]]:
    yield (
        "service",
        "action",
        "verdict",
        "kept",
        "last accessed (UTC)",
        "region",
        "access level",
        "policies",
        "reason",
    )
    for a in trim.actions:
        yield (
            a.action.partition(":")[0],
            a.action,
            a.verdict.value,
            "yes" if a.kept else "no",
            _time(a.last_accessed),
            a.region,
            a.level.value,
            " ".join(a.policies),
            a.reason,
        )


def _reported(services: Sequence[ServiceUse]) -> Iterable[Sequence[str]]:
    yield ("service", "action", "tracked", "last accessed (UTC)", "region")
    for s in services:
        yield (s.namespace, "", "yes" if s.actions else "no", _time(s.last_accessed), s.region)
        for a in s.actions:
            yield (s.namespace, f"{s.namespace}:{a.action}", "yes", _time(a.last_accessed), a.region)


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""


def as_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """Return the rows as CSV that a spreadsheet takes for text: a cell never starts a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([f"'{c}" if c[:1] in "=+-@" and c else c for c in (clean(c) for c in row)])
    return out.getvalue().encode()


def file_name(name: str) -> str:
    return cut("".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip(".-") or "role", 80)
