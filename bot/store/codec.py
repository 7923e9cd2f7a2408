"""Model values as canonical JSON text, and back, exactly.

A value is written field by field with sorted keys and ASCII only, so that equal values are equal texts and every
string survives, unpaired surrogates included. Reading follows the type hints: a field that the text has and the type
has not is passed over, and a field that the text lacks takes its default, so rows of other versions can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from bot.errors import StoreError

T = TypeVar("T")
_Reader = Callable[[Any], Any]


def encode(value: object) -> str:
    """Return the value as canonical JSON.

    Raises:
        TypeError: it holds something that is not a model value; a time without a zone is none.
    """
    return json.dumps(value, default=_plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} is not a value that can be stored")


def decode(kind: type[T], text: str) -> T:
    """Return the value of type `kind` that `text` holds.

    Raises:
        StoreError: the text does not hold such a value.
    """
    try:
        return cast("T", _reader(cast("Any", kind))(json.loads(text)))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise StoreError(
            "The database holds a record that this version of Refine cannot read.",
            "Run the version that wrote it, or restore a backup.",
        ) from error


@cache
def _reader(kind: Any) -> _Reader:
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, NewType):
        return _reader(kind.__supertype__)
    if origin is Literal:
        return _one_of(args)
    if origin in (Union, UnionType):
        (inner,) = (a for a in args if a is not NoneType)
        return _optional(_reader(inner))
    if origin is tuple:
        return _tuple(args)
    if kind is datetime:
        return datetime.fromisoformat
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if is_dataclass(kind):
        return _dataclass(cast("type", kind))
    return _exactly(kind)


def _one_of(allowed: tuple[Any, ...]) -> _Reader:
    def read(raw: Any) -> Any:
        if raw not in allowed:
            raise ValueError("not one of the values allowed")
        return raw

    return read


def _optional(inner: _Reader) -> _Reader:
    return lambda raw: None if raw is None else inner(raw)


def _tuple(args: tuple[Any, ...]) -> _Reader:
    if args[-1] is Ellipsis:
        each = _reader(args[0])
        return lambda raw: tuple(map(each, raw))
    readers = tuple(_reader(a) for a in args)
    return lambda raw: tuple(read(part) for read, part in zip(readers, raw, strict=True))


def _dataclass(kind: type) -> _Reader:
    hints = get_type_hints(kind)
    readers = {f.name: _reader(hints[f.name]) for f in fields(kind)}
    return lambda raw: kind(**{name: readers[name](part) for name, part in raw.items() if name in readers})


def _exactly(kind: type) -> _Reader:
    def read(raw: Any) -> Any:
        if type(raw) is not kind:
            raise TypeError(f"not a {kind.__name__}")
        return raw

    return read
