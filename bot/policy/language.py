"""IAM's policy language, as much as trimming needs: documents read strictly, patterns compared as languages.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.errors import PolicyError

_TOP = frozenset({"Version", "Id", "Statement"})
_KEYS = frozenset({"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"})
_VERSIONS = frozenset({"2012-10-17", "2008-10-17"})
_ACTION = re.compile(r"\*|\*:\*|[A-Za-z0-9-]+:[A-Za-z0-9*?_.-]+")
_BEYOND = re.compile(r"[^\x00-\xff]")  # characters that IAM takes only as escapes
_DEPTH = 60
_DIGITS = 4000  # Python makes no integer of many more


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
        return _dumps(rest, sort_keys=True)


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
    return document(read_json(text, name, exact=True), name)


def document(raw: Any, name: str = "the policy") -> Document:
    """Read a permissions policy document that is JSON already.

    Raises:
        PolicyError: it is not one; the sentence names the JSON path.
    """
    if not isinstance(raw, dict):
        raise PolicyError(f"{name} is not a policy: its $ is not a JSON object.")
    for key in raw:
        if key not in _TOP:
            raise PolicyError(f"{name} has an unknown element at $.{key}.")
    version = raw.get("Version", "2008-10-17")
    if not isinstance(version, str) or version not in _VERSIONS:
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


@dataclass(frozen=True, slots=True)
class Number:
    """A number that Python would spell otherwise, as 1e3, 1.10 or -0: it is written as it was read."""

    text: str


def read_json(text: str, name: str, *, exact: bool = False) -> Any:
    """Parse JSON, refusing what IAM would refuse or half read: duplicate keys, NaN, absurd depth.

    `exact` gives a Number where a number would lose its spelling.

    Raises:
        PolicyError: with line and column.
    """
    text = text.removeprefix("\ufeff")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_number,
            parse_float=_exact if exact else _float,
            parse_int=_exact if exact else None,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise PolicyError(f"{name} is not JSON: {error.msg} at {place}.", _hint(text, error.pos)) from None
    except _TwiceError as error:
        place = _place(text, str(error))
        raise PolicyError(
            f"{name} has the element {str(error)[:80]!r} twice in one object{place}.", "IAM would take only one."
        ) from None
    except RecursionError:
        raise PolicyError(f"{name} is nested too deeply.") from None
    except ValueError:
        raise PolicyError(f"{name} is not JSON: it holds a number that JSON does not have{_place(text)}.") from None
    if _depth(value) > _DEPTH:
        raise PolicyError(f"{name} is nested too deeply.")
    return value


class _TwiceError(Exception):
    pass


def _object(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) != len(items):
        keys = [k for k, _ in items]
        raise _TwiceError(next(k for i, k in enumerate(keys) if k in keys[:i]))
    return found


def _no_number(word: str) -> Any:
    raise ValueError(word)


def _float(word: str) -> float:
    value = float(word)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(word)
    return value


def _exact(word: str) -> int | float | Number:
    value = _float(word) if word.strip("-0123456789") else int(word) if len(word) < _DIGITS else None
    return value if value is not None and repr(value) == word else Number(word)


def _hint(text: str, at: int) -> str:
    if re.match(r"\s*(//|/\*|#)", text[at:]) or re.search(r"(//|/\*|#)\s*$", text[:at]):
        return "JSON has no comments: take them out."
    if re.search(r",\s*$", text[:at]) and text[at : at + 1] in {"}", "]"}:
        return "The comma before it is one too many."
    return ""


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}:]|-?Infinity|NaN|-?\d[\d.eE+-]*')


def _place(text: str, twice: str | None = None) -> str:
    """Return ` at line L, column C` of a key's second place in one object, or of a number that JSON does not have."""
    stack: list[set[str]] = []
    last: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        word = token[0]
        at: re.Match[str] | None = None
        if word == "{":
            stack.append(set())
        elif word == "}" and stack:
            stack.pop()
        elif word == ":" and stack and last is not None and last[0].startswith('"'):
            key = json.loads(last[0], strict=False)
            at = last if key == twice and key in stack[-1] else None
            stack[-1].add(key)
        elif twice is None and word[0] != '"':
            try:
                json.loads(word, parse_constant=_no_number, parse_float=_float)
            except ValueError:
                at = token
        if at is not None:
            line = text.count("\n", 0, at.start()) + 1
            return f" at line {line}, column {at.start() - text.rfind(chr(10), 0, at.start())}"
        last = token
    return ""


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
    if not isinstance(raw.get("Sid", ""), str):
        raise PolicyError(f"{name} has a Sid at {where}.Sid that is not a string.")
    if not isinstance(raw.get("Condition", {}), dict):
        raise PolicyError(f"{name} has a Condition at {where}.Condition that is not an object.")
    about = "Resource" if "Resource" in raw else "NotResource"
    if not _strings(raw[about]):
        raise PolicyError(f"{name} has a {about} at {where}.{about} that is neither a string nor a list of strings.")
    key = "Action" if "Action" in raw else "NotAction"
    value = raw[key]
    patterns = [value] if isinstance(value, str) else value
    if not _strings(value):
        raise PolicyError(f"{name} has a {key} at {where}.{key} that is neither a string nor a list of strings.")
    for i, pattern in enumerate(patterns):
        if not is_action(pattern):
            at = f"{where}.{key}" if isinstance(value, str) else f"{where}.{key}[{i}]"
            raise PolicyError(f"{name} has {pattern[:80]!r} at {at}, which is not an action.", "It is service:Action.")
    return Statement(
        index=index, allow=effect == "Allow", inverted=key == "NotAction", patterns=tuple(patterns), raw=raw
    )


def is_action(pattern: str) -> bool:
    """Tell whether a policy can hold the action pattern."""
    return _ACTION.fullmatch(pattern) is not None


def _strings(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and len(value) > 0 and all(isinstance(v, str) for v in value)
    )


_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')


def size(text: str) -> int:
    """Characters of a document as IAM counts them: white space outside strings aside.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    """
    return len(_SPACE.sub(lambda m: m[1] or "", text))


def weigh(raw: Any) -> int:
    """Return what `size` counts of a JSON value as `write` writes it."""
    return len(_escaped(_dumps(raw, separators=(",", ":"), ensure_ascii=False)))


def write(raw: Mapping[str, Any]) -> str:
    """Return a document as people read it: two spaces, keys in the order given, numbers as they were read.

    IAM takes the characters up to U+00FF as they are; what lies beyond was an escape, and becomes one again.
    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreatePolicy.html
    """
    return _escaped(_dumps(raw, indent=2, ensure_ascii=False))


# A number among texts, while JSON is made: IAM takes no U+0000 in a document, so that no text of one looks like it.
_HELD = re.compile(r'"\\u0000([^"\\]+)\\u0000"')


def _dumps(raw: Any, **how: Any) -> str:
    held = []

    def hold(value: Any) -> str:
        held.append(value)
        return f"\0{value.text}\0"

    text = json.dumps(raw, default=hold, **how)
    return _HELD.sub(r"\1", text) if held else text


def _escaped(text: str) -> str:
    return text if text.isascii() else _BEYOND.sub(lambda m: json.dumps(m[0])[1:-1], text)
