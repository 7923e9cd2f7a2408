"""PostgreSQL: for several replicas of the bot, and for those who have a database already. Version 14 or newer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from bot.store.database import Database, errors, is_current, upgrade
from bot.store.schema import audit, audit_head, metadata

NAMESPACE = 0x5265_666E  # of our advisory locks: "Refn"
_WRITING, LEADING = 1, 2
# Seconds. A bot that is frozen in the middle of a transaction holds up all others no longer than this. There is no
# network call inside any of ours: https://www.postgresql.org/docs/current/runtime-config-client.html
_FROZEN = 10


def driver_url(url: sa.URL) -> sa.URL:
    return url.set(drivername="postgresql+psycopg")


@asynccontextmanager
async def connected(url: sa.URL, *, patience: float) -> AsyncIterator[Database]:
    """Open the database at its newest schema, made or migrated where needed and allowed; see `database.connected`."""
    engine = create_async_engine(
        driver_url(url),
        hide_parameters=True,  # they hold policies and people's words, and errors are logged
        pool_pre_ping=True,  # the database may have been away
        connect_args={
            "connect_timeout": 10,
            "tcp_user_timeout": 10_000,  # milliseconds until a peer that is gone without a word is given up
            "application_name": "refine",
            "options": f"-c lock_timeout={int(patience * 1000)} "
            f"-c idle_in_transaction_session_timeout={_FROZEN * 1000} -c timezone=UTC",
        },
    )
    writer = engine.execution_options(isolation_level="READ COMMITTED")
    sa.event.listen(writer.sync_engine, "begin", _one_after_another)
    # The reader's own snapshot: several statements see the same moment.
    reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    database = Database(reader=reader, writer=writer)
    try:
        if not await is_current(database):
            await upgrade(database)
        yield database
    finally:
        await engine.dispose()


def _one_after_another(connection: sa.Connection) -> None:
    # What BEGIN IMMEDIATE is to SQLite: the store's rules read, decide and write, and must not interleave. Every change
    # of state appends to the one audit chain anyway, so there is nothing to gain by finer locks.
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({NAMESPACE}, {_WRITING})")


async def grant(database: Database, role: str) -> None:
    """Give a login role what the bot needs and no more: of the audit log it may read entries and append them.

    The connected user must own the tables.
    """
    quoted = database.writer.dialect.identifier_preparer.quote_identifier(role)
    with errors():
        async with database.writer.begin() as connection:
            schema = await connection.scalar(sa.text("SELECT quote_ident(current_schema())"))
            for statement in (
                f"GRANT USAGE ON SCHEMA {schema} TO {quoted}",
                f"GRANT SELECT ON alembic_version TO {quoted}",
                *(_rights(table, quoted) for table in metadata.sorted_tables),
                f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {quoted}",
            ):
                await connection.exec_driver_sql(statement)


def _rights(table: sa.Table, quoted: str) -> str:
    if table is audit:
        rights = "SELECT, INSERT"
    elif table is audit_head:
        rights = "SELECT, UPDATE"
    else:
        rights = "SELECT, INSERT, UPDATE, DELETE"
    return f"REVOKE ALL ON {table.name} FROM {quoted}; GRANT {rights} ON {table.name} TO {quoted}"


async def may_rewrite(connection: AsyncConnection) -> bool:
    """Whether the connected user could change or delete entries of the audit log, or take its triggers off."""
    owner = sa.text(
        "SELECT pg_has_role(current_user, c.relowner, 'USAGE')"
        " OR has_table_privilege(c.oid, 'UPDATE') OR has_table_privilege(c.oid, 'DELETE')"
        " FROM pg_class c WHERE c.oid = 'audit'::regclass"
    )
    return bool(await connection.scalar(owner))
