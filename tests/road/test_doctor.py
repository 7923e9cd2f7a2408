"""`refine doctor` and the other operator's commands, against the stage."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from sandbox.stage import Stage, stage
from tests import postgres


async def refine(running: Stage, *args: str, **more: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *args, env={**running.bot.env, **more},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def test_the_doctor_finds_the_stage_well_and_says_what_to_do_where_it_is_not(tmp_path: Path) -> None:
    async with stage(tmp_path, start=False) as running:
        status, said = await refine(running, "doctor")
        assert status == 0, said
        assert "FAIL" not in said
        for what in (
            "us-east-1",
            "eu-west-1",
            "#cloud-security",
            "REFINE_APPROVERS",
            "a SQLite file",
            "audit log is whole",
        ):
            assert what in said

        status, said = await refine(
            running, "doctor", SLACK_BOT_TOKEN="xoxb-wrong", REFINE_APPROVERS="", REFINE_REGIONS="us-east-1,us-west-2"
        )
        assert status == 1
        assert "Nobody may approve: REFINE_APPROVERS is empty." in said
        assert "us-west-2" in said
        assert "xoxb-wrong" not in said
        for line in (line for line in said.splitlines() if line.startswith(("FAIL", "WARN"))):
            after = said.splitlines()[said.splitlines().index(line) + 1]
            assert after.strip().startswith("→"), f"no next step after: {line}"

        status, said = await refine(running, "doctor", REFINE_DATABASE_URL=postgres.url(tmp_path))
        assert status == 0
        assert "could rewrite the audit log" in said
        assert "REFINE_AUDIT_KEY is not set" in said
        status, said = await refine(running, "doctor", REFINE_DATABASE_URL="postgresql://refine:s3cret@127.0.0.1:1/x")
        assert status == 1
        assert "The database does not answer" in said
        assert "s3cret" not in said
    postgres.forget()


async def test_settings_that_are_missing_or_wrong_are_named(tmp_path: Path) -> None:
    async with stage(tmp_path, start=False) as running:
        status, said = await refine(running, "run", REFINE_CHANNEL="", REFINE_WINDOW_DAYS="4000", SLACK_APP_TOKEN="")
        assert status == 2
        assert "REFINE_CHANNEL is not set." in said
        assert "REFINE_WINDOW_DAYS is wrong" in said
        assert "Traceback" not in said


async def test_a_second_bot_on_the_same_data_refuses_to_start(tmp_path: Path) -> None:
    async with stage(tmp_path) as running:
        status, said = await refine(running, "run", REFINE_PORT="0")
        assert status == 1
        assert "Traceback" not in said
        assert said.strip().splitlines()[-1].startswith("refine: ")


async def test_the_pause_holds_every_write_until_it_is_lifted(tmp_path: Path) -> None:
    from tests.road.walk import BEN, RITA, Walk

    async with stage(tmp_path) as running:
        walk = Walk(running)
        card = await walk.card("ApplicationRole", "case:propose")
        await walk.click(RITA, card, "case:propose")
        proposal = await walk.reply(card, "proposal")
        assert (await refine(running, "pause"))[0] == 0
        await walk.click(BEN, proposal, "case:approve")
        await walk.modal(BEN, "reason")
        await walk.submit(BEN, reason="yes")
        await walk.whisper(BEN, "Refine is paused")
        assert (await refine(running, "pause", "--off"))[0] == 0
        await walk.click(BEN, proposal, "case:approve")
        await walk.modal(BEN, "reason")
        await walk.submit(BEN, reason="yes")
        await walk.reply(card, "applied")
        status, said = await refine(running, "audit", "verify")
        assert (status, "is whole" in said) == (0, True), said


async def test_the_demo_says_its_address_once_the_first_card_is_up(tmp_path: Path) -> None:
    """`make demo` runs this: it ends by Ctrl-C, with nothing left running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox", "--port", "0", "--no-browser",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(90):
        while b"http://" not in (line := await process.stdout.readline()):
            assert line, "the demo ended before it said where it is"
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_bot_with_another_audit_key_refuses_to_start(tmp_path: Path) -> None:
    async with stage(tmp_path, REFINE_AUDIT_KEY="the key of old") as running:
        await running.bot.stop()
        status, said = await refine(running, "run", REFINE_AUDIT_KEY="another")
        assert status == 2
        assert "written with another audit key" in said
        assert "Traceback" not in said
