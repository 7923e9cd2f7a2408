"""Pictures: the numbers are all there, in words too; equal numbers are equal bytes; no name breaks one."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from syrupy.assertion import SnapshotAssertion

from bot import messages
from bot.messages.pictures import ALT, SCALE, WIDTH, Bar, Drawing, Removed, Services
from tests.messages.cases import NOW, PARTNER, proposed, reviewed
from tests.messages.test_hostile import HOSTILE

MONDAY = date(2026, 1, 5)
BLUE, AMBER = (0x0B, 0x5F, 0xA5), (0xF3, 0xB1, 0x4B)


def bar(name: str = "s3", used: int = 0, unused: int = 0, hidden: int = 0, other: int = 0) -> Bar:
    return Bar(name=name, used=used, unused=unused, hidden=hidden, other=other)


def of_review() -> Services:
    return messages.review_picture(reviewed(PARTNER), proposed(PARTNER).trim, NOW, window_days=90)


def removed(*weeks: tuple[int, int], today: date = MONDAY) -> Removed:
    made = Removed.of([(MONDAY + timedelta(weeks=n), count) for n, count in weeks], today)
    assert made is not None
    return made


def looked_at(png: bytes) -> Any:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert not image.info.get("Software"), "its version would make another picture of the same numbers"
        return np.asarray(image.convert("RGB"))


def count(png: bytes, colour: tuple[int, int, int]) -> int:
    return int((looked_at(png) == colour).all(axis=2).sum())


@pytest.mark.parametrize(
    "drawing", [of_review(), Services.of("Role", [bar(used=1)]), removed((0, 3)), removed((0, 3), (60, 1))]
)
def test_it_decodes_at_its_size_and_is_the_same_every_time(drawing: Drawing) -> None:
    png = drawing.png()
    height, width, _ = looked_at(png).shape
    assert width == WIDTH * SCALE
    assert 400 < height < 1500
    assert len(png) < 200_000
    assert drawing.png() == png


def test_its_words_read_as_reviewed(snapshot: SnapshotAssertion) -> None:
    """The alternative text has every number of the picture."""
    assert of_review().alt() == snapshot
    assert removed((0, 12), (2, 288), (3, 40), today=MONDAY + timedelta(weeks=4)).alt() == snapshot


def test_every_granted_action_is_in_the_picture_of_a_review() -> None:
    """The bars add up to what is granted, whatever is shown one by one."""
    trim = proposed(PARTNER).trim
    made = of_review()
    assert sum(sum(b.counts()) for b in made.bars) == trim.granted
    assert sum(b.used for b in made.bars) == sum(a.verdict == "used" for a in trim.actions)


def test_services_beyond_the_first_are_summed_up_and_said_so() -> None:
    made = Services.of("Role", [bar(f"s{n}", used=n, unused=1) for n in range(1, 21)])
    assert len(made.bars) == 8
    assert made.bars[-1] == bar("13 more services", used=sum(range(8, 21)), unused=13)
    assert "13 more services: 182 used, 13 not used" in made.alt()
    assert len(Services.of("Role", [bar(f"s{n}", used=1) for n in range(8)]).bars) == 8


def test_a_service_without_a_granted_action_has_no_bar() -> None:
    assert Services.of("Role", [bar("s3"), bar("sqs", hidden=2)]).bars == (bar("sqs", hidden=2),)
    assert Services.of("Role", []).bars == ()


def test_one_used_action_among_thousands_is_seen() -> None:
    """A share too small for a pixel is not drawn as nothing."""
    few = Services.of("Role", [bar(used=1, unused=10_000)]).png()
    none = Services.of("Role", [bar(unused=10_001)]).png()
    assert count(few, BLUE) > count(none, BLUE) + 100
    assert count(none, AMBER) > 1000


def test_other_numbers_are_another_picture_and_another_role_is_not() -> None:
    one = Services.of("Role", [bar(used=1)])
    assert one.digest() == Services.of("Another", [bar(used=1)]).digest()
    assert one.digest() != Services.of("Role", [bar(unused=1)]).digest()
    assert removed((0, 3)).digest() != removed((0, 4)).digest()
    assert removed((0, 3)).digest() != removed((0, 3), today=MONDAY + timedelta(weeks=1)).digest()
    assert removed((0, 3)).digest() == removed((0, 3), today=MONDAY + timedelta(days=6)).digest()


def test_weeks_without_a_change_are_there_too() -> None:
    made = removed((0, 12), (2, 288), today=MONDAY + timedelta(weeks=3, days=2))
    assert [n for _, n in made.weeks] == [0, 12, 12, 300, 300]
    assert made.weeks[-1][0] == MONDAY + timedelta(weeks=3)
    assert "from 0 in the week of 2025-12-29 to 300 in that of 2026-01-26" in made.alt()


def test_a_long_history_starts_where_it_stood_a_year_ago() -> None:
    made = removed(*[(n, 1) for n in range(200)], today=MONDAY + timedelta(weeks=199))
    assert [n for _, n in made.weeks] == list(range(148, 201))
    assert "from 148" in made.alt()
    looked_at(made.png())


def test_where_nothing_was_removed_there_is_no_picture() -> None:
    assert Removed.of([], MONDAY) is None
    assert Removed.of([(MONDAY, 0)], MONDAY) is None


def test_a_dollar_sign_is_one_and_not_mathematics() -> None:
    """`$...$` is a formula to matplotlib, and `$\\frac$` one that it refuses."""
    assert Services.of("R", [bar("$x$", used=1)]).png() != Services.of("R", [bar("x", used=1)]).png()
    looked_at(Services.of("$\\frac{$", [bar("$\\frac{$", used=1), bar("a$b$c_{", hidden=3)]).png())


@pytest.mark.hostile
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_name_breaks_it(text: str) -> None:
    made = Services.of(text, [bar(text, used=1, unused=2, hidden=3, other=4), bar(used=9)])
    assert looked_at(made.png()).shape[1] == WIDTH * SCALE
    assert 0 < len(made.alt()) <= ALT
    assert not {"\n", "\x00", "\u202e"} & set(made.alt())


NUMBERS = st.integers(0, 10**7)


@pytest.mark.hostile
@given(
    role=st.text(max_size=300),
    bars=st.lists(
        st.builds(Bar, name=st.text(max_size=60), used=NUMBERS, unused=NUMBERS, hidden=NUMBERS, other=NUMBERS)
    ),
)
@settings(max_examples=25, deadline=None)
def test_whatever_the_names_and_numbers_it_is_drawn(role: str, bars: list[Bar]) -> None:
    made = Services.of(role, bars)
    assert [sum(kind) for kind in zip(*(b.counts() for b in made.bars), strict=True)] == (
        [sum(kind) for kind in zip(*(b.counts() for b in bars), strict=True)] if made.bars else []
    )
    assert len(made.alt()) <= ALT
    made.digest()
    looked_at(made.png())


@given(weeks=st.dictionaries(st.integers(0, 300), NUMBERS, max_size=20), late=st.integers(-3, 400))
@settings(max_examples=25, deadline=None)
def test_whatever_was_removed_when_it_is_drawn(weeks: dict[int, int], late: int) -> None:
    made = Removed.of(
        [(MONDAY + timedelta(weeks=n), c) for n, c in sorted(weeks.items())], MONDAY + timedelta(weeks=late)
    )
    if made is None:
        assert not sum(weeks.values())
        return
    sums = [n for _, n in made.weeks]
    assert sums == sorted(sums)
    assert sums[-1] == sum(weeks.values())
    assert all((b - a).days == 7 for (a, _), (b, _) in zip(made.weeks, made.weeks[1:], strict=False))
    assert len(made.alt()) <= ALT
    looked_at(made.png())


def test_what_draws_is_not_loaded_before_something_is_drawn() -> None:
    """It takes most of a second, and `refine trim` draws nothing."""
    code = "import sys, bot.app, bot.__main__, bot.offline; sys.exit('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
