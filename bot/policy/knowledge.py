"""What is known about actions beside the catalogue: data/actions.toml, where each entry names its source."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from bot.policy.patterns import matches

_KEPT = 100_000  # names whose traits are remembered: every action there is, a few times over


@dataclass(frozen=True, slots=True)
class Needed:
    """A permission without a call of its own, and the actions (lower-case full names) that cannot do without it."""

    why: str
    consumers: frozenset[str]

    def consumer(self, kept: Iterable[str]) -> str | None:
        """Return the first of the kept actions (full names) that cannot do without it."""
        return next((action for action in kept if action.lower() in self.consumers), None)


@dataclass(frozen=True, slots=True)
class Marked:
    """Patterns of actions that share a trait, and the trait as the end of a sentence."""

    patterns: tuple[str, ...]
    why: str


class Marks:
    """Traits by the service of their patterns, so that most actions cost one look."""

    def __init__(self, marks: Iterable[Marked]) -> None:
        self._by: dict[str, list[tuple[str, str]]] = {}
        for mark in marks:
            for pattern in mark.patterns:
                self._by.setdefault(pattern.partition(":")[0].lower(), []).append((pattern, mark.why))
        self._known: dict[str, str] = {}

    def services(self) -> frozenset[str]:
        """Return the services that the patterns name."""
        return frozenset(self._by)

    def of(self, key: str) -> str:
        """Return the trait of a lower-case full name; empty where it has none."""
        why = self._known.get(key)
        if why is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            own = [*self._by.get(key.partition(":")[0], ()), *self._by.get("*", ())]
            why = self._known[key] = next((w for p, w in own if matches(p, key)), "")
        return why


@dataclass(frozen=True, slots=True)
class Knowledge:
    pairs: Mapping[str, Needed]  # by lower-case full name
    invisible: Marks
    sensitive: Marks
    tagging: Marks  # sensitive where the service is still written to

    def is_sensitive(self, action: str) -> str:
        return self.sensitive.of(action.lower())


@lru_cache(maxsize=1)
def knowledge() -> Knowledge:
    data = tomllib.loads((files("bot.policy") / "data" / "actions.toml").read_text(encoding="utf-8"))
    pairs: dict[str, Needed] = {}
    for entry in data["needed"]:
        key, consumers = entry["action"].lower(), frozenset(c.lower() for c in entry["for"])
        pairs[key] = Needed(entry["why"], consumers | (pairs[key].consumers if key in pairs else frozenset()))
    return Knowledge(
        pairs=pairs,
        invisible=Marks(Marked(tuple(m["actions"]), m["why"]) for m in data["invisible"]),
        sensitive=Marks(Marked(tuple(m["actions"]), m["why"]) for m in data["sensitive"]),
        tagging=Marks(Marked(tuple(m["actions"]), m["why"]) for m in data["tagging"]),
    )
