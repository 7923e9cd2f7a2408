"""Pictures of numbers, as PNG: what each service's actions are, and what was removed over time.

Equal numbers are equal bytes, so a picture can be told by its digest. Every picture has its numbers in words beside it.
Drawn on white, so that light and dark Slack show it alike; kinds are told apart by hatching and numbers, not by colour
alone. The sizes are for a phone, where Slack shows a picture some 340 points wide.
"""

from __future__ import annotations

import io
import itertools
import threading
import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from bot.messages.text import cut, line, many
from bot.model import Digest, digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALT: Final = 2000  # characters: https://docs.slack.dev/reference/block-kit/blocks/image-block
WIDTH, SCALE = 640, 2  # points, and pixels for each
_STYLE = 1  # counted up where the same numbers are to look different
_WEEKS = 53  # shown; what came before is where the line starts
_INK, _MUTED, _LINE = "#1d1c1d", "#5b6470", "#c9ced6"
_MARGIN, _ROW, _BAR, _FONT = 24, 68, 24, 20
_LEAST = 5  # points of a bar for a number that is not zero
_LOCK = threading.Lock()  # matplotlib caches fonts and glyphs without one


class Drawing(Protocol):
    """Numbers that can be drawn."""

    def digest(self) -> Digest: ...
    def alt(self) -> str: ...
    def png(self) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that Slack has: the file's id, and what it shows in words."""

    file: str
    alt: str


