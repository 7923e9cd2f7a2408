"""Action patterns as IAM reads them, and as languages: matching, inclusion and disjointness, each decided exactly.

`*` is any run of characters, `?` exactly one, case does not count, and `*` alone means everything.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html
"""

from __future__ import annotations

import re
from functools import lru_cache

EVERYTHING = "*:*"
_RUN = re.compile(r"[*?]{2,}")
_STATES = 20_000  # of the walk in `_walk`: no pattern that people write comes near


def is_name(pattern: str) -> bool:
    """Tell whether the pattern is the name of one action."""
    return "*" not in pattern and "?" not in pattern


def normal(pattern: str) -> str:
    """Return the pattern in lower case with one spelling for the same wildcards: `*` is `*:*`, `*?**` is `?*`."""
    low = pattern.lower()
    if is_name(low):
        return low
    low = _RUN.sub(lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]), low)
    return EVERYTHING if low == "*" else low


def expression(pattern: str, letter: str = ".") -> str:
    """Return a regular expression for a normal pattern, `letter` standing for one character.

    What lies between two stars is taken where it first fits and never again: with atomic groups a hostile pattern
    such as `*a*a*a*a*b` takes no longer than its length times the name's.
    """
    first, *rest = ("".join(letter if c == "?" else re.escape(c) for c in part) for part in pattern.split("*"))
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>{letter}*?{part})" for part in middle) + f"{letter}*{last}"


@lru_cache(maxsize=16384)
def matcher(pattern: str) -> re.Pattern[str]:
    """Return a regular expression over lower-case `service:action` names."""
    return re.compile(expression(normal(pattern)), re.DOTALL)


def matches(pattern: str, action: str) -> bool:
    """Tell whether IAM takes the action to be meant by the pattern."""
    if is_name(pattern):
        return pattern.lower() == action.lower()
    return matcher(pattern).fullmatch(action.lower()) is not None


@lru_cache(maxsize=16384)
def inside(inner: str, outer: str) -> bool:
    """Tell whether every string of the one pattern is one of the other's, whatever AWS may add.

    The worst that a wildcard of `inner` can stand for is a letter that `outer` does not name: only a wildcard of
    `outer` takes it, and that takes every other letter as well. Without `?` in `outer` the length of a run does not
    count either, so one string decides for all.
    """
    a, b = normal(inner), normal(outer)
    if b in {a, EVERYTHING}:
        return True
    if "?" not in b:
        return matcher(b).fullmatch(a.replace("*", "\0").replace("?", "\0")) is not None
    return _walk(a, b)


def _walk(inner: str, outer: str) -> bool:
    """Follow each string of `inner` through all the places of `outer` where it may be at once.

    Past `_STATES` the answer is no: nothing is then written that could have been, which is the safe side.
    """

    def closed(places: set[int]) -> frozenset[int]:
        found = set(places)
        for place in places:
            at = place
            while at < len(outer) and outer[at] == "*":
                at += 1
                found.add(at)
        return frozenset(found)

    def step(places: frozenset[int], letter: str) -> frozenset[int]:
        moved: set[int] = set()
        for place in places:
            if place < len(outer):
                if outer[place] == "*":
                    moved.add(place)
                elif outer[place] in {"?", letter}:
                    moved.add(place + 1)
        return closed(moved)

    start = (0, closed({0}))
    todo, seen = [start], {start}
    while todo:
        at, places = todo.pop()
        if not places or len(seen) > _STATES:
            return False
        if at == len(inner):
            if len(outer) not in places:
                return False
            continue
        letter = "\0" if inner[at] in {"*", "?"} else inner[at]
        nexts = [(at + 1, step(places, letter))]
        if inner[at] == "*":
            nexts = [(at + 1, places), (at, step(places, letter))]
        for each in nexts:
            if each not in seen:
                seen.add(each)
                todo.append(each)
    return True


@lru_cache(maxsize=16384)
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
