"""The operator's commands over the store, as they are typed."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pwd
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bot.__main__ import refine
from bot.errors import InputError, StoreError
from tests.store import world
from tests.store.test_audit import LAST, behind_the_bots_back, sql, written
from tests.store.world import ANN, ARN, KEY, Clock, new_case, opened, url

pytestmark = pytest.mark.usefixtures("each_engine")

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("SLACK_APP_TOKEN", "xapp-1")
    monkeypatch.setenv("REFINE_CHANNEL", "C0SECURITY")
    monkeypatch.setenv("REFINE_AUDIT_KEY", KEY.decode())

    def call(*arguments: str, data: Path = tmp_path) -> Result:
        monkeypatch.setenv("REFINE_DATA_DIR", str(data))
        monkeypatch.setenv("REFINE_DATABASE_URL", url(data))
        result = CliRunner().invoke(refine, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_verify_says_that_the_log_is_whole_or_where_it_is_broken(run: Run, tmp_path: Path) -> None:
    asyncio.run(written(tmp_path))
    good = run("audit", "verify")
    assert good.exit_code == 0
    assert re.fullmatch(rf"The audit log is whole: {LAST} entries\.\nIts head is {LAST}:[0-9a-f]{{64}}\n", good.output)
    behind_the_bots_back(tmp_path, "UPDATE audit SET body = replace(body, 'U2', 'U3')")
    bad = run("audit", "verify")
    assert bad.exit_code == 1
    assert "broken from entry 8 on" in bad.output


def test_a_log_put_back_to_an_earlier_moment_lacks_the_expected_head(run: Run, tmp_path: Path) -> None:
    asyncio.run(written(tmp_path / "then"))
    file = tmp_path / "dump.jsonl"
    run("export", str(file), data=tmp_path / "then")
    first = run("audit", "verify", data=tmp_path / "then").output.split()[-1]

    async def more() -> None:
        async with opened(tmp_path / "then", Clock()) as store:
            await store.set_flag("paused", "yes", ANN)

    asyncio.run(more())
    head = run("audit", "verify", "--expect", first, data=tmp_path / "then").output.split()[-1]
    assert head.startswith(f"{LAST + 1}:")
    run("import", str(file), data=tmp_path / "back")
    for expected, status in ((first, 0), (head, 1), (head.replace("13:", "12:"), 1), (first.replace("12:", "1:"), 1)):
        result = run("audit", "verify", "--expect", expected, data=tmp_path / "back")
        assert result.exit_code == status, result.output
        assert status == 0 or "does not hold the expected entry" in result.output
    with pytest.raises(InputError, match="--expect takes what"):
        run("audit", "verify", "--expect", "12", data=tmp_path / "back")


def test_an_empty_log_is_whole_and_has_no_head(run: Run) -> None:
    assert run("audit", "verify").output == "The audit log is whole: 0 entries.\n"
    assert run("audit", "verify", "--expect", f"1:{'0' * 64}").exit_code == 1


def test_nothing_that_people_wrote_acts_on_the_terminal(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as store:
            await store.record(None, ANN, "said", {"text": "\x1b[2J\n\u202efine"})

    asyncio.run(work())
    [line] = run("audit", "show").output.splitlines()
    assert line.endswith("text=\\u001b[2J\\u000a\\u202efine")


def test_show_prints_the_newest_entries_with_the_roles_name(run: Run, tmp_path: Path) -> None:
    async def more() -> None:
        await written(tmp_path)
        async with opened(tmp_path, Clock()) as store:
            await new_case(store, ARN + "2")
            await store.set_flag("paused", "yes", ANN)

    asyncio.run(more())
    lines = run("audit", "show", "--limit", "3").output.splitlines()
    assert [x.split()[0] for x in lines] == ["12", "13", "14"]
    assert lines[1].split("  ")[1:5] == ["2026-01-31 09:00:00Z", "refine", "opened", "ApplicationRole2"]
    assert lines[2].endswith("U0ANN  flag  -  name=paused value=yes")
    role = run("audit", "show", "--role", "role/ApplicationRole2").output.splitlines()
    assert [x.split()[0] for x in role] == ["13"]
    assert run("audit", "show", "--role", "Nobody").output == ""


@pytest.mark.parametrize("page", [1, 5, LAST, LAST + 1, 500])
def test_the_log_is_exported_whole_as_json_lines_and_as_csv(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("bot.audit_command._PAGE", page)

    async def more() -> None:
        await written(tmp_path)
        async with opened(tmp_path) as store:
            await store.record(None, ANN, "said", {"text": ',"\n'})

    asyncio.run(more())
    lines = [json.loads(x) for x in run("audit", "export").output.splitlines()]
    assert [x["seq"] for x in lines] == list(range(1, LAST + 2))
    assert lines[0].keys() == {"seq", "at", "who", "what", "case", "detail", "mac"}
    rows = list(csv.DictReader(io.StringIO(run("audit", "export", "--format", "csv").output)))
    assert [
        {**r, "seq": int(r["seq"]), "case": r["case"] or None, "detail": json.loads(r["detail"])} for r in rows
    ] == lines


def test_a_pause_from_the_command_line_says_who_ran_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the operating system's word, not the environment's."""
    me = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert run("pause").exit_code == 0
    assert run("pause", "--off").exit_code == 0
    on, off = run("audit", "show").output.splitlines()
    assert f"refine  flag  -  name=paused operator={me} value=from the command line by {me} since " in on
    assert off.endswith(f"refine  flag  -  name=paused operator={me} value=")


