"""Spell kept actions small: patterns that match nothing else known, and lie inside what the statement granted before.

Each pattern is a bit set over its service's names. Per kept name the cheapest patterns that fit are found (cut between
words: from a table of all there are; cut anywhere: by walking the cut points with two pointers), a lazy greedy cover
picks by characters per newly covered name, and a reverse delete takes what the others cover together. That is not the
best cover: on the corpus it came within 1.5 % of the best of its class in sum, but a small one can be a tenth longer,
and longer than in the class before, so whoever asks takes the shorter of the two.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import cached_property


class Class(IntEnum):
    """Kinds of pattern, by the proposal's tier."""

    NAMES = 1
    WORDS = 2  # one star, between the words of a name
    STAR = 4  # one star anywhere
    INFIX = 5  # and `*infix*`


Allowed = Callable[[str], bool]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+|[^A-Za-z0-9]+")
_FRAME = 3  # quotes and comma around each entry


class Names:
    """The names of one service as bit sets: which have a prefix, a suffix, a length, three letters in a row."""

    def __init__(self, service: str, names: Sequence[str]) -> None:
        """`names` are spelled as they are to be written."""
        self.service = service
        self.spelled = sorted(names, key=lambda n: (n.lower(), n))
        self.low = [n.lower() for n in self.spelled]
        self.place = {n: i for i, n in enumerate(self.low)}
        self.heads = self._shared(lambda n: [n[:cut] for cut in range(len(n) + 1)])
        self.tails = self._shared(lambda n: [n[cut:] for cut in range(len(n) + 1)])
        longest = max(map(len, self.low), default=0)
        self.atleast = [sum(1 << i for i, n in enumerate(self.low) if len(n) >= size) for size in range(longest + 1)]
        self._worded: dict[int, list[list[tuple[int, str]]]] = {}

    def _shared(self, parts: Callable[[str], list[str]]) -> list[list[int]]:
        """Return, per name and cut, the set of names that share that part with it."""
        sets: dict[str, int] = {}
        lists = [parts(name) for name in self.low]
        for i, cut in enumerate(lists):
            bit = 1 << i
            for part in cut:
                sets[part] = sets.get(part, 0) | bit
        return [[sets[part] for part in cut] for cut in lists]

    @cached_property
    def grams(self) -> list[tuple[list[int], list[int], list[int]]]:
        """Return, per name and place, the sets of names that hold the one, two and three letters that begin there."""
        sets: dict[str, int] = {}
        for i, name in enumerate(self.low):
            bit = 1 << i
            for size in (1, 2, 3):
                for at in range(len(name) - size + 1):
                    gram = name[at : at + size]
                    sets[gram] = sets.get(gram, 0) | bit
        return [
            (
                [sets[name[at : at + 1]] for at in range(len(name))],
                [sets[name[at : at + 2]] for at in range(len(name) - 1)],
                [sets[name[at : at + 3]] for at in range(len(name) - 2)],
            )
            for name in self.low
        ]

    def matched(self, i: int, head: int, tail: int) -> int:
        """Return the set of names that `name[:head]*name[tail:]` matches, of the name at a place."""
        shortest = head + len(self.low[i]) - tail
        return self.heads[i][head] & self.tails[i][tail] & self.atleast[shortest]

    def worded(self, i: int) -> list[list[tuple[int, str]]]:
        """Return (names matched, pattern) for a name cut between words: a list per head, the shortest tail first."""
        found = self._worded.get(i)
        if found is None:
            name, cuts = self.spelled[i], borders(self.spelled[i])
            found = self._worded[i] = [
                [
                    (self.matched(i, head, tail), f"{name[:head]}*{name[tail:]}")
                    for tail in reversed(cuts)
                    if tail >= head
                ]
                for head in cuts
            ]
        return found


def borders(name: str) -> list[int]:
    """Return the places between the words of a name, its ends included: `DescribeDBInstances` → 0, 8, 10, 19."""
    return [0, *(m.end() for m in _WORD.finditer(name))]


def compact(
    names: Names, wanted: Sequence[str], fine: Sequence[str], kind: Class, allowed: Allowed | None = None
) -> list[str]:
    """Return the entries for one service, sorted: full `service:Pattern` strings.

    `wanted` are the names to spell, `fine` those that a pattern may match beside them, both in lower case and known to
    `names`; `allowed` tells whether a pattern `service:Pattern` lies inside what was granted before (None: any does).
    """
    places = sorted(names.place[n] for n in wanted)
    if kind is Class.NAMES:
        return [f"{names.service}:{names.spelled[i]}" for i in places]
    goal = sum(1 << i for i in places)
    bad = ~(goal | sum(1 << names.place[n] for n in fine)) & ((1 << len(names.low)) - 1)
    chosen = _cover(names, places, goal, _candidates(names, places, goal, bad, kind, allowed))
    return sorted((f"{names.service}:{p}" for p in chosen), key=lambda p: (p.lower(), p))


