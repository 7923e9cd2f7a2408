"""Pictures on their way to Slack: in the review's thread, the digest and App Home, and never in the way of the words."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.flows import pictures as pictures_flow
from bot.flows.ports import Note
from bot.messages.pictures import Services
from bot.model import CaseState
from tests.handlers.house import ANN, RITA, SECURITY, House, built


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with built(tmp_path, "socket") as made:
        yield made


def pictures(thing: dict[str, Any]) -> list[dict[str, Any]]:
    return [b for b in thing["blocks"] if b["type"] == "image"]


def hosted(house: House) -> list[dict[str, Any]]:
    """The files in Slack that are in no channel: what blocks show."""
    return [f for f in house.there.files() if f["mimetype"] == "image/png"]


async def review(house: House) -> dict[str, Any]:
    """Ask for a review as people do; return the message in the thread."""
    case = await house.case_in(CaseState.NEW)
    await house.there.click(RITA, case.thread_ts, "case:review")
    await house.quiet()
    [message] = [m for m in house.there.thread(case.thread_ts) if "What Role" in json.dumps(m.get("blocks", []))]
    return message


async def digest(house: House) -> dict[str, Any]:
    number = len(house.there.messages())
    await house.store.queue([Note(kind="summary", name="weekly", key=f"weekly/{number}")])
    house.world.poke()
    await house.quiet()
    return house.there.messages()[-1]


async def home(house: House, text: str) -> dict[str, Any]:
    """Open App Home, and return it once it has the text."""
    await house.there.open_home(ANN)
    await house.there.until(lambda: text in json.dumps(house.there.home(ANN) or {}), timeout=10)
    shown = house.there.home(ANN)
    assert shown is not None
    return shown


async def test_the_review_shows_the_picture_of_its_numbers(house: House) -> None:
    message = await review(house)
    [picture] = pictures(message)
    assert "dynamodb: 1 used, 2 not used" in picture["alt_text"]
    [file] = hosted(house)
    assert picture["slack_file"] == {"id": file["id"]}
    assert file["channels"] == [], "it is shown in the message, and not posted beside it"
    assert file["content"].startswith(b"\x89PNG")


async def test_a_picture_that_slack_still_processes_is_waited_for(house: House) -> None:
    house.there.api.processing_seconds = 0.8
    message = await review(house)
    assert pictures(message)
    refused = [m for m, _ in house.there.api.calls if m == "files.completeUploadExternal"]
    assert len(refused) == 2, "the picture and the report: neither is sent again for that"


@pytest.mark.parametrize("method", ["files.getUploadURLExternal", "upload", "files.completeUploadExternal"])
async def test_the_words_come_where_the_picture_does_not(house: House, method: str) -> None:
    house.there.fault(method, "500", times=None)
    case = await house.case_in(CaseState.NEW)
    await house.there.click(RITA, case.thread_ts, "case:review")

    def said() -> list[dict[str, Any]]:
        return [m for m in house.there.thread(case.thread_ts) if "What Role" in json.dumps(m.get("blocks", []))]

    [message] = await house.there.until(said)
    assert not pictures(message)
    assert "1 used" in message["text"]
    house.there.clear_faults()


async def test_the_words_come_where_it_cannot_be_drawn(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Services) -> bytes:
        raise MemoryError("no room to draw in")

    monkeypatch.setattr(Services, "png", broken)
    assert not pictures(await review(house))


async def test_the_words_do_not_wait_for_a_picture_that_takes_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures_flow, "PATIENCE", 0.2)
    monkeypatch.setattr(Services, "png", lambda _: time.sleep(1.0) or b"")
    assert not pictures(await review(house))


async def test_a_picture_that_slack_never_shows_is_left_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried for a few seconds, once; the next message does not wait for it again."""
    monkeypatch.setattr("bot.messages.slack.client.SHOWN_AFTER", (0.0, 0.0, 0.0))
    await house.case_in(CaseState.DONE)
    house.there.api.processing_seconds = 1e9
    assert not pictures(await digest(house))
    first = len(house.there.api.calls)
    assert not pictures(await digest(house))
    posts = [a for m, a in house.there.api.calls[first:] if m == "chat.postMessage"]
    assert len(posts) == 1
    assert len(hosted(house)) == 1


async def test_digest_and_home_share_one_picture_of_what_was_removed(house: House) -> None:
    """Drawn and uploaded once for the same numbers, and once more for others."""
    await house.case_in(CaseState.DONE)
    [on_digest] = pictures(await digest(house))
    assert "to 2 in that of" in on_digest["alt_text"]
    [at_home] = pictures(await home(house, "slack_file"))
    assert at_home["slack_file"] == on_digest["slack_file"]
    await digest(house)
    assert len(hosted(house)) == 1
    await house.case_in(CaseState.WATCHING)
    [anew] = pictures(await digest(house))
    assert anew["slack_file"] != on_digest["slack_file"]
    assert "to 4 in that of" in anew["alt_text"]
    assert len(hosted(house)) == 2


async def test_home_is_there_at_once_and_has_its_picture_a_little_later(house: House) -> None:
    """Whoever opens it does not wait for a picture that nobody has drawn yet."""
    await house.case_in(CaseState.DONE)
    house.there.fault("files.getUploadURLExternal", "slow", seconds=1.0)
    await house.there.open_home(ANN)
    await house.there.until(lambda: house.there.home(ANN), timeout=5)
    first = house.there.home(ANN)
    assert first is not None
    assert not pictures(first)
    assert "2 permissions removed" in json.dumps(first)
    assert pictures(await home(house, "slack_file"))


async def test_where_nothing_was_removed_nothing_is_drawn(house: House) -> None:
    await house.case_in(CaseState.NEW)
    assert not pictures(await digest(house))
    assert not pictures(await home(house, "Open card"))
    assert not hosted(house)


async def test_the_next_week_is_another_picture(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.case_in(CaseState.DONE)
    await digest(house)
    now = house.world.clock
    monkeypatch.setattr(house.world, "clock", lambda: now() + timedelta(weeks=1))
    await digest(house)
    assert len(hosted(house)) == 2
    assert house.there.workspace.messages[SECURITY]