def test_a_user_without_a_name_is_audited_by_number(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_001)
    run("pause")
    assert "operator=4000000001" in run("audit", "show").output


def test_export_and_import_move_everything_to_another_place(run: Run, tmp_path: Path) -> None:
    asyncio.run(written(tmp_path / "old"))
    file = tmp_path / "dump.jsonl"
    assert run("export", str(file), data=tmp_path / "old").exit_code == 0
    result = run("import", str(file), data=tmp_path / "new")
    assert (result.exit_code, result.output) == (0, f"Imported {len(file.read_text().splitlines()) - 2} rows.\n")
    assert run("export", "-", data=tmp_path / "new").output == file.read_text()
    assert run("audit", "verify", data=tmp_path / "new").exit_code == 0
    with pytest.raises(StoreError, match="something in this database"):
        run("import", str(file), data=tmp_path / "new")


def test_import_says_so_where_the_audit_key_is_not_the_one_of_old(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(written(tmp_path / "old"))
    file = tmp_path / "dump.jsonl"
    run("export", str(file), data=tmp_path / "old")
    monkeypatch.setenv("REFINE_AUDIT_KEY", "another")
    result = run("import", str(file), data=tmp_path / "new")
    assert result.exit_code == 1
    assert "set REFINE_AUDIT_KEY" in result.output


def test_a_failed_export_leaves_the_older_file_alone(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "dump.jsonl"
    file.write_text("the export of yesterday")
    if world.POSTGRESQL:
        url(tmp_path)
        sql(tmp_path, "DROP TABLE outbox")
    else:
        (tmp_path / "bot.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError):
        run("export", str(file))
    assert file.read_text() == "the export of yesterday"


def test_an_export_that_cannot_be_written_is_one_sentence(run: Run, tmp_path: Path) -> None:
    for place, why in ((tmp_path / "nowhere" / "all.jsonl", "No such file"), (Path("/dev/full"), "No space left")):
        with pytest.raises(InputError, match=f"{place} cannot be written: {why}"):
            run("export", str(place))
    assert Path("/dev/full").is_char_device(), "nothing takes the place of a device"
    assert [p.name for p in tmp_path.iterdir() if "jsonl" in p.name] == []


@pytest.mark.parametrize("body", [b'{"a": 1}\n', b"\xff\xfe{\n", b"[" * 100_000, b'\xef\xbb\xbf{"a": 1}', b"\0"])
def test_a_file_that_is_no_export_is_refused(run: Run, tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "dump.jsonl"
    file.write_bytes(body)
    with pytest.raises(InputError, match="Line 1"):
        run("import", str(file))
