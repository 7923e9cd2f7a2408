"""The audit log: append-only, one entry for each thing that was done, chained by HMAC over canonical content.

`mac = HMAC-SHA256(key, previous mac | seq | body)`, and the head row holds the last pair. The key is not in the
database, so whoever can write there can still not make a chain that verifies. What cannot be seen: the newest entries
cut off together with a head row put back to what it was then.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import StoreError
from bot.model import AuditEntry, CaseId, UserId
from bot.store.schema import audit, audit_head

# Slack's id of the request that people's acts come with; empty where nobody in Slack asked.
REQUEST: ContextVar[str] = ContextVar("request", default="")


class Chain:
    """The end of the chain, held by one transaction from its start: writers come one after another."""

    def __init__(self, connection: AsyncConnection, key: bytes, seq: int, mac: str) -> None:
        self._connection = connection
        self._key = key
        self._seq = seq
        self._mac = mac

    @classmethod
    async def hold(cls, connection: AsyncConnection, key: bytes) -> Chain:
        # The row lock is PostgreSQL's way; on SQLite, BEGIN IMMEDIATE has kept the others out already.
        row = (await connection.execute(sa.select(audit_head.c.seq, audit_head.c.mac).with_for_update())).one_or_none()
        if row is None:
            raise StoreError("The head of the audit log is missing, so nothing was recorded.", "Restore a backup.")
        return cls(connection, key, row.seq, row.mac)

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
        self._mac = _mac(self._key, self._mac, self._seq, body)
        await self._connection.execute(
            sa.insert(audit).values(seq=self._seq, case_id=case_id, body=body, mac=self._mac)
        )
        await self._connection.execute(sa.update(audit_head).values(seq=self._seq, mac=self._mac))


def _mac(key: bytes, before: str, seq: int, body: str) -> str:
    return hmac.new(key, f"{before}|{seq}|{body}".encode(), hashlib.sha256).hexdigest()


async def first_broken(connection: AsyncConnection, key: bytes) -> int | None:
    """Return the number of the first entry that was changed, removed, inserted or moved; None where all is whole."""
    mac = ""
    seq = 0
    async with connection.stream(sa.select(audit).order_by(audit.c.seq)) as rows:
        async for row in rows:
            seq += 1
            mac = _mac(key, mac, seq, row.body)
            if row.seq != seq or not hmac.compare_digest(mac, row.mac) or json.loads(row.body)["case"] != row.case_id:
                return seq
    head = (await connection.execute(sa.select(audit_head.c.seq, audit_head.c.mac))).one_or_none()
    return None if head is not None and (head.seq, head.mac) == (seq, mac) else seq + 1


async def fits(connection: AsyncConnection, key: bytes) -> bool:
    """Whether the log was written with this key, by its first and its last entry; true where there is none.

    One of the two is enough: where only the other fails it was changed, which `first_broken` is there to tell.
    """
    last = (await connection.execute(sa.select(audit_head.c.seq))).scalar_one_or_none() or 0
    wanted = {1, last - 1, last}
    rows = {row.seq: row for row in await connection.execute(sa.select(audit).where(audit.c.seq.in_(wanted)))}
    ends = [(rows[n], rows[n - 1].mac if n > 1 else "") for n in (1, last) if n in rows and (n == 1 or n - 1 in rows)]
    return not ends or any(hmac.compare_digest(_mac(key, before, r.seq, r.body), r.mac) for r, before in ends)


def entry(seq: int, body: str, mac: str) -> AuditEntry:
    value = json.loads(body)
    return AuditEntry(
        seq=seq,
        at=datetime.fromisoformat(value["at"]),
        who=UserId(value["who"]),
        what=value["what"],
        case_id=value["case"],
        detail=tuple(sorted(value["detail"].items())),
        mac=mac,
    )
