"""The audit key is never replaced behind anybody's back, and a wrong one is told from a forged or an odd entry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.errors import ConfigError, StoreError
from tests import lives
from tests.store.test_audit import LAST, behind_the_bots_back, sql, written
from tests.store.world import ANN, KEY, opened


def test_a_key_is_made_once_and_read_from_then_on(tmp_path: Path) -> None:
    key = lives.settings(tmp_path).audit_key()
    (tmp_path / "bot.db").touch()
    assert lives.settings(tmp_path).audit_key() == key
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_is_gone_is_not_made_anew_beside_a_database(tmp_path: Path) -> None:
    lives.settings(tmp_path).audit_key()
    (tmp_path / "bot.db").touch()
    (tmp_path / "audit.key").unlink()
    with pytest.raises(ConfigError, match=r"The audit key file audit\.key is gone") as caught:
        lives.settings(tmp_path).audit_key()
    assert "set REFINE_AUDIT_KEY" in caught.value.next_step
    assert not (tmp_path / "audit.key").exists()
    assert lives.settings(tmp_path, refine_audit_key="the old one").audit_key() == b"the old one"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="REFINE_DATA_DIR names a folder that cannot be made: Not a directory"):
        lives.settings(tmp_path / "file" / "data").audit_key()


async def fits(path: Path, key: bytes) -> bool:
    async with opened(path, audit_key=key) as store:
        return await store.key_fits()


async def test_any_key_fits_an_empty_log(tmp_path: Path) -> None:
    assert await fits(tmp_path, b"whatever")


async def test_another_key_does_not_fit(tmp_path: Path) -> None:
    await written(tmp_path)
    assert await fits(tmp_path, KEY)
    assert not await fits(tmp_path, b"another")


@pytest.mark.parametrize("seq", [1, LAST])
async def test_a_forged_entry_at_either_end_does_not_look_like_a_wrong_key(tmp_path: Path, seq: int) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, f"UPDATE audit SET body = replace(body, 'at', 'AT') WHERE seq = {seq}")
    assert await fits(tmp_path, KEY)
    assert not await fits(tmp_path, b"another")


async def test_where_one_end_is_missing_the_other_tells(tmp_path: Path) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, f"DELETE FROM audit WHERE seq >= {LAST - 1}")
    assert await fits(tmp_path, KEY)
    assert not await fits(tmp_path, b"another")
    sql(tmp_path, "DELETE FROM audit")
    assert await fits(tmp_path, b"another"), "nothing is left to tell by"


# What SQLite takes for a text or a number: bytes that are no UTF-8, NUL, other types, numbers of any size.
ODD = ("x'ff00fe'", "CAST(x'ff00fe' AS TEXT)", "'a' || char(0)", "5", "1.5", "9223372036854775807", "x''", "'é\u2028'")


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("column", ["body", "mac", "case_id"])
async def test_odd_bytes_are_a_broken_entry_and_no_crash(tmp_path: Path, column: str, odd: str) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, f"UPDATE audit SET {column} = {odd} WHERE seq = {LAST}")
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == LAST
        assert await store.key_fits()
        if column == "body":
            with pytest.raises(StoreError, match=f"Entry {LAST} of the audit log is not as it was written"):
                await store.history(None)


@pytest.mark.parametrize("odd", [*ODD, "-1", "-9223372036854775808"])
@pytest.mark.parametrize("column", ["seq", "mac"])
async def test_an_odd_head_is_found_after_the_last_entry(tmp_path: Path, column: str, odd: str) -> None:
    await written(tmp_path)
    behind_the_bots_back(tmp_path, f"UPDATE audit_head SET {column} = {odd}")
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == LAST + 1
        assert await store.key_fits()


async def test_two_heads_are_none(tmp_path: Path) -> None:
    await written(tmp_path)
    behind_the_bots_back(
        tmp_path, "PRAGMA ignore_check_constraints=ON", "INSERT INTO audit_head SELECT 2, seq, mac FROM audit_head"
    )
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == LAST + 1
        with pytest.raises(StoreError, match="missing or damaged"):
            await store.record(None, ANN, "said", {})


async def test_a_page_that_was_overwritten_is_a_broken_entry(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for n in range(60):
            await store.record(None, ANN, "said", {"text": f"<{n}>" + "x" * 1000})
    file = tmp_path / "bot.db"
    data = bytearray(file.read_bytes())
    page = data.index(b"<40>") // 4096 * 4096
    first = int(re.findall(rb"<(\d+)>", data[page : page + 4096])[-1])  # a page is filled from its end
    data[page : page + 8] = b"\xff" * 8
    file.write_bytes(data)
    async with opened(tmp_path) as store:
        assert await store.verify_audit() == first + 1
