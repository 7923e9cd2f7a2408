"""AWS's own word on policies: Access Analyzer's two checks of documents, and IAM's simulator on a role as it is.

Each either answers or raises: "not asked" and "nothing found" must never look alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bot.aws.clients import Clients
from bot.errors import UnavailableError

BATCH: Final = 100  # actions of one simulation: no limit is documented, and a long form is refused sooner than a short
_IDENTITY: Final = "IDENTITY_POLICY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What the simulator says of one action. `beyond` is what denies it that is not a policy of the role's own."""

    allowed: bool
    beyond: str = ""  # "permissions boundary", "organization"


async def faults(clients: Clients, text: str) -> tuple[str, ...]:
    """Return the errors that ValidatePolicy finds; it is free of charge.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-reference-policy-checks.html
    """
    pages = await clients.pages("accessanalyzer", "ValidatePolicy", policyDocument=text, policyType=_IDENTITY)
    return tuple(
        f"{f['findingDetails']} ({f['issueCode']})"
        for page in pages
        for f in page["findings"]
        if f["findingType"] == "ERROR"
    )


async def new_access(clients: Clients, old: str, new: str) -> tuple[str, ...]:
    """Return the reasons of CheckNoNewAccess's FAIL, at least one; nothing where it passes. AWS bills each call.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-checks-validating-policies.html
    """
    answer = await clients.call(
        "accessanalyzer", "CheckNoNewAccess", newPolicyDocument=new, existingPolicyDocument=old, policyType=_IDENTITY
    )
    if answer.get("result") == "PASS":
        return ()
    if answer.get("result") != "FAIL":
        raise UnavailableError("AWS's CheckNoNewAccess gave neither PASS nor FAIL.")
    reasons = tuple(str(r["description"]) for r in answer.get("reasons", ()) if r.get("description"))
    return reasons or (str(answer.get("message") or "AWS gives no reason."),)


async def simulate(clients: Clients, role_arn: str, actions: Sequence[str]) -> Mapping[str, Simulated]:
    """Return the simulator's decision on each action, on any resource and without condition keys.

    So a denial may mean no more than that the role's policies ask for a resource or a condition: only a comparison of
    two such answers tells anything.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
    """
    account = role_arn.split(":")[4]
    found: dict[str, Simulated] = {}
    for start in range(0, len(actions), BATCH):
        pages = await clients.pages(
            "iam",
            "SimulatePrincipalPolicy",
            account=account,
            PolicySourceArn=role_arn,
            ActionNames=list(actions[start : start + BATCH]),
        )
        found |= {
            r["EvalActionName"].lower(): _decision(r) for page in pages for r in page.get("EvaluationResults", ())
        }
    missing = [a for a in actions if a.lower() not in found]
    if missing:
        raise UnavailableError(f"AWS's simulator said nothing of {missing[0]}.")
    return {a: found[a.lower()] for a in actions}


def _decision(result: Mapping[str, Any]) -> Simulated:
    allowed = result["EvalDecision"] == "allowed"
    beyond = ""
    if not allowed:
        if not result.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary", True):
            beyond = "permissions boundary"
        elif not result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations", True):
            beyond = "organization"
    return Simulated(allowed=allowed, beyond=beyond)
