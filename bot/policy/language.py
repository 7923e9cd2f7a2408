"""IAM's policy language, as much as trimming needs: documents read strictly, patterns compared as languages.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bot.errors import PolicyError

_TOP = frozenset({"Version", "Id", "Statement"})
_KEYS = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_VERSIONS = frozenset({"2012-10-17", "2008-10-17"})
_ACTION = re.compile(r"\*|\*:\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_DEPTH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement. `raw` is its JSON object as read, keys in order; `patterns` its Action or NotAction."""

    index: int
    allow: bool
    inverted: bool  # NotAction
    patterns: tuple[str, ...]
    raw: Mapping[str, Any]

    def scope(self) -> str:
        """Everything but Sid and actions, in canonical form: who and what the statement is about."""
        rest = {k: v for k, v in self.raw.items() if k not in {"Sid", "Action", "NotAction"}}
        return json.dumps(rest, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    raw: Mapping[str, Any]
    statements: tuple[Statement, ...]
    single: bool  # Statement was one object, not a list


def parse(text: str, name: str = "the policy") -> Document:
    """Read a permissions policy document.

    Raises:
        PolicyError: it is not one; the sentence names line and column, or the JSON path.
    """
    raw = read_json(text, name)
    if not isinstance(raw, dict):
        raise PolicyError(f"{name} is not a JSON object.")
    for key in raw:
        if key not in _TOP:
            raise PolicyError(f"{name} has an unknown element at $.{key}.")
    version = raw.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise PolicyError(f"{name} has a Version at $.Version that IAM does not know.", "It is 2012-10-17.")
    if "Statement" not in raw:
        raise PolicyError(f"{name} has no Statement at $.")
    body = raw["Statement"]
    single = isinstance(body, dict)
    entries = [body] if single else body
    if not isinstance(entries, list):
        raise PolicyError(f"{name} has a Statement at $.Statement that is neither an object nor a list.")
    return Document(
        raw=raw,
        statements=tuple(
            _statement(e, i, "$.Statement" if single else f"$.Statement[{i}]", name) for i, e in enumerate(entries)
        ),
        single=single,
    )


def read_json(text: str, name: str) -> Any:
    """Parse JSON, refusing duplicate keys and absurd depth.

    Raises:
        PolicyError: with line and column.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            twice = next(k for k, _ in items if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise PolicyError(f"{name} has the element {twice!r} twice in one object.", "IAM would take only one.")
        return found

    text = text.removeprefix("\ufeff")
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise PolicyError(f"{name} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except ValueError:
        raise PolicyError(f"{name} is not JSON: it holds a number that JSON does not have.") from None
    except RecursionError:
        raise PolicyError(f"{name} is nested too deeply.") from None
    if _depth(value) > _DEPTH:
        raise PolicyError(f"{name} is nested too deeply.")
    return value


def _no_constant(word: str) -> Any:
    raise ValueError(word)


def _depth(value: Any) -> int:
    deepest, todo = 0, [(value, 1)]
    while todo:
        each, level = todo.pop()
        deepest = max(deepest, level)
        if deepest > _DEPTH:
            return deepest
        if isinstance(each, dict):
            todo += [(v, level + 1) for v in each.values()]
        elif isinstance(each, list):
            todo += [(v, level + 1) for v in each]
    return deepest


def _statement(raw: Any, index: int, where: str, name: str) -> Statement:
    if not isinstance(raw, dict):
        raise PolicyError(f"{name} has a statement at {where} that is not an object.")
    for key in raw:
        if key in {"Principal", "NotPrincipal"}:
            raise PolicyError(
                f"{name} has a {key} at {where}: that belongs to a trust or resource policy.",
                "Give a permissions policy.",
            )
        if key not in _KEYS:
            raise PolicyError(f"{name} has an unknown element at {where}.{key}.")
    effect = raw.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise PolicyError(f"{name} has no Effect of Allow or Deny at {where}.")
    if ("Action" in raw) == ("NotAction" in raw):
        raise PolicyError(f"{name} needs Action or NotAction, and not both, at {where}.")
    if ("Resource" in raw) == ("NotResource" in raw):
        raise PolicyError(f"{name} needs Resource or NotResource, and not both, at {where}.")
    key = "Action" if "Action" in raw else "NotAction"
    value = raw[key]
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not patterns or not all(isinstance(p, str) for p in patterns):
        raise PolicyError(f"{name} has a {key} at {where}.{key} that is neither a string nor a list of strings.")
    for i, pattern in enumerate(patterns):
        if not _ACTION.fullmatch(pattern):
            at = f"{where}.{key}" if isinstance(value, str) else f"{where}.{key}[{i}]"
            raise PolicyError(f"{name} has {pattern[:80]!r} at {at}, which is not an action.", "It is service:Action.")
    return Statement(
        index=index, allow=effect == "Allow", inverted=key == "NotAction", patterns=tuple(patterns), raw=raw
    )


def size(text: str) -> int:
    """Characters of a document as IAM counts them: white space outside strings aside.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    """
    return len(re.sub(r'("(?:[^"\\]|\\.)*")|\s+', lambda m: m[1] or "", text))


def write(raw: Mapping[str, Any]) -> str:
    """Return a document as people read it: two spaces, keys in the order given."""
    return json.dumps(raw, indent=2, ensure_ascii=False)


# -------------------- patterns


def normal(pattern: str) -> str:
    """Return a pattern in lower case with runs of stars as one; `*` means `*:*`."""
    low = re.sub(r"\*+", "*", pattern.lower())
    return "*:*" if low == "*" else low


@lru_cache(maxsize=65536)
def matcher(pattern: str) -> re.Pattern[str]:
    """Return a regular expression over lower-case `service:action` names."""
    return re.compile(re.escape(normal(pattern)).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def matches(pattern: str, action: str) -> bool:
    """Tell whether IAM takes the action to be meant by the pattern: case does not count."""
    return matcher(pattern).fullmatch(action.lower()) is not None


_OTHER = "\0"  # stands for every character that neither pattern names


@lru_cache(maxsize=65536)
def inside(inner: str, outer: str) -> bool:
    """Tell whether every string of the one pattern is one of the other's: exact, for `*` and `?` anywhere.

    A walk over pairs of a position in `inner` and the set of positions that `outer` may be in.
    """
    a, b = normal(inner), normal(outer)
    letters = (set(a) | set(b)) - {"*", "?"} | {_OTHER}

    def close(states: frozenset[int]) -> frozenset[int]:
        found = set(states)
        for s in sorted(states):
            at = s
            while at < len(b) and b[at] == "*":
                at += 1
                found.add(at)
        return frozenset(found)

    def step(states: frozenset[int], letter: str) -> frozenset[int]:
        moved = set()
        for s in states:
            if s == len(b):
                continue
            if b[s] == "*":
                moved.add(s)
            elif b[s] in {"?", letter}:
                moved.add(s + 1)
        return close(frozenset(moved))

    start = (0, close(frozenset({0})))
    todo, seen = [start], {start}
    while todo:
        at, states = todo.pop()
        if not states:
            return False
        nexts: list[tuple[int, frozenset[int]]] = []
        if at == len(a):
            if len(b) not in states:
                return False
            continue
        if a[at] == "*":
            nexts.append((at + 1, states))
            nexts += [(at, step(states, letter)) for letter in letters]
        elif a[at] == "?":
            nexts += [(at + 1, step(states, letter)) for letter in letters]
        else:
            nexts.append((at + 1, step(states, a[at])))
        for each in nexts:
            if each not in seen:
                seen.add(each)
                todo.append(each)
    return True


@lru_cache(maxsize=65536)
def meets(one: str, other: str) -> bool:
    """Tell whether some string belongs to both patterns."""
    a, b = normal(one), normal(other)
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        i, j = todo.pop()
        if i == len(a) and j == len(b):
            return True
        nexts = []
        if i < len(a) and a[i] == "*":
            nexts.append((i + 1, j))
            if j < len(b):
                nexts.append((i, j + 1))
        if j < len(b) and b[j] == "*":
            nexts.append((i, j + 1))
            if i < len(a):
                nexts.append((i + 1, j))
        if i < len(a) and j < len(b) and "*" not in {a[i], b[j]} and (a[i] == b[j] or "?" in {a[i], b[j]}):
            nexts.append((i + 1, j + 1))
        for each in nexts:
            if each not in seen:
                seen.add(each)
                todo.append(each)
    return False
