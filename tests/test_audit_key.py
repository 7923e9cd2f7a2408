"""The audit key is never replaced behind anybody's back, and a wrong one is told from a forged entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.errors import ConfigError
from tests import lives
from tests.store.test_audit import LAST, behind_the_bots_back, sql, written
from tests.store.world import KEY, opened


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
