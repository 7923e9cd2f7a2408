"""Roles as large as they come: within Slack's limits, and whatever is cut says so and where the rest is."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot import messages
from bot.model import (
    AccessLevel,
    ActionUse,
    ActionVerdict,
    Approval,
    Case,
    CaseState,
    Digest,
    Evidence,
    ExternalPrincipal,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    PrincipalKind,
    Proof,
    Proposal,
    ProposalId,
    RolePolicy,
    ServiceSummary,
    ServiceUse,
    Trim,
    UserId,
    Verdict,
    Warning_,
)
from bot.policy import Permits
from bot.rules import Button, Team
from sandbox.slack.validate import problems
from tests.messages.cases import (
    APPLICATION,
    COUNTS,
    NOW,
    PERSON,
    ago,
    allow,
    case_in,
    document,
    entries,
    settings,
    trust,
)
from tests.messages.test_golden import text_size, walk

SERVICES = [f"service{n:03}" for n in range(300)]
ACTIONS = 1_000
_VERDICTS = list(Verdict)


def _action(n: int) -> ActionVerdict:
    verdict = _VERDICTS[(n + n // 300) % len(_VERDICTS)]  # each service has several
    return ActionVerdict(
        action=f"{SERVICES[n % 300]}:DescribeSomethingWithARatherLongNameNumber{n:04}",
        verdict=verdict,
        kept=verdict in {Verdict.USED, Verdict.UNTRACKED, Verdict.PROTECTED},
        reason="IAM tracks it and saw no attempt in the tracking period. " * 3,
        level=AccessLevel.READ,
        last_accessed=ago(days=n % 80) if verdict is Verdict.USED else None,
        region="ap-southeast-2",
        sensitive="" if n % 3 else "somebody may miss it dearly " * 5,
        policies=("Policy0",),
    )


TRIM = Trim(
    policies=tuple(
        PolicyOutcome(
            name=f"Policy{n}",
            kind=PolicyKind.CUSTOMER,
            source=f"arn:aws:iam::123456789012:policy/Policy{n}",
            outcome=Outcome.TRIMMED,
            tier=1,
            text=document(*(allow([f"{s}:Get{n}" for s in SERVICES]) for _ in range(2))),
            characters=6000,
        )
        for n in range(20)
    ),
    actions=tuple(_action(n) for n in range(ACTIONS)),
    services=tuple(
        ServiceSummary(
            namespace=s,
            name=f"Amazon {s} with a name",
            last_accessed=ago(days=n) if n % 2 else None,
            granted=4,
            kept=2,
            tracked=n % 4,
            region="us-east-1",
        )
        for n, s in enumerate(SERVICES)
    ),
    warnings=tuple(Warning_(code="odd", message=f"Warning {n}: " + "something is odd here. " * 30) for n in range(30)),
    proof=Proof(no_new_access=True, nothing_used_lost=True),
)
EVIDENCE = Evidence(
    services=tuple(
        ServiceUse(
            namespace=s,
            name=f"Amazon {s} with a name",
            last_accessed=ago(days=3),
            region="us-east-1",
            entity="arn:aws:iam::123456789012:role/" + "x" * 500,
            actions=tuple(ActionUse(action=f"DescribeSomethingLong{i}", last_accessed=ago(days=i)) for i in range(500)),
        )
        for s in SERVICES[:3]
    ),
    made_at=ago(hours=1),
)
LONG = "c" * 10_000
ROLE = replace(
    APPLICATION,
    name="R" * 64,
    arn="arn:aws:iam::123456789012:role/" + "R" * 64,
    path="/" + "p" * 500 + "/",
    trust_text=trust(
        {"AWS": [f"arn:aws:iam::{n:012}:root" for n in range(50)]},
        {op: {f"key{op}": [LONG, LONG], "aws:PrincipalTag/" + LONG: LONG} for op in ("StringLike", "StringNotLike")},
    ),
    policies=tuple(
        RolePolicy(
            name=f"Policy{n}",
            kind=PolicyKind.CUSTOMER,
            arn=f"arn:aws:iam::123456789012:policy/Policy{n}",
            text=document(*(allow([f"{s}:Get*" for s in SERVICES]) for _ in range(2))),
            default_version="v1",
            versions=("v1",),
        )
        for n in range(20)
    ),
    tags=(("owner", LONG),),
    boundary_arn="arn:aws:iam::123456789012:policy/" + "b" * 500,
    stack="s" * 500,
)
FINDINGS = tuple(
    replace(
        case_in(CaseState.NEW).findings[0],
        id=f"f-{region}",
        region=region,
        principals=tuple(
            ExternalPrincipal(kind=PrincipalKind.ACCOUNT, value=f"{n:012}", conditions=(("aws:PrincipalOrgID", LONG),))
            for n in range(50)
        ),
    )
    for region in (f"region-{n}" for n in range(30))
)
PROPOSAL = Proposal(
    id=ProposalId("c0ffee-3"),
    case_id=case_in(CaseState.NEW).id,
    role=ROLE,
    evidence=EVIDENCE,
    settings=settings(keep_by_hand=tuple(f"service000:Keep{n}*" for n in range(300))),
    trim=TRIM,
    proposed_by=UserId("U0RITA"),
    proposed_at=ago(hours=5),
)
PERMITS = Permits(
    granted=ACTIONS,
    services=tuple((s, 4) for s in SERVICES),
    worst="can delete data (`dynamodb:DeleteTable`)",
    rank=3,
    sensitive=300,
    unread=tuple(f"Broken{n}" for n in range(20)),
)
TEAM = Team(workspace="T0", approvers=frozenset(UserId(f"U{n:08}") for n in range(400)))


def large(state: CaseState, **more: Any) -> Case:
    yes = [Approval(proposal_id=PROPOSAL.id, digest=Digest("x"), by=UserId(f"U{n:04}"), at=NOW) for n in range(10)]
    spread: dict[str, Any] = {
        "role_arn": ROLE.arn,
        "role": ROLE,
        "findings": FINDINGS,
        "evidence": EVIDENCE,
        "proposal": PROPOSAL,
        "sentence": "AWS said no. " * 900,
        "reason": "Because. " * 900,
        "approvals": tuple(yes),
        "approvals_needed": 20,
        **more,
    }
    return replace(case_in(state), **spread)


MESSAGES = {
    **{f"card-{s}": lambda s=s: messages.card(large(s), NOW, PERMITS, team=TEAM) for s in CaseState},
    "review": lambda: messages.review(large(CaseState.NEW), TRIM, NOW, window_days=90),
    "review_service": lambda: messages.review_service(large(CaseState.NEW), f"{SERVICES[0]}|all"),
    "proposal": lambda: messages.proposal(large(CaseState.WAITING, until=NOW + timedelta(1)), NOW, team=TEAM),
    "reminder": lambda: messages.reminder(large(CaseState.WAITING, until=NOW + timedelta(1)), NOW, team=TEAM),
    "applied": lambda: messages.applied(large(CaseState.WATCHING, change=_change()), NOW),
    "rolled_back": lambda: messages.rolled_back(large(CaseState.ROLLED_BACK, change=_change()), NOW),
    "notice": lambda: messages.notice("failed", "AWS said no. " * 900),
    "burst_summary": lambda: messages.burst_summary(1000, COUNTS, [large(CaseState.NEW)] * 300),
    "list_cases": lambda: messages.list_cases([large(s) for s in CaseState] * 10, {CaseState.NEW: 5000}, NOW),
    "history": lambda: messages.history(
        [replace(e, detail=(("reason", LONG), ("error", LONG))) for e in entries()] * 100, large(CaseState.NEW)
    ),
    "explain": lambda: messages.explain(large(CaseState.CANNOT_TELL), 90),
}
VIEWS = {
    **{
        f"modal-{b}": lambda b=b: messages.modal(large(CaseState.WAITING, change=_change()), b, now=NOW)
        for b in (
            Button.APPROVE,
            Button.DECLINE,
            Button.ADJUST,
            Button.SNOOZE,
            Button.ACCEPT,
            Button.ROLL_BACK,
            Button.GIVE_BACK,
            Button.NARROW,
        )
    },
    "home": lambda: messages.home(
        [large(CaseState.WAITING) for _ in range(10)],
        page=0,
        total=3000,
        person=PERSON,
        now=NOW,
        counts=dict.fromkeys(CaseState, 1000),
        state="",
    ),
}


def _change() -> Any:
    change = case_in(CaseState.WATCHING).change
    assert change is not None
    step = change.steps[0]
    return replace(
        change,
        proposal_id=PROPOSAL.id,
        steps=tuple(replace(step, number=n, policy_name="p" * 128) for n in range(1, 60)),
    )


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_stays_within_the_limits(name: str) -> None:
    payload = MESSAGES[name]()
    assert problems(payload, "message") == []
    assert len(payload["text"]) <= 4000
    assert text_size(payload["blocks"]) < 10_500


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_stays_within_the_limits(name: str) -> None:
    """At most 100 blocks (the validators) and 250 KB (Slack's `view_too_large`)."""
    import json

    view = VIEWS[name]()
    assert problems(view, view["type"]) == []
    assert len(json.dumps(view)) < 250_000


_LOOKS = sum(bool(a.sensitive) and not a.kept for a in TRIM.actions)
_GONE = len({a.action.partition(":")[0] for a in TRIM.actions if not a.kept})
CUT = {
    "review": [
        r"20 of 300 services shown, those in use first",
        r"10 of 100 shown; pick “Used”",
        r"100 of 300 services to pick from",
    ],
    "review_service": [r"99 of 504 actions shown"],
    "proposal": [
        rf"and {_LOOKS - 8} more \(in reasons.csv\): somebody may miss it",
        r"4 of 30 shown; Approve… has more",
        rf"6 of {_GONE} shown; the rest is in reasons.csv",
        r"\d+ of 1,210 lines shown; the rest is in the files",
        r"6 of 20 policies shown; the rest is in the files",
        r"and 90 more \(in reasons.csv\)",
        r"and 392 more",  # approvers
    ],
    "card-new": [r"\d of 50 shown; the trust policy", r"and 295 more", r"and 16 more", r"and 25 more"],
    "list_cases": [r"\d+ of 5,000 shown"],
    "applied": [r"\d+ of 59 shown; the audit log"],
    "history": [r"\d+ of 500 shown; the audit log"],
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_says_how_much(name: str) -> None:
    said = "\n".join(n["text"] for n in walk(MESSAGES[name]()) if isinstance(n.get("text"), str))
    for wanted in CUT[name]:
        assert re.search(wanted, said), wanted


def test_the_files_have_everything() -> None:
    """What a message cuts is in a file: a row for each action, every document whole."""
    case = large(CaseState.WAITING)
    files = {name: content for name, content, _ in messages.proposal_files(case)}
    rows = list(csv.DictReader(io.StringIO(files["reasons.csv"].decode())))
    assert [r["action"] for r in rows] == [a.action for a in TRIM.actions]
    assert all(r["reason"] for r in rows)
    for n in range(20):
        assert files[f"Policy{n}.old.json"].decode() == ROLE.policies[n].text
        assert files[f"Policy{n}.new.json"].decode() == TRIM.policies[n].text
        assert files[f"Policy{n}.diff"].startswith(b"--- ")
    ((_, report, _),) = messages.review_files(case, TRIM)
    assert len(list(csv.reader(io.StringIO(report.decode())))) == ACTIONS + 1