def _candidates(
    names: Names, places: list[int], goal: int, bad: int, kind: Class, allowed: Allowed | None
) -> dict[int, str]:
    """Return the cheapest pattern for each set of wanted names that one pattern can cover."""
    best: dict[int, str] = {}
    starred = _between if kind is Class.WORDS else _anywhere
    for i in places:
        for mask, pattern in starred(names, i, bad, allowed):
            old = best.get(mask & goal)
            if old is None or (len(pattern), pattern) < (len(old), old):
                best[mask & goal] = pattern
    if kind is Class.INFIX:
        seen: set[str] = set()
        for i in places:
            for start, end, holders in _infixes(names, i, bad, allowed):
                part = names.low[i][start:end]
                if part in seen:
                    continue
                seen.add(part)
                pattern = f"*{names.spelled[i][start:end]}*"
                mask = _holding(names, part, holders & goal)
                old = best.get(mask)
                if old is None or (len(pattern), pattern) < (len(old), old):
                    best[mask] = pattern
    return best


def _between(names: Names, i: int, bad: int, allowed: Allowed | None) -> Iterator[tuple[int, str]]:
    """Yield (names matched, pattern) of a name's patterns cut between words that no shorter one replaces.

    A longer head is worth its letters only where it lets the tail be shorter.
    """
    end: int | None = None
    for row in names.worded(i):
        for n, (mask, pattern) in enumerate(row[:end]):
            if not mask & bad and (allowed is None or allowed(f"{names.service}:{pattern}")):
                yield mask, pattern
                end = n
                break
        if end == 0:
            return


def _anywhere(names: Names, i: int, bad: int, allowed: Allowed | None) -> Iterator[tuple[int, str]]:
    """Yield the same of a name's patterns cut anywhere.

    The longer the head, the shorter the tail may be: two pointers meet every pattern worth having.
    """
    heads, tails, atleast = names.heads[i], names.tails[i], names.atleast
    spelled = names.spelled[i]
    size = len(spelled)
    tail = 0
    least = -1
    for head in range(size + 1):
        tail = max(tail, head)
        ill = heads[head] & bad
        while True:
            if (ill and ill & tails[tail] & atleast[head + size - tail]) or (
                allowed is not None and not allowed(f"{names.service}:{spelled[:head]}*{spelled[tail:]}")
            ):
                tail -= 1
                break
            if tail == size:
                break
            tail += 1
        if tail > least and tail >= head:
            least = tail
            yield names.matched(i, head, tail), f"{spelled[:head]}*{spelled[tail:]}"
            if tail == size:
                return  # any longer head only says more


def _infixes(names: Names, i: int, bad: int, allowed: Allowed | None) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, holders) of the shortest parts of a name that no bad name holds.

    `holders` is a superset of the names that hold the part: those that hold each three letters in a row of it.
    """
    name = names.low[i]
    ones, twos, threes = names.grams[i]
    size = len(name)
    end = 1
    found: tuple[int, int, int] | None = None
    for start in range(size):
        # Part by part, one letter longer each, until no bad name is left.
        if end <= start:
            end = start + 1
        length = end - start
        holders = ones[start] if length == 1 else twos[start] if length == 2 else threes[start]
        for at in range(start + 1, end - 2):
            holders &= threes[at]
        while ((rest := holders & bad) and (length <= 3 or _held(names.low, name[start:end], rest))) or (
            allowed is not None and not allowed(f"{names.service}:*{name[start:end]}*")
        ):
            if end == size:
                break
            end += 1
            length += 1
            if length > 3:
                holders &= threes[end - 3]
            else:
                holders = twos[start] if length == 2 else threes[start]
        else:
            if found is not None and found[1] < end:
                yield found
            found = (start, end, holders)
            continue
        break
    if found is not None:
        yield found


def _held(low: list[str], part: str, among: int) -> bool:
    while among:
        last = among.bit_length() - 1
        if part in low[last]:
            return True
        among ^= 1 << last
    return False


def _holding(names: Names, part: str, among: int) -> int:
    if len(part) <= 3:
        return among
    found = 0
    while among:
        lowest = among & -among
        if part in names.low[lowest.bit_length() - 1]:
            found |= lowest
        among ^= lowest
    return found


def _cover(names: Names, places: list[int], goal: int, best: dict[int, str]) -> list[str]:
    frame = _FRAME + len(names.service) + 1
    # A name stays a name where a pattern for it alone would save nothing.
    own = {1 << i: names.spelled[i] for i in places}
    heap = [((len(p) + frame) / m.bit_count(), p, m) for m, p in best.items() if m not in own or len(p) < len(own[m])]
    heap += [(len(name) + frame, name, mask) for mask, name in own.items()]
    heapq.heapify(heap)
    left = goal
    chosen: list[tuple[str, int]] = []
    while left:
        price, pattern, mask = heapq.heappop(heap)
        new = (mask & left).bit_count()
        if not new:
            continue
        now = (len(pattern) + frame) / new
        if now > price and heap and now > heap[0][0]:
            heapq.heappush(heap, (now, pattern, mask))
            continue
        chosen.append((pattern, mask))
        left &= ~mask
    return _without_spare(chosen)


def _without_spare(chosen: list[tuple[str, int]]) -> list[str]:
    """Take out, dearest first, each pattern whose names the others cover together."""
    once = twice = 0
    for _, mask in chosen:
        twice |= once & mask
        once |= mask
    order = sorted(chosen, key=lambda c: (-len(c[0]), c[0]))
    kept: list[tuple[str, int]] = []
    for n, (pattern, mask) in enumerate(order):
        if not mask & ~twice:
            rest = 0
            for _, other in (*kept, *order[n + 1 :]):
                rest |= other
            if not mask & ~rest:
                continue
        kept.append((pattern, mask))
    return [p for p, _ in kept]
