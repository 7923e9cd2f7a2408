"""The templates: each `{{ }}` is a JSON value, data cannot change the shape, mrkdwn is taken from `text.mrk` alone."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from markupsafe import Markup

from bot.messages import text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Payload = dict[str, Any]

# A string, or a comma before a closing bracket: only the second is dropped.
_TRAILING = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[\]}])')


def render(name: str, view: DataclassInstance | None = None, /, **more: object) -> Payload:
    """Return the message or view that the template makes of the view-model's fields.

    Raises:
        ValueError: the template's result is not one JSON object without duplicate keys: a bug in the template.
    """
    context = {f.name: getattr(view, f.name) for f in fields(view)} if view is not None else {}
    made = _environment().get_template(f"{name}.json.j2").render(**context, **more)
    payload = json.loads(_TRAILING.sub(lambda m: m[0] if m[0] != "," else "", made), object_pairs_hook=_no_twins)
    if not isinstance(payload, dict):
        raise TypeError(f"{name} is not a JSON object")
    return payload


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key is there twice: {sorted(k for k, _ in pairs)}")
    return found


def _finalize(value: object) -> Markup:
    """Encode every expression of a template as JSON: the short way to write is the safe one."""
    if isinstance(value, Markup):  # what a macro made: JSON already
        return value
    if isinstance(value, str):
        return Markup(json.dumps(text.clean(value), ensure_ascii=False))  # noqa: S704  # it is JSON, not HTML
    if value is None or isinstance(value, bool | int):
        return Markup(json.dumps(value))  # noqa: S704
    if isinstance(value, Undefined):
        str(value)  # says which name it is, in an UndefinedError
    raise TypeError(f"a template may not print a {type(value).__name__}")


def _trusted(value: object) -> str:
    if not isinstance(value, text.Mrk):
        raise TypeError(f"mrkdwn has to come from the mrk filter: {value!r:.80}")
    return value


def _plain(value: str, most: int = 3000) -> str:
    return text.cut(text.clean(value).strip(), most) or "(empty)"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("templates", ""),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    # An allow-list: `safe`, `tojson`, `escape` and their like would get around `finalize`.
    environment.filters = {
        "mrk": text.mrk,
        "trusted": _trusted,
        "plain": _plain,
        "code": text.code,
        "mention": text.mention,
        "when": text.when,
        "stamp": text.stamp,
        "day": text.day,
        "many": text.many,
        "listed": text.listed,
        "some": text.some,
        "lines": text.lines,
        "cut": text.cut,
        "line": text.line,
        "box": text.box,
        "length": len,
        "list": list,
    }
    return environment
