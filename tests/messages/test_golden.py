"""Every message and view in every state, as people read it: one file each under __snapshots__."""

from __future__ import annotations

from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from bot import rules
from bot.messages import render
from bot.model import CaseState
from sandbox.slack.validate import problems
from tests.messages.cases import case_in
from tests.messages.every import Data, every

ALL = dict(every(Data()))
MESSAGES = [n for n, (surface, _) in ALL.items() if surface == "message"]


@pytest.fixture
def golden(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(JSONSnapshotExtension)


@pytest.mark.parametrize("name", ALL)
def test_it_reads_as_reviewed(name: str, golden: SnapshotAssertion) -> None:
    """A change of words or layout shows in a file."""
    _, draw = ALL[name]
    assert draw() == golden


@pytest.mark.parametrize("name", ALL)
def test_slack_takes_it(name: str) -> None:
    """No validator finds fault with it."""
    surface, draw = ALL[name]
    assert problems(draw(), surface) == []


@pytest.mark.parametrize("name", MESSAGES)
def test_it_is_complete_without_its_blocks(name: str) -> None:
    """Screen readers and notifications read `text`; chat.update refuses one of more than 4,000 characters."""
    payload = ALL[name][1]()
    assert 10 < len(payload["text"]) <= 4000
    assert set(payload) == {"text", "blocks"}


@pytest.mark.parametrize("name", MESSAGES)
def test_it_stays_within_the_budget(name: str) -> None:
    """Slack refuses a message somewhere above 11,000 characters of text in its blocks."""
    assert text_size(ALL[name][1]()["blocks"]) < 10_000


def test_every_template_is_drawn() -> None:
    """No template is left that no golden file shows."""
    for _, draw in ALL.values():
        draw()
    loaded = {name for _, name in render._environment().cache}
    assert set(render._environment().list_templates(extensions=["j2"])) <= loaded


@pytest.mark.parametrize("state", CaseState)
def test_a_card_offers_what_the_rules_offer(state: CaseState) -> None:
    """Same buttons, same order, the case and revision in each, at most one of them primary."""
    case = case_in(state)
    found = [e for b in ALL[f"card-{state}"][1]()["blocks"] if b["type"] == "actions" for e in b["elements"]]
    assert [e["action_id"] for e in found] == [f"case:{b.value}" for b in rules.buttons(case)]
    assert {e["value"] for e in found} <= {"c0ffee:7"}
    assert [e.get("style") for e in found].count("primary") <= 1


@pytest.mark.parametrize("name", [n for n in ALL if n.startswith("proposal-")])
def test_only_the_waiting_proposal_has_buttons(name: str) -> None:
    """What cannot be approved any more says what became of it, in its second block, and cannot be pressed."""
    blocks = ALL[name][1]()["blocks"]
    ids = [e["action_id"] for b in blocks if b["type"] == "actions" for e in b["elements"]]
    waits = name.removeprefix("proposal-") in {
        "waiting",
        "partner-safe",
        "partner-strict",
        "half-approved",
        "adjusted",
    }
    given = name.startswith("proposal-given")  # there is nothing to adjust about it
    wanted = ["case:approve", "case:decline", "case:adjust"] if waits else ["case:approve", "case:decline"]
    assert ids == (wanted if waits or given else [])


@pytest.mark.parametrize("name", ALL)
def test_repeated_buttons_say_what_they_are_for(name: str) -> None:
    """A screen reader hears more than a row of `Approve…`."""
    for element in buttons(ALL[name][1]()):
        said = element["accessibility_label"]
        assert (
            "Role" in said or "PartnerExport" in said if element["action_id"].startswith("case:") else " the " in said
        )


@pytest.mark.parametrize("name", ALL)
def test_nobody_shouts(name: str) -> None:
    """No exclamation marks in what we write; plain text never turns into emoji."""
    for node in walk(ALL[name][1]()):
        if node.get("type") == "plain_text":
            assert node["emoji"] is False
            assert "!" not in node["text"]
        if node.get("type") == "mrkdwn":
            assert node["verbatim"] is True
            assert "!" not in node["text"].replace("<!date^", "")


def walk(node: Any) -> Any:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def buttons(payload: dict[str, Any]) -> list[dict[str, Any]]:
    return [n for n in walk(payload) if n.get("type") == "button"]


def text_size(blocks: Any) -> int:
    return sum(len(n["text"]) for n in walk(blocks) if isinstance(n.get("text"), str))
