"""Matching, inclusion and disjointness against brute force: every string up to a length, over a tiny alphabet."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.policy.check import _common, _covers
from bot.policy.language import parse
from bot.policy.patterns import inside, matcher, matches, meets, normal
from tests.policy.world import examples

# Letters that the patterns name, and one that they never do.
WORDS = ["".join(w) for size in range(7) for w in itertools.product("abz", repeat=size)]


def language(pattern: str) -> frozenset[str]:
    rule = re.compile("".join(".*" if c == "*" else "." if c == "?" else c for c in pattern))
    return frozenset(w for w in WORDS if rule.fullmatch(w))


short = st.text(alphabet="ab*?", min_size=1, max_size=5)


@examples(8)
@given(one=short, other=short)
def test_inclusion_is_exact_in_the_engine_and_in_the_checker(one: str, other: str) -> None:
    # Five places of a pattern have their say within six letters, for a letter that no pattern names is among them.
    truth = language(one) <= language(other)
    assert inside(f"s:{one}", f"s:{other}") == truth
    assert _covers(f"s:{other}", f"s:{one}") == truth


@examples(8)
@given(one=short, other=short)
def test_disjointness_is_exact_in_the_engine_and_in_the_checker(one: str, other: str) -> None:
    # The shortest common string is no longer than both patterns' letters together: up to ten of them.
    truth = bool(language(one) & language(other)) if len(one) + len(other) <= 7 else None
    assert meets(f"s:{one}", f"s:{other}") == _common(f"s:{one}", f"s:{other}")
    if truth is not None:
        assert meets(f"s:{one}", f"s:{other}") == truth


@examples(8)
@given(pattern=short, word=st.text(alphabet="abz", max_size=7))
def test_matching_is_exact_and_blind_to_case(pattern: str, word: str) -> None:
    truth = re.fullmatch("".join(".*" if c == "*" else "." if c == "?" else c for c in pattern), word) is not None
    assert matches(f"S:{pattern.upper()}", f"s:{word}") == truth
    assert matches(f"s:{pattern}", f"S:{word.upper()}") == truth
    assert _covers(f"s:{pattern}", f"s:{word}") == truth
    assert matches(normal(f"s:{pattern}"), f"s:{word}") == truth


@pytest.mark.parametrize(
    ("inner", "outer", "holds"),
    [
        ("s3:Get*", "s3:*", True),
        ("s3:get*", "S3:G*", True),
        ("s3:*", "*", True),
        ("*", "*:*", True),
        ("*:*", "*", True),
        ("*", "s3:*", False),
        ("s3:*", "s3:?*", False),
        ("s3:?*", "s3:*?", True),
        ("s3:*a*b*", "s3:*b*", True),
        ("s3:*ab*", "s3:*a*b*", True),
        ("s3:*a*b*", "s3:*ab*", False),
        ("ec2:Describe*s", "ec2:Describe*", True),
        ("ec2:*Describe*", "ec2:Describe*", False),
        ("ec2:a*", "ec2:?*", True),
        ("ec2:**a??*", "ec2:*?a*", False),
    ],
)
def test_inclusion_of_the_shapes_people_write(inner: str, outer: str, holds: bool) -> None:
    assert inside(inner, outer) is holds
    assert _covers(outer.lower(), inner.lower()) is holds or {inner, outer} == {"*", "*:*"}


HOSTILE = ["a*" * 30 + "b", "*a?" * 25 + "b", "?*" * 40 + "b", "*a" * 20 + "?" * 20, "*" + "a" + "?" * 40, "*?a" * 30]


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("other", HOSTILE)
def test_hostile_patterns_are_answered_quickly(pattern: str, other: str) -> None:
    """A pattern that makes a backtracking matcher run for years, and an inclusion walk explode, ends in seconds."""
    begun = time.process_time()
    matches(f"s3:{pattern}", "s3:" + "a" * 120)
    matcher.cache_clear()
    inside(f"s3:{pattern}", f"s3:{other}")
    meets(f"s3:{pattern}", f"s3:{other}")
    _covers(f"s3:{pattern}", f"s3:{other}")
    assert time.process_time() - begun < 4


def test_the_reader_takes_every_name_of_the_catalogue() -> None:
    """One AWS action has a hyphen in its name."""
    text = (
        '{"Statement":{"Effect":"Allow","Action":"vpc-lattice:AssociateViaAWSService-EventsAndStates","Resource":"*"}}'
    )
    assert parse(text).statements[0].patterns == ("vpc-lattice:AssociateViaAWSService-EventsAndStates",)
