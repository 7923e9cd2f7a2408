"""The whole road with the real bot, a process of its own, over Socket Mode and over signed HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sandbox.aws
from sandbox.stage import Way, stage
from tests.road.walk import ANN, BEN, DORA, GUS, HUB, RITA, ROBO, STAN, Walk, buttons, key, shown

TWO = ["dynamodb:DescribeKinesisStreamingDestination", "dynamodb:DescribeTable"]


@pytest.mark.parametrize("way", ["socket", "http"])
async def test_from_the_card_to_a_verified_change_and_back(way: Way, tmp_path: Path) -> None:
    """After the road IAM holds exactly the trimmed document, after the rollback exactly the old one, byte for byte."""
    async with stage(tmp_path, way=way) as running:
        walk, aws = Walk(running), running.aws
        before = aws.snapshot(HUB, "ApplicationRole")
        card = await walk.card("ApplicationRole", "case:review")
        assert "999988887777" in shown(card)

        await walk.click(RITA, card, "case:review")
        review = await walk.reply(card, "review")
        assert "DescribeTable" in shown(review)
        assert aws.snapshot(HUB, "ApplicationRole") == before

        card = await walk.card("ApplicationRole", "case:propose")
        review = await walk.reply(card, "review")
        await walk.click(ANN, review, "case:propose_strict")
        proposal = await walk.reply(card, "proposal")
        assert all(action in shown(proposal) for action in TWO)

        for user, why in ((ANN, "somebody else has to approve"), (RITA, "not one of the approvers"), (GUS, "Guests"), (STAN, "another workspace"), (DORA, "deactivated"), (ROBO, "Bots")):  # fmt: skip
            proposal = await walk.reply(card, "proposal")
            await walk.click(user, proposal, "case:approve")
            await walk.whisper(user, why)
            assert running.slack.view(user) is None
        assert aws.snapshot(HUB, "ApplicationRole") == before

        await walk.click(BEN, proposal, "case:approve")
        await walk.modal(BEN, "reason")
        await walk.submit(BEN, reason="Only these two are in use.")
        applied = await walk.reply(card, "applied")
        after = aws.snapshot(HUB, "ApplicationRole")
        [policy] = after["attached"].values()
        document = json.loads(policy["document_text"])
        assert sorted(document["Statement"][0]["Action"]) == TWO
        files = {f["name"]: f for f in running.slack.files()}
        assert files["DynamoDBAccess.new.json"]["content"].decode() == policy["document_text"]
        proposal = await walk.reply(card, "proposal")
        assert "case:approve" not in buttons(proposal)

        applied = await walk.reply(card, "applied")
        await walk.click(BEN, applied, "case:roll_back")
        await walk.modal(BEN, "reason")
        await walk.submit(BEN, reason="The vendor asked for it.")
        await walk.reply(card, "rolled_back")
        assert aws.snapshot(HUB, "ApplicationRole") == before
        card = await walk.card("ApplicationRole", "case:replan")
        assert "case:roll_back" not in buttons(card)


def seeded_roles() -> list[tuple[str, str]]:
    """Account and name of every role that the world's data files name, those that nobody outside may assume too."""
    files = (Path(sandbox.aws.__file__).parent / "world").glob("*.json")
    return [(json.loads(f.read_text(encoding="utf-8")).get("account", HUB), f.stem.partition("@")[0]) for f in files]


async def test_refine_by_name_ends_in_a_proposal_or_a_plain_reason_for_every_role(tmp_path: Path) -> None:
    async with stage(tmp_path) as running:
        walk = Walk(running)
        roles = sorted(seeded_roles())
        assert len(roles) >= 16
        proposals = 0
        for account, name in roles:
            ack = await running.slack.command(ANN, f"{account}/{name}")
            assert ack.ok
        for account, name in roles:
            card = await walk.card(name, account=account, timeout=120)

            def end(card: dict = card) -> str:
                names = [key(m).split("/")[0] for m in running.slack.thread(card["ts"])]
                return next((n for n in ("proposal", "no_proposal", "no_evidence") if n in names), "")

            await running.slack.until(end, timeout=120)
            assert end() != "no_evidence", shown(await walk.reply(card, "no_evidence"))
            if end() == "proposal":
                proposals += 1
            else:
                reason = await walk.reply(card, "no_proposal")
                assert len(reason["text"]) > 30
        assert proposals >= 8


async def test_a_name_that_nobody_has_gets_near_matches_and_no_name_gets_help(tmp_path: Path) -> None:
    async with stage(tmp_path) as running:
        walk = Walk(running)
        await running.slack.command(ANN, "AplicationRole")
        told = await walk.whisper(ANN, "There is no role called")
        assert "ApplicationRole" in shown(told)
        await running.slack.command(BEN, "")
        await walk.whisper(BEN, "/refine")


async def test_a_restart_posts_nothing_twice_and_old_buttons_still_work(tmp_path: Path) -> None:
    async with stage(tmp_path, REFINE_POST_SECONDS="0.5") as running:
        walk = Walk(running)
        card = await walk.card("ApplicationRole", "case:review")
        assert await running.bot.stop() == 0  # in the middle of its first cards
        before = running.slack.messages()
        await running.bot.start()
        await walk.click(RITA, card, "case:review")
        await walk.reply(card, "review")
        await running.slack.until(lambda: len(running.slack.messages()) >= 21, timeout=60)
        await running.bot.stop()
        await running.bot.start()
        await walk.card("ApplicationRole", "case:propose")
        keys = [key(m) for m in running.slack.messages()]
        assert len(keys) == len(set(keys)) == 21  # a summary and twenty cards
        assert [m["ts"] for m in before] == [m["ts"] for m in running.slack.messages()][: len(before)]


async def test_a_kill_in_the_middle_of_a_change_ends_in_the_same_place(tmp_path: Path) -> None:
    """The write is held up, the bot dies by kill -9, and the next one finds out what is true and finishes."""
    async with stage(tmp_path) as running:
        walk, aws = Walk(running), running.aws
        card = await walk.card("ApplicationRole", "case:propose")
        await walk.click(RITA, card, "case:propose")
        proposal = await walk.reply(card, "proposal")
        aws.fault(service="iam", operation="CreatePolicyVersion", kind="lost_reply", times=1)
        aws.fault(service="iam", operation="GetRole", kind="latency", seconds=1.0, times=20)
        await walk.click(BEN, proposal, "case:approve")
        await walk.modal(BEN, "reason")
        await walk.submit(BEN, reason="In use.")
        await running.slack.until(lambda: any(c["operation"] == "CreatePolicyVersion" for c in aws.calls()), timeout=30)
        await running.bot.kill()
        aws.clear_faults()
        await running.bot.start()
        await walk.reply(card, "applied")
        assert sum(c["operation"] == "CreatePolicyVersion" for c in aws.calls()) == 1
        [policy] = aws.snapshot(HUB, "ApplicationRole")["attached"].values()
        assert policy["default_version"] == "v2"


async def test_the_documents_reach_the_thread_though_slack_stumbles(tmp_path: Path) -> None:
    """An upload whose outcome is in doubt is made again: nobody can approve documents that they cannot read."""
    async with stage(tmp_path) as running:
        walk = Walk(running)
        card = await walk.card("ApplicationRole", "case:propose")
        running.slack.fault(method="files.completeUploadExternal", kind="500", times=4)
        await walk.click(RITA, card, "case:propose")
        await walk.reply(card, "proposal")
        await running.slack.until(
            lambda: any(f["name"] == "DynamoDBAccess.new.json" for f in running.slack.files()), timeout=40
        )
