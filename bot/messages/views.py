"""Modals for the buttons that ask something first, and App Home."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bot import rules
from bot.messages import cards, door, lists, outcomes, parts, proposals, sums, words
from bot.messages.lists import Glance
from bot.messages.pictures import Picture
from bot.messages.render import Payload, render
from bot.messages.text import Mrk, code, cut, line, many, mrk, some, when
from bot.model import Case, CaseState, Mode, Person, PrincipalKind, Proposal
from bot.rules import Button

PICKS: Final = 100  # options that Slack takes in one select, or in one of its groups: a page of actions
PICKED: Final = 500  # that are carried along: each stands twice in a view, which may have 250 KB
VALUE: Final = 150  # characters of an option's value
DAYS: Final = (7, 14, 30, 90)
_GROUPS_SHOWN: Final = 30  # services of what goes, each a block of its own in the dialog
_NAMES_SHOWN: Final = 80  # actions of one service: fill a block


def modal(
    case: Case,
    button: Button,
    *,
    now: datetime,
    page: int = 0,
    search: str = "",
    state: Mapping[str, Any] | None = None,
    by: str = "",
) -> Payload:
    """Draw the modal that a button opens for `by`; `state` is the view's `state.values`, so that nothing typed is lost.

    Raises:
        ValueError: the button opens no modal.
    """
    given = _Given(state or {})
    match button:
        case Button.NARROW:
            return _narrow(case)
        case Button.SNOOZE:
            return _snooze(case, now, given)
        case Button.ACCEPT:
            return _accept(case, now, given, by)
        case Button.ROLL_BACK:
            return _roll_back(case, given)
        case Button.APPROVE | Button.DECLINE | Button.ADJUST | Button.GIVE_BACK:
            if case.proposal is None:
                return _nothing(case, button)
        case _:
            raise ValueError(f"{button} opens no modal")
    made = case.proposal
    match button:
        case Button.APPROVE:
            return _approve(case, made, given)
        case Button.DECLINE:
            return _decline(case, made, given)
        case Button.ADJUST:
            return _adjust(case, made, now, page, search, given)
        case _:
            return _give_back(case, made, page, search, given)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the view holds already: `state.values` of Slack, by block id and action id."""

    values: Mapping[str, Any]

    def _at(self, block: str, action: str) -> Mapping[str, Any] | None:
        # A block whose choices change gets a suffix: Slack keeps what a block of the same id held.
        found = next((v for b, v in self.values.items() if b.partition(":")[0] == block), None)
        at = found.get(action) if isinstance(found, Mapping) else None
        return at if isinstance(at, Mapping) else None

    def text(self, block: str, action: str, default: str = "") -> str:
        at = self._at(block, action)
        return str(at.get("value") or "") if at is not None else default

    def choice(self, block: str, action: str, default: str) -> str:
        option = (self._at(block, action) or {}).get("selected_option")
        return str(option.get("value", default)) if isinstance(option, Mapping) else default

    def person(self, block: str, action: str, default: str) -> str:
        return str((self._at(block, action) or {}).get("selected_user") or default)

    def choices(self, block: str, action: str, default: Iterable[str]) -> tuple[str, ...]:
        at = self._at(block, action)
        if at is None:
            return tuple(default)
        return tuple(str(o.get("value", "")) for o in at.get("selected_options") or () if isinstance(o, Mapping))


def _frame(case: Case, button: Button) -> dict[str, str]:
    return {"callback_id": f"case:{button.value}", "metadata": parts.value(case), "role": case.role_name}


def _nothing(case: Case, button: Button) -> Payload:
    return render("modal_nothing", **_frame(case, button), title=words.LABELS[button].rstrip("…"))


# -------------------- approve, decline


def _approve(case: Case, made: Proposal, given: _Given) -> Payload:
    return render(
        "modal_approve",
        **_frame(case, Button.APPROVE),
        headline=sums.headline(made),
        summary=proposals.summary(made),
        origin=proposals.origin(made),
        adjusted=made.reason,
        looks=proposals.looks(made),
        warnings=proposals.warnings(made, most=20, room=2_800, rest="`refine trim` has them all"),
        told=proposals.told(made),
        removed=proposals.removed(made, services=_GROUPS_SHOWN, names=_NAMES_SHOWN, room=60_000),
        kept_unseen=proposals.kept_unseen(made),
        plan=outcomes.steps(proposals.plan(made)),
        proof=proposals.proof(made),
        digest=made.digest(),
        then=_then(case),
        account=case.account,
        reason=given.text("reason", "text"),
    )


