"""The review: what a role used, what it did not, and what nobody can tell, for the thread."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot import rules
from bot.messages import cards, parts, sums, words
from bot.messages.outcomes import happened
from bot.messages.pictures import Bar, Picture, Services
from bot.messages.render import Payload, render
from bot.messages.text import Mrk, clean, code, cut, line, many, mrk, shown, stamp, when
from bot.model import ActionUse, ActionVerdict, Case, CaseState, Evidence, ServiceSummary, ServiceUse, Trim, Verdict

File = tuple[str, bytes, str]

_ROWS = 20  # services in the message's table; the pickers and the file have them all
_USED = 10  # actions used that the message names
_PICKS = 100  # options that a select may have
_VALUE = 120  # characters of a namespace in one's value, which may have 150
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
    picture: Picture | None
    rows: list[list[str]]
    rows_of: int
    used: list[Mrk]
    pick_block: str
    picks: list[parts.Option]
    picks_of: int
    shows: list[parts.Option]
    offered: list[parts.Press]
    unseen: str


def review(
    case: Case, trim: Trim, now: datetime, *, window_days: int | None = None, picture: Picture | None = None
) -> Payload:
    """Draw the last accessed report: a row for each service, those in use first, and the actions that were used.

    `window_days` is the window that the verdicts of `trim` were made with, so that it can be said; `picture` is that of
    `review_picture`, where Slack has it.
    """
    ordered = _in_order(trim, now, window_days)
    counts = sums.Counts.of(trim.actions)
    tally = cards.tally(counts, window_days)
    picks = [s.option() for s in ordered if len(s.summary.namespace) <= _VALUE]
    return render(
        "review",
        _Review(
            role=case.role_name,
            text=mrk("Review of {}: {}.", code(case.role_name), tally),
            tally=tally,
            report=_report(case.evidence, now),
            picture=picture,
            rows=parts.rows_within([s.row() for s in ordered], _ROWS, 3_500),
            rows_of=len(ordered),
            used=_used(trim),
            pick_block=f"review:{case.id}",
            picks=picks[:_PICKS],
            picks_of=len(picks),
            shows=_shows(
                _Pick(),
                {
                    "tracked": counts.used + counts.unused,
                    "used": counts.used,
                    "unused": counts.unused,
                    "hidden": counts.hidden,
                    "all": counts.granted,
                },
            ),
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


def review_picture(case: Case, trim: Trim, now: datetime, *, window_days: int | None = None) -> Services:
    """Return what the review's picture shows: services in the order of its table."""
    return Services.of(
        case.role_name,
        [
            Bar(
                name=s.summary.namespace,
                used=s.counts.used,
                unused=s.counts.unused,
                hidden=s.counts.hidden,
                other=s.counts.no_call + s.counts.protected,
            )
            for s in _in_order(trim, now, window_days)
        ],
    )


def _in_order(trim: Trim, now: datetime, window_days: int | None) -> list[_Service]:
    services = [_Service.of(s, actions) for s, actions in _with_actions(trim)]
    since = now - timedelta(days=window_days) if window_days else None
    return sorted(services, key=lambda s: s.place(since))


def _used(trim: Trim) -> list[Mrk]:
    """Name the actions that were used, the latest first."""
    used = [a for a in _ordered(trim.actions) if a.verdict in sums.USED]
    said = [
        mrk(
            "• {}{}{}",
            code(a.action, 100),
            mrk(", {}", when(a.last_accessed)) if a.last_accessed else Mrk(""),
            mrk(" in {}", code(a.region, 40)) if a.region else Mrk(""),
        )
        for a in used
    ]
    return shown(said, _USED, 1_600, "pick “Used” below for the rest")


