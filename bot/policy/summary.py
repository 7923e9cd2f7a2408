"""What a role may do, in a few words and numbers, for a card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bot.errors import PolicyError
from bot.model import AccessLevel, RolePolicy
from bot.policy.catalogue import Action, Catalogue
from bot.policy.engine import extended, granted_by
from bot.policy.knowledge import knowledge
from bot.policy.language import Document, parse

# What a grant of these comes down to: the first that is granted is the worst thing to say.
_WORST = (
    (
        5,
        ("iam:AttachRolePolicy", "iam:PutRolePolicy", "iam:CreatePolicyVersion", "iam:AttachUserPolicy"),
        "can give itself any permission",
    ),
    (4, ("iam:CreateAccessKey", "iam:CreateUser", "iam:UpdateAssumeRolePolicy"), "can make new ways into the account"),
    (3, ("secretsmanager:GetSecretValue", "kms:Decrypt", "ssm:GetParameter"), "can read secrets"),
    (3, ("s3:DeleteBucket", "s3:DeleteObject", "dynamodb:DeleteTable", "rds:DeleteDBInstance"), "can delete data"),
    (2, ("s3:GetObject", "dynamodb:GetItem", "dynamodb:Scan", "sqs:ReceiveMessage"), "can read data"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permits:
    """What a role's permissions policies grant, Deny statements and boundary aside."""

    granted: int  # actions, as a trim of the same policies counts them
    services: tuple[tuple[str, int], ...]  # namespace and number of actions, the most first
    worst: str  # the end of "this role …"
    rank: int  # 0 nothing … 6 everything
    sensitive: int  # granted actions whose misuse hurts
    unread: tuple[str, ...] = ()  # policies that could not be read


def permits_summary(policies: Sequence[RolePolicy], catalogue: Catalogue) -> Permits:
    """Sum up what the policies grant."""
    documents: list[Document] = []
    unread: list[str] = []
    for policy in policies:
        try:
            documents.append(parse(policy.text, policy.name))
        except PolicyError:
            unread.append(policy.name)
    lex = extended(documents, catalogue)
    found: dict[str, Action] = {}
    for statement in (s for d in documents for s in d.statements if s.allow):
        found |= granted_by(statement, lex)
    services = Counter(key.partition(":")[0] for key in found)
    rank, worst = _worst(found, catalogue)
    known = knowledge()
    return Permits(
        granted=len(found),
        services=tuple(sorted(services.items(), key=lambda kv: (-kv[1], kv[0]))),
        worst=worst,
        rank=rank,
        sensitive=sum(bool(known.is_sensitive(a.full)) for a in found.values()),
        unread=tuple(unread),
    )


def _worst(found: dict[str, Action], catalogue: Catalogue) -> tuple[int, str]:
    if not found:
        return 0, "may do nothing"
    if all(f"{s}:{name}" in found for s in catalogue.services() for name in catalogue.actions(s)):
        return 6, "is an administrator: it can do everything"
    for rank, actions, sentence in _WORST:
        for action in actions:
            if action.lower() in found:
                return rank, f"{sentence} (`{action}`)"
    levels = {a.level for a in found.values()}
    if AccessLevel.PERMISSIONS in levels:
        return 3, "can change who has access to resources"
    if AccessLevel.WRITE in levels:
        return 1, "can change resources"
    return 1, "can only look"
