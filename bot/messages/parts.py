"""Small values that templates draw: buttons and options, with what a screen reader says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bot import rules
from bot.messages import words
from bot.messages.text import cut, line
from bot.model import Case
from bot.rules import Button

DANGER = frozenset({Button.ROLL_BACK})
CELL = 8  # the word "raw_text", which Slack may count too


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """A button; `about` is its accessibility label."""

    action_id: str
    value: str
    label: str
    about: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    label: str
    value: str
    about: str = ""


def rows_within(rows: Sequence[Sequence[str]], most: int, characters: int) -> list[list[str]]:
    """Return the rows that a table holds: at most so many, and of so many characters together."""
    kept: list[list[str]] = []
    for row in rows[:most]:
        cells = [cut(line(cell), 100) for cell in row]
        characters -= sum(len(cell) + CELL for cell in cells)
        if characters < 0:
            break
        kept.append(cells)
    return kept


def value(case: Case) -> str:
    """What a button carries: an opaque id and the revision it was drawn for, never a fact."""
    return f"{case.id}:{case.revision}"


def press(case: Case, button: Button, *, style: str = "", action: str = "", label: str = "") -> Press:
    label = label or words.button_label(button, case.state)
    return Press(
        action_id=f"case:{action or button.value}",
        value=value(case),
        label=label,
        about=cut(f"{label.rstrip('…')}: {case.role_name}", 75),
        style=style,
    )


def offered(case: Case) -> tuple[Press, ...]:
    """Return the card's buttons, in the order of the rules, at most one of them primary."""
    first = words.primary(case)
    return tuple(
        press(case, b, style="primary" if b is first else "danger" if b in DANGER else "") for b in rules.buttons(case)
    )
