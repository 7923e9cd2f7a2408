"""AWS's Service Reference, asked at run time for the services at hand: optional, cached on disk, never required.

It can only add reasons to keep: names that the catalogue does not know yet, and that IAM does not report the last use
of an action. Where it cannot be reached in time, the catalogue stays what it was.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/service-reference.html
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bot.policy.catalogue import Action, Catalogue, Extended

INDEX = "https://servicereference.us-east-1.amazonaws.com/"
_FRESH = 24 * 3600.0  # seconds: AWS's own changes take as long to show
_LARGE = 16 * 1024 * 1024  # bytes; the largest answer, ec2's, is about a tenth of it


class Refreshed(Extended):
    """The catalogue with what the reference adds: new names, and of known ones that IAM does not track them."""

    def actions(self, service: str) -> Mapping[str, Action]:
        return {**self.base.actions(service), **self.more.get(service, {})}


def refreshed(
    catalogue: Catalogue, services: Iterable[str], cache: Path, *, index: str = INDEX, seconds: float = 3.0
) -> tuple[Catalogue, tuple[str, ...]]:
    """Return the catalogue with what AWS says of these services, and those of which nothing could be learnt.

    Never raises for the network's sake, and never waits longer than `seconds` for any one answer.
    """
    wanted = sorted({s.lower() for s in services})
    urls = {
        str(e.get("service", "")).lower(): str(e.get("url", ""))
        for e in _read(index, cache / "index.json", seconds) or ()
        if isinstance(e, dict)
    }
    known = [s for s in wanted if urls.get(s, "").startswith(index.rstrip("/") + "/") and _plain(s)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = dict(zip(known, pool.map(lambda s: _read(urls[s], cache / f"{s}.json", seconds), known), strict=True))
    more: list[Action] = []
    for service, raw in answers.items():
        mine = catalogue.actions(service)
        for action in _actions(service, raw):
            old = mine.get(action.name.lower())
            if old is None:
                more.append(action)
            elif action.tracked is False:
                more.append(replace(old, tracked=False))
    silent = tuple(s for s in wanted if not isinstance(answers.get(s), dict))
    return (Refreshed(catalogue, more) if more else catalogue), silent


def _plain(service: str) -> bool:
    return service.replace("-", "").isalnum()


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


def _read(url: str, file: Path, seconds: float) -> Any:
    """Return the JSON behind a URL, from the disk where it is fresh there; None where there is none to be had."""
    try:
        if time.time() - file.stat().st_mtime < _FRESH:
            return json.loads(file.read_bytes())
    except (OSError, ValueError):
        pass
    try:
        # The address is AWS's own, or one that the caller gives.
        with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310
            body = answer.read(_LARGE)
        value = json.loads(body)
    except (OSError, HTTPException, ValueError, urllib.error.URLError):
        return None
    _keep(file, body)
    return value


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
