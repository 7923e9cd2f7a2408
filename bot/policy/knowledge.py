"""What is known about actions beside the catalogue: data/actions.toml, where each entry names its source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from bot.policy.language import matches


@dataclass(frozen=True, slots=True)
class Needed:
    """A permission without a call of its own, and the action patterns that cannot do without it."""

    action: str
    why: str
    consumers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Marked:
    """Patterns of actions that share a trait, and the trait as the end of a sentence."""

    patterns: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    needed: tuple[Needed, ...]
    invisible: tuple[Marked, ...]
    sensitive: tuple[Marked, ...]

    def pair(self, action: str) -> Needed | None:
        return next((n for n in self.needed if n.action.lower() == action.lower()), None)

    def is_invisible(self, action: str) -> str:
        return _why(self.invisible, action)

    def is_sensitive(self, action: str) -> str:
        return _why(self.sensitive, action)


def _why(marks: tuple[Marked, ...], action: str) -> str:
    return next((m.why for m in marks if any(matches(p, action) for p in m.patterns)), "")


@lru_cache(maxsize=1)
def knowledge() -> Knowledge:
    data = tomllib.loads((files("bot.policy") / "data" / "actions.toml").read_text(encoding="utf-8"))
    return Knowledge(
        needed=tuple(Needed(n["action"], n["why"], tuple(n["for"])) for n in data["needed"]),
        invisible=tuple(Marked(tuple(m["actions"]), m["why"]) for m in data["invisible"]),
        sensitive=tuple(Marked(tuple(m["actions"]), m["why"]) for m in data["sensitive"]),
    )
