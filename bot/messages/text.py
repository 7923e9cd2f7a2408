"""Text as Slack reads it: what is data, what is mrkdwn, and how the one gets into the other.

Slack parses mrkdwn for mentions, links and dates in `<…>`; only `&`, `<` and `>` are escaped, nothing else.
Source: https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

# Control characters, and what is invisible or turns the reading direction around: names lie with these.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAKS = re.compile("[\u2028\u2029]")
_SPACES = re.compile(r"\s+")
_USER = re.compile(r"[UW][A-Z0-9]{1,20}")
_GROUP = re.compile(r"S[A-Z0-9]{1,20}")


class Mrk(str):
    """Mrkdwn that is fit to send: made here, from format strings of our own and escaped data."""

    __slots__ = ()


def clean(value: str) -> str:
    """Return the text without what cannot be seen; line breaks stay."""
    return _UNSEEN.sub("", _BREAKS.sub("\n", value.replace("\r\n", "\n")))


def line(value: str) -> str:
    """Return the text as one line: a line break in data could pass for a field of ours."""
    return _SPACES.sub(" ", clean(value)).strip()


def cut(value: str, most: int) -> str:
    """Return at most `most` characters, the last one an ellipsis where something was cut."""
    return value if len(value) <= most else value[: most - 1].rstrip() + "…"


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape(value: str, most: int = 10_000) -> str:
    """Return data as mrkdwn of at most `most` characters; an entity is never cut in half."""
    done: list[str] = []
    room = most
    for character in value:
        shown = _ENTITIES.get(character, character)
        if len(shown) + 1 > room:
            return "".join(done).rstrip() + "…"
        done.append(shown)
        room -= len(shown)
    return "".join(done)


def mrk(form: str, *args: object) -> Mrk:
    """Fill a format string of ours with data: mrkdwn goes in as it is, numbers get separators, text is escaped."""
    return Mrk(form.format(*(_fit(a) for a in args)))


def _fit(value: object) -> str:
    if isinstance(value, Mrk):
        return str.__str__(value)
    if isinstance(value, int):
        return f"{value:,}"
    return escape(line(str(value)), 300)


def code(value: str, most: int = 90) -> Mrk:
    """Return data as inline code: nothing in it is styled, turned into an emoji or linked."""
    # A backtick would end the span; the modifier letter looks the same.
    shown = escape(line(value).replace("`", "ˋ"), most)
    return Mrk(f"`{shown}`") if shown else Mrk("(empty)")


def mention(user: str) -> Mrk:
    """Return a mention of a person or a user group; Refine itself by name."""
    if user in {"", "refine"}:
        return Mrk("Refine")
    if _USER.fullmatch(user):
        return Mrk(f"<@{user}>")
    return Mrk(f"<!subteam^{user}>") if _GROUP.fullmatch(user) else code(user)


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def day(at: datetime) -> str:
    return f"{at:%Y-%m-%d}"


def when(at: datetime) -> Mrk:
    """Return a time that Slack shows in the reader's own time zone, with UTC where it cannot."""
    return Mrk(f"<!date^{int(at.timestamp())}^{{date_short_pretty}} at {{time}}|{stamp(at)}>")


def many(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def listed(parts: Sequence[str], last: str = "and") -> Mrk:
    """Join as people do: a, b and c."""
    if len(parts) < 2:
        return Mrk("".join(_part(p) for p in parts))
    return Mrk(", ".join(_part(p) for p in parts[:-1]) + f" {last} " + _part(parts[-1]))


def _part(part: str) -> str:
    return part if isinstance(part, Mrk) else escape(line(part))


def some(parts: Sequence[str], most: int, where: str = "", *, room: int = 2600, of: int | None = None) -> Mrk:
    """Join at most `most` parts, of `room` characters together, and say how many more there are.

    `of` is how many there are where `parts` has not all of them.
    """
    kept = fitting([Mrk(_part(p)) for p in parts[:most]], room)
    rest = (len(parts) if of is None else of) - len(kept)
    more = f"{rest:,} more" + (f" ({where})" if where else "")
    if not rest:
        return Mrk(", ".join(kept))
    return Mrk(", ".join(kept) + f" and {more}") if kept else Mrk(more)


def fitting(parts: Sequence[Mrk], room: int) -> list[Mrk]:
    """Return the first parts, as many as fit into `room` characters with two between them."""
    kept: list[Mrk] = []
    for part in parts:
        room -= len(part) + 2
        if room < 0:
            break
        kept.append(part)
    return kept


def shown(parts: Sequence[Mrk], most: int, room: int, rest: str) -> list[Mrk]:
    """Return the first lines, at most `most` of `room` characters together, and one that says how many are missing.

    `rest` is the end of that line: where the rest is.
    """
    kept = fitting(parts[:most], room)
    if len(kept) < len(parts):
        kept.append(mrk("_{} of {} shown; {}._", len(kept), len(parts), rest))
    return kept


def lines(parts: Iterable[Mrk]) -> Mrk:
    """Join lines for one text block; what they are made of keeps them within its 3,000 characters."""
    return Mrk("\n".join(parts))


def box(rows: Sequence[str], most: int = 3000) -> str:
    """Join lines for a fixed-width box, as far as it holds them, and say how many are shown where not all are."""
    kept: list[str] = []
    room = most
    for number, row in enumerate(rows):
        shown = cut(clean(row).rstrip(), 240)
        if len(shown) + 1 > room - (60 if number < len(rows) - 1 else 0):
            kept.append(f"… {number:,} of {len(rows):,} lines shown; the rest is in the files")
            break
        kept.append(shown)
        room -= len(shown) + 1
    return "\n".join(kept) or "(empty)"
