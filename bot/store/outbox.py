"""The outbox's rows: what is to be said, queued in the transaction that made it true.

A case's messages keep their order: only the first that waits is handed out, and nothing goes to a thread before its
card is there. A card has one row for ever, so that any number of changes between two draws are one redraw.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.model import CaseId
from bot.store.codec import decode, encode
from bot.store.schema import cases, outbox

LATEST: Final = timedelta(hours=1)  # from now: no try is put off for longer
PATIENCE: Final = 10  # tries, some ten minutes: for so long the later cards wait for one that Slack does not take
CARD = "card"
SUMMARY = "summary"
THREAD = ("thread", "files")
Args = tuple[tuple[str, str], ...]
_EARLIER, _AHEAD, _ITS_CASE = outbox.alias(), outbox.alias(), cases.alias()  # made once: it takes a while


class Note(Protocol):
    """What is asked to be said; see `flows.ports.Note`."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def case_id(self) -> CaseId | None: ...
    @property
    def args(self) -> Args: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A note that waits to be sent."""

    id: int
    kind: str
    name: str
    key: str
    case_id: CaseId | None
    args: Args
    tries: int
    in_doubt: bool  # an earlier try may have reached Slack


async def queue(connection: AsyncConnection, now: datetime, notes: Iterable[Note]) -> None:
    """Queue notes; a key that was queued before is passed over, except a card's, which is drawn once more."""
    for note in notes:
        if note.kind == CARD and note.case_id is not None:
            await redraw(connection, now, note.case_id)
        elif await connection.scalar(sa.select(outbox.c.id).where(outbox.c.key == note.key)) is None:
            await _insert(connection, now, note.kind, note.name, note.key, note.case_id, note.args)


async def redraw(connection: AsyncConnection, now: datetime, case_id: CaseId, *, make: bool = True) -> None:
    """Ask for the case's card to be drawn (again); without `make` only where it has or awaits one."""
    key = f"card/{case_id}"
    waiting = outbox.c.state == "waiting"
    row = await connection.execute(
        sa.update(outbox)
        .where(outbox.c.key == key)
        .values(
            again=waiting,  # it may be on its way to Slack as it was before
            state="waiting",
            due_at=sa.case((waiting, outbox.c.due_at), else_=now),
            tries=sa.case((waiting, outbox.c.tries), else_=0),
        )
    )
    if row.rowcount == 0 and make:
        await _insert(connection, now, CARD, CARD, key, case_id, ())


async def _insert(
    connection: AsyncConnection, now: datetime, kind: str, name: str, key: str, case_id: CaseId | None, args: Args
) -> None:
    await connection.execute(
        sa.insert(outbox).values(
            key=key,
            kind=kind,
            name=name,
            case_id=case_id,
            args=encode(args),
            state="waiting",
            due_at=now,
            tries=0,
            in_doubt=False,
            again=False,
            why="",
            channel="",
            ts="",
        )
    )


def due(
    now: datetime,
    limit: int,
    *,
    first: bool | None = None,
    cards: bool | None = None,
    but: Collection[CaseId] = (),
) -> sa.Select[Any]:
    """Select what may be sent now: the first note of each case that waits, the longest due first.

    `first` asks for what opens a thread (summaries, cards without a place yet), in the order of queueing and never past
    one that has to be tried again; False, for all the rest; None, for both. `cards` asks for cards only, or for all but
    them. `but` leaves out the cases that are being drawn just now: what is handed out counts as drawn.
    """
    wanted = _due(now, limit)
    if cards is not None:
        wanted = wanted.where(outbox.c.kind == CARD if cards else outbox.c.kind != CARD)
    if but:
        wanted = wanted.where(outbox.c.case_id.is_(None) | outbox.c.case_id.not_in(but))
    if first is None:
        return wanted.order_by(outbox.c.due_at, outbox.c.id)
    opens = (outbox.c.kind == SUMMARY) | (outbox.c.kind == CARD) & (cases.c.thread_ts == "")
    if not first:
        return wanted.where(sa.not_(opens)).order_by(outbox.c.due_at, outbox.c.id)
    stuck = (
        sa.select(_AHEAD.c.id)
        .outerjoin(_ITS_CASE, _ITS_CASE.c.id == _AHEAD.c.case_id)
        .where(
            _AHEAD.c.state == "waiting",
            _AHEAD.c.id < outbox.c.id,
            _AHEAD.c.due_at > now,
            _AHEAD.c.due_at <= now + LATEST,
            _AHEAD.c.tries < PATIENCE,
            (_AHEAD.c.kind == SUMMARY) | (_AHEAD.c.kind == CARD) & (_ITS_CASE.c.thread_ts == ""),
        )
    )
    return wanted.where(opens, ~sa.exists(stuck)).order_by(outbox.c.id)


def _due(now: datetime, limit: int) -> sa.Select[Any]:
    return (
        sa.select(outbox)
        .outerjoin(cases, cases.c.id == outbox.c.case_id)
        .where(
            outbox.c.state == "waiting",
            # Nothing is put off for longer: it was queued while the clock was ahead, and would wait for it again.
            (outbox.c.due_at <= now) | (outbox.c.due_at > now + LATEST),
            ~sa.exists().where(
                _EARLIER.c.state == "waiting", _EARLIER.c.case_id == outbox.c.case_id, _EARLIER.c.id < outbox.c.id
            ),
            outbox.c.kind.not_in(THREAD) | (cases.c.thread_ts != ""),
        )
        .limit(limit)
    )


async def hand_out(connection: AsyncConnection, ids: Sequence[int]) -> None:
    """Note that the cards are drawn from now on: a change after this asks for one more draw."""
    await connection.execute(sa.update(outbox).where(outbox.c.id.in_(ids)).values(again=False))


async def done(connection: AsyncConnection, now: datetime, item_id: int, state: str, **values: Any) -> None:
    """Close a note as sent or dead; a card that moved on meanwhile waits for its next draw instead."""
    moved = outbox.c.again
    await connection.execute(
        sa.update(outbox)
        .where(outbox.c.id == item_id)
        .values(
            state=sa.case((moved, "waiting"), else_=state),
            due_at=sa.case((moved, now), else_=outbox.c.due_at),
            again=False,
            in_doubt=False,
            tries=0,
            **values,
        )
    )


def item(row: Any) -> Item:
    return Item(
        id=row.id,
        kind=row.kind,
        name=row.name,
        key=row.key,
        case_id=row.case_id,
        args=decode(Args, row.args),
        tries=row.tries,
        in_doubt=row.in_doubt,
    )