# -------------------- used, not used, cannot be known


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A service, or several together, and how many granted actions are of each kind."""

    name: str
    used: int
    unused: int
    hidden: int
    other: int

    def counts(self) -> tuple[int, int, int, int]:
        return self.used, self.unused, self.hidden, self.other

    def __add__(self, more: Bar) -> Bar:
        used, unused, hidden, other = (a + b for a, b in zip(self.counts(), more.counts(), strict=True))
        return Bar(name=self.name, used=used, unused=unused, hidden=hidden, other=other)


# Label, fill, and hatching with its colour.
_KINDS: Final = (
    ("used", "#0b5fa5", "", "#0b5fa5"),
    ("not used", "#f3b14b", "////", "#7a4a00"),
    ("cannot be known", "#e3e7ec", "..", "#5b6470"),
    ("other", "#ffffff", "", "#5b6470"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a role's granted actions are, by service: the first `most` bars each, the rest as one."""

    role: str
    bars: tuple[Bar, ...]

    @classmethod
    def of(cls, role: str, bars: Sequence[Bar], most: int = 8) -> Services:
        shown = [_named(b, cut(line(b.name), 24) or "(empty)") for b in bars if any(b.counts())]
        if len(shown) > most:
            rest = shown[most - 1 :]
            together = _named(rest[0], f"{len(rest):,} more services")
            for each in rest[1:]:
                together += each
            shown = [*shown[: most - 1], together]
        return cls(role=cut(line(role), 64), bars=tuple(shown))

    def digest(self) -> Digest:
        # The role is not in the picture.
        return digest(["services", _STYLE, [list(astuple(b)) for b in self.bars]])

    def alt(self) -> str:
        said = "; ".join(f"{b.name}: {_counted(b)}" for b in self.bars)
        return cut(f"Bars of the actions that {self.role} is granted, by service. {said}.", ALT)

    def png(self) -> bytes:
        top = _MARGIN + 34 + 2 * 32 + 12
        with _LOCK:
            figure, axes = _canvas(top + len(self.bars) * _ROW + _MARGIN - 12)
            _write(axes, _MARGIN, _MARGIN + 10, "Granted actions by service", size=_FONT + 2, bold=True)
            self._legend(axes)
            for number, bar in enumerate(self.bars):
                _bar(axes, top + number * _ROW, bar)
            return _saved(figure)

    def _legend(self, axes: Axes) -> None:
        every = _named(Bar(name="", used=0, unused=0, hidden=0, other=0), "")
        for bar in self.bars:
            every += bar
        for place, (kind, count) in enumerate(zip(_KINDS, every.counts(), strict=True)):
            if count or place < 3:
                left = _MARGIN + (place % 2) * 310
                y = _MARGIN + 48 + (place // 2) * 32
                _box(axes, left, y - 9, 30, 18, kind)
                _write(axes, left + 40, y, f"{count:,} {kind[0]}")


def _named(bar: Bar, name: str) -> Bar:
    return Bar(name=name, used=bar.used, unused=bar.unused, hidden=bar.hidden, other=bar.other)


def _counted(bar: Bar) -> str:
    said = [f"{count:,} {kind[0]}" for kind, count in zip(_KINDS, bar.counts(), strict=True) if count]
    return ", ".join(said) or "none"


def _bar(axes: Axes, top: float, bar: Bar) -> None:
    """A service: its name, its numbers with a sample of their kind each, and a bar of their shares."""
    _write(axes, _MARGIN, top + 12, bar.name, bold=True)
    right = float(WIDTH - _MARGIN)
    shown = [(kind, count) for kind, count in zip(_KINDS, bar.counts(), strict=True) if count]
    for kind, count in reversed(shown):
        text = f"{count:,}"
        _write(axes, right, top + 12, text, right=True)
        right -= sum(6.4 if c == "," else 12.8 for c in text) + 28  # digits are of one width
        _box(axes, right, top + 5, 20, 14, kind)
        right -= 16
    left, room = float(_MARGIN), WIDTH - 2 * _MARGIN
    wanted = [max(_LEAST, room * count / sum(bar.counts())) for _, count in shown]
    for (kind, _), share in zip(shown, wanted, strict=True):
        width = share * room / sum(wanted)  # what the least ones take, all give
        _box(axes, left, top + 28, width, _BAR, kind)
        left += width


def _box(axes: Axes, left: float, top: float, width: float, height: float, kind: tuple[str, str, str, str]) -> None:
    from matplotlib.patches import Rectangle

    _, fill, hatch, edge = kind
    # Not add_patch: the limits are set, and it would work them out anew from every box.
    axes.add_artist(Rectangle((left, top), width, height, facecolor=fill, edgecolor=edge, hatch=hatch, linewidth=0.8))


# -------------------- removed over time


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Permissions removed, summed up week by week: Mondays with the sum at the week's end, none left out."""

    weeks: tuple[tuple[date, int], ...]

    @classmethod
    def of(cls, removed: Sequence[tuple[date, int]], today: date) -> Removed | None:
        """`removed` has Mondays with what was removed in their week, the oldest first; None where nothing was."""
        by = dict(removed)
        if not sum(by.values()):
            return None
        at, end = min(by), max(*by, today - timedelta(days=today.weekday()))
        weeks: list[tuple[date, int]] = [(at - timedelta(weeks=1), 0)]
        while at <= end:
            weeks.append((at, weeks[-1][1] + by.get(at, 0)))
            at += timedelta(weeks=1)
        return cls(weeks=tuple(weeks[-_WEEKS:]))

    def digest(self) -> Digest:
        return digest(["removed", _STYLE, [[w.isoformat(), n] for w, n in self.weeks]])

    def alt(self) -> str:
        (first, before), (last, total) = self.weeks[0], self.weeks[-1]
        steps = [
            f"{now - then:,} in the week of {week}"
            for (_, then), (week, now) in zip(self.weeks, self.weeks[1:], strict=False)
            if now > then
        ]
        said = (
            f"A line of the permissions removed: from {before:,} in the week of {first} to {total:,} in that of {last}."
        )
        return cut(f"{said} The latest: {'; '.join(reversed(steps[-5:])) or 'none in this time'}.", ALT)

    def png(self) -> bytes:
        height, left, top, bottom = 330, 84, 62, 48
        with _LOCK:
            figure, page = _canvas(height)
            total = self.weeks[-1][1]
            _write(
                page, _MARGIN, _MARGIN + 10, f"{many(total, 'permission')} removed, by week", size=_FONT + 2, bold=True
            )
            box = (left / WIDTH, bottom / height, 1 - (left + 66) / WIDTH, 1 - (top + bottom) / height)
            axes = figure.add_axes(box)
            self._plot(axes, total)
            return _saved(figure)

    def _plot(self, axes: Axes, total: int) -> None:
        at = range(len(self.weeks))
        sums = [n for _, n in self.weeks]
        axes.fill_between(at, sums, color="#0b5fa5", alpha=0.18, linewidth=0)
        axes.plot(at, sums, color="#0b5fa5", linewidth=2.5, marker="o", markersize=4 if len(sums) < 30 else 0)
        axes.plot(at[-1], total, color="#0b5fa5", marker="o", markersize=8, clip_on=False)
        axes.set_xlim(0, at[-1])
        axes.set_ylim(0, total * 1.08)
        ticks = sorted({0, len(sums) // 2, len(sums) - 1})
        axes.set_xticks(ticks, [f"{(d := self.weeks[n][0]).day} {d:%b %Y}" for n in ticks], font=_font(), color=_MUTED)
        steps = _even(total)
        axes.set_yticks(steps, [f"{n:,}" for n in steps], font=_font(), color=_MUTED)
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_fontsize(_points(_FONT - 2))
        axes.tick_params(length=0, pad=8)
        axes.grid(visible=True, axis="y", color=_LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        for side in axes.spines.values():
            side.set_visible(False)


def _even(total: int) -> list[int]:
    """Return round numbers from 0 up to about the total, four at most after the zero."""
    rounds = (lead * 10**zeros for zeros in itertools.count() for lead in (1, 2, 5))
    step = next(each for each in rounds if total <= 4 * each)
    return list(range(0, total + 1, step))


# -------------------- the one way to matplotlib


def _canvas(height: int) -> tuple[Figure, Axes]:
    """Return a white figure, and axes over all of it in points from the upper left."""
    # Late, and not pyplot: it takes a second, and most of Refine draws nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100 * SCALE, facecolor="#ffffff")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    return figure, axes


def _font(*, bold: bool = False) -> Any:
    """Return the font that comes with matplotlib: what else is installed must not change a picture."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import FontProperties

    return FontProperties(fname=f"{get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf")


def _points(size: float) -> float:
    return size * 0.72  # matplotlib counts 72 to the inch


def _write(
    axes: Axes, x: float, y: float, text: str, *, size: float = _FONT, bold: bool = False, right: bool = False
) -> None:
    axes.text(
        x,
        y,
        text,
        font=_font(bold=bold),
        fontsize=_points(size),
        color=_INK,
        va="center_baseline",
        ha="right" if right else "left",
        parse_math=False,  # a dollar sign in a name is a dollar sign
    )


def _saved(figure: Figure) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font has not
        # matplotlib's version is no part of the picture; a little larger is drawn a third faster.
        figure.savefig(out, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3})
    return out.getvalue()
