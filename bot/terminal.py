"""What a person's terminal is given: text whose control characters are spelled out, and errors as one plain line."""

from __future__ import annotations

import click

from bot.errors import RefineError


def plain(text: str) -> str:
    """Return a line of text with every character that is not to be seen spelled out as JSON escapes it.

    Names, Sids and reasons come from files and from people: raw, an escape sequence in one would act on the terminal,
    and a bidirectional mark would show another action than is meant. What is JSON stays the same JSON.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _spelled(c) for c in text)


def plain_lines(text: str) -> str:
    """Return `plain` of each line."""
    return "\n".join(plain(line) for line in text.split("\n"))


def _spelled(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def tell(error: RefineError) -> None:
    """Write the error to standard error."""
    click.echo(f"refine: {plain(error.say())}", err=True)
