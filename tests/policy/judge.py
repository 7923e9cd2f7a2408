"""A judge of the engine that shares nothing with it: IAM's matching and a statement's meaning, written plainly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=20_000)
def _rule(pattern: str) -> re.Pattern[str]:
    low = "*:*" if pattern == "*" else pattern.lower()
    return re.compile("".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in low))


def fits(pattern: str, action: str) -> bool:
    return _rule(pattern).fullmatch(action.lower()) is not None


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def grants(statement: dict, action: str) -> bool:
    if statement["Effect"] != "Allow":
        return False
    key = "Action" if "Action" in statement else "NotAction"
    return any(fits(p, action) for p in listed(statement[key])) == (key == "Action")


def statements(text: str | None) -> list[dict]:
    body = json.loads(text)["Statement"] if text else []
    return [body] if isinstance(body, dict) else body


def scope(statement: dict) -> str:
    """Everything of a statement but its Sid and actions."""
    return json.dumps({k: v for k, v in statement.items() if k not in {"Sid", "Action", "NotAction"}}, sort_keys=True)


def allowed(text: str | None, actions: Iterable[str]) -> set[tuple[str, str]]:
    """Pairs of an action and the scope it is allowed in."""
    actions = list(actions)
    found: set[tuple[str, str]] = set()
    for s in statements(text):
        if s["Effect"] != "Allow":
            continue
        where = scope(s)
        key = "Action" if "Action" in s else "NotAction"
        names = {p.lower() for p in listed(s[key]) if not set("*?") & set(p)}
        wild: dict[str, list[str]] = {}
        for p in listed(s[key]):
            if set("*?") & set(p):
                wild.setdefault(p.lower().partition(":")[0], []).append(p)
        for a in actions:
            near = (*wild.get(a.lower().partition(":")[0], ()), *wild.get("*", ()))
            hit = a.lower() in names or any(fits(p, a) for p in near)
            if hit == (key == "Action"):
                found.add((a, where))
    return found


def denies(text: str | None) -> list[dict]:
    return [s for s in statements(text) if s["Effect"] == "Deny"]


def brief(text: str) -> int:
    """Characters of a document, white space outside strings aside."""
    return len(json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False))
