"""Spelling it small: exact in every class, each class as small as the one before, and no pattern outside the old ones."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.policy import load_catalogue
from bot.policy.catalogue import lexicon
from bot.policy.compact import Class, Names, compact
from bot.policy.compact import borders as word_borders
from bot.policy.fit import Chunk
from bot.policy.language import document
from bot.policy.patterns import inside
from tests.policy.judge import fits
from tests.policy.world import examples

SERVICES = ("dynamodb", "s3", "sqs", "lambda", "iam", "kms", "ec2", "rds", "sns", "logs", "vpc-lattice")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+|[^A-Za-z0-9]+")


@st.composite
def wants(draw: st.DrawFn) -> tuple[str, list[str], list[str]]:
    """A service, names of it that are wanted, and names that a pattern may match beside them."""
    service = draw(st.sampled_from(SERVICES))
    names = lexicon(load_catalogue()).service(service).names
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=40, unique=True))
    # Whole families as well: names that share a beginning, or an end.
    stem = draw(st.sampled_from(some))[: draw(st.integers(3, 12))]
    wanted = sorted({*some, *(n for n in names if n.startswith(stem))})
    fine = draw(st.lists(st.sampled_from(names), max_size=8, unique=True))
    return service, wanted, [n for n in fine if n not in wanted]


def length(entries: list[str]) -> int:
    return sum(len(e) + 3 for e in entries)


@examples(2)
@given(case=wants())
def test_every_class_is_exact_and_hardly_longer_than_the_one_before(case: tuple[str, list[str], list[str]]) -> None:
    service, wanted, fine = case
    known = lexicon(load_catalogue()).service(service)
    sizes = []
    for kind in Class:
        entries = compact(known.spelling, wanted, fine, kind)
        got = {n for n in known.names if any(fits(e, f"{service}:{n}") for e in entries)}
        assert set(wanted) <= got
        assert got <= {*wanted, *fine}
        assert entries == sorted(entries, key=lambda e: (e.lower(), e))
        assert entries == compact(known.spelling, wanted[::-1], fine[::-1], kind)
        sizes.append(length(entries))
        for entry in entries:
            stars = entry.count("*")
            assert "?" not in entry
            assert stars <= {Class.NAMES: 0, Class.WORDS: 1, Class.STAR: 1, Class.INFIX: 2}[kind]
            if stars == 2:
                assert re.fullmatch(rf"{service}:\*[^*]+\*", entry)
    # A greedy choice among more patterns may lose an entry, no more: the tiers take the shorter of the two.
    assert all(b <= a * 1.05 + len(f"{service}:*") + 3 for a, b in pairwise(sizes))


@examples(1)
@given(case=wants())
def test_stars_between_words_are_cut_between_words(case: tuple[str, list[str], list[str]]) -> None:
    service, wanted, fine = case
    known = lexicon(load_catalogue()).service(service)
    spelled = [a.name for a in known.actions.values()]
    for entry in compact(known.spelling, wanted, fine, Class.WORDS):
        head, star, tail = entry.partition(":")[2].partition("*")
        if star:
            assert any(
                name.startswith(head) and name.endswith(tail) and {len(head), len(name) - len(tail)} <= borders(name)
                for name in spelled
            ), entry


def borders(name: str) -> set[int]:
    return {0, *(m.end() for m in WORD.finditer(name))}


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("DescribeDBInstances", {0, 8, 10, 19}),
        ("GetEBSSnapshot", {0, 3, 6, 14}),
        ("ListEC2Hosts", {0, 4, 6, 7, 12}),
        ("connect", {0, 7}),
    ],
)
def test_the_words_of_a_name(name: str, places: set[int]) -> None:
    assert set(word_borders(name)) == places


OLD = ("ec2:Describe*", "ec2:*Snapshot*", "ec2:Create?ags", "ec2:Get*Data", "ec2:RunInstances")


@examples(1)
@given(data=st.data(), kind=st.sampled_from((Class.WORDS, Class.STAR, Class.INFIX)))
def test_no_pattern_lies_outside_the_old_ones(data: st.DataObject, kind: Class) -> None:
    known = lexicon(load_catalogue()).service("ec2")
    granted = [n for n in known.names if any(fits(p, f"ec2:{n}") for p in OLD)]
    wanted = data.draw(st.lists(st.sampled_from(granted), min_size=1, max_size=60, unique=True))
    entries = compact(known.spelling, wanted, (), kind, lambda p: any(inside(p, q) for q in OLD))
    assert all(any(inside(e, q) for q in OLD) for e in entries)
    got = {n for n in known.names if any(fits(e, f"ec2:{n}") for e in entries)}
    assert got == set(wanted)


def shorter(kind: Class, names: list[str], entry: str) -> set[str]:
    """Every pattern of the class, made from any of the names, that is shorter than the entry: by brute force."""
    found: set[str] = set()
    for name in names:
        cuts = sorted(borders(name)) if kind is Class.WORDS else range(len(name) + 1)
        found |= {f"{name[:a]}*{name[b:]}" for a in cuts for b in cuts if a <= b and a + len(name) - b + 1 < len(entry)}
        if kind is Class.INFIX:
            found |= {f"*{name[a:b]}*" for a in cuts for b in cuts if a < b and b - a + 2 < len(entry)}
    return found


@examples(0.5)
@given(data=st.data(), kind=st.sampled_from((Class.WORDS, Class.STAR, Class.INFIX)))
def test_no_entry_is_spare_and_none_can_be_replaced_by_a_shorter_one(data: st.DataObject, kind: Class) -> None:
    service = data.draw(st.sampled_from(("sqs", "ebs", "sts", "rds-data", "pricing", "sdb")))
    known = lexicon(load_catalogue()).service(service)
    spelled = [a.name for a in known.actions.values()]
    wanted = data.draw(st.lists(st.sampled_from(spelled), min_size=1, unique=True))
    fine = data.draw(st.lists(st.sampled_from(spelled), max_size=2, unique=True))
    fine = [n for n in fine if n not in wanted]
    entries = compact(known.spelling, [n.lower() for n in wanted], [n.lower() for n in fine], kind)
    patterns = [e.partition(":")[2] for e in entries]

    def takes(pattern: str, name: str) -> bool:
        return fits(f"{service}:{pattern}", f"{service}:{name}")

    covered = {p: {n for n in wanted if takes(p, n)} for p in patterns}
    bad = [n for n in spelled if n not in wanted and n not in fine]
    for pattern, mine in covered.items():
        assert mine - set().union(*(c for p, c in covered.items() if p != pattern))
        for other in shorter(kind, sorted(mine), pattern):
            assert any(takes(other, n) for n in bad) or not all(takes(other, n) for n in mine), other


def test_known_answers() -> None:
    """Small ones, worked out by hand on the real catalogue."""
    known = lexicon(load_catalogue()).service("sqs")
    every = known.names
    assert compact(known.spelling, every, (), Class.WORDS) == ["sqs:*"]
    assert compact(known.spelling, every, (), Class.NAMES) == [
        f"sqs:{a.name}" for a in sorted(known.actions.values(), key=lambda a: a.name.lower())
    ]
    assert compact(known.spelling, ["tagqueue", "untagqueue"], (), Class.INFIX) == ["sqs:*gQ*"]
    assert compact(known.spelling, ["purgequeue"], (), Class.WORDS) == ["sqs:Purge*"]
    assert compact(known.spelling, ["purgequeue"], (), Class.STAR) == ["sqs:P*"]
    # Two names hold each three letters of `abcd` in a row, and not the four: they do not stand in its way.
    four = Names("x", ["Kabcdm", "Labcdn", "Kabcxbcdm", "Labcxbcdn"])
    assert compact(four, ["kabcdm", "labcdn"], (), Class.INFIX) == ["x:*abcd*"]
    # Where a star saves nothing there is none.
    assert compact(Names("x", ["Ab", "Ac"]), ["ab"], (), Class.STAR) == ["x:Ab"]
    assert compact(Names("x", ["Abc", "Acd"]), ["abc"], (), Class.STAR) == ["x:*c"]


def test_a_tier_is_never_longer_than_the_one_before() -> None:
    """Here a greedy cover with infixes is: what is written is the shorter."""
    service = lexicon(load_catalogue()).service("sqs")
    wanted = ["cancelmessagemovetask", "changemessagevisibility", "createqueue", "getqueueattributes"]
    wanted += ["listdeadlettersourcequeues", "listqueues"]
    fine = ["addpermission", "receivemessage", "setqueueattributes"]
    plain = [length(compact(service.spelling, wanted, fine, kind)) for kind in Class]
    assert plain != sorted(plain, reverse=True)
    body = {"Effect": "Allow", "Action": ["sqs:*"], "Resource": "*"}
    [statement] = document({"Statement": [body]}).statements
    chunk = Chunk(service, statement, wanted, fine, {f"sqs:{n}" for n in (*wanted, *fine)})
    sizes = [chunk.length(kind) for kind in Class]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[:3] == plain[:3]
