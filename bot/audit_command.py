"""The operator's commands over what is stored: audit verify, show, export; export and import of all; migrate."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from bot.terminal import plain

if TYPE_CHECKING:
    from bot.config import StoreSettings
    from bot.model import AuditEntry
    from bot.store import Store

_PAGE = 500


@click.group()
def audit() -> None:
    """Verify, read and export the audit log."""


@audit.command()
@click.option("--expect", default="", metavar="HEAD", help="What an earlier run gave as the head: it has to be there.")
def verify(*, expect: str) -> None:
    """Check that no entry was changed, removed, inserted or moved; exit status 1 names the first that was.

    A log that was put back, whole and with its head, to an earlier moment looks whole: note the head that this command
    prints somewhere else, and give it as --expect.
    """
    from bot.errors import InputError

    wanted = re.fullmatch(r"([1-9]\d{0,17}):([0-9a-f]{64})", expect)
    if expect and not wanted:
        raise InputError("--expect takes what `refine audit verify` gave as the head.", "It is like 12:9f86d0….")

    async def work() -> tuple[int | None, str, bool]:
        async with _open() as store:
            broken = await store.verify_audit()
            if broken is not None:
                return broken, "", False
            kept = True
            if wanted:
                kept = await _head(store, before_seq=int(wanted[1]) + 1) == expect
            return None, await _head(store), kept

    broken, head, kept = asyncio.run(work())
    if broken is not None:
        click.echo(
            f"The audit log is broken from entry {broken} on: it was changed, or REFINE_AUDIT_KEY is not the key of "
            "old."
        )
        sys.exit(1)
    if not kept:
        click.echo(
            f"The audit log does not hold the expected entry {expect.partition(':')[0]}, though what is there is "
            "whole: it was put back to an earlier state, or it is another log."
        )
        sys.exit(1)
    click.echo(f"The audit log is whole: {head.partition(':')[0] or 0} entries.")
    if head:
        click.echo(f"Its head is {head}")


async def _head(store: Store, before_seq: int | None = None) -> str:
    """Return number and mac of the newest entry before `before_seq`; empty where there is none."""
    newest = await store.history(None, limit=1, before_seq=before_seq)
    return f"{newest[0].seq}:{newest[0].mac}" if newest else ""


@audit.command()
@click.option("--role", default="", help="Only what concerns roles with this in their ARN.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many entries at most.")
def show(*, role: str, limit: int) -> None:
    """Print the newest entries, the oldest of them first."""

    async def work() -> None:
        async with _open() as store:
            names = {c.id: c.role_name for c in await store.cases(search=role, limit=100_000, light=True)}
            wanted = list(names) if role else [None]
            entries = [e for case_id in wanted for e in await store.history(case_id, limit=limit)]
        for e in sorted(entries, key=lambda e: e.seq)[-limit:]:
            name = names.get(e.case_id, "-") if e.case_id else "-"
            detail = " ".join(f"{k}={v}" for k, v in e.detail)
            click.echo(plain(f"{e.seq}  {e.at:%Y-%m-%d %H:%M:%S}Z  {e.who}  {e.what}  {name}  {detail}"))

    asyncio.run(work())


@audit.command("export")
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
def export_audit(*, form: str) -> None:
    """Write the whole audit log to standard output, the oldest entry first.

    The mac of an entry is HMAC-SHA256 with the audit key over `previous mac|seq|body`, where body is the JSON object of
    at, case, detail, what and who, with sorted keys, in ASCII and without spaces.
    """

    async def work() -> None:
        table = csv.writer(sys.stdout)
        if form == "csv":
            table.writerow(["seq", "at", "who", "what", "case", "detail", "mac"])
        async with _open() as store:
            async for e in _all(store):
                detail = dict(e.detail)
                if form == "csv":
                    table.writerow([e.seq, e.at.isoformat(), e.who, e.what, e.case_id or "", json.dumps(detail), e.mac])
                    continue
                fields = {"seq": e.seq, "at": e.at.isoformat(), "who": e.who, "what": e.what, "case": e.case_id}
                click.echo(json.dumps({**fields, "detail": detail, "mac": e.mac}))

    asyncio.run(work())


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def export(*, file: str) -> None:
    """Write everything that is stored to FILE (- for standard output) as JSON lines, while the bot runs or not."""

    async def work() -> None:
        async with _open() as store:
            with _replaced(file) as out:
                async with aclosing(store.dump()) as lines:
                    async for line in lines:
                        out.write(line + "\n")

    asyncio.run(work())


@contextmanager
def _replaced(file: str) -> Iterator[IO[str]]:
    """Write to standard output for -; else to a file that takes the place of FILE once all is written.

    A device or a pipe is written to as it is: nothing may take its place.
    """
    from bot.errors import InputError

    if file == "-":
        yield sys.stdout
        return
    path = Path(file).resolve()
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8") as out:
                yield out
            return
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as new:
            try:
                yield new
                new.flush()
            except BaseException:
                Path(new.name).unlink()
                raise
        Path(new.name).replace(path)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.", "Make room, or name another file.") from None


@click.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8-sig", errors="surrogateescape"))
def import_(*, file: IO[str]) -> None:
    """Fill an empty database with what `refine export` wrote to FILE (- for standard input).

    Bring the audit key along: the log verifies only with the key that wrote it.
    """

    async def work() -> tuple[int, int | None]:
        async with _open(alone=True) as store:
            return await store.load(file), await store.verify_audit()

    rows, broken = asyncio.run(work())
    click.echo(f"Imported {rows} rows.")
    if broken is not None:
        click.echo(
            f"The audit log does not verify from entry {broken} on: set REFINE_AUDIT_KEY to the key that wrote it.",
            err=True,
        )
        sys.exit(1)


@click.command()
@click.option("--grant", default="", metavar="USER", help="The database user that the bot logs in as.")
def migrate(*, grant: str) -> None:
    """Make or migrate the tables, as the user in REFINE_DATABASE_URL; the bot may then run as another.

    On PostgreSQL, USER gets what the bot needs and no more: of the audit log, to read entries and to append them.
    """
    from bot.errors import InputError

    async def work() -> None:
        async with _open() as store:
            if grant and not store.shared:
                raise InputError("--grant is for PostgreSQL.", "A SQLite file belongs to whoever may write it.")
            if grant:
                await store.grant(grant)

    asyncio.run(work())
    click.echo("The tables are those of this version." + (f" {grant} may use them as the bot." if grant else ""))


def _open(*, alone: bool = False) -> AbstractAsyncContextManager[Store]:
    from bot.config import read_store_settings

    return open_store(read_store_settings(), alone=alone)


def open_store(settings: StoreSettings, *, alone: bool = False) -> AbstractAsyncContextManager[Store]:
    """Open the store for a command, beside a bot that may be running."""
    import uuid
    from datetime import UTC, datetime

    from bot.store import Store

    return Store.open(
        settings.database_url(),
        audit_key=settings.audit_key(),
        clock=lambda: datetime.now(UTC),
        new_id=lambda: uuid.uuid4().hex[:12],
        alone=alone,
    )


async def _last(store: Store) -> int:
    newest = await store.history(None, limit=1)
    return newest[0].seq if newest else 0


async def _all(store: Store) -> AsyncIterator[AuditEntry]:
    for start in range(0, await _last(store), _PAGE):
        for entry in reversed(await store.history(None, limit=_PAGE, before_seq=start + _PAGE + 1)):
            if entry.seq > start:
                yield entry