def _then(case: Case) -> Mrk:
    """Say what comes of the yes: the writes, or a wait for others."""
    more = max(1, case.approvals_needed) - len(case.approvals) - 1
    if more > 0:
        return mrk("After your approval {} needed before anything is written.", many(more, "more is", "more are"))
    return mrk("Yours is the last approval needed: what is listed above is written at once.")


def _decline(case: Case, made: Proposal, given: _Given) -> Payload:
    return render(
        "modal_decline",
        **_frame(case, Button.DECLINE),
        headline=sums.headline(made),
        reason=given.text("reason", "text"),
    )


# -------------------- adjust, give back


@dataclass(frozen=True, slots=True, kw_only=True)
class Picker:
    """Many actions to pick from: what is picked already stays in the select, whatever page or search is shown."""

    options: list[parts.Option]  # where they all fit
    groups: list[tuple[str, list[parts.Option]]]  # where they do not
    chosen: list[parts.Option]
    block_id: str
    search: str
    about: Mrk
    back: parts.Press | None
    on: parts.Press | None
    find: parts.Press


def _picker(actions: Sequence[tuple[str, str]], picked: Sequence[str], page: int, search: str) -> Picker:
    """Lay out actions (name, what is said of it) for picking."""
    search = cut(line(search), 150)
    about = {name: why for name, why in actions if len(name) <= VALUE}
    fitting = [name for name in about if search.lower() in line(name).lower()]
    pages = max(1, -(-len(fitting) // PICKS))
    page = max(0, min(page, pages - 1))
    here = fitting[page * PICKS : (page + 1) * PICKS]
    known = [name for name in dict.fromkeys(picked) if name in about]
    chosen = [parts.Option(label=name, value=name, about=about[name]) for name in known[:PICKED]]
    more = [parts.Option(label=n, value=n, about=about[n]) for n in here if n not in known]
    groups: list[tuple[str, list[parts.Option]]] = []
    if len(chosen) + len(more) > PICKS:
        groups = [("Picked", chosen[i : i + PICKS]) for i in range(0, len(chosen), PICKS)]
        groups += [("On this page", more)] if more else []
    said = [
        mrk(
            "{} to {} of {}{}.",
            page * PICKS + 1,
            page * PICKS + len(here),
            many(len(fitting), "action"),
            _having(search),
        )
        if here
        else mrk("No action{}.", _having(search)),
        mrk("{} picked; they stay picked over pages and searches.", len(chosen))
        if chosen
        else mrk("None is picked yet."),
    ]
    if len(known) > PICKED:
        said.append(mrk("⚠️ {} picked do not fit here: keep them by pattern.", many(len(known) - PICKED, "action")))
    if len(about) < len(actions):
        said.append(mrk("⚠️ {} with a name too long to pick.", many(len(actions) - len(about), "action")))
    return Picker(
        options=[] if groups else [*chosen, *more],
        groups=groups,
        chosen=chosen,
        block_id=cut(f"actions:{page}:{search}", 250),
        search=search,
        about=Mrk(" ".join(said)),
        back=_turn("Previous page", page - 1) if page > 0 else None,
        on=_turn("Next page", page + 1) if page + 1 < pages else None,
        find=parts.Press(action_id="modal:search", value="search", label="Search", about="Search the actions"),
    )


def _having(search: str) -> Mrk:
    return mrk(" with {} in the name", code(search, 60)) if search else Mrk("")


def _turn(label: str, page: int) -> parts.Press:
    return parts.Press(action_id="modal:page", value=str(page), label=label, about=f"{label} of the actions")


def _adjust(case: Case, made: Proposal, now: datetime, page: int, search: str, given: _Given) -> Payload:
    by_hand = {k.lower() for k in made.settings.keep_by_hand}
    actions = [
        (a.action, words.VERDICTS[a.verdict]) for a in made.trim.actions if not a.kept or a.action.lower() in by_hand
    ]
    exact = {name.lower(): name for name, _ in actions}
    kept = [exact[k] for k in sorted(by_hand) if k in exact]
    patterns = "\n".join(k for k in made.settings.keep_by_hand if k.lower() not in exact)
    windows = _windows(made, now)
    window = given.choice("window", "pick", str(made.settings.window_days))
    return render(
        "modal_adjust",
        **_frame(case, Button.ADJUST),
        modes=MODES,
        mode=next(m for m in MODES if m.value == given.choice("mode", "pick", made.settings.mode.value)),
        patterns=cut(given.text("keep", "patterns", patterns), 3000),
        picker=_picker(actions, given.choices("actions", "pick", kept), page, search),
        headline=sums.headline(made),
        windows=windows,
        window=next(w for w in windows if w.value == window),
        reaches=_reaches(made, now),
        approved=words.approved_by(case),
        reason=given.text("reason", "text"),
    )


WINDOWS: Final = (30, 60, 90, 180, 365, 400)  # days; IAM looks back 400 at most


def _windows(made: Proposal, now: datetime) -> list[parts.Option]:
    """Return the windows to pick from, the proposal's own among them, each with the day that it begins."""
    reach, _ = _reach(made, now)
    days = sorted({*WINDOWS, made.settings.window_days})
    return [
        parts.Option(
            label=f"{many(d, 'day')}, since {now - timedelta(days=d):%Y-%m-%d}",
            value=str(d),
            about=f"Nothing is known from before {now - timedelta(days=reach):%Y-%m-%d}" if d > reach else "",
        )
        for d in days
    ]


def _reach(made: Proposal, now: datetime) -> tuple[int, str]:
    """Return how many days back the report can tell, and what keeps it from telling more."""
    evidence = made.evidence
    days, why = evidence.tracking_days, f"IAM's tracking goes back {many(evidence.tracking_days, 'day')}"
    if evidence.role_created_at is not None and (age := (now - evidence.role_created_at).days) < days:
        return age, f"The role is {many(age, 'day')} old"
    return days, why


def _reaches(made: Proposal, now: datetime) -> Mrk:
    days, why = _reach(made, now)
    if days >= WINDOWS[-1]:
        return mrk("IAM looks back {} days at most.", days)
    return mrk("{}: a longer window tells nothing more, and the proposal warns of it.", why)


MODES: Final = (
    parts.Option(label="Safe", value=Mode.SAFE.value, about="Keeps what IAM cannot see the use of"),
    parts.Option(label="Strict", value=Mode.STRICT.value, about="Keeps only what IAM saw in use"),
)


def _give_back(case: Case, made: Proposal, page: int, search: str, given: _Given) -> Payload:
    gone = [(a.action, words.VERDICTS[a.verdict]) for a in made.trim.actions if not a.kept]
    whole = [
        (f"{service}:*", f"All {many(len(names), 'action')} of it that the change removed")
        for service, names in sums.by_service(a for a in made.trim.actions if not a.kept)
        if len(names) > 1
    ]
    actions = [*whole, *(each for each in gone if each[0] not in dict(whole))]
    return render(
        "modal_give_back",
        **_frame(case, Button.GIVE_BACK),
        picker=_picker(actions, given.choices("actions", "pick", ()), page, search),
    )


# -------------------- roll back


def _roll_back(case: Case, given: _Given) -> Payload:
    change, made = case.change, case.proposal
    frame = {**_frame(case, Button.ROLL_BACK), "title": words.button_label(Button.ROLL_BACK, case.state).rstrip("…")}
    if case.state is CaseState.APPLYING:
        return render(
            "modal_roll_back",
            **frame,
            back=mrk("nothing more of this change is written, and what is written already is taken back."),
            removed=[],
            reason=given.text("reason", "text"),
        )
    if change is None:
        return _nothing(case, Button.ROLL_BACK)
    of_it = made if made and made.id == change.proposal_id else None
    return render(
        "modal_roll_back",
        **frame,
        back=_undone(of_it)
        if of_it
        else mrk("The role's policies are as they were before the change of {}.", when(change.at)),
        told="What goes again" if of_it and of_it.give_back else "What comes back",
        removed=proposals.removed(of_it, services=20, names=15, room=2_800) if of_it else [],
        reason=given.text("reason", "text"),
    )


def _undone(made: Proposal) -> Mrk:
    count = many(abs(made.removed), "action")
    if made.give_back is not None:
        return mrk("{} given back go again: {} → {} actions.", count, made.trim.kept, len(sums.live(made)))
    return mrk("{} come back: {} → {} actions.", count, made.trim.kept, made.trim.granted)


# -------------------- snooze, accept, narrow


def _days(now: datetime) -> list[parts.Option]:
    return [parts.Option(label=f"{d} days, until {now + timedelta(days=d):%Y-%m-%d}", value=str(d)) for d in DAYS]


def _pick_days(options: list[parts.Option], given: _Given, default: str) -> parts.Option:
    wanted = given.choice("days", "pick", default)
    return next((o for o in options if o.value == wanted), options[0])


def _snooze(case: Case, now: datetime, given: _Given) -> Payload:
    options = _days(now)
    return render(
        "modal_snooze",
        **_frame(case, Button.SNOOZE),
        door=door.lines_of(door.ways(case)),
        hides=_snoozes(case),
        days_=options,
        chosen=_pick_days(options, given, "7"),
        reason=given.text("reason", "text"),
    )


def _accept(case: Case, now: datetime, given: _Given, by: str) -> Payload:
    options = _days(now)
    return render(
        "modal_accept",
        **_frame(case, Button.ACCEPT),
        door=door.lines_of(door.ways(case)),
        tagged=cards.owner(case.role),
        owner=given.person("owner", "pick", by),
        hides=_hides(case),
        days_=options,
        chosen=_pick_days(options, given, "30"),
        reason=given.text("reason", "text"),
    )


def _hides(case: Case) -> list[Mrk]:
    """Say what an acceptance hides until it ends."""
    said = [_QUIET]
    if case.findings:
        one = len(case.findings) == 1
        said.append(
            mrk(
                "• {} {} to Access Analyzer's archive: nobody sees {} among the active ones there.",
                _findings(case),
                *(("goes", "it") if one else ("go", "them")),
            )
        )
    return said


_QUIET: Final = mrk("• The card asks nobody any more, and the case counts as put aside in App Home and in the digest.")


def _findings(case: Case) -> Mrk:
    """Name the case's findings by number and Region: "Its 2 findings in 2 Regions (…)"."""
    regions = sorted({f.region for f in case.findings})
    named = some([code(r) for r in regions], 5)
    where = mrk("{} Regions ({})", len(regions), named) if len(regions) > 1 else named
    return mrk("Its {} in {}", many(len(case.findings), "finding"), where)


def _snoozes(case: Case) -> list[Mrk]:
    """Say what a snooze hides until it ends, and what it does not."""
    said = [_QUIET]
    if case.findings:
        stays = "stays" if len(case.findings) == 1 else "stay"
        said.append(
            mrk("• {} {} active in Access Analyzer, and anybody who looks there sees that.", _findings(case), stays)
        )
    said.append(mrk("• Nothing is changed in AWS: who can get in still can, and the role keeps its permissions."))
    return said


def _narrow(case: Case) -> Payload:
    found = door.ways(case)
    return render(
        "modal_narrow",
        **_frame(case, Button.NARROW),
        door=door.lines_of(found, most=12),
        advice=[_Advice(about=door.lack(w), rows=_condition(w)) for w in found if w.missing][:6],
        trust=door.displayed(case.role.trust_text).splitlines() if case.role else [],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Advice:
    about: Mrk
    rows: list[str]


def _condition(way: door.Way) -> list[str]:
    """Return what to add to the `Condition` of the trust statement."""
    if way.kind is PrincipalKind.FEDERATED:
        host = way.value.rpartition("-provider/")[2] or way.value
        key, value = f"{host}:sub", "<the subject you mean, such as repo:ORG/REPO:ref:refs/heads/main>"
    elif way.kind is PrincipalKind.PUBLIC:
        key, value = "aws:PrincipalOrgID", "<the id of your organization, such as o-a1b2c3d4e5>"
    else:
        key, value = "sts:ExternalId", f"<agreed on with account {way.account or way.value}>"
    return json.dumps({"StringEquals": {key: value}}, indent=2, ensure_ascii=False).splitlines()[1:-1]


# -------------------- home


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    said: Mrk
    offered: tuple[parts.Press, ...]


def home(
    cases: Sequence[Case],
    *,
    page: int,
    total: int,
    person: Person,
    now: datetime,
    counts: Mapping[CaseState, int],
    state: str,
    glance: Glance | None = None,
    picture: Picture | None = None,
) -> Payload:
    """Draw App Home: the totals, whose turn it is, and a page of cases, each with its card to open.

    `state` is what the page shows: a key of `lists.VIEWS`, or a state; open cases for anything else.
    """
    glance = glance or Glance()
    size = max(1, len(cases))
    first = page * lists.PAGE + 1
    options = _views(counts, glance, state)
    chosen = next((o for o in options if o.value == state), options[0])
    order = (
        lists.VIEWS[chosen.value][1] if chosen.value in lists.VIEWS else _ORDERS.get(chosen.value, "the latest first")
    )
    shown = mrk("{}–{} of {}, {}", first, first + size - 1, total, order) if cases else mrk("No case here.")
    last = page * lists.PAGE + len(cases) >= total
    return render(
        "home",
        hello=mrk("{}", lists.totals(counts)),
        removed=mrk("{}; {} of them in the last 30 days.", lists.removed(glance.ever), glance.lately.removed)
        if glance.ever.removed
        else Mrk(""),
        picture=picture,
        waiting=_turn_of(counts, glance),
        may=_may(person),
        options=options,
        chosen=chosen,
        rows=[_Row(said=lists.entry(c, now, glance.worst.get(c.id, "")), offered=_home_buttons(c)) for c in cases],
        shown=shown,
        back=_home_turn("Previous page", page - 1, chosen.value) if page > 0 else None,
        on=None if last else _home_turn("Next page", page + 1, chosen.value),
        at=mrk("As of {}.", when(now)),
    )


_ORDERS = {CaseState.WAITING.value: "the longest waiting first"}


def _views(counts: Mapping[CaseState, int], glance: Glance, state: str) -> list[parts.Option]:
    """Return the choices of the filter, each with how many cases it shows."""
    numbers = {
        "open": sum(counts.get(s, 0) for s in lists.OPEN),
        "mine": glance.mine,
        "changes": sum(counts.get(s, 0) for s in lists.CHANGED),
        "every": sum(counts.values()),
    }
    options = [
        parts.Option(label=f"{label} ({numbers[key]:,})", value=key, about=order)
        for key, (label, order) in lists.VIEWS.items()
    ]
    return options + [
        parts.Option(label=f"{words.label(s)} ({n:,})", value=s.value)
        for s in words.MARKS
        if (n := counts.get(s, 0)) or s.value == state
    ]


def _turn_of(counts: Mapping[CaseState, int], glance: Glance) -> Mrk:
    waits = lists.waits(counts.get(CaseState.WAITING, 0), glance.longest)
    mine = mrk(" *{} for you*: pick “Mine to approve”.", glance.mine) if glance.mine else Mrk("")
    return mrk("{}{}", waits, mine)


def _may(person: Person) -> Mrk:
    if person.guest or person.stranger or person.bot or person.deleted:
        return mrk("You may look; only full members of this workspace may act on a role.")
    return Mrk("")


def _home_buttons(case: Case) -> tuple[parts.Press, ...]:
    open_card = parts.Press(
        action_id="case:open",
        value=parts.value(case),
        label="Open card",
        about=cut(f"Open the card of {case.role_name}", 75),
    )
    first = words.primary(case)
    offered = rules.buttons(case)
    return (open_card, parts.press(case, first)) if first in offered and first is not None else (open_card,)


def _home_turn(label: str, page: int, state: str) -> parts.Press:
    return parts.Press(action_id="home:page", value=f"{page}:{state}", label=label, about=f"{label} of the cases")


# -------------------- explain


def explain(case: Case, window_days: int) -> Payload:
    """Say why there is no proposal, and what would have to be known."""
    evidence = case.evidence
    report = (
        mrk("The last complete report is of {}.", when(evidence.made_at))
        if evidence
        else mrk("There is no complete report of this role yet.")
    )
    return render(
        "explain",
        text=mrk("Why there is no proposal for {}", code(case.role_name)),
        role=case.role_name,
        sentence=case.sentence,
        report=report,
        window=window_days,
        tally=cards.tally(sums.Counts.of(case.proposal.trim.actions), case.proposal.settings.window_days)
        if case.proposal
        else Mrk(""),
    )
