"""All that the local AWS holds: an IAM for each account, sessions, reports, findings, and the world's facts."""

from __future__ import annotations

import copy
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from moto.iam.exceptions import NotFoundException
from moto.iam.models import AWSManagedPolicy, IAMBackend, ManagedPolicy, Role, aws_managed_policies_data

from sandbox.aws.policy import Caller

HUB = "123456789012"
MEMBER = "210987654321"
ORGANIZATION = "o-refinesand"
TRACKING_DAYS = 400
# Long-lived keys; any other key that no session holds is the hub's, so that tools' own dummy keys work.
KEYS = {
    "AKIASANDBOX000000000": Caller(account=HUB, arn=f"arn:aws:iam::{HUB}:user/refine"),
    "AKIASANDBOX000MEMBER": Caller(account=MEMBER, arn=f"arn:aws:iam::{MEMBER}:user/sandbox-admin"),
}


class Backend(IAMBackend):
    """moto's IAM of one account, with AWS's own sentences for what is not there."""

    def get_role(self, role_name: str) -> Role:
        for role in self.roles.values():
            if role.name == role_name:
                return role
        raise NotFoundException(f"The role with name {role_name} cannot be found.")

    def get_policy(self, policy_arn: str) -> ManagedPolicy:
        if policy_arn not in self.managed_policies:
            raise NotFoundException(f"Policy {policy_arn} does not exist or is not attachable.")
        return self.managed_policies[policy_arn]


def now() -> datetime:
    return datetime.now(UTC)


def ago(days: float) -> datetime:
    return now() - timedelta(days=days)


@dataclass(frozen=True, kw_only=True)
class Session:
    """What AssumeRole gave out."""

    caller: Caller
    user_id: str
    expires: datetime


@dataclass(frozen=True, kw_only=True)
class Use:
    """The last attempt to take an action."""

    at: datetime
    region: str = "us-east-1"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A last accessed report under way or ready; only the access key that asked for it may read it."""

    access_key: str
    granularity: str
    created: datetime
    ready: datetime
    services: list[dict[str, Any]]


@dataclass(kw_only=True)
class Seen:
    """A finding as an analyzer keeps it; whether it is resolved follows from the trust policy."""

    detail: dict[str, Any]
    created: datetime
    updated: datetime
    resolved: bool = False
    archived: bool = False


@dataclass(kw_only=True)
class Stack:
    name: str
    region: str
    logical_id: str
    at: datetime


@lru_cache(maxsize=1)
def _aws_managed() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return AWS's own managed policies by ARN: name and data, as moto carries them."""
    every: dict[str, dict[str, Any]] = json.loads(aws_managed_policies_data)
    return {f"arn:aws:iam::aws:policy{data['Path']}{name}": (name, data) for name, data in every.items()}


@dataclass(kw_only=True)
class State:
    lock: threading.RLock = field(default_factory=threading.RLock)
    accounts: dict[str, IAMBackend] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    findings: dict[str, dict[str, Seen]] = field(default_factory=dict)  # by analyzer ARN and finding id
    used: dict[str, dict[str, Use]] = field(default_factory=dict)  # by role ARN and full action name
    stacks: dict[str, Stack] = field(default_factory=dict)  # by role ARN
    # What was there before each write, oldest first, for reads that lag behind.
    past: list[tuple[float, str, IAMBackend]] = field(default_factory=list)

    def iam(self, account: str, lag: float = 0.0) -> IAMBackend:
        """Return the account's IAM as it is, or as it was `lag` seconds ago."""
        if account not in self.accounts:
            self.accounts[account] = Backend("aws", account)
        if lag:
            then = time.monotonic() - lag
            for at, whose, backend in self.past:
                if whose == account and at > then:
                    return backend
        return self.accounts[account]

    def remember(self, account: str) -> None:
        """Keep the account's IAM as it is now, before a write."""
        cut = time.monotonic() - 120
        self.past = [entry for entry in self.past if entry[0] > cut]
        self.past.append((time.monotonic(), account, copy.deepcopy(self.iam(account))))

    def caller(self, access_key: str) -> Caller:
        session = self.sessions.get(access_key)
        return session.caller if session else KEYS.get(access_key, KEYS["AKIASANDBOX000000000"])

    def role(self, arn: str) -> Role | None:
        """Return a role by its ARN; IAM does not look at the path."""
        account, _, name = arn.removeprefix("arn:aws:iam::").partition(":role/")
        name = name.rsplit("/", 1)[-1]
        if account not in self.accounts:
            return None
        return next((r for r in self.accounts[account].roles.values() if r.name == name), None)

    def aws_policy(self, backend: IAMBackend, arn: str) -> ManagedPolicy | None:
        """Return an AWS managed policy, brought in when it is first named: all 1,582 would slow every start."""
        if arn not in backend.managed_policies and arn in _aws_managed():
            name, data = _aws_managed()[arn]
            policy = AWSManagedPolicy.from_data(name, backend.account_id, "us-east-1", data)
            backend.managed_policies[arn] = policy
            backend.aws_managed_policies.append(policy)
        return backend.managed_policies.get(arn)


def default_text(policy: ManagedPolicy) -> str:
    return next(v.document for v in policy.versions if v.version_id == policy.default_version_id)


def documents_of(role: Role) -> list[dict[str, Any]]:
    """Return every permissions policy of a role, parsed."""
    texts = [*role.policies.values(), *(default_text(p) for p in role.managed_policies.values())]
    return [json.loads(text) for text in texts]
