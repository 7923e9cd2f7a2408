"""The database, whichever it is: its connections, which schema it has, and what its errors mean to people."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.errors import ConfigError, StoreError
from bot.store.schema import REVISION

BELL = "refine"  # the channel on which replicas of the bot hear that something was written


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Two ways to the same database. What a transaction of `reader` sees is of one moment; those of `writer`, in this
    process and in all others, come one after another, each from its first statement to its commit.
    """

    reader: AsyncEngine
    writer: AsyncEngine


@asynccontextmanager
async def connected(url: str, *, alone: bool, patience: float) -> AsyncIterator[Database]:
    """Open the database at its newest schema, made or migrated where needed.

    Args:
        url: of a SQLite file on a local disk (locks do not work on network file systems), or of a PostgreSQL database.
        alone: on SQLite, keep every other process that asks for the same out, by a lock on the file `lock` beside the
            database. PostgreSQL takes any number of bots: see `replicas`.
        patience: seconds to wait for another process to finish writing.

    Raises:
        ConfigError: it is the URL of something else.
        StoreError: the database cannot be used, another bot has it for itself, or a newer version made it.
    """
    parsed = read(url)
    if parsed.get_backend_name() == "sqlite":
        from bot.store import sqlite

        opening = sqlite.connected(parsed, alone=alone, patience=patience)
    else:
        from bot.store import postgres

        opening = postgres.connected(parsed, patience=patience)
    async with opening as database:
        yield database


def read(url: str) -> sa.URL:
    """Parse the URL of a database that Refine knows.

    Raises:
        ConfigError: it is none.
    """
    try:
        parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    except sa.exc.ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ConfigError(
            "REFINE_DATABASE_URL is not the URL of a SQLite or PostgreSQL database.",
            "Leave it empty for SQLite, or set it to postgresql://user@host/database.",
        )
    return parsed


async def tell(connection: AsyncConnection, what: str) -> None:
    """Let all replicas hear of it when the transaction is committed; nothing on SQLite, which has none."""
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.select(sa.func.pg_notify(BELL, what)))


@contextmanager
def errors() -> Iterator[None]:
    """Turn whatever a database raises into a StoreError; statements and values stay out of it."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
        raise StoreError(*_sentence(error)) from error


# SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOCKED = {"55P03", "40P01", "40001"}
_FULL = {"53100"}
_FORBIDDEN = {"42501", "28000", "28P01"}


def _sentence(error: Exception) -> tuple[str, str]:
    original = getattr(error, "orig", None) or error
    text = str(original)
    state = str(getattr(original, "sqlstate", None) or "")
    if state in _LOCKED:
        return "The database is locked by another process.", "Try again; if it stays so, see what else writes there."
    if "locked" in text or "busy" in text:
        return "The database is locked by another process.", "Try again; if it stays so, see what else uses the file."
    if state in _FULL or "is full" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return (
            "The disk with the database is full, so nothing was recorded.",
            "Make room; Refine then goes on by itself.",
        )
    if isinstance(error, UnicodeError) or "NUL (0x00)" in text:
        return "The text holds characters that cannot be stored, so nothing was recorded.", "Write it anew."
    if "unable to open" in text or isinstance(error, PermissionError):
        return "The database file cannot be opened.", "Check that REFINE_DATA_DIR can be written by this user."
    if state in _FORBIDDEN:
        return (
            "The database does not let this user do that, so nothing was recorded.",
            "Check the user in REFINE_DATABASE_URL, and run `refine migrate` as the tables' owner.",
        )
    if isinstance(error, DBAPIError) and (error.connection_invalidated or state[:2] in {"08", "57"}):
        return _AWAY
    if isinstance(error, sa.exc.OperationalError) and not isinstance(original, sqlite3.Error):
        return _AWAY
    return f"The database does not work ({type(error).__name__}), so nothing was recorded.", "The log tells more."


# Where the connection breaks at a commit, nobody knows whether the server had it already.
_AWAY = (
    "The database does not answer, so it is not known whether this was recorded.",
    "Refine goes on by itself when it is back; look at the card again then.",
)


async def is_current(database: Database) -> bool:
    with errors():
        async with database.reader.connect() as connection:
            if not await connection.run_sync(lambda c: sa.inspect(c).has_table("alembic_version")):
                return False
            return bool(await connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == REVISION)


async def upgrade(database: Database) -> None:
    """Make or migrate the tables, in one transaction."""
    # Alembic takes 0.3 s to import: only where there is something to do.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))

    def up(connection: sa.Connection) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    with errors():
        try:
            async with database.writer.begin() as connection:
                await connection.run_sync(up)
        except CommandError as error:
            raise StoreError(
                "The database was made by another version of Refine.", "Run the newest version, or restore a backup."
            ) from error
