"""Everything in the store as JSON lines, and back, exactly: to move to another machine or another database.

The first line is `{"refine": "dump", "schema": "0002"}`. Then one line a row, in an order in which nothing refers to a
later one: `{"table": "cases", "row": {…}}`, columns by name, times in ISO 8601, compound values as the JSON text they
are stored as. The last line is `{"rows": 123}`: a dump without it was cut off.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import InputError, StoreError
from bot.store.codec import encode
from bot.store.schema import REVISION, Utc, audit_head, metadata, outbox

_BATCH = 200


async def lines(connection: AsyncConnection) -> AsyncIterator[str]:
    yield encode({"refine": "dump", "schema": REVISION})
    number = 0
    for table in metadata.sorted_tables:
        rows = await connection.stream(sa.select(table).order_by(*table.primary_key))
        async for row in rows.mappings():
            number += 1
            yield encode({"table": table.name, "row": dict(row)})
    yield encode({"rows": number})


async def load(connection: AsyncConnection, text: Iterable[str]) -> int:
    for each in metadata.sorted_tables:
        if each is not audit_head and await connection.scalar(sa.select(sa.func.count()).select_from(each)):
            raise StoreError("There is something in this database already.", "Import into a new, empty one.")
    await connection.execute(sa.delete(audit_head))
    parsed = _parsed(text)
    first = next(parsed, {})
    if first.get("refine") != "dump" or first.get("schema") != REVISION:
        raise InputError(
            "Line 1 does not begin an export of this version of Refine.",
            "Export with the version that you import with.",
        )
    batch: list[dict[str, Any]] = []
    table: sa.Table | None = None
    for number, value in enumerate(parsed):
        if value.get("rows") == number:
            if table is not None:
                await connection.execute(sa.insert(table), batch)
            await _count_on(connection)
            return number
        own = metadata.tables.get(str(value.get("table")))
        row = value.get("row")
        if own is None or not isinstance(row, dict) or row.keys() != set(own.columns.keys()):
            raise InputError(f"Line {number + 2} of the export is not a row of a table.", "Export anew.")
        if table is not None and (table is not own or len(batch) == _BATCH):
            await connection.execute(sa.insert(table), batch)
            batch = []
        table = own
        batch.append({name: _value(own.c[name], part) for name, part in row.items()})
    raise InputError("The export is not whole: its last line, with the number of rows, is missing.", "Export anew.")


async def _count_on(connection: AsyncConnection) -> None:
    """Let the numbers that PostgreSQL gives out by itself go on after those that were brought along."""
    if connection.dialect.name == "postgresql":
        newest = sa.select(sa.func.coalesce(sa.func.max(outbox.c.id), 0) + 1).scalar_subquery()
        await connection.execute(
            sa.select(sa.func.setval(sa.func.pg_get_serial_sequence("outbox", "id"), newest, False))
        )


def _parsed(text: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text, 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise InputError(f"Line {number} of the export is not a JSON object.", "Export anew.")
        yield value


def _value(column: sa.Column[Any], value: Any) -> Any:
    return datetime.fromisoformat(value) if isinstance(column.type, Utc) and value is not None else value
