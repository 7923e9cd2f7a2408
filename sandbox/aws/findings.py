"""External access findings for roles, computed from the trust policies as they are now.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-findings.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from moto.iam.models import Role

from sandbox.aws.policy import as_list, statements
from sandbox.aws.state import HUB, MEMBER, ORGANIZATION, Seen, State, ago, now

_SPACE = uuid.UUID("5b0c7c0e-6b1f-4f57-9f3a-2f7d6b6c0a11")
# The condition keys that Access Analyzer's findings can be filtered by. sts:ExternalId is none of them: who wants to
# know of it reads the trust policy.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-reference-filter-keys.html
_KEYS = {
    key.lower(): key
    for key in (
        "aws:PrincipalArn",
        "aws:PrincipalOrgID",
        "aws:PrincipalOrgPaths",
        "aws:SourceIp",
        "aws:SourceVpc",
        "aws:UserId",
        "accounts.google.com:aud",
        "cognito-identity.amazonaws.com:aud",
        "graph.facebook.com:app_id",
        "www.amazon.com:app_id",
    )
}
# With one of these "anybody" is no longer the public.
_NARROWING = {
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceip",
    "aws:sourcevpc",
    "aws:userid",
}
_POSITIVE = {"StringEquals", "StringLike", "ArnEquals", "ArnLike", "IpAddress"}


@dataclass(frozen=True, kw_only=True)
class AnalyzerFacts:
    """One analyzer. Its zone of trust is `accounts`; an organization's analyzer also trusts the organization's id."""

    name: str
    region: str
    type: str
    created: datetime

    @property
    def arn(self) -> str:
        return f"arn:aws:access-analyzer:{self.region}:{HUB}:analyzer/{self.name}"

    @property
    def accounts(self) -> frozenset[str]:
        return frozenset({HUB, MEMBER} if self.type == "ORGANIZATION" else {HUB})

    def trusts(self, values: Iterable[str], key: str) -> bool:
        """Whether a condition that asks for one of the values lets in nobody from outside."""
        if key == "aws:principalorgid":
            return self.type == "ORGANIZATION" and all(v == ORGANIZATION for v in values)
        if key == "aws:principalaccount":
            return all(v in self.accounts for v in values)
        if key == "aws:principalarn":
            return all(v.split(":")[4:5] and v.split(":")[4] in self.accounts for v in values)
        return False


ANALYZERS = (
    AnalyzerFacts(name="refine-org", region="us-east-1", type="ORGANIZATION", created=ago(395)),
    AnalyzerFacts(name="refine-account", region="eu-west-1", type="ACCOUNT", created=ago(390)),
)


def external(trust: Mapping[str, Any], analyzer: AnalyzerFacts) -> list[dict[str, Any]]:
    """Return who may get in from outside the zone of trust, one externalAccessDetails a principal and statement."""
    found: list[dict[str, Any]] = []
    for statement in statements(trust):
        if statement.get("Effect") != "Allow":
            continue
        asked = {
            key.lower(): [str(v) for v in as_list(value)]
            for operator, keys in (statement.get("Condition") or {}).items()
            if operator.split(":")[-1] in _POSITIVE
            for key, value in keys.items()
        }
        if any(analyzer.trusts(values, key) for key, values in asked.items()):
            continue
        condition = {_KEYS[key]: ",".join(values) for key, values in asked.items() if key in _KEYS}
        for kind, who in _outsiders(statement.get("Principal"), analyzer):
            detail = {
                "action": [str(a) for a in as_list(statement.get("Action"))],
                "condition": condition,
                "isPublic": (kind, who) == ("AWS", "*") and not asked.keys() & _NARROWING,
                "principal": {kind: who},
            }
            if detail not in found:
                found.append(detail)
    return found


def _outsiders(principal: Any, analyzer: AnalyzerFacts) -> list[tuple[str, str]]:
    if principal == "*":
        return [("AWS", "*")]
    if not isinstance(principal, dict):
        return []
    who = [("Federated", str(p)) for p in as_list(principal.get("Federated"))]
    for each in as_list(principal.get("AWS")):
        account = each if each.isdigit() else each.split(":")[4] if each.startswith("arn:") else each
        if account not in analyzer.accounts:
            who.append(("AWS", account if each == f"arn:aws:iam::{account}:root" else each))
    return who


def refresh(state: State, analyzer: AnalyzerFacts, lag: float = 0.0) -> dict[str, Seen]:
    """Bring the analyzer's findings up to the trust policies and return them by id."""
    seen = state.findings.setdefault(analyzer.arn, {})
    current: set[str] = set()
    for account in sorted(analyzer.accounts):
        for role in state.iam(account, lag).roles.values():
            for finding_id, detail in _of_role(role.arn, role.assume_role_policy_document, analyzer):
                current.add(finding_id)
                _note(seen, finding_id, role, detail, analyzer)
    for finding_id, finding in seen.items():
        if finding_id not in current and not finding.resolved:
            finding.resolved, finding.archived, finding.updated = True, False, now()
    return seen


@lru_cache(maxsize=20_000)
def _of_role(role_arn: str, trust: str, analyzer: AnalyzerFacts) -> list[tuple[str, dict[str, Any]]]:
    """Return the findings of a role with their ids, which stay the same for the same role, principal and condition."""
    return [
        (str(uuid.uuid5(_SPACE, json.dumps([analyzer.arn, role_arn, detail], sort_keys=True))), detail)
        for detail in external(json.loads(trust), analyzer)
    ]


def _note(seen: dict[str, Seen], finding_id: str, role: Role, detail: dict[str, Any], analyzer: AnalyzerFacts) -> None:
    if finding_id not in seen:
        # A role that was there before the analyzer was found by it when it came.
        at = max(role.create_date.replace(tzinfo=analyzer.created.tzinfo), analyzer.created)
        seen[finding_id] = Seen(
            detail={"resource": role.arn, "owner": role.account_id, **detail}, created=at, updated=at
        )
    elif seen[finding_id].resolved:
        seen[finding_id].resolved, seen[finding_id].updated = False, now()


def status(finding: Seen) -> str:
    return "RESOLVED" if finding.resolved else "ARCHIVED" if finding.archived else "ACTIVE"
