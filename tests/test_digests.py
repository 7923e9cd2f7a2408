"""The digests as README.md and the docstrings of bot/model.py say they are made, computed by hand from that text."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

from bot.model import (
    ActionUse,
    Case,
    CaseId,
    CaseState,
    Evidence,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    Role,
    RolePolicy,
    ServiceUse,
    digest,
    permissions_digest,
)
from tests.store.world import ARN, proposal

AT = datetime(2026, 1, 31, 9, tzinfo=UTC)
MANAGED = "arn:aws:iam::123456789012:policy/P"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


ROLE = Role(
    arn=ARN,
    name="ApplicationRole",
    account="123456789012",
    path="/",
    role_id="AROAEXAMPLE",
    created_at=AT,
    trust_text="{}",
    read_at=AT,
    policies=(
        RolePolicy(name="é", kind=PolicyKind.INLINE, text='{"a": "\\u00e9\n"}'),
        RolePolicy(name="P", kind=PolicyKind.CUSTOMER, text="{}", arn=MANAGED, default_version="v3"),
    ),
)
LIVE = sha(
    '{"boundary":"","policies":[["arn:aws:iam::123456789012:policy/P","customer","v3","{}"],'
    r'["inline/é","inline","","{\"a\": \"\\u00e9\n\"}"]],"role":"AROAEXAMPLE"}'
)
SEEN = Evidence(
    services=(
        ServiceUse(namespace="sqs"),
        ServiceUse(
            namespace="s3",
            last_accessed=AT,
            actions=(
                ActionUse(action="PutObject"),
                ActionUse(action="GetObject", last_accessed=AT.replace(microsecond=5), region="us-east-1"),
            ),
        ),
    ),
    made_at=AT,
)
EVIDENCE = sha(
    '[["s3","2026-01-31T09:00:00+00:00",[["GetObject","2026-01-31T09:00:00.000005+00:00","us-east-1"],'
    '["PutObject","",""]]],["sqs",null,[]]]'
)


def outcome(name: str, text: str | None, what: Outcome) -> PolicyOutcome:
    return PolicyOutcome(
        name=name, kind=PolicyKind.INLINE, source=f"inline/{name}", outcome=what, tier=1, text=text, characters=2
    )


WRITTEN = (outcome("b", "{}", Outcome.TRIMMED), outcome("a", None, Outcome.REMOVED))
DOCUMENTS = sha('[["inline/b","b","inline","trimmed","{}"],["inline/a","a","inline","removed",null]]')


def test_the_canonical_form() -> None:
    value = {"b": ['\x00\x1f\n\t"\\/\x7f', None], "a": "é\u2028😀"}
    assert digest(value) == sha(r'{"a":"é' + "\u2028😀" + r'","b":["\u0000\u001f\n\t\"\\/' + "\x7f" + '",null]}')


def test_the_live_policies() -> None:
    assert ROLE.live_digest() == LIVE
    assert permissions_digest(ROLE.policies) == sha(
        '[["arn:aws:iam::123456789012:policy/P","customer","{}"],'
        r'["inline/é","inline","{\"a\": \"\\u00e9\n\"}"]]'
    )


def test_the_evidence() -> None:
    assert SEEN.digest() == EVIDENCE
    assert replace(SEEN, made_at=AT.replace(year=2027)).digest() == EVIDENCE


def test_the_documents_and_the_proposal_that_an_approval_names() -> None:
    case = Case(
        id=CaseId("c"), role_arn=ARN, account="123456789012", state=CaseState.NEW, revision=1, opened_at=AT,
        updated_at=AT,
    )  # fmt: skip
    made = proposal(case)
    made = replace(made, role=ROLE, evidence=SEEN, trim=replace(made.trim, policies=WRITTEN))
    assert made.trim.documents_digest() == DOCUMENTS
    assert made.digest() == sha(f'["{ARN}","{LIVE}","{EVIDENCE}","{DOCUMENTS}"]')
