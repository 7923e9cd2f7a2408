"""The file and the connections: who may open it, which schema it has, and what its errors mean to people."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bot.errors import ConfigError, StoreError
from bot.store.schema import REVISION

_PAUSE = 0.05  # seconds
WRITE = "write"  # execution option of connections that change something


@contextmanager
def errors() -> Iterator[None]:
    """Turn whatever a database raises into a StoreError; statements and values stay out of it."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
        raise StoreError(*_sentence(str(getattr(error, "orig", None) or error), error)) from error


def _sentence(text: str, error: Exception) -> tuple[str, str]:
    if "locked" in text or "busy" in text:
        return "The database is locked by another process.", "Try again; if it stays so, see what else uses the file."
    if "is full" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return (
            "The disk with the database is full, so nothing was recorded.",
            "Make room; Refine then goes on by itself.",
        )
    if isinstance(error, UnicodeError):
        return "The text holds characters that cannot be stored, so nothing was recorded.", "Write it anew."
    if "unable to open" in text or isinstance(error, PermissionError):
        return "The database file cannot be opened.", "Check that REFINE_DATA_DIR can be written by this user."
    return f"The database does not work ({type(error).__name__}), so nothing was recorded.", "The log tells more."


def place(url: str) -> Path:
    """Return the file of a SQLite URL.

    Raises:
        ConfigError: it is the URL of something else.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigError("REFINE_DATABASE_URL is not the URL of a database.", "Leave it empty for SQLite.") from None
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigError(
            "REFINE_DATABASE_URL does not name a SQLite file.", "Leave it empty, or set it to sqlite:///path/to/bot.db."
        )
    return Path(parsed.database)


@asynccontextmanager
async def connected(url: str, *, alone: bool, patience: float) -> AsyncIterator[AsyncEngine]:
    """Open the database at its newest schema, made or migrated where needed.

    Args:
        url: of a SQLite file on a local disk: locks do not work on network file systems.
        alone: keep every other process that asks for the same out, by a lock on the file `lock` beside the database.
        patience: seconds to wait for another process to finish writing.

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
    lock = file.parent / "lock"
    try:
        if alone:
            with _lock(lock):
                await _prepare(engine, file, patience)
                yield engine
        else:
            await _prepared(engine, file, lock, patience)
            yield engine
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
    write = connection.get_execution_options().get(WRITE)
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


async def _prepared(engine: AsyncEngine, file: Path, lock: Path, patience: float) -> None:
    """Wait until the schema is the newest, and make it so where no bot is running."""
    waited = 0.0
    while await _revision(engine) != REVISION:
        try:
            with _lock(lock):
                await _prepare(engine, file, patience)
        except StoreError:
            # Another command makes the same tables right now, or a bot of another version is running.
            if waited >= patience:
                raise
            await asyncio.sleep(_PAUSE)
            waited += _PAUSE


async def _prepare(engine: AsyncEngine, file: Path, patience: float) -> None:
    with errors():
        await asyncio.to_thread(_write_ahead, file, patience)
    if await _revision(engine) != REVISION:
        await _upgrade(engine)


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


async def _revision(engine: AsyncEngine) -> str:
    with errors():
        async with engine.connect() as connection:
            if not await connection.run_sync(lambda c: sa.inspect(c).has_table("alembic_version")):
                return ""
            return await connection.scalar(sa.text("SELECT version_num FROM alembic_version")) or ""


async def _upgrade(engine: AsyncEngine) -> None:
    # Alembic takes 0.3 s to import: only where there is something to do.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))

    def upgrade(connection: sa.Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    with errors():
        try:
            async with engine.execution_options(**{WRITE: True}).begin() as connection:
                await connection.run_sync(upgrade)
        except CommandError as error:
            raise StoreError(
                "The database was made by another version of Refine.", "Run the newest version, or restore a backup."
            ) from error
