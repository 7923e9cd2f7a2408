"""AWS's Service Reference, asked at run time for the services at hand: optional, cached on disk, never required.

It can only add reasons to keep: names that the catalogue does not know yet, and that IAM does not report the last use
of an action. Where it cannot be reached in time, the catalogue stays what it was.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/service-reference.html
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any

from bot.policy.catalogue import Action, Catalogue, Refreshed

INDEX = "https://servicereference.us-east-1.amazonaws.com/"
_FRESH = 24 * 3600.0  # seconds: AWS's own changes take as long to show
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_AT_ONCE = 4  # requests
_LARGE = 16 * 1024 * 1024  # bytes; the largest answer, ec2's, is about a tenth of it


def refreshed(
    catalogue: Catalogue, services: Iterable[str], cache: Path, *, index: str = INDEX, seconds: float = 5.0
) -> tuple[Catalogue, tuple[str, ...]]:
    """Return the catalogue with what AWS says of these services, and those of which nothing could be learnt.

    Only the index and these services are asked for. Never raises for the network's sake, and never waits longer than
    `seconds` for all of it.
    """
    deadline = time.monotonic() + seconds
    wanted = sorted({s.lower() for s in services})
    listed = _read({"index": index}, cache, deadline).get("index")
    urls = {
        str(e.get("service", "")).lower(): str(e.get("url", ""))
        for e in (listed if isinstance(listed, list) else ())
        if isinstance(e, dict)
    }
    # A prefix names a file in the cache, and "index" is the index's.
    known = [s for s in wanted if urls.get(s, "").startswith(index.rstrip("/") + "/") and _PREFIX.fullmatch(s)]
    answers = _read({s: urls[s] for s in known if s != "index"}, cache, deadline)
    more: list[Action] = []
    for service, raw in answers.items():
        mine = catalogue.actions(service)
        for action in _actions(service, raw):
            old = mine.get(action.name.lower())
            if old is None and mine:  # of a service that only the reference knows, patterns stay whole without names
                more.append(action)
            elif old is not None and action.tracked is False:
                more.append(replace(old, tracked=False))
    silent = tuple(s for s in wanted if not isinstance(answers.get(s), dict))
    return (Refreshed(catalogue, more) if more else catalogue), silent


def _actions(service: str, raw: Any) -> list[Action]:
    found = []
    listed = raw.get("Actions") if isinstance(raw, dict) else None
    for each in listed if isinstance(listed, list) else ():
        name = each.get("Name") if isinstance(each, dict) else None
        if isinstance(name, str) and name.replace("-", "").isalnum():
            supported = each.get("SupportedBy")
            said = supported.get("IAM Action Last Accessed") if isinstance(supported, dict) else None
            found.append(Action(service, name, tracked=said if isinstance(said, bool) else None))
    return found


def _read(urls: Mapping[str, str], cache: Path, deadline: float) -> dict[str, Any]:
    """Return by name the JSON behind each URL that was had in time, from the disk where it is fresh there."""
    answers = {name: value for name in urls if (value := _stored(cache / f"{name}.json")) is not None}
    todo = [name for name in urls if name not in answers]
    bodies: dict[str, bytes] = {}

    def work() -> None:
        while todo and time.monotonic() < deadline:
            with suppress(IndexError, OSError, HTTPException, ValueError):
                name = todo.pop()
                bodies[name] = _fetched(urls[name], deadline - time.monotonic())

    # Daemons, because nothing bounds the time of a name server, or of an answer that comes byte by byte.
    threads = [Thread(target=work, daemon=True) for _ in todo[:_AT_ONCE]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for name, body in bodies.copy().items():
        value = _parsed(body)
        if value is not None:
            answers[name] = value
            _keep(cache / f"{name}.json", body)
    return answers


def _fetched(url: str, seconds: float) -> bytes:
    # The address is AWS's own, or one that the caller gives.
    with urllib.request.urlopen(url, timeout=max(0.01, seconds)) as answer:  # noqa: S310
        return bytes(answer.read(_LARGE))


def _stored(file: Path) -> Any:
    try:
        return _parsed(file.read_bytes()) if time.time() - file.stat().st_mtime < _FRESH else None
    except OSError:
        return None


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _keep(file: Path, body: bytes) -> None:
    """Write whole or not at all; a disk that cannot be written costs a cache, no more."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as out:
            out.write(body)
        Path(name).replace(file)
    except OSError:
        return