def _report(evidence: Evidence | None, now: datetime) -> Mrk:
    if evidence is None:
        return Mrk("")
    hours = max(0, int((now - evidence.made_at).total_seconds() // 3600))
    return mrk(
        "Last accessed report of {}, {} old. IAM looks back {}.",
        when(evidence.made_at),
        many(hours, "hour") if hours else "less than an hour",
        many(evidence.tracking_days, "day"),
    )


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

    def place(self, since: datetime | None) -> tuple[int, float, int, str]:
        """Where it stands in the table: in use, the latest first; then what nobody can tell of; then not used."""
        counts = self.counts
        group = 0 if self.in_use(since) else 2 if counts.unused or not counts.granted else 1
        return group, -self.at(), -counts.granted, self.summary.namespace

    def row(self) -> tuple[str, str, str]:
        summary, counts = self.summary, self.counts
        rest = counts.no_call + counts.protected
        known = [
            f"{counts.used:,} used" if counts.used else "",
            f"{counts.unused:,} not used" if counts.unused else "",
            f"{counts.hidden:,} cannot be known" if counts.hidden else "",
            f"{rest:,} other" if rest else "",
        ]
        return (
            cut(line(summary.namespace), 40),
            stamp(summary.last_accessed) if summary.last_accessed else "never" if counts.unused else "not known",
            ", ".join(k for k in known if k) or "nothing of it is granted",
        )

    def option(self) -> parts.Option:
        # A hundred of these have to fit into one message, and the table has the numbers.
        counts = self.counts
        about = f"{counts.used:,} used" if counts.used else "not used" if counts.unused else "cannot be known"
        return parts.Option(label=self.summary.namespace, value=self.summary.namespace, about=about)


def _with_actions(trim: Trim) -> Iterator[tuple[ServiceSummary, list[ActionVerdict]]]:
    by: dict[str, list[ActionVerdict]] = {}
    for action in trim.actions:
        by.setdefault(_of(action), []).append(action)
    for service in trim.services:
        yield service, by.get(service.namespace.lower(), [])


def _of(action: ActionVerdict) -> str:
    return action.action.partition(":")[0].lower()


_ORDER = (sums.USED, frozenset({Verdict.PROTECTED}), sums.NOT_USED, sums.HIDDEN, sums.NO_CALL)


def _ordered(actions: Iterable[ActionVerdict]) -> list[ActionVerdict]:
    """Used first, the latest first; then what is not used; then what nobody can tell."""

    def place(action: ActionVerdict) -> tuple[int, float, str]:
        group = next(n for n, verdicts in enumerate(_ORDER) if action.verdict in verdicts)
        return group, -(action.last_accessed.timestamp() if action.last_accessed else 0.0), action.action

    return sorted(actions, key=place)


# -------------------- one service, or one kind of action

_ALL = "*"  # in the place of a namespace: every service
SHOWS: dict[str, tuple[str, frozenset[Verdict]]] = {
    "tracked": ("Used and not used", sums.USED | sums.NOT_USED),  # what the IAM console shows
    "used": ("Used", sums.USED),
    "unused": ("Not used", sums.NOT_USED),
    "hidden": ("Cannot be known", sums.HIDDEN),
    "all": ("All actions", frozenset(Verdict)),
}
_KINDS = ("used", "unused", "hidden")  # each action is of one of these, or of none


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """An action as the opened report shows it; `kind` is one of _KINDS, or empty."""

    action: str
    at: datetime | None
    region: str
    said: str
    kind: str

    def row(self) -> tuple[str, str, str]:
        where = f", {self.region}" if self.region else ""
        return self.action, self.said, f"{stamp(self.at)}{where}" if self.at else "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    title: str
    role: str
    said: list[Mrk]
    rows: list[list[str]]
    shown: Mrk
    pick_block: str
    picks: list[parts.Option]
    picked: parts.Option
    picks_of: int
    shows: list[parts.Option]
    chosen: parts.Option
    orders: list[parts.Option]
    order: parts.Option
    turns: list[parts.Press]
    text: Mrk


ORDERS = {
    "latest": "Last accessed first",
    "never": "Not accessed first",
    "name": "By name",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pick:
    """What of the report is open: written into every control's value, so that each keeps what the others chose."""

    namespace: str = _ALL
    show: str = ""
    order: str = "latest"
    page: int = 0

    @classmethod
    def read(cls, value: str) -> _Pick:
        """Read `namespace[|show[|order[|page]]]`; what is not known is as if it were not there."""
        namespace, show, order, page = (value.split("|") + [""] * 4)[:4]
        return cls(
            namespace=namespace,
            show=show if show in SHOWS else "",
            order=order if order in ORDERS else "latest",
            page=int(page) if page.isascii() and page.isdecimal() and len(page) < 5 else 0,
        )

    def value(self) -> str:
        return f"{self.namespace}|{self.show}|{self.order}|{self.page}"


def review_service(case: Case, pick: str, trim: Trim | None = None) -> Payload:
    """Draw one service of the report with its actions, for the person who picked it.

    `pick` is the picker's value: a namespace, or `*` for all, then which actions to show (a key of SHOWS), their order
    (a key of ORDERS) and the page, with bars between them; what is left out is chosen here.
    `trim` holds the verdicts on the case's evidence; without it the proposal's are taken where they fit, and else what
    IAM reported stands alone.
    """
    asked = _Pick.read(pick)
    namespace = asked.namespace
    evidence = case.evidence
    services = [s for s in evidence.services if namespace in {_ALL, s.namespace}] if evidence else []
    if not services:
        return _not_there(case, namespace)
    every = _lines_of(services, _verdicts(case, trim), whole=namespace == _ALL)
    counts = {kind: sum(each.kind == kind for each in every) for kind in _KINDS}
    counts |= {"tracked": counts["used"] + counts["unused"], "all": len(every)}
    show = asked.show or ("tracked" if counts["tracked"] else "all")
    asked = replace(asked, show=show)
    kept = [each for each in every if show in {each.kind, "all"} or (show == "tracked" and each.kind in _KINDS[:2])]
    said = [_seen(services[0])] if namespace != _ALL else [_report_of(case)]
    if namespace != _ALL and services[0].entity:
        said.append(mrk("By {}.", code(services[0].entity)))
    if any(s.actions for s in services):
        said.append(
            mrk("*{} used* · *{} not used* · *{} cannot be known*", counts["used"], counts["unused"], counts["hidden"])
        )
    else:
        said.append(mrk("IAM tracks none of its actions: which of them were used is not known."))
    kept.sort(key=_BY[asked.order])
    shows = _shows(asked, counts)
    orders = [
        parts.Option(label=label, value=replace(asked, order=key, page=0).value()) for key, label in ORDERS.items()
    ]
    picks, picks_of = _services_of(evidence.services if evidence else (), asked)
    # The picker's options count, too, for the room that a message has.
    room = 8_300 - sum(len(o.label) + len(o.about) + 2 * parts.CELL for o in picks)
    pages = _pages([each.row() for each in kept], room)
    page = min(asked.page, len(pages) - 1)
    first = sum(len(p) for p in pages[:page]) + 1
    title = "All services" if namespace == _ALL else f"{services[0].name or namespace} ({namespace})"
    return render(
        "review_service",
        _Opened(
            title=title,
            role=case.role_name,
            said=said,
            rows=pages[page],
            shown=mrk(
                "{} to {} of {} shown; the whole report is the CSV file in this thread.",
                first,
                first + len(pages[page]) - 1,
                many(len(kept), "action"),
            )
            if len(pages) > 1
            else Mrk(""),
            pick_block=cut(f"review:{case.id}:{replace(asked, page=page).value()}", 255),
            picks=picks,
            picked=next((o for o in picks if o.value.partition("|")[0] == namespace), picks[0]),
            picks_of=picks_of,
            shows=shows,
            chosen=next(o for o in shows if o.value.split("|")[1] == show),
            orders=orders,
            order=next(o for o in orders if o.value.split("|")[2] == asked.order),
            turns=[
                parts.Press(
                    action_id=action_id,
                    value=replace(asked, page=to).value(),
                    label=label,
                    about=f"{label} of the actions",
                )
                for action_id, to, label in (
                    ("review:back", page - 1, "Previous page"),
                    ("review:on", page + 1, "Next page"),
                )
                if 0 <= to < len(pages)
            ],
            text=mrk("{} in the report of {}: {}", code(title), code(case.role_name), said[0]),
        ),
    )


def _seen(service: ServiceUse) -> Mrk:
    if service.last_accessed is None:
        return mrk("Never accessed in the tracking period.")
    where = mrk(" in {}", code(service.region)) if service.region else Mrk("")
    return mrk("Last accessed {}{}.", when(service.last_accessed), where)


def _report_of(case: Case) -> Mrk:
    return mrk("Last accessed report of {}.", when(case.evidence.made_at)) if case.evidence else Mrk("")


def _shows(asked: _Pick, counts: Mapping[str, int]) -> list[parts.Option]:
    """Return the choices of the filter, each with how many actions it shows."""
    return [
        parts.Option(label=label, value=replace(asked, show=key, page=0).value(), about=many(counts[key], "action"))
        for key, (label, _) in SHOWS.items()
    ]


def _services_of(services: Sequence[ServiceUse], asked: _Pick) -> tuple[list[parts.Option], int]:
    """Return the services to open next, the one that is open among them, and how many there are."""
    names = sorted({s.namespace for s in services if len(s.namespace) <= _VALUE})
    near = sorted(
        names[: _PICKS - 1]
        if asked.namespace in {_ALL, *names[: _PICKS - 1]}
        else [asked.namespace, *names[: _PICKS - 2]]
    )
    every = parts.Option(label="All services", value=replace(asked, namespace=_ALL, show="", page=0).value())
    return [
        every,
        *(parts.Option(label=n, value=replace(asked, namespace=n, show="", page=0).value()) for n in near),
    ], len({s.namespace for s in services})


def _pages(rows: Sequence[Sequence[str]], room: int) -> list[list[list[str]]]:
    """Return the rows page by page, each as much as one table holds; there is always a first page."""
    pages: list[list[list[str]]] = []
    while rows:
        pages.append(parts.rows_within(rows, _PICKS - 1, room))
        rows = rows[len(pages[-1]) :]
    return pages or [[]]


def _lines_of(services: Sequence[ServiceUse], verdicts: dict[str, ActionVerdict], *, whole: bool) -> list[_Line]:
    """Return every action that IAM tracks or the role is granted."""
    found: list[_Line] = []
    seen: set[str] = set()
    for service in services:
        for use in service.actions:
            name = f"{service.namespace}:{use.action}"
            seen.add(name.lower())
            found.append(_tracked(name if whole else use.action, use, verdicts.get(name.lower())))
    mine = {s.namespace.lower() for s in services}
    for key, verdict in verdicts.items():
        if key not in seen and (whole or _of(verdict) in mine):
            name = verdict.action if whole else verdict.action.partition(":")[2]
            at, region = verdict.last_accessed, verdict.region
            found.append(
                _Line(action=name, at=at, region=region, said=words.VERDICTS[verdict.verdict], kind=_kind(verdict))
            )
    return found


def _latest(each: _Line) -> tuple[float, int, str]:
    return -(each.at.timestamp() if each.at else 0.0), [*_KINDS, ""].index(each.kind), each.action


def _never(each: _Line) -> tuple[float, int, str]:
    """Known not to be accessed, the longest ago, and what nobody can tell last."""
    unknown = each.kind not in {"used", "unused"}
    return (2e10 if unknown else each.at.timestamp() if each.at else 0.0), 0, each.action


_BY: dict[str, Callable[[_Line], tuple[float, int, str]]] = {
    "latest": _latest,
    "never": _never,
    "name": lambda each: (0.0, 0, each.action.lower()),
}


def _tracked(name: str, use: ActionUse, verdict: ActionVerdict | None) -> _Line:
    if verdict is not None:
        said, kind = words.VERDICTS[verdict.verdict], _kind(verdict)
    else:
        said, kind = ("accessed", "used") if use.last_accessed else ("not accessed", "unused")
    return _Line(action=name, at=use.last_accessed, region=use.region, said=said, kind=kind)


def _kind(verdict: ActionVerdict) -> str:
    return next((kind for kind in _KINDS if verdict.verdict in SHOWS[kind][1]), "")


def _not_there(case: Case, namespace: str) -> Payload:
    return happened("⚪", mrk("The latest report of {} has no service {}.", code(case.role_name), code(namespace)))


def _verdicts(case: Case, trim: Trim | None) -> dict[str, ActionVerdict]:
    """Return verdicts by action in lower case; the proposal's where it was made of the evidence shown."""
    if trim is None and case.proposal is not None and _verdicts_fit(case):
        trim = case.proposal.trim
    return {a.action.lower(): a for a in trim.actions} if trim else {}


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
