"""Access Analyzer's checks of policies: ValidatePolicy and CheckNoNewAccess, as far as the bot's documents need them.

Not AWS's own reasoning: ValidatePolicy looks for a handful of its findings, CheckNoNewAccess compares the known
actions statement by statement and errs on the side of FAIL.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-reference-policy-checks.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sandbox.aws.policy import actions, as_list, meets, names, service_titles, size, statements

_LINK = "https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-reference-policy-checks.html"
_QUOTA = 6144
_KEYS = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
# Stand for actions that AWS has yet to add: a pattern that may mean them must not be new.
_FUTURE = "thatisyettocome"


def validate(text: str, policy_type: str) -> list[dict[str, Any]]:
    """Return ValidatePolicy's findings for a document."""
    try:
        document = json.loads(text)
    except ValueError as error:
        at = getattr(error, "pos", 0)
        return [_finding("ERROR", "JSON_SYNTAX_ERROR", f"Fix the JSON syntax error at index {at}.", [], text)]
    if not isinstance(document, dict) or not statements(document):
        return [_finding("ERROR", "MISSING_STATEMENT", "Add a Statement element to the policy.", [], text)]
    found = []
    if "Version" not in document:
        found.append(_finding("WARNING", "MISSING_VERSION", "We recommend that you specify the Version.", [], text))
    if policy_type == "IDENTITY_POLICY" and size(text) > _QUOTA:
        found.append(_finding("ERROR", "POLICY_SIZE_EXCEEDED", f"The policy exceeds {_QUOTA} characters.", [], text))
    sids = [s.get("Sid") for s in statements(document) if s.get("Sid")]
    if len(sids) != len(set(sids)):
        found.append(_finding("ERROR", "UNIQUE_SIDS_REQUIRED", "Duplicate statement IDs.", ["Statement"], text))
    for i, statement in enumerate(statements(document)):
        found += [
            _finding(t, code, message, ["Statement", i, *path], text) for t, code, message, path in _check(statement)
        ]
    return found


def _check(statement: dict[str, Any]) -> Iterator[tuple[str, str, str, list[str | int]]]:
    for key in statement.keys() - _KEYS - {"Principal", "NotPrincipal"}:
        yield "ERROR", "INVALID_ELEMENT", f"The element {key} is not supported.", [key]
    if statement.get("Effect") not in ("Allow", "Deny"):
        yield "ERROR", "MISSING_EFFECT", "Add an Effect element of Allow or Deny.", []
    key = "NotAction" if "NotAction" in statement else "Action"
    patterns = as_list(statement.get(key))
    if key not in statement:
        yield "ERROR", "MISSING_ACTION", "Add an Action or NotAction element.", []
    elif not patterns:
        yield "ERROR", "EMPTY_ARRAY_ACTION", "The Action array is empty and does not grant anything.", [key]
    if not {"Resource", "NotResource", "Principal"} & statement.keys():
        yield "ERROR", "MISSING_RESOURCE", "Add a Resource or NotResource element.", []
    for i, pattern in enumerate(patterns):
        service, _, rest = pattern.lower().partition(":")
        if pattern != "*" and not rest:
            yield "ERROR", "INVALID_ACTION", f"The action {pattern} does not exist.", [key, i]
        elif pattern != "*" and service not in service_titles():
            yield "ERROR", "INVALID_SERVICE_IN_ACTION", f"The service {service} does not exist.", [key, i]
        elif pattern != "*" and not any(meets([pattern], f"{service}:{low}") for low in actions(service)):
            yield "ERROR", "INVALID_ACTION", f"The action {pattern} does not exist.", [key, i]
        if any(j != i and meets([other], pattern.lower()) for j, other in enumerate(patterns)):
            yield "SUGGESTION", "REDUNDANT_ACTION", f"The action {pattern} is redundant.", [key, i]
    passes = statement.get("Effect") == "Allow" and key == "Action" and meets(patterns, "iam:passrole")
    if passes and "*" in as_list(statement.get("Resource")):
        text = "Using the iam:PassRole action with wildcards (*) in the resource can be overly permissive."
        yield "SECURITY_WARNING", "PASS_ROLE_WITH_STAR_IN_RESOURCE", text, ["Resource"]


def _finding(kind: str, code: str, details: str, path: list[str | int], text: str) -> dict[str, Any]:
    end = text.count("\n")
    location = {
        "path": [{"index": p} if isinstance(p, int) else {"value": p} for p in path],
        "span": {
            "start": {"line": 1, "column": 0, "offset": 0},
            "end": {"line": end + 1, "column": len(text) - text.rfind("\n") - 1, "offset": len(text)},
        },
    }
    return {
        "findingType": kind,
        "issueCode": code,
        "findingDetails": details,
        "learnMoreLink": f"{_LINK}#access-analyzer-reference-policy-checks",
        "locations": [location],
    }


# -------------------- no new access


def new_access(new_text: str, old_text: str) -> list[dict[str, Any]]:
    """Return why the new policy may grant what the old one does not; nothing where it cannot.

    Raises:
        ValueError: one of the two is not a policy.
    """
    new, old = (_read(text) for text in (new_text, old_text))
    allowing = [s for s in old if s.get("Effect") == "Allow"]
    reasons = []
    for i, statement in enumerate(new):
        if statement.get("Effect") != "Allow":
            continue
        wider = [
            action
            for action in _meant(statement)
            if not any(names(o, action) and _no_wider(statement, o) for o in allowing)
        ]
        if wider:
            reasons.append(_reason(statement, i))
    kept = {_canonical(s) for s in new if s.get("Effect") == "Deny"}
    if any(s.get("Effect") == "Deny" and _canonical(s) not in kept for s in old):
        reasons.append({"description": "A Deny of the existing policy is missing."})
    return reasons


def _read(text: str) -> list[dict[str, Any]]:
    try:
        return statements(json.loads(text))
    except (ValueError, AttributeError):
        raise ValueError("The policy document is not a valid policy.") from None


def _meant(statement: dict[str, Any]) -> Iterator[str]:
    patterns = as_list(statement.get("Action"))
    everything = "NotAction" in statement or any(p.split(":")[0] == "*" for p in patterns)
    services = service_titles() if everything else {p.split(":")[0].lower() for p in patterns}
    for service in services:
        for low in actions(service):
            if names(statement, f"{service}:{low}"):
                yield f"{service}:{low}"
    if "NotAction" in statement:
        yield f"{_FUTURE}:{_FUTURE}"
    for pattern in patterns:  # also what no catalogue knows
        yield pattern.lower().replace("*", _FUTURE).replace("?", "q") if pattern != "*" else f"{_FUTURE}:{_FUTURE}"


def _no_wider(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether the new statement's scope lies in the old one's."""
    if old.get("Condition") and old["Condition"] != new.get("Condition"):
        return False
    if "NotResource" in old or "NotResource" in new:
        return as_list(old.get("NotResource")) == as_list(new.get("NotResource")) or "*" in as_list(old.get("Resource"))
    outer = as_list(old.get("Resource"))
    return all(r in outer or "*" in outer for r in as_list(new.get("Resource")))


def _canonical(statement: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in statement.items() if k != "Sid"}, sort_keys=True)


def _reason(statement: dict[str, Any], index: int) -> dict[str, Any]:
    reason = {"description": f"New access in the statement with index: {index}.", "statementIndex": index}
    if statement.get("Sid"):
        reason["statementId"] = statement["Sid"]
    return reason
