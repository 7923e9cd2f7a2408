"""The embedded database: one file on a local disk, for one bot."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from bot.errors import ConfigError, StoreError
from bot.store.database import Database, errors, is_current, upgrade

_PAUSE = 0.05  # seconds
_WRITE = "write"  # execution option of connections that change something


def place(url: sa.URL) -> Path:
    """Return the file of a SQLite URL.

    Raises:
        ConfigError: it names none.
    """
    if not url.database or url.database == ":memory:":
        raise ConfigError(
            "REFINE_DATABASE_URL does not name a SQLite file.", "Leave it empty, or set it to sqlite:///path/to/bot.db."
        )
    return Path(url.database)


@asynccontextmanager
async def connected(url: sa.URL, *, alone: bool, patience: float) -> AsyncIterator[Database]:
    """Open the file at its newest schema; see `database.connected`.

    Raises:
        StoreError: another process holds the lock, the file cannot be used, or a newer version made it.
    """
    file = place(url)
    with errors():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=str(file)),
        hide_parameters=True,  # they hold policies and people's words, and errors are logged
    )
    sa.event.listen(engine.sync_engine, "connect", _set_up(patience))
    sa.event.listen(engine.sync_engine, "begin", _begin)
    database = Database(reader=engine, writer=engine.execution_options(**{_WRITE: True}))
    lock = file.parent / "lock"
    try:
        if alone:
            with _lock(lock):
                await _prepare(database, file, patience)
                yield database
        else:
            await _prepared(database, file, lock, patience)
            yield database
    finally:
        await engine.dispose()


def _set_up(patience: float) -> Any:
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver's implicit BEGIN is deferred and loses updates; see `_begin`
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(patience * 1000)}")
        cursor.execute("PRAGMA synchronous=FULL")  # what was committed survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    return connect


def _begin(connection: sa.Connection) -> None:
    # A deferred transaction that reads and then writes fails at once where another one wrote between.
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with errors():
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(
                "Another Refine process is using this database.", "Stop it first, or set another REFINE_DATA_DIR."
            ) from None
        yield


async def _prepared(database: Database, file: Path, lock: Path, patience: float) -> None:
    """Wait until the schema is the newest, and make it so where no bot is running."""
    waited = 0.0
    while not await is_current(database):
        try:
            with _lock(lock):
                await _prepare(database, file, patience)
        except StoreError:
            # Another command makes the same tables right now, or a bot of another version is running.
            if waited >= patience:
                raise
            await asyncio.sleep(_PAUSE)
            waited += _PAUSE


async def _prepare(database: Database, file: Path, patience: float) -> None:
    with errors():
        await asyncio.to_thread(_write_ahead, file, patience)
    if not await is_current(database):
        await upgrade(database)


def _write_ahead(file: Path, patience: float) -> None:
    # A property of the file, and one that SQLite does not wait for where somebody is reading.
    waited = 0.0
    with closing(sqlite3.connect(file, timeout=patience)) as connection:
        while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or waited >= patience:
                    raise
                time.sleep(_PAUSE)
                waited += _PAUSE
