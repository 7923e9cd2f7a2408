"""The audit log: append-only, one entry for each thing that was done, chained by HMAC over canonical content.

`mac = HMAC-SHA256(key, previous mac | seq | body)`. The head row holds the number of entries and a seal over it and the
last mac, `HMAC-SHA256(key, "head" | seq | last mac)`, written in the same transaction. The key is not in the database,
so whoever can write there can make no chain that verifies, nor a head for a log that they cut short. What cannot be
seen from within: log and head, both, put back to what they were at some earlier moment. A head noted elsewhere then
tells it (`refine audit verify --expect`).

Rows are read as bytes, because SQLite keeps whatever somebody puts there: it must be told, not crash the reader.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sqlite3
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import StoreError
from bot.model import AuditEntry, CaseId, UserId
from bot.store.schema import audit, audit_head, cases

# Slack's id of the request that people's acts come with; empty where nobody in Slack asked.
REQUEST: ContextVar[str] = ContextVar("request", default="")

_PAGE = 1000  # entries


class Chain:
    """The end of the chain, held by one transaction from its start: writers come one after another."""

    def __init__(self, connection: AsyncConnection, key: bytes, seq: int, mac: bytes) -> None:
        self._connection = connection
        self._key = key
        self._seq = seq
        self._mac = mac

    @classmethod
    async def hold(cls, connection: AsyncConnection, key: bytes) -> Chain:
        # The row lock is PostgreSQL's way; on SQLite, BEGIN IMMEDIATE has kept the others out already.
        head = await _head(connection, lock=True)
        if head is None:
            raise StoreError(
                "The head of the audit log is missing or damaged, so nothing was recorded.", "Restore a backup."
            )
        seq, seal = head
        last = (await connection.execute(rows(connection).where(audit.c.seq == seq))).one_or_none()
        mac = _bytes(last.mac) if last else b""
        # What comes after a log that was cut short must not heal it: the next entry is where it is found.
        return cls(connection, key, seq, mac if await _sealed(connection, key, seq, mac, seal) else b"broken")

    async def append(
        self, at: datetime, who: UserId, what: str, case_id: CaseId | None, detail: Mapping[str, str]
    ) -> None:
        request = {"request": REQUEST.get()} if REQUEST.get() else {}
        body = json.dumps(
            {"at": at.isoformat(), "case": case_id, "detail": {**detail, **request}, "what": what, "who": who},
            sort_keys=True,
            separators=(",", ":"),
        )
        self._seq += 1
        self._mac = _mac(self._key, self._mac, self._seq, body.encode())
        await self._connection.execute(
            sa.insert(audit).values(seq=self._seq, case_id=case_id, body=body, mac=self._mac.decode())
        )
        await self._connection.execute(
            sa.update(audit_head).values(seq=self._seq, mac=_seal(self._key, self._seq, self._mac).decode())
        )


def rows(connection: AsyncConnection) -> sa.Select[Any]:
    """Select the entries, each column but `seq` as bytes (or text that encodes), whatever somebody put there."""
    return sa.select(audit.c.seq, *(_raw(connection, c) for c in (audit.c.case_id, audit.c.body, audit.c.mac)))


def _raw(connection: AsyncConnection, column: sa.Column[Any]) -> Any:
    # PostgreSQL takes nothing but UTF-8 for text and numbers for integers; SQLite takes anything for both.
    return sa.cast(column, sa.LargeBinary).label(column.name) if connection.dialect.name == "sqlite" else column


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


async def _head(connection: AsyncConnection, *, lock: bool = False) -> tuple[int, bytes] | None:
    """Return how many entries there should be, and the seal; None where no head that could be one is there."""
    wanted = sa.select(_raw(connection, audit_head.c.seq), _raw(connection, audit_head.c.mac))
    found = (await connection.execute(wanted.with_for_update() if lock else wanted)).all()
    seq = _bytes(found[0].seq) if len(found) == 1 else b""
    return (int(seq), _bytes(found[0].mac)) if re.fullmatch(rb"\d{1,18}", seq) else None


def _mac(key: bytes, before: bytes, seq: int, body: bytes) -> bytes:
    return hmac.new(key, b"%b|%d|%b" % (before, seq, body), hashlib.sha256).hexdigest().encode()


def _seal(key: bytes, seq: int, mac: bytes) -> bytes:
    return _mac(key, b"head", seq, mac) if seq else b""  # the head of an empty log is made before any key is known


async def _sealed(connection: AsyncConnection, key: bytes, seq: int, mac: bytes, seal: bytes) -> bool:
    """Whether the head's seal is that of a log of so many entries that ends with this mac."""
    # No case is there before its first entry: a log that is empty beside cases was emptied.
    emptied = seq == 0 and bool(await connection.scalar(sa.select(sa.exists(sa.select(cases.c.id)))))
    return hmac.compare_digest(seal, _seal(key, seq, mac)) and not emptied


async def first_broken(connection: AsyncConnection, key: bytes) -> int | None:
    """Return the number of the first entry that was changed, removed, inserted or moved; None where all is whole."""
    mac = b""
    seq = 0
    size = _PAGE
    while True:
        later = rows(connection).where(audit.c.seq > seq) if seq else rows(connection)
        try:
            page = (await connection.execute(later.order_by(audit.c.seq).limit(size))).all()
            head = await _head(connection)
        except sa.exc.DatabaseError as error:
            # SQLite's pages were overwritten; all its other errors are of narrower classes. One by one to the place.
            if type(error.orig) is not sqlite3.DatabaseError:
                raise
            if size == 1:
                return seq + 1
            size = 1
            continue
        for row in page:
            seq += 1
            body = _bytes(row.body)
            mac = _mac(key, mac, seq, body)
            # A body with the right mac is as `append` wrote it.
            if row.seq != seq or not hmac.compare_digest(mac, _bytes(row.mac)) or not _of_case(body, row.case_id):
                return seq
        if not page:
            break
    return None if head and head[0] == seq and await _sealed(connection, key, seq, mac, head[1]) else seq + 1


def _of_case(body: bytes, case_id: object) -> bool:
    said = json.loads(body)["case"]
    return case_id is None if said is None else case_id is not None and said.encode() == _bytes(case_id)


async def fits(connection: AsyncConnection, key: bytes) -> bool:
    """Whether the log was written with this key, by its first and its last entry; true where there is none.

    One of the two is enough: where only the other fails it was changed, which `first_broken` is there to tell.
    """
    head = await _head(connection)
    last = head[0] if head else 0
    wanted = rows(connection).where(audit.c.seq.in_({1, last - 1, last}))
    found = {row.seq: row for row in await connection.execute(wanted)}
    ends = [
        (found[n], _bytes(found[n - 1].mac) if n > 1 else b"")
        for n in (1, last)
        if n in found and (n == 1 or n - 1 in found)
    ]
    return not ends or any(hmac.compare_digest(_mac(key, b, r.seq, _bytes(r.body)), _bytes(r.mac)) for r, b in ends)


def entry(row: Any) -> AuditEntry:
    """Return what a row of `rows` says.

    Raises:
        StoreError: it is not as `append` wrote it.
    """
    try:
        value = json.loads(_bytes(row.body))
        return AuditEntry(
            seq=row.seq,
            at=datetime.fromisoformat(value["at"]),
            who=UserId(value["who"]),
            what=value["what"],
            case_id=value["case"],
            detail=tuple(sorted(value["detail"].items())),
            mac=_bytes(row.mac).decode(),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise StoreError(
            f"Entry {row.seq} of the audit log is not as it was written, so it cannot be read.",
            "See `refine audit verify`.",
        ) from None
