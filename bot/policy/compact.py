"""Spell kept actions small: patterns that match kept actions only, and lie inside what the statement granted before.

Per service: each candidate pattern is a bit set over names; a lazy greedy choice by characters saved, then a
reverse delete. Greedy is within 1.5 % of the best of its class (design/engine-measurements.md); the class decides.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum


class Class(IntEnum):
    """Kinds of pattern, by the proposal's tier."""

    NAMES = 1
    WORDS = 2  # one star, between the words of a name
    STAR = 4  # one star anywhere
    INFIX = 5  # and `*infix*`


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+|[^A-Za-z0-9]+")
_FRAME = 3  # quotes and comma around each entry


def compact(
    service: str,
    wanted: Sequence[str],
    names: Collection[str],
    kind: Class,
    allowed: Callable[[str], bool],
) -> list[str]:
    """Return the entries for one service, sorted: full `service:Pattern` strings.

    `wanted` are kept names as spelled; `names` all that the service has; `allowed` tells whether a pattern
    lies inside what was granted before.
    """
    wanted = sorted(set(wanted), key=lambda n: (n.lower(), n))
    if kind is Class.NAMES or len(wanted) < 2:
        return [f"{service}:{n}" for n in wanted]
    low = {n.lower(): n for n in wanted}
    others = sorted({n.lower() for n in names} - set(low))
    index = {n: i for i, n in enumerate(low)}
    chosen = _cover(low, others, index, kind, lambda p: allowed(f"{service}:{p}"))
    return sorted((f"{service}:{p}" for p in chosen), key=lambda p: (p.lower(), p))


def _cover(
    low: dict[str, str], others: list[str], index: dict[str, int], kind: Class, allowed: Callable[[str], bool]
) -> list[str]:
    # Cheapest pattern per set of covered names; the name itself covers itself.
    best: dict[int, str] = {}
    for pattern, mask in _candidates(low, others, index, kind):
        old = best.get(mask)
        if (old is None or (len(pattern), pattern) < (len(old), old)) and mask.bit_count() > 1:
            best[mask] = pattern
    options = [(p, m) for m, p in sorted(best.items(), key=lambda i: (len(i[1]), i[1]))]
    cost = {i: len(n) + _FRAME for n, i in index.items()}
    left = (1 << len(index)) - 1

    def saving(pattern: str, mask: int) -> int:
        return sum(cost[i] for i in _bits(mask & left)) - len(pattern) - _FRAME

    heap = [(-s, len(p), p, m) for p, m in options if (s := saving(p, m)) > 0]
    heapq.heapify(heap)
    chosen: list[tuple[str, int]] = []
    while heap:
        _, length, pattern, mask = heapq.heappop(heap)
        now = saving(pattern, mask)
        if now <= 0:
            continue
        if heap and -now > heap[0][0]:
            heapq.heappush(heap, (-now, length, pattern, mask))
            continue
        if not allowed(pattern):
            continue
        chosen.append((pattern, mask))
        left &= ~mask
    for name, i in index.items():
        if left >> i & 1:
            chosen.append((low[name], 1 << i))
    # Reverse delete, dearest first: what the others cover together goes.
    for each in sorted(chosen, key=lambda c: (-len(c[0]), c[0])):
        rest = 0
        for other in chosen:
            if other is not each:
                rest |= other[1]
        if each[1] & ~rest == 0:
            chosen.remove(each)
    return [p for p, _ in chosen]


def _bits(mask: int) -> Iterable[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def _candidates(
    low: dict[str, str], others: list[str], index: dict[str, int], kind: Class
) -> Iterable[tuple[str, int]]:
    """Yield patterns that match none of `others`, each with the bit set of the wanted names it matches."""
    pre: dict[str, int] = {}
    suf: dict[str, int] = {}
    bad_pre: dict[str, int] = {}
    bad_suf: dict[str, int] = {}
    for name, i in index.items():
        for cut in range(len(name) + 1):
            pre[name[:cut]] = pre.get(name[:cut], 0) | 1 << i
            suf[name[cut:]] = suf.get(name[cut:], 0) | 1 << i
    for i, name in enumerate(others):
        for cut in range(len(name) + 1):
            if name[:cut] in pre:
                bad_pre[name[:cut]] = bad_pre.get(name[:cut], 0) | 1 << i
            if name[cut:] in suf:
                bad_suf[name[cut:]] = bad_suf.get(name[cut:], 0) | 1 << i
    size = [len(n) for n in index]
    other_size = [len(n) for n in others]
    seen: set[tuple[str, str]] = set()
    for name, spelled in low.items():
        cuts = _borders(spelled) if kind is Class.WORDS else range(len(name) + 1)
        for a in cuts:
            head = name[:a]
            bad_head = bad_pre.get(head, 0)
            for b in cuts:
                if b < a or (head, name[b:]) in seen:
                    continue
                tail = name[b:]
                seen.add((head, tail))
                bad = bad_head & bad_suf.get(tail, 0)
                if bad and any(other_size[i] >= len(head) + len(tail) for i in _bits(bad)):
                    continue
                mask = pre[head] & suf[tail]
                if mask.bit_count() < 2:
                    continue
                short = [i for i in _bits(mask) if size[i] < len(head) + len(tail)]
                for i in short:
                    mask &= ~(1 << i)
                yield f"{spelled[:a]}*{spelled[b:]}", mask
    if kind is Class.INFIX:
        yield from _infixes(low, others, index)


def _infixes(low: dict[str, str], others: list[str], index: dict[str, int]) -> Iterable[tuple[str, int]]:
    forbidden = "\n".join(others)
    masks: dict[str, int] = {}
    spelling: dict[str, str] = {}
    for name, i in index.items():
        for a in range(len(name)):
            # Beyond some length an infix saves nothing over a prefix or suffix.
            for b in range(a + 1, min(len(name), a + 16) + 1):
                part = name[a:b]
                masks[part] = masks.get(part, 0) | 1 << i
                spelling.setdefault(part, low[name][a:b])
    for part, mask in masks.items():
        if mask.bit_count() > 1 and part not in forbidden:
            yield f"*{spelling[part]}*", mask


def _borders(name: str) -> list[int]:
    """Return the positions between the words of a name, its ends included: `DescribeDBInstances` → 0, 8, 10, 19."""
    ends = [m.end() for m in _WORD.finditer(name)]
    return [0, *ends]
