"""Reads the world: one JSON file a role in world/, whose format world/README.md tells."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from moto.iam.models import IAMBackend, ManagedPolicy, PolicyVersion, Role

from sandbox.aws.state import HUB, Stack, State, Use, ago

_KEYS = {
    "account", "path", "description", "createdDaysAgo", "maxSessionSeconds", "tags", "trust",
    "managed", "attached", "inline", "boundary", "used", "stack",
}  # fmt: skip
_MANAGED_KEYS = {"path", "description", "createdDaysAgo", "versions"}


def load_world(state: State) -> None:
    """Fill the state with every role of world/.

    Raises:
        ValueError: a file has a key that does not exist, or names a policy that no file has.
    """
    entries = sorted((f for f in (files("sandbox.aws") / "world").iterdir() if f.name.endswith(".json")), key=str)
    roles = {f.name.removesuffix(".json"): json.loads(f.read_text(encoding="utf-8")) for f in entries}
    add_roles(state, {(name.split("@")[0], data.get("account", HUB)): data for name, data in roles.items()})


def add_roles(state: State, roles: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """Add roles, by name and account; a policy of one of them may be attached to any other of the account.

    Raises:
        ValueError: a key does not exist, or a policy.
    """
    for (name, account), data in roles.items():
        _known(name, data, _KEYS)
        for policy_name, policy in data.get("managed", {}).items():
            _known(name, policy, _MANAGED_KEYS)
            _add_policy(state.iam(account), policy_name, policy)
    for (name, account), data in roles.items():
        _add_role(state, state.iam(account), name, data)


def _known(name: str, data: dict[str, Any], keys: set[str]) -> None:
    if unknown := data.keys() - keys:
        raise ValueError(f"the role {name} has an unknown key: {', '.join(sorted(unknown))}")


def text_of(document: Any) -> str:
    """Return a document's text: an object is written as the IAM console does, a list of lines is taken to the byte."""
    if isinstance(document, list):
        return "\n".join(document)
    return document if isinstance(document, str) else json.dumps(document, indent=4, ensure_ascii=False)


def _id(prefix: str, arn: str) -> str:
    """Return an id as AWS makes them, the same one each time: who deletes and makes a role anew gets another."""
    return prefix + base64.b32encode(hashlib.sha256(arn.encode()).digest()).decode()[:17]


def _add_policy(backend: IAMBackend, name: str, data: dict[str, Any]) -> None:
    versions = data["versions"]
    created = ago(data.get("createdDaysAgo", 300)).replace(tzinfo=None)
    policy = ManagedPolicy(
        name,
        account_id=backend.account_id,
        region="us-east-1",
        description=data.get("description"),
        document=text_of(versions[0]["document"]),
        path=data.get("path", "/"),
        create_date=created,
        update_date=created,
    )
    policy.id = _id("ANPA", policy.arn)
    policy.versions = []
    for version in versions:
        number = version.get("id", "v1")
        at = ago(version["createdDaysAgo"]).replace(tzinfo=None) if "createdDaysAgo" in version else created
        policy.versions.append(PolicyVersion(policy.arn, text_of(version["document"]), False, number, at))
        policy.update_date = max(policy.update_date, at)
    newest = policy.versions[-1]
    newest.is_default, policy.default_version_id = True, newest.version_id
    policy.next_version_num = int(newest.version_id[1:]) + 1
    backend.managed_policies[policy.arn] = policy


def _add_role(state: State, backend: IAMBackend, name: str, data: dict[str, Any]) -> None:
    path = data.get("path", "/")
    role = Role(
        account_id=backend.account_id,
        partition="aws",
        role_id="",
        name=name,
        assume_role_policy_document=text_of(data["trust"]),
        path=path,
        permissions_boundary=None,
        description=data.get("description", ""),
        tags=[{"Key": key, "Value": value} for key, value in data.get("tags", {}).items()],
        max_session_duration=str(data.get("maxSessionSeconds", 3600)),
        linked_service=path.split("/")[2] if path.startswith("/aws-service-role/") else None,
    )
    role.id = _id("AROA", role.arn)
    role.create_date = ago(data["createdDaysAgo"]).replace(tzinfo=None)
    backend.roles[role.id] = role
    for policy in [*data.get("managed", {}), *data.get("attached", [])]:
        _find(state, backend, policy).attach_to(role)
    role.policies = {policy: text_of(document) for policy, document in data.get("inline", {}).items()}
    if "boundary" in data:
        role.permissions_boundary_arn = _find(state, backend, data["boundary"]).arn
    state.used[role.arn] = {
        action: Use(at=ago(use["daysAgo"]), region=use.get("region", "us-east-1"))
        for action, use in data.get("used", {}).items()
    }
    touch(state, role)
    if "stack" in data:
        stack = data["stack"]
        state.stacks[role.arn] = Stack(
            name=stack["name"], region=stack["region"], logical_id=stack["logicalId"], at=ago(data["createdDaysAgo"])
        )


def _find(state: State, backend: IAMBackend, policy: str) -> ManagedPolicy:
    if policy.startswith("arn:"):
        found = state.aws_policy(backend, policy)
    else:
        found = next((p for p in backend.managed_policies.values() if p.name == policy), None)
    if found is None:
        raise ValueError(f"there is no policy {policy}")
    return found


def touch(state: State, role: Role) -> None:
    """Bring RoleLastUsed up to the role's usage."""
    uses = [u for u in state.used.get(role.arn, {}).values() if u.at >= ago(400)]
    if uses:
        last = max(uses, key=lambda u: u.at)
        role.last_used, role.last_used_region = last.at.replace(tzinfo=None), last.region
