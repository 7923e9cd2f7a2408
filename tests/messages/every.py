"""Every message and view there is, drawn from the cases of `cases.py`, by name: for golden files and hostile data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any

from bot import messages
from bot.messages import Glance
from bot.model import AuditEntry, Case, CaseState, Checked, Mode, ProposalId, Tally, Trim
from bot.policy import Permits
from bot.rules import Button
from handlers.commands import HELP
from tests.messages.cases import (
    ANN,
    APPLICATION,
    APPLICATION_FINDINGS,
    BEN,
    COUNTS,
    NOW,
    PARTNER,
    PERSON,
    TEAM,
    case_in,
    entries,
    giving_back,
    permits,
    proposed,
    reviewed,
)

S = CaseState
Drawn = tuple[str, Callable[[], dict[str, Any]]]  # surface, and what draws it

PROPOSED = [s for s in CaseState if case_in(s).proposal is not None]
NOTICES = ("stale", "failed", "no_evidence", "no_proposal")
ASKING = (
    Button.APPROVE,
    Button.DECLINE,
    Button.ADJUST,
    Button.SNOOZE,
    Button.ACCEPT,
    Button.ROLL_BACK,
    Button.GIVE_BACK,
    Button.NARROW,
)
AT = {
    Button.ROLL_BACK: S.WATCHING,
    Button.GIVE_BACK: S.WATCHING,
    **dict.fromkeys(ASKING[3:5], S.NEW),
    Button.NARROW: S.NEW,
}


WEEKS = messages.Removed.of([(date(2026, 1, 5), 946), (date(2026, 1, 26), 288)], NOW.date())
REMOVED = messages.Picture(file="F0REMOVED1", alt=WEEKS.alt() if WEEKS else "")


class Data:
    """What the messages are drawn from; a subclass may spoil it."""

    def case(self, case: Case) -> Case:
        return case

    def trim(self, trim: Trim) -> Trim:
        return trim

    def permits(self, permits: Permits) -> Permits:
        return permits

    def entry(self, entry: AuditEntry) -> AuditEntry:
        return entry

    def say(self, text: str) -> str:
        return text


def every(data: Data) -> Iterator[tuple[str, Drawn]]:
    """Yield name, surface and drawing of each message and view in each state that changes it."""
    yield from _cards(data)
    yield from _thread(data)
    yield from _lists(data)
    yield from _views(data)
    yield from _given_back(data)


def _message(name: str, draw: Callable[[], dict[str, Any]]) -> tuple[str, Drawn]:
    return name, ("message", draw)


def _cards(data: Data) -> Iterator[tuple[str, Drawn]]:
    for state in CaseState:
        case = data.case(case_in(state))
        yield _message(
            f"card-{state}", lambda c=case: messages.card(c, NOW, data.permits(permits(APPLICATION)), team=TEAM)
        )
    for state in (S.NEW, S.WAITING, S.WATCHING):
        case = data.case(case_in(state, role=PARTNER))
        yield _message(
            f"card-partner-{state}", lambda c=case: messages.card(c, NOW, data.permits(permits(PARTNER)), team=TEAM)
        )
    case = data.case(reviewed())
    summary, trim = data.permits(permits(APPLICATION)), data.trim(proposed().trim)
    yield _message("card-reviewed", lambda c=case: messages.card(c, NOW, summary))
    yield _message(
        "card-reviewed-counted",
        lambda c=case: messages.card(c, NOW, summary, counts=messages.Counts.of(trim.actions), window_days=90),
    )
    mine = data.case(case_in(S.NEW, role=PARTNER))
    yield _message("card-owned", lambda c=mine: messages.card(c, NOW, data.permits(permits(PARTNER)), owned_by=ANN))
    unread = data.case(case_in(S.NEW, role=APPLICATION, findings=()))
    yield _message("card-no-finding", lambda c=unread: messages.card(c, NOW, summary))
    unread = replace(data.case(case_in(S.NEW)), role=None)
    yield _message("card-unread", lambda c=unread: messages.card(c, NOW, None))
    refused = data.case(
        case_in(
            S.ACCEPTED,
            findings=APPLICATION_FINDINGS,
            sentence="The finding was not archived in us-east-1. AWS does not allow access-analyzer:UpdateFindings. "
            "Refine tries again by itself.",
        )
    )
    yield _message("card-accepted-not-archived", lambda c=refused: messages.card(c, NOW, summary))
    again = data.case(case_in(S.DECLINED, change=case_in(S.WATCHING).change, steps_done=1))
    yield _message("card-declined-over-a-change", lambda c=again: messages.card(c, NOW, summary))


def _thread(data: Data) -> Iterator[tuple[str, Drawn]]:
    for role in (APPLICATION, PARTNER):
        case, trim = data.case(reviewed(role)), data.trim(proposed(role).trim)
        yield _message(f"review-{role.name}", lambda c=case, t=trim: messages.review(c, t, NOW, window_days=90))
        shown = messages.review_picture(case, trim, NOW, window_days=90)
        picture = messages.Picture(file="F0REVIEW01", alt=shown.alt())
        yield _message(
            f"review-{role.name}-pictured",
            lambda c=case, t=trim, p=picture: messages.review(c, t, NOW, window_days=90, picture=p),
        )
        for n, service in enumerate(case.evidence.services if case.evidence else ()):
            yield _message(
                f"review_service-{role.name}-{n}",
                lambda c=case, n=service.namespace: messages.review_service(c, n),
            )
    judged = data.case(case_in(S.WAITING))
    service = judged.evidence.services[0].namespace if judged.evidence else ""
    yield _message("review_service-judged", lambda: messages.review_service(judged, service))
    looked, whole = data.case(reviewed()), data.trim(proposed().trim)
    for pick in ("dynamodb|unused", "*|used", "*|hidden", "dynamodb|tracked|never"):
        yield _message(
            f"review_service-{pick.replace('*', 'every').replace('|', '-')}",
            lambda p=pick: messages.review_service(looked, p, whole),
        )
    bare = replace(whole, actions=())
    yield _message("review_service-empty", lambda: messages.review_service(looked, "dynamodb|hidden", bare))
    yield _message("review_service-unknown", lambda: messages.review_service(judged, data.say("lambda")))
    for state in PROPOSED:
        case = data.case(case_in(state))
        yield _message(f"proposal-{state}", lambda c=case: messages.proposal(c, NOW, team=TEAM))
        yield _message(f"reminder-{state}", lambda c=case: messages.reminder(c, NOW, team=TEAM))
    for mode in Mode:
        case = data.case(case_in(S.WAITING, role=PARTNER, mode=mode))
        yield _message(f"proposal-partner-{mode}", lambda c=case: messages.proposal(c, NOW))
    case = data.case(case_in(S.WAITING))
    assert case.proposal is not None
    newer = replace(
        case.proposal, id=ProposalId("c0ffee-9"), supersedes=case.proposal.id, reason=data.say("The yearly restore.")
    )
    yield _message("proposal-replaced", lambda c=case: messages.proposal(c, NOW, newer=newer))
    adjusted = replace(case, proposal=newer)
    yield _message("proposal-adjusted", lambda: messages.proposal(adjusted, NOW, team=TEAM))
    new, applying, declined, expired = (data.case(case_in(s)) for s in (S.NEW, S.APPLYING, S.DECLINED, S.EXPIRED))
    yield _message("proposal-none", lambda: messages.proposal(new, NOW))
    half = data.case(case_in(S.WAITING, approvals=case_in(S.APPLYING).approvals, approvals_needed=2))
    yield _message("proposal-half-approved", lambda: messages.proposal(half, NOW, team=TEAM))
    reason = data.say("Looks right.")
    aside = {"by": ANN, "until": "2026-03-02T09:30:00+00:00", "reason": reason, "owner": BEN}
    back = {
        "by": ANN,
        "owner": BEN,
        "reason": reason,
        "was": "accepted",
        "why": data.say("Its acceptance ended on 2026-03-02."),
    }
    for name, args in (("snooze", aside), ("accept", aside), ("reopen", {"by": ANN}), ("back", back)):
        yield _message(f"aside_line-{name}", lambda n=name, a=args: messages.aside_line(new, n, a))
    yield _message("approved_line", lambda: messages.approved_line(applying, ANN, reason))
    yield _message("approved_line-half", lambda: messages.approved_line(half, ANN, ""))
    yield _message("declined_line", lambda: messages.declined_line(declined, ANN, reason))
    checks = (
        Checked(name="ValidatePolicy", made=True, said="AWS finds no error in the new document."),
        Checked(name="CheckNoNewAccess", made=False, said=data.say("AWS denied it to Refine.")),
    )
    for state in (S.WATCHING, S.DONE, S.ROLLED_BACK):
        case = data.case(case_in(state, role=PARTNER))
        yield _message(f"applied-{state}", lambda c=case: messages.applied(c, NOW, checks))
    yield _message("applied-before-checks", lambda c=case: messages.applied(c, NOW))
    yield _message("second", lambda c=case: messages.second(c, ANN, reason))
    case = data.case(case_in(S.ROLLED_BACK, role=PARTNER))
    yield _message("rolled_back", lambda c=case: messages.rolled_back(c, NOW))
    yield _message("expired", lambda: messages.expired(expired))
    link = "https://acme.slack.com/archives/C0SECURITY/p1769850000000100?cid=C0SECURITY&x=1"
    for name in ("applied", "failed", "declined", "expired", "stale", "rolled_back"):
        yield _message(f"outcome_{name}", lambda n=name: messages.outcome(declined, n, link))
    for name in NOTICES:
        text = data.say(case_in(S.FAILED).sentence)
        yield _message(f"notice-{name}", lambda n=name, t=text: messages.notice(n, t))
    for known in (S.CANNOT_TELL, S.STALE):
        case = data.case(case_in(known))
        yield _message(f"explain-{known}", lambda c=case: messages.explain(c, 90))


def _given_back(data: Data) -> Iterator[tuple[str, Drawn]]:
    """What gives actions back, where that is said otherwise than of a trim."""
    some = ("dynamodb:GetItem", "dynamodb:Query")
    waiting = data.case(giving_back(S.WAITING, APPLICATION, some))
    watching = data.case(giving_back(S.WATCHING, APPLICATION, some))
    back = data.case(giving_back(S.ROLLED_BACK, APPLICATION, some))
    summary = data.permits(permits(APPLICATION))
    for case in (waiting, watching):
        yield _message(f"card-given-{case.state}", lambda c=case: messages.card(c, NOW, summary, team=TEAM))
    yield _message("proposal-given", lambda: messages.proposal(waiting, NOW, team=TEAM))
    # A policy attached again, one that is written again, and a new version of a third.
    mixed = data.case(giving_back(S.WAITING, PARTNER, ("sns:*", "kms:DescribeKey", "ec2:DescribeVpcs"), Mode.SAFE))
    yield _message("proposal-given-mixed", lambda: messages.proposal(mixed, NOW, team=TEAM))
    yield _message("applied-given", lambda: messages.applied(watching, NOW))
    yield _message("rolled_back-given", lambda: messages.rolled_back(back, NOW))
    yield _message("reminder-given", lambda: messages.reminder(waiting, NOW, team=TEAM))
    yield _message("outcome_applied-given", lambda: messages.outcome(watching, "applied"))
    for button, case in ((Button.APPROVE, mixed), (Button.DECLINE, waiting), (Button.ROLL_BACK, watching)):
        yield f"modal-{button}-given", ("modal", lambda c=case, b=button: messages.modal(c, b, now=NOW))
    working = data.case(case_in(S.WORKING, task='{"actions": [], "change": "c", "do": "give_back"}'))
    yield _message("card-given-working", lambda: messages.card(working, NOW, summary))


def _lists(data: Data) -> Iterator[tuple[str, Drawn]]:
    cases = [data.case(case_in(s)) for s in CaseState]
    worst = [data.case(case_in(S.NEW, role=PARTNER)), data.case(case_in(S.NEW)), replace(cases[0], role=None)]
    yield _message("burst_summary", lambda: messages.burst_summary(52, COUNTS, worst))
    yield _message("burst_summary-all", lambda: messages.burst_summary(3, {S.NEW: 3}, worst))
    week = Glance(
        longest=data.case(case_in(S.WAITING)),
        ever=Tally(trimmed=22, removed=1234),
        lately=Tally(opened=12, closed=4, trimmed=3, removed=288, rolled_back=1),
    )
    yield _message("weekly_digest", lambda: messages.weekly_digest(COUNTS, NOW, week))
    yield _message("weekly_digest-pictured", lambda: messages.weekly_digest(COUNTS, NOW, week, REMOVED))
    yield _message("weekly_digest-quiet", lambda: messages.weekly_digest({}, NOW))
    yield _message("list_cases", lambda: messages.list_cases(cases, COUNTS, NOW))
    yield _message("list_cases-empty", lambda: messages.list_cases([], {}, NOW))
    yield _message("list_cases-no-match", lambda: messages.list_cases([], COUNTS, NOW))
    yield _message("status", lambda: messages.status(COUNTS, "", NOW))
    yield _message("status-paused", lambda: messages.status(COUNTS, "by <@U0ANN> since 2026-01-31 09:00 UTC", NOW))
    said = [data.entry(e) for e in entries()]
    yield _message("history", lambda: messages.history(said, cases[0]))
    yield _message("history-empty", lambda: messages.history([], cases[0]))
    yield _message("help_text", lambda: messages.help_text([(row.usage, row.what) for row in HELP]))


def _views(data: Data) -> Iterator[tuple[str, Drawn]]:
    for button in ASKING:
        for role in (APPLICATION, PARTNER):
            case = data.case(case_in(AT.get(button, S.WAITING), role=role))
            yield (
                f"modal-{button}-{role.name}",
                ("modal", lambda c=case, b=button: messages.modal(c, b, now=NOW)),
            )
    empty = data.case(case_in(S.NEW))
    accept = data.case(case_in(S.NEW))
    yield "modal-accept-mine", ("modal", lambda: messages.modal(accept, Button.ACCEPT, now=NOW, by=ANN))
    half = data.case(case_in(S.WAITING, approvals=case_in(S.APPLYING).approvals, approvals_needed=2))
    yield "modal-adjust-approved", ("modal", lambda: messages.modal(half, Button.ADJUST, now=NOW))
    yield "modal-nothing", ("modal", lambda: messages.modal(empty, Button.APPROVE, now=NOW))
    strict = data.case(case_in(S.WAITING, role=PARTNER, mode=Mode.STRICT))
    yield "modal-adjust-page", ("modal", lambda: messages.modal(strict, Button.ADJUST, now=NOW, page=1))
    search = data.say("Bucket")
    yield "modal-adjust-search", ("modal", lambda: messages.modal(strict, Button.ADJUST, now=NOW, search=search))
    cases = [data.case(case_in(s)) for s in list(CaseState)[:10]]

    glance = Glance(
        mine=2,
        longest=data.case(case_in(S.WAITING)),
        ever=Tally(trimmed=22, removed=1234),
        lately=Tally(trimmed=3, removed=288),
        worst={cases[0].id: "can read secrets (kms:Decrypt)"},
    )

    def home(some: list[Case], page: int, total: int, state: str = "") -> dict[str, Any]:
        about = {"person": PERSON, "now": NOW, "counts": COUNTS, "glance": glance, "picture": REMOVED}
        return messages.home(some, page=page, total=total, state=state, **about)

    yield "home", ("home", lambda: home(cases, 0, 43))
    yield "home-middle", ("home", lambda: home(cases, 1, 43))
    yield "home-last", ("home", lambda: home(cases[:3], 4, 43))
    yield "home-filtered", ("home", lambda: home(cases[3:4], 0, 1, "waiting"))
    yield "home-mine", ("home", lambda: home(cases[3:5], 0, 2, "mine"))
    yield "home-empty", ("home", lambda: home([], 0, 0, "failed"))
    guest = replace(PERSON, guest=True)
    yield (
        "home-guest",
        (
            "home",
            lambda: messages.home(cases[:1], page=0, total=1, person=guest, now=NOW, counts=COUNTS, state="all"),
        ),
    )
