"""Every IAM action that the gateway calls, with the reason: the list behind the policies in `deploy/` and the README.

A call that is not listed here cannot be made (`clients.py` looks it up), and a test holds the list against the calls
that the gateway really makes, so it is neither too short nor too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Group(StrEnum):
    """Whose permission it is."""

    HUB = "hub"  # of the role that the bot runs as
    HUB_WRITE = "hub write"  # the same; what Access Analyzer lists, never what anybody may do
    MEMBER_READ = "member read"  # of the role it assumes in each account, or of its own role for its own account
    MEMBER_WRITE = "member write"  # the same; used for approved changes only


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """One call: the operation as botocore names it, and the action that IAM asks for, which may be named otherwise.

    Source: https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
    """

    service: str  # botocore's name: "accessanalyzer"
    operation: str  # botocore's name: "ListFindingsV2"
    action: str  # IAM's name: "access-analyzer:ListFindings"
    group: Group
    why: str


def _all(group: Group, service: str, prefix: str, rows: dict[str, str]) -> tuple[Permission, ...]:
    # Both versions of Access Analyzer's reading operations ask for the action without "V2".
    return tuple(
        Permission(
            service=service,
            operation=operation,
            action=f"{prefix}:{operation.removesuffix('V2')}",
            group=group,
            why=why,
        )
        for operation, why in rows.items()
    )


PERMISSIONS: Final = (
    *_all(
        Group.HUB,
        "sts",
        "sts",
        {
            "GetCallerIdentity": "To know its own account and role. IAM allows it to everybody.",
            "AssumeRole": "To reach the member role of each account, and nothing else.",
        },
    ),
    *_all(
        Group.HUB,
        "accessanalyzer",
        "access-analyzer",
        {
            "ListAnalyzers": "To find the external access analyzers of each Region.",
            "ListFindingsV2": "To list the active and the archived findings on roles.",
            "GetFindingV2": "To read who may come in, and on which conditions.",
            "ValidatePolicy": "To have AWS check each trimmed document before anybody approves it, and before it is "
            "written.",
            "CheckNoNewAccess": "To have AWS compare each trimmed document with the old one before it is written.",
        },
    ),
    *_all(
        Group.HUB_WRITE,
        "accessanalyzer",
        "access-analyzer",
        {
            "UpdateFindings": "To archive the findings of an exposure that somebody accepted, until that ends.",
        },
    ),
    *_all(
        Group.MEMBER_READ,
        "iam",
        "iam",
        {
            "GetRole": "To read a role: trust policy, tags, boundary, when it was last used.",
            "ListRoles": "To offer near matches where somebody mistypes a role's name.",
            "ListRolePolicies": "To find its inline policies.",
            "GetRolePolicy": "To read them.",
            "ListAttachedRolePolicies": "To find its managed policies.",
            "GetPolicy": "To read which version is in force, and who else uses the policy.",
            "GetPolicyVersion": "To read the document in force.",
            "ListPolicyVersions": "To know whether there is room for a new version.",
            "GetAccountSummary": "To read the account's own quotas.",
            "GenerateServiceLastAccessedDetails": "To order the last accessed report of a role.",
            "GetServiceLastAccessedDetails": "To read it, to its last page.",
            "SimulatePrincipalPolicy": "To compare what the used actions get before and after a change; and for "
            "`refine doctor`, to tell whether the writing permissions are there.",
        },
    ),
    *_all(
        Group.MEMBER_READ,
        "cloudformation",
        "cloudformation",
        {"DescribeStackResources": "To leave alone a role that a stack owns, whose next update would undo the change."},
    ),
    *_all(
        Group.MEMBER_WRITE,
        "iam",
        "iam",
        {
            "CreatePolicyVersion": "To trim a customer managed policy that only this role uses.",
            "SetDefaultPolicyVersion": "To roll that back.",
            "DeletePolicyVersion": "To make room among the five versions; to remove what a rollback replaced.",
            "CreatePolicy": "To make the trimmed copy of an AWS managed policy or one that others use too.",
            "DeletePolicy": "To remove such a copy when it is rolled back.",
            "AttachRolePolicy": "To attach the copy; to attach the old policy again when it is rolled back.",
            "DetachRolePolicy": "To take off what the copy replaces, or a policy of which nothing is kept.",
            "PutRolePolicy": "To trim an inline policy, and to put the old one back.",
            "DeleteRolePolicy": "To remove an inline policy of which nothing is kept.",
        },
    ),
)

_BY_CALL: Final = {(p.service, p.operation): p for p in PERMISSIONS}


def permission(service: str, operation: str) -> Permission:
    """Return the permission of a call.

    Raises:
        KeyError: nobody has listed it here, so it may not be made.
    """
    return _BY_CALL[service, operation]


def actions(group: Group) -> tuple[str, ...]:
    """Return the IAM actions of a group, sorted, each once."""
    return tuple(sorted({p.action for p in PERMISSIONS if p.group is group}))
