"""Realistic cases in every state, made with the real engine and the real rules; for all tests that need something to draw.

case = case_in(CaseState.WAITING)                  # ApplicationRole: one customer managed policy, dynamodb:*
case = case_in(CaseState.WATCHING, role=PARTNER)   # all kinds of policies, sensitive removals, warnings
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from bot import rules
from bot.model import (
    ActionUse,
    Approval,
    AuditEntry,
    Case,
    CaseId,
    CaseState,
    Change,
    ChangeId,
    Evidence,
    ExternalPrincipal,
    Finding,
    Mode,
    Person,
    PolicyKind,
    PrincipalKind,
    Proposal,
    ProposalId,
    Role,
    RolePolicy,
    ServiceUse,
    TrimSettings,
    UserId,
    permissions_digest,
)
from bot.policy import Permits, give, load_catalogue, permits_summary, trim

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
ACCOUNT = "123456789012"
OUTSIDE = "999988887777"
ANN, BEN, RITA = UserId("U0ANN"), UserId("U0BEN"), UserId("U0RITA")
TEAM = rules.Team(workspace="T0REFINE", approvers=frozenset({ANN, BEN}))
PERSON = Person(id=RITA, name="Rita Requester", team="T0REFINE")


def ago(**time: float) -> datetime:
    return NOW - timedelta(**time)


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=4)


def allow(action: str | list[str], resource: str | list[str] = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def trust(principal: Any, condition: dict[str, Any] | None = None, action: str = "sts:AssumeRole") -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": action}
    if condition:
        statement["Condition"] = condition
    return document(statement)


# -------------------- two roles

# What IAM tracks of DynamoDB, as far as the example needs it: the control plane, not the data plane.
TRACKED = [
    "CreateBackup",
    "CreateGlobalTable",
    "CreateTable",
    "DeleteBackup",
    "DeleteTable",
    "DescribeBackup",
    "DescribeContinuousBackups",
    "DescribeContributorInsights",
    "DescribeEndpoints",
    "DescribeExport",
    "DescribeGlobalTable",
    "DescribeGlobalTableSettings",
    "DescribeImport",
    "DescribeKinesisStreamingDestination",
    "DescribeLimits",
    "DescribeTable",
    "DescribeTableReplicaAutoScaling",
    "DescribeTimeToLive",
    "DisableKinesisStreamingDestination",
    "EnableKinesisStreamingDestination",
    "ExportTableToPointInTime",
    "ImportTable",
    "ListBackups",
    "ListContributorInsights",
    "ListExports",
    "ListGlobalTables",
    "ListImports",
    "ListTables",
    "RestoreTableFromBackup",
    "RestoreTableToPointInTime",
    "UpdateContinuousBackups",
    "UpdateContributorInsights",
    "UpdateGlobalTable",
    "UpdateGlobalTableSettings",
    "UpdateTable",
    "UpdateTableReplicaAutoScaling",
    "UpdateTimeToLive",
]


def service(
    namespace: str, name: str, used: dict[str, datetime], tracked: list[str], last: datetime | None
) -> ServiceUse:
    return ServiceUse(
        namespace=namespace,
        name=name,
        last_accessed=last,
        region="us-east-1" if last else "",
        entity=f"arn:aws:iam::{ACCOUNT}:role/ApplicationRole" if last else "",
        actions=tuple(
            ActionUse(action=a, last_accessed=used.get(a), region="us-east-1" if a in used else "")
            for a in sorted({*tracked, *used})
        ),
    )


APPLICATION = Role(
    arn=f"arn:aws:iam::{ACCOUNT}:role/ApplicationRole",
    name="ApplicationRole",
    account=ACCOUNT,
    path="/",
    role_id="AROAEXAMPLEAPPLICATION",
    created_at=ago(days=800),
    trust_text=trust({"AWS": f"arn:aws:iam::{OUTSIDE}:root"}),
    policies=(
        RolePolicy(
            name="DynamoDBAccess",
            kind=PolicyKind.CUSTOMER,
            arn=f"arn:aws:iam::{ACCOUNT}:policy/DynamoDBAccess",
            text=document(allow("dynamodb:*")),
            default_version="v2",
            versions=("v1", "v2"),
            version_created_at=ago(days=500),
        ),
    ),
    read_at=ago(minutes=5),
    last_used_at=ago(hours=14),
    last_used_region="us-east-1",
    tags=(("owner", "payments"),),
)
APPLICATION_EVIDENCE = Evidence(
    services=(
        service(
            "dynamodb",
            "Amazon DynamoDB",
            {"DescribeTable": ago(hours=14), "DescribeKinesisStreamingDestination": ago(days=12)},
            TRACKED,
            ago(hours=14),
        ),
    ),
    made_at=ago(hours=2),
    role_arn=APPLICATION.arn,
    role_created_at=APPLICATION.created_at,
)
APPLICATION_FINDINGS = tuple(
    Finding(
        id=f"f-{region}",
        analyzer_arn=f"arn:aws:access-analyzer:{region}:{ACCOUNT}:analyzer/refine",
        region=region,
        role_arn=APPLICATION.arn,
        account=ACCOUNT,
        status="ACTIVE",
        principals=(ExternalPrincipal(kind=PrincipalKind.ACCOUNT, value=OUTSIDE, actions=("sts:AssumeRole",)),),
        created_at=ago(days=40),
        updated_at=ago(days=1),
    )
    for region in ("eu-west-1", "us-east-1")
)

PARTNER = Role(
    arn=f"arn:aws:iam::{ACCOUNT}:role/partners/PartnerExport",
    name="PartnerExport",
    account=ACCOUNT,
    path="/partners/",
    role_id="AROAEXAMPLEPARTNER",
    created_at=ago(days=30),
    trust_text=document(
        {
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam::{OUTSIDE}:root", "arn:aws:iam::444455556666:role/Loader"]},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"sts:ExternalId": "never-shown-7f3a"},
                "Bool": {"aws:SecureTransport": "true"},
            },
        },
        {
            "Effect": "Allow",
            "Principal": {
                "Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com",
            },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}},
        },
        {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"},
    ),
    policies=(
        RolePolicy(
            name="SharedQueues",
            kind=PolicyKind.CUSTOMER,
            arn=f"arn:aws:iam::{ACCOUNT}:policy/SharedQueues",
            text=document(allow("sqs:*", "arn:aws:sqs:*:*:export-*")),
            attachments=4,
            default_version="v5",
            versions=("v1", "v2", "v3", "v4", "v5"),
            version_created_at=ago(days=300),
        ),
        RolePolicy(
            name="ExportKeys",
            kind=PolicyKind.CUSTOMER,
            arn=f"arn:aws:iam::{ACCOUNT}:policy/ExportKeys",
            text=document(allow(["kms:Decrypt", "kms:DescribeKey", "kms:ListAliases"]), allow("s3:*")),
            default_version="v5",
            versions=("v1", "v2", "v3", "v4", "v5"),
            oldest_text=document(allow("kms:Decrypt")),
            version_created_at=ago(days=20),
        ),
        RolePolicy(
            name="AmazonSNSReadOnlyAccess",
            kind=PolicyKind.AWS,
            arn="arn:aws:iam::aws:policy/AmazonSNSReadOnlyAccess",
            text=document(allow(["sns:GetTopicAttributes", "sns:List*"])),
            default_version="v1",
            versions=("v1",),
        ),
        RolePolicy(
            name="Leftover",
            kind=PolicyKind.INLINE,
            text=document(allow(["ec2:DescribeInstances", "ec2:DescribeVpcs"])),
        ),
    ),
    read_at=ago(minutes=5),
    boundary_arn=f"arn:aws:iam::{ACCOUNT}:policy/PartnerBoundary",
    boundary_text=document(allow("*")),
)
PARTNER_EVIDENCE = Evidence(
    services=(
        service("ec2", "Amazon EC2", {}, ["DescribeInstances", "DescribeVpcs"], None),
        service("kms", "AWS Key Management Service", {}, ["DescribeKey", "ListAliases"], ago(days=3)),
        service(
            "s3",
            "Amazon S3",
            {"ListAllMyBuckets": ago(days=3)},
            ["CreateBucket", "DeleteBucket", "GetBucketAcl"],
            ago(days=3),
        ),
        service(
            "sns", "Amazon SNS", {"ListTopics": ago(days=200)}, ["GetTopicAttributes", "ListTopics"], ago(days=200)
        ),
        service("sqs", "Amazon SQS", {}, [], ago(days=1)),
    ),
    made_at=ago(hours=30),
    role_arn=PARTNER.arn,
    role_created_at=PARTNER.created_at,
)
PARTNER_FINDINGS = (
    Finding(
        id="f-partner",
        analyzer_arn=f"arn:aws:access-analyzer:us-east-1:{ACCOUNT}:analyzer/refine",
        region="us-east-1",
        role_arn=PARTNER.arn,
        account=ACCOUNT,
        status="ACTIVE",
        principals=(
            ExternalPrincipal(kind=PrincipalKind.ACCOUNT, value=OUTSIDE),
            ExternalPrincipal(kind=PrincipalKind.ACCOUNT, value="arn:aws:iam::444455556666:role/Loader"),
            ExternalPrincipal(
                kind=PrincipalKind.FEDERATED,
                value=f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com",
            ),
            ExternalPrincipal(kind=PrincipalKind.PUBLIC, value="*"),
        ),
        created_at=ago(days=29),
        updated_at=ago(days=29),
    ),
)

_WORLD = {
    APPLICATION.arn: (APPLICATION, APPLICATION_EVIDENCE, APPLICATION_FINDINGS),
    PARTNER.arn: (PARTNER, PARTNER_EVIDENCE, PARTNER_FINDINGS),
}


# -------------------- what is made of them


def settings(mode: Mode = Mode.SAFE, **more: Any) -> TrimSettings:
    return TrimSettings(**{"mode": mode, "now": ago(hours=1), **more})


@cache
def permits(role: Role) -> Permits:
    return permits_summary(role.policies, load_catalogue())


@cache
def proposed(role: Role = APPLICATION, mode: Mode = Mode.SAFE, keep: tuple[str, ...] = ()) -> Proposal:
    _, evidence, _ = _WORLD[role.arn]
    asked = settings(mode, keep_by_hand=keep)
    return Proposal(
        id=ProposalId("c0ffee-3"),
        case_id=CaseId("c0ffee"),
        role=role,
        evidence=evidence,
        settings=asked,
        trim=trim(role.policies, evidence, load_catalogue(), asked),
        proposed_by=RITA,
        proposed_at=ago(hours=1),
    )


def approval_of(proposal: Proposal, by: UserId = ANN, reason: str = "") -> Approval:
    return Approval(proposal_id=proposal.id, digest=proposal.digest(), by=by, at=ago(minutes=20), reason=reason)


def change_of(proposal: Proposal, by: UserId = ANN) -> Change:
    steps = rules.plan(proposal, proposal.role)
    return Change(
        id=ChangeId(f"{proposal.id}-apply"),
        case_id=proposal.case_id,
        proposal_id=proposal.id,
        kind="apply",
        role_arn=proposal.role.arn,
        steps=steps,
        by=by,
        at=ago(minutes=19),
        before=proposal.role,
        expected=rules.expected(proposal.role, steps),
    )


def back_of(change: Change, done: int | None = None) -> Change:
    """Return the change that takes back the first `done` steps, or all."""
    steps = change.steps if done is None else change.steps[:done]
    return replace(
        change,
        id=ChangeId(f"{change.id}-back9"),
        kind="rollback",
        by=BEN,
        steps=rules.undo([(s, f"v{9}") for s in steps], change.before),
        expected=permissions_digest(change.before.policies),
        undoes=change.id,
    )


def after_change(change: Change) -> Role:
    """Return the role as it is once the change is applied."""
    policies = {p.key: p for p in change.before.policies}
    for step in change.steps:
        key = step.policy_arn or f"inline/{step.policy_name}"
        match step.kind.value:
            case "create_version":
                policies[key] = replace(policies[key], text=step.text, default_version="v6")
            case "put_inline" if key in policies:
                policies[key] = replace(policies[key], text=step.text)
            case "put_inline":
                policies[key] = RolePolicy(name=step.policy_name, kind=PolicyKind.INLINE, text=step.text)
            case "attach":
                policies[key] = RolePolicy(
                    name=step.policy_name,
                    kind=PolicyKind.CUSTOMER,
                    arn=step.policy_arn,
                    text=step.text,
                    default_version="v1",
                    versions=("v1",),
                )
            case "detach" | "delete_inline":
                policies.pop(key, None)
            case _:
                pass
    return replace(change.before, policies=tuple(policies.values()))


def give_back_of(change: Change, first: Proposal, actions: tuple[str, ...]) -> Proposal:
    """Return the proposal that gives actions back out of an applied change."""
    live = after_change(change)
    made, back = give(first, change.id, change.before, live, actions, load_catalogue())
    assert made.proof.holds, made.proof.problems
    return replace(
        first,
        id=ProposalId("c0ffee-8"),
        role=live,
        trim=made,
        proposed_at=ago(minutes=15),
        supersedes=first.id,
        give_back=back,
    )


def giving_back(state: CaseState, role: Role, actions: tuple[str, ...], mode: Mode = Mode.STRICT) -> Case:
    """Return a case in the state, with a proposal to give actions back out of a change that is in force."""
    first = proposed(role, mode)
    change = change_of(first)
    made = give_back_of(change, first, actions)
    known: dict[str, Any] = {"proposal": made, "change": change, "role": made.role}
    if state in _APPROVED:
        again = change_of(made)
        known |= {"approvals": (approval_of(made),), "change": again, "steps_done": len(again.steps)}
        if state is _S.ROLLED_BACK:
            back = back_of(again)
            known |= {"change": back, "steps_done": len(back.steps)}
        elif state in {_S.WATCHING, _S.DONE}:
            known["role"] = after_change(again)
    return replace(case_in(state, role=role, mode=mode), **known)


_S = CaseState
_PROPOSED = frozenset(_S) - {_S.NEW, _S.WORKING, _S.CANNOT_TELL, _S.NOTHING, _S.SNOOZED, _S.ACCEPTED, _S.RESOLVED}
_APPROVED = frozenset({_S.APPLYING, _S.WATCHING, _S.DONE, _S.ROLLING_BACK, _S.ROLLED_BACK, _S.FAILED})

_STATES: dict[CaseState, dict[str, Any]] = {
    _S.NEW: {},
    _S.WORKING: {"asked_by": RITA, "task": '{"do": "propose", "keep": [], "mode": "safe"}'},
    _S.CANNOT_TELL: {
        "sentence": "IAM did not finish the last accessed report within 600 seconds, so nothing can be called unused. "
        "Press Retry later."
    },
    _S.NOTHING: {
        "sentence": "Nothing to trim: all 3 granted actions were used in the last 90 days, or are kept by settings or by hand.",
        "asked_by": RITA,
    },
    _S.WAITING: {"asked_by": RITA, "until": NOW + timedelta(hours=23)},
    _S.STALE: {
        "sentence": "The role's policies changed since the proposal was made, so nothing was written. "
        "Make a new proposal."
    },
    _S.APPLYING: {"asked_by": ANN, "steps_done": 0},
    _S.WATCHING: {"asked_by": ANN, "until": NOW + timedelta(hours=72)},
    _S.DONE: {"asked_by": UserId("refine")},
    _S.ROLLING_BACK: {"asked_by": BEN, "reason": "The nightly export fails.", "steps_done": 1},
    _S.ROLLED_BACK: {"asked_by": BEN, "reason": "The nightly export fails."},
    _S.FAILED: {
        "asked_by": UserId("refine"),
        "sentence": "AWS refused iam:CreatePolicyVersion: the service control policy of the organization denies it. "
        "Ask whoever runs the organization. The role's old policies are in force, as if nothing had been written.",
    },
    _S.DECLINED: {"asked_by": BEN, "reason": "The export team needs Scan until March."},
    _S.EXPIRED: {"asked_by": UserId("refine")},
    _S.SNOOZED: {"asked_by": ANN, "until": NOW + timedelta(days=14)},
    _S.ACCEPTED: {
        "asked_by": ANN,
        "until": NOW + timedelta(days=90),
        "reason": "The vendor's own account; contract 4711 runs until May.",
        "findings": tuple(replace(f, status="ARCHIVED") for f in APPLICATION_FINDINGS),
    },
    _S.RESOLVED: {"asked_by": UserId("refine"), "findings": ()},
}


def case_in(state: CaseState, *, role: Role = APPLICATION, mode: Mode = Mode.SAFE, **more: Any) -> Case:
    """Return a case in the state, with everything that has happened to it by then."""
    _, evidence, findings = _WORLD[role.arn]
    made = proposed(role, mode)
    known: dict[str, Any] = {"role": role}
    if state in _PROPOSED:
        known |= {"evidence": evidence, "proposal": made}
    if state in _APPROVED:
        change = change_of(made)
        known |= {"approvals": (approval_of(made),), "change": change, "steps_done": len(change.steps)}
        if state in {_S.ROLLING_BACK, _S.ROLLED_BACK}:
            back = back_of(change)
            known |= {"change": back, "steps_done": len(back.steps)}
        if state in {_S.WATCHING, _S.DONE}:
            known["role"] = after_change(change)
    if state is _S.FAILED:
        known |= {"change": back_of(known["change"], 1), "steps_done": 1}
    if state is _S.NOTHING:
        known["evidence"] = evidence
    fields: dict[str, Any] = {
        "id": CaseId("c0ffee"),
        "role_arn": role.arn,
        "account": ACCOUNT,
        "state": state,
        "revision": 7,
        "opened_at": ago(days=2),
        "updated_at": ago(minutes=10),
        "findings": findings,
        "channel": "C0SECURITY",
        "thread_ts": "1769850000.000100",
        **known,
        **_STATES[state],
        **more,
    }
    return Case(**fields)


def reviewed(role: Role = APPLICATION) -> Case:
    """Return a new case whose report has been read."""
    return case_in(_S.NEW, role=role, evidence=_WORLD[role.arn][1])


def entries() -> tuple[AuditEntry, ...]:
    """Return the audit entries of a case that was applied."""
    case = CaseId("c0ffee")
    made = proposed()
    return tuple(
        AuditEntry(seq=n, at=ago(hours=6 - n), who=who, what=what, case_id=case, detail=detail)
        for n, (who, what, detail) in enumerate(
            [
                (UserId("refine"), "opened", ()),
                (RITA, "propose", (("task", "…"),)),
                (UserId("refine"), "proposed", (("proposal", made.digest()),)),
                (ANN, "approved", (("proposal", made.digest()), ("reason", "Looks right."))),
                (UserId("refine"), "applied", (("change", "c0ffee-3-apply"),)),
            ],
            1,
        )
    )


COUNTS = {_S.NEW: 12, _S.WAITING: 3, _S.WATCHING: 2, _S.DONE: 20, _S.SNOOZED: 1, _S.FAILED: 1, _S.RESOLVED: 4}
