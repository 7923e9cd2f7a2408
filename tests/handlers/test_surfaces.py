"""Every surface through the front door: what people do in Slack, what the desk is told, what they see of it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

import pytest

from bot.errors import RefineError, UnavailableError
from bot.rules import Button
from handlers.buttons import ASKS, AT_ONCE
from tests.handlers.conftest import SECURITY, Stage
from tests.handlers.small_desk import ARN, section

# -------------------- buttons that act at once


@pytest.mark.parametrize(
    ("action", "state", "detail"),
    [
        ("review", "reviewing", {}),
        ("propose", "proposing/propose", {"mode": "", "keep": ()}),
        ("propose_strict", "proposing/propose", {"mode": "strict", "keep": ()}),
        ("propose_safe", "proposing/propose", {"mode": "safe", "keep": ()}),
        ("replan", "proposing/replan", {"mode": "", "keep": ()}),
        ("retry", "proposing/retry", {"mode": "", "keep": ()}),
        ("reopen", "new again", {}),
    ],
)
async def test_a_button_that_acts_at_once_reaches_its_flow(
    stage: Stage, action: str, state: str, detail: dict[str, Any]
) -> None:
    ack = await stage.there.click("U0RITA", await stage.card(), f"case:{action}")
    assert ack.ok
    row = stage.desk.rows["k1"]
    await stage.until(lambda: row.revision == 2)
    assert (row.state, row.by, row.detail) == (state, "U0RITA", detail)
    assert stage.told("U0RITA") == []


def test_every_button_of_the_rules_is_handled_one_way() -> None:
    at_once = {b for b in Button if b in AT_ONCE}
    assert at_once | ASKS | {Button.EXPLAIN} == set(Button)
    assert not at_once & ASKS


async def test_explain_is_answered_to_the_clicker_alone(stage: Stage) -> None:
    await stage.there.click("U0RITA", await stage.card(), "case:explain")
    await stage.until(lambda: stage.told("U0RITA") == ["Why k1 cannot be told."])
    assert stage.told("U0ANN") == []


async def test_of_two_clicks_the_second_is_told_who_was_first(stage: Stage) -> None:
    ts = await stage.card()
    await asyncio.gather(*(stage.there.click(u, ts, "case:review") for u in ("U0RITA", "U0ANN", "U0BEN")))
    await stage.idle()
    row = stage.desk.rows["k1"]
    assert row.revision == 2
    for loser in {"U0RITA", "U0ANN", "U0BEN"} - {row.by}:
        assert stage.told(loser) == [f"Too late: <@{row.by}> put it to reviewing. The card shows where it stands now."]
    assert stage.told(row.by) == []


async def test_a_refusal_goes_to_the_thread_where_the_click_was(stage: Stage) -> None:
    ts = await stage.card()
    reply = await stage.slack.post(SECURITY, await stage.desk.card("k2"), ts)
    await stage.there.click("U0GUS", reply, "case:review")
    (told,) = await stage.until(lambda: stage.there.ephemerals("U0GUS"))
    assert told["thread_ts"] == ts
    assert told["text"] == "Guests may not act on a role. Ask a full member of this workspace."
    await stage.there.click("U0GUS", ts, "case:review")
    _, told = await stage.until(lambda: len(stage.there.ephemerals("U0GUS")) > 1 and stage.there.ephemerals("U0GUS"))
    assert "thread_ts" not in told  # the root of the thread is seen in the channel


@pytest.mark.parametrize("action", ["case:teleport", "approve_v0", "case:review"])
async def test_a_button_of_another_version_says_so_and_does_nothing(stage: Stage, action: str) -> None:
    ts = await stage.slack.post(SECURITY, await stage.desk.review("k1"))
    ack = await stage.there.click("U0RITA", ts, action)
    assert ack.ok
    (text,) = await stage.until(lambda: stage.told("U0RITA"))
    assert text == "This button is from another version of Refine. Use the card as it is now, or /refine."
    assert stage.desk.rows["k1"].revision == 1


async def test_a_link_is_acknowledged_and_nothing_is_said(stage: Stage) -> None:
    ts = await stage.slack.post(SECURITY, await stage.desk.review("k1"))
    assert (await stage.there.click("U0RITA", ts, "link:docs")).ok
    await stage.idle()
    assert stage.told("U0RITA") == []


async def test_a_service_is_opened_for_the_one_who_picked_it(stage: Stage) -> None:
    root = await stage.card()
    ts = await stage.slack.post(SECURITY, await stage.desk.review("k1"), root)
    await stage.there.click("U0RITA", ts, "review:service", selected="dynamodb")
    (told,) = await stage.until(lambda: stage.there.ephemerals("U0RITA"))
    assert (told["text"], told["thread_ts"]) == ("dynamodb of k1", root)
    await stage.there.click("U0GUS", ts, "review:service", selected="dynamodb")
    (text,) = await stage.until(lambda: stage.told("U0GUS"))
    assert text.startswith("Guests may not")


async def test_what_is_picked_in_an_opened_service_takes_its_place(stage: Stage) -> None:
    """One message for each person, however many services they open in it; the thread's own stays as it is."""
    root = await stage.card()
    ts = await stage.slack.post(SECURITY, await stage.desk.review("k1"), root)
    await stage.there.click("U0RITA", ts, "review:service", selected="dynamodb")
    (first,) = await stage.until(lambda: stage.there.ephemerals("U0RITA"))
    await stage.there.click("U0RITA", first["ts"], "review:service", selected="s3")
    await stage.until(lambda: stage.told("U0RITA") == ["s3 of k1"])
    await stage.there.click("U0RITA", first["ts"], "review:service", selected="dynamodb")
    await stage.until(lambda: stage.told("U0RITA") == ["dynamodb of k1"])
    assert stage.there.workspace.find(SECURITY, ts)["text"] == "Review"


async def test_where_it_is_too_late_to_take_its_place_it_comes_beside_it(stage: Stage) -> None:
    ts = await stage.slack.post(SECURITY, await stage.desk.review("k1"), await stage.card())
    await stage.there.click("U0RITA", ts, "review:service", selected="dynamodb")
    (first,) = await stage.until(lambda: stage.there.ephemerals("U0RITA"))
    stage.there.fault("respond", "500", times=None)
    await stage.there.click("U0RITA", first["ts"], "review:service", selected="s3")
    await stage.until(lambda: stage.told("U0RITA") == ["dynamodb of k1", "s3 of k1"])


# -------------------- acknowledgement and errors


@pytest.mark.parametrize("error", [RefineError("No.", "Try later."), RuntimeError("a bug"), TimeoutError()])
async def test_a_click_is_acknowledged_whatever_becomes_of_it(stage: Stage, error: Exception) -> None:
    stage.desk.errors["look"] = error
    ack = await stage.there.click("U0RITA", await stage.card(), "case:review")
    assert ack.ok
    assert ack.seconds < 1
    await stage.until(lambda: stage.told("U0RITA"))


async def test_a_click_is_acknowledged_before_anything_else_is_done(stage: Stage) -> None:
    ts = await stage.card()
    stage.desk.gate = asyncio.Event()
    ack = await stage.there.click("U0RITA", ts, "case:review")
    assert ack.ok
    assert stage.desk.rows["k1"].revision == 1
    assert len(stage.jobs) == 1
    stage.desk.gate.set()
    await stage.until(lambda: stage.desk.rows["k1"].revision == 2)


async def test_a_known_error_is_one_sentence_and_a_next_step(stage: Stage) -> None:
    stage.desk.errors["look"] = UnavailableError("AWS does not answer.", "Press Retry in a minute.")
    await stage.there.click("U0RITA", await stage.card(), "case:review")
    assert await stage.until(lambda: stage.told("U0RITA")) == ["AWS does not answer. Press Retry in a minute."]


async def test_an_unknown_error_is_a_reference_for_people_and_a_traceback_for_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    stage.desk.errors["look"] = RuntimeError("a bug in the flow")
    await stage.there.click("U0RITA", await stage.card(), "case:review")
    (text,) = await stage.until(lambda: stage.told("U0RITA"))
    reference = re.search(r"reference ([0-9a-f]{8})", text)
    assert reference is not None
    assert "bug" not in text
    logged = caplog.text + "".join(capsys.readouterr())
    assert reference[1] in logged
    assert "a bug in the flow" in logged
    assert "Traceback" in logged
    assert "response_url" not in logged
    assert "trigger_id" not in logged


async def test_what_an_error_quotes_cannot_mention_or_link(stage: Stage) -> None:
    stage.desk.errors["look"] = RefineError("AWS says <!channel> & <https://evil|click>, asked <@U0ANN>.")
    await stage.there.click("U0RITA", await stage.card(), "case:review")
    (text,) = await stage.until(lambda: stage.told("U0RITA"))
    assert text == "AWS says &lt;!channel&gt; &amp; &lt;https://evil|click&gt;, asked <@U0ANN>."


@pytest.mark.parametrize("kind", ["500", "drop", "429"])
async def test_the_answer_gets_through_one_fault_of_slack(stage: Stage, kind: str) -> None:
    ts = await stage.card()
    stage.there.fault("chat.postEphemeral", kind, times=1, retry_after=0)
    await stage.there.click("U0GUS", ts, "case:review")
    assert await stage.until(lambda: stage.told("U0GUS"))


async def test_the_answer_comes_by_the_response_url_where_the_bot_is_not_in_the_channel(stage: Stage) -> None:
    stage.there.workspace.channels["C0GENERAL"]["members"].discard("U0REFINE")
    await stage.there.command("U0RITA", "status", channel="C0GENERAL")
    (told,) = await stage.until(lambda: stage.there.ephemerals("U0RITA"))
    assert (told["text"], told["channel"]) == ("At work", "C0GENERAL")
    stage.there.fault("respond", "500", times=None)
    await stage.there.command("U0RITA", "status", channel="C0GENERAL")
    await stage.until(lambda: len(stage.told("U0RITA")) == 2)
    assert len(stage.there.ephemerals("U0RITA")) == 1  # the second came as a direct message


# -------------------- dialogs


@pytest.mark.parametrize(
    ("button", "user", "values", "state", "detail"),
    [
        ("approve", "U0ANN", {}, "approved", {"reason": ""}),
        ("approve", "U0ANN", {("reason", "text"): " Looks right. "}, "approved", {"reason": "Looks right."}),
        ("decline", "U0BEN", {("reason", "text"): "Not now."}, "declined", {"reason": "Not now."}),
        (
            "snooze",
            "U0RITA",
            {("reason", "text"): "The vendor is asked.", ("days", "pick"): "30"},
            "snoozed",
            {"reason": "The vendor is asked.", "days": 30},
        ),
        (
            "accept",
            "U0RITA",
            {("reason", "text"): "A partner.", ("days", "pick"): "90"},
            "accepted",
            {"reason": "A partner.", "days": 90, "owner": "U0RITA"},
        ),
        (
            "accept",
            "U0RITA",
            {("reason", "text"): "A partner.", ("days", "pick"): "90", ("owner", "pick"): "U0NED"},
            "accepted",
            {"reason": "A partner.", "days": 90, "owner": "U0NED"},
        ),
        ("roll_back", "U0RITA", {("reason", "text"): "It broke."}, "rolling back", {"reason": "It broke."}),
        (
            "adjust",
            "U0RITA",
            {
                ("reason", "text"): "The yearly restore.",
                ("window", "pick"): "30",
                ("mode", "pick"): "strict",
                ("keep", "patterns"): "s3:Get*\n\n iam:PassRole \n",
                ("actions:0:", "pick"): ["s3:Action003", "s3:Action001"],
            },
            "proposing/adjust",
            {
                "mode": "strict",
                "window": 30,
                "keep": ("s3:Get*", "iam:PassRole", "s3:Action003", "s3:Action001"),
                "reason": "The yearly restore.",
            },
        ),
        (
            "give_back",
            "U0RITA",
            {("actions:0:", "pick"): ["s3:Action002"]},
            "giving back",
            {"actions": ("s3:Action002",)},
        ),
    ],
)
async def test_a_dialog_asks_and_what_is_sent_reaches_the_flow(
    stage: Stage, button: str, user: str, values: dict[tuple[str, str], Any], state: str, detail: dict[str, Any]
) -> None:
    assert (await stage.there.click(user, await stage.card(), f"case:{button}")).ok
    await stage.until(lambda: stage.dialog(user) == f"{button} k1?")
    ack = await stage.there.submit(user, values)
    assert ack.ok, ack
    assert ack.body == {"response_action": "clear"}
    row = stage.desk.rows["k1"]
    await stage.until(lambda: row.revision == 2)
    assert (row.state, row.by, row.detail) == (state, user, detail)
    assert stage.there.view(user) is None
    assert stage.told(user) == []


async def test_narrow_only_informs(stage: Stage) -> None:
    await stage.there.click("U0RITA", await stage.card(), "case:narrow")
    await stage.until(lambda: stage.dialog("U0RITA") == "narrow k1?")
    assert stage.there.view("U0RITA")["submit"] is None
    assert (await stage.there.close("U0RITA")).ok


async def test_a_dialog_is_there_at_once_and_filled_when_its_content_is_known(stage: Stage) -> None:
    ts = await stage.card()
    stage.desk.gate = asyncio.Event()
    await stage.there.click("U0ANN", ts, "case:approve")
    await stage.until(lambda: stage.dialog("U0ANN") == "Loading…")
    stage.desk.gate.set()
    await stage.until(lambda: stage.dialog("U0ANN") == "approve k1?")


async def test_who_may_not_is_told_so_in_a_line_and_sees_no_dialog(stage: Stage) -> None:
    ts = await stage.card()
    await stage.there.click("U0RITA", ts, "case:approve")
    said = ["You are not one of the approvers. Ask an approver to press the button."]
    await stage.until(lambda: stage.told("U0RITA") == said)
    assert stage.there.view("U0RITA") is None
    stage.desk.rows["k1"].revision, stage.desk.rows["k1"].by = 5, "U0BEN"
    await stage.there.click("U0ANN", ts, "case:approve")
    (told,) = await stage.until(lambda: stage.told("U0ANN"))
    assert told.startswith("Too late: <@U0BEN>")
    assert stage.there.view("U0ANN") is None


async def test_a_check_that_takes_its_time_does_not_cost_the_dialog(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack opens a dialog for three seconds only: it opens, and says there what came of the check."""
    monkeypatch.setattr("handlers.buttons.CHECK", 0.05)
    ts = await stage.card()
    stage.desk.gate = asyncio.Event()
    await stage.there.click("U0RITA", ts, "case:approve")
    await stage.until(lambda: stage.dialog("U0RITA") == "Loading…")
    stage.desk.gate.set()
    await stage.until(lambda: stage.dialog("U0RITA").startswith("You are not one of the approvers."))
    assert stage.there.view("U0RITA")["submit"] is None
    assert stage.told("U0RITA") == []


async def test_a_dialog_that_cannot_be_drawn_does_not_load_for_ever(stage: Stage) -> None:
    stage.desk.errors["modal"] = RuntimeError("a bug")
    await stage.there.click("U0ANN", await stage.card(), "case:approve")
    await stage.until(lambda: "reference" in stage.dialog("U0ANN"))


async def test_a_dialog_closed_while_it_loads_is_no_error_for_anybody(
    stage: Stage, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ts = await stage.card()
    stage.desk.gate = asyncio.Event()
    await stage.there.click("U0ANN", ts, "case:approve")
    await stage.until(lambda: stage.dialog("U0ANN") == "Loading…")
    await stage.there.close("U0ANN")
    stage.desk.gate.set()
    await stage.idle()
    assert stage.told("U0ANN") == []
    assert "Traceback" not in caplog.text + "".join(capsys.readouterr())


async def test_a_dialog_that_slack_does_not_open_is_told_in_the_channel(stage: Stage) -> None:
    ts = await stage.card()
    stage.there.fault("views.open", "slow", seconds=3.1)  # the trigger is good for three seconds
    await stage.there.click("U0ANN", ts, "case:approve")
    (text,) = await stage.until(lambda: stage.told("U0ANN"), timeout=8)
    assert text == "Slack did not wait for the dialog. Press the button again."


@pytest.mark.parametrize(
    ("button", "values", "block", "says"),
    [
        ("accept", {("days", "pick"): "30"}, "reason", "Say why"),
        ("accept", {("reason", "text"): "   ", ("days", "pick"): "30"}, "reason", "Say why"),
        ("accept", {("reason", "text"): "x" * 1001, ("days", "pick"): "30"}, "reason", "1,000 characters"),
        ("accept", {("reason", "text"): "A partner."}, "days", "Pick how long"),
        ("snooze", {("days", "pick"): "30"}, "reason", "Say what it waits for"),
        ("adjust", {("mode", "pick"): "safe", ("window", "pick"): "90"}, "reason", "Say why"),
        ("adjust", {("window", "pick"): "401", ("mode", "pick"): "safe"}, "window", "400 days at most"),
        (
            "adjust",
            {("window", "pick"): "90", ("mode", "pick"): "safe", ("keep", "patterns"): "s3:Get*\nnot a pattern"},
            "keep",
            "not a pattern",
        ),
        ("give_back", {}, "actions:0:", "Pick what"),
    ],
)
async def test_a_mistake_in_a_dialog_is_shown_beside_its_field(
    stage: Stage, button: str, values: dict[tuple[str, str], Any], block: str, says: str
) -> None:
    await stage.there.click("U0ANN", await stage.card(), f"case:{button}")
    await stage.until(lambda: stage.dialog("U0ANN") == f"{button} k1?")
    ack = await stage.there.submit("U0ANN", values)
    assert ack.body["response_action"] == "errors"
    assert says in ack.body["errors"][block]
    assert stage.there.view("U0ANN") is not None
    await stage.idle()
    assert stage.desk.rows["k1"].revision == 1


async def test_what_a_flow_refuses_after_the_dialog_is_told_where_it_was_opened(stage: Stage) -> None:
    root = await stage.card()
    ts = await stage.slack.post(SECURITY, await stage.desk.card("k1"), root)
    await stage.there.click("U0ANN", ts, "case:approve")
    await stage.until(lambda: stage.dialog("U0ANN") == "approve k1?")
    stage.desk.rows["k1"].revision, stage.desk.rows["k1"].by = 2, "U0BEN"  # meanwhile
    assert (await stage.there.submit("U0ANN")).ok
    (told,) = await stage.until(lambda: stage.there.ephemerals("U0ANN"))
    assert told["text"].startswith("Too late: <@U0BEN>")
    assert told["thread_ts"] == root


async def test_the_approver_is_asked_for_again_when_the_dialog_is_sent(stage: Stage) -> None:
    await stage.there.click("U0ANN", await stage.card(), "case:approve")
    await stage.until(lambda: stage.dialog("U0ANN") == "approve k1?")
    stage.desk.approvers.clear()
    await stage.there.submit("U0ANN")
    (text,) = await stage.until(lambda: stage.told("U0ANN"))
    assert text.startswith("You are not one of the approvers.")
    assert stage.desk.rows["k1"].revision == 1


async def test_a_dialog_of_another_version_says_so(stage: Stage) -> None:
    await stage.there.click("U0ANN", await stage.card(), "case:approve")
    await stage.until(lambda: stage.dialog("U0ANN") == "approve k1?")
    stage.there.workspace.stacks["U0ANN"][-1]["private_metadata"] = "proposal-17"
    ack = await stage.there.submit("U0ANN")
    assert ack.body["response_action"] == "update"
    assert "another version" in stage.dialog("U0ANN")
    assert stage.desk.rows["k1"].revision == 1


async def test_a_long_list_is_paged_and_searched_and_what_was_picked_stays_picked(stage: Stage) -> None:
    def shown() -> list[str]:
        view = stage.there.view("U0ANN")
        block = next((b for b in view["blocks"] if b["block_id"].startswith("actions")), None) if view else None
        return [o["value"] for o in block["element"]["options"]] if block else []

    await stage.there.click("U0ANN", await stage.card(), "case:give_back")
    await stage.until(lambda: shown()[:1] == ["s3:Action000"])
    await stage.there.click_view("U0ANN", "modal:page", values={("actions:0:", "pick"): ["s3:Action007"]})
    await stage.until(lambda: shown()[:2] == ["s3:Action007", "s3:Action100"])
    await stage.there.click_view("U0ANN", "modal:search", values={("search", "text"): "action24"})
    await stage.until(lambda: shown() == ["s3:Action007", *(f"s3:Action{n}" for n in range(240, 250))])
    ack = await stage.there.submit("U0ANN", {("actions:0:action24", "pick"): ["s3:Action007", "s3:Action242"]})
    assert ack.ok, ack
    await stage.until(lambda: stage.desk.rows["k1"].revision == 2)
    assert stage.desk.rows["k1"].detail == {"actions": ("s3:Action007", "s3:Action242")}


async def test_a_page_turned_twice_at_once_stays_a_list(stage: Stage) -> None:
    await stage.there.click("U0ANN", await stage.card(), "case:give_back")
    await stage.until(lambda: stage.dialog("U0ANN") == "give_back k1?")
    await asyncio.gather(*(stage.there.click_view("U0ANN", "modal:page") for _ in range(3)))
    await stage.idle()
    assert stage.dialog("U0ANN") == "give_back k1?"


async def test_a_dialog_whose_case_moved_says_so_when_it_is_turned(stage: Stage) -> None:
    await stage.there.click("U0ANN", await stage.card(), "case:give_back")
    await stage.until(lambda: stage.dialog("U0ANN") == "give_back k1?")
    stage.desk.rows["k1"].revision, stage.desk.rows["k1"].by = 2, "U0BEN"
    await stage.there.click_view("U0ANN", "modal:page")
    await stage.until(lambda: stage.dialog("U0ANN").startswith("Too late: <@U0BEN>"))


# -------------------- App Home


async def test_home_is_drawn_paged_and_filtered(stage: Stage) -> None:
    stage.desk.rows["k7"].state = "waiting"
    assert (await stage.there.open_home("U0RITA")).ok
    await stage.until(lambda: stage.on_home("U0RITA").startswith("Page 0 of all: k1=new"))
    await stage.there.click_view("U0RITA", "home:page")
    await stage.until(lambda: stage.on_home("U0RITA").startswith("Page 1 of all: k11=new"))
    await stage.there.click_view("U0RITA", "home:filter", selected="waiting")
    await stage.until(lambda: stage.on_home("U0RITA") == "Page 0 of waiting: k7=waiting")
    await stage.there.click_view("U0RITA", "home:filter", selected="all")
    await stage.until(lambda: stage.on_home("U0RITA").startswith("Page 0 of all: k1=new"))


async def test_what_is_done_at_home_is_seen_at_home_on_the_same_page(stage: Stage) -> None:
    await stage.there.open_home("U0RITA")
    await stage.until(lambda: stage.on_home("U0RITA"))
    await stage.there.click_view("U0RITA", "home:page")
    await stage.until(lambda: "k11=new" in stage.on_home("U0RITA"))
    await stage.there.click_view("U0RITA", "case:review", value="k12:1")
    await stage.until(lambda: "k12=reviewing" in stage.on_home("U0RITA"))
    await stage.there.click_view("U0RITA", "case:snooze", value="k13:1")
    await stage.until(lambda: stage.dialog("U0RITA") == "snooze k13?")
    await stage.there.submit("U0RITA", {("days", "pick"): "7", ("reason", "text"): "The vendor is asked."})
    await stage.until(lambda: "k13=snoozed" in stage.on_home("U0RITA"))
    assert stage.on_home("U0RITA").startswith("Page 1 of all")


async def test_a_refusal_at_home_is_shown_in_a_dialog(stage: Stage) -> None:
    await stage.there.open_home("U0RITA")
    await stage.until(lambda: stage.on_home("U0RITA"))
    stage.desk.rows["k1"].revision, stage.desk.rows["k1"].by = 2, "U0BEN"
    await stage.there.click_view("U0RITA", "case:review", value="k1:1")
    await stage.until(lambda: stage.dialog("U0RITA").startswith("Too late: <@U0BEN>"))
    assert stage.told("U0RITA") == []


async def test_a_card_opened_at_home_has_working_buttons(stage: Stage) -> None:
    await stage.there.open_home("U0RITA")
    await stage.until(lambda: stage.on_home("U0RITA"))
    await stage.there.click_view("U0RITA", "case:open", value="k2:1")
    await stage.until(lambda: stage.dialog("U0RITA") == "Case k2 is new, revision 1")
    await stage.there.click_view("U0RITA", "case:review")
    await stage.until(lambda: stage.dialog("U0RITA") == "Case k2 is reviewing, revision 2")
    await stage.there.click_view("U0RITA", "case:explain")
    await stage.until(lambda: stage.dialog("U0RITA") == "Why k2 cannot be told.")
    await stage.there.close("U0RITA")
    await stage.there.click_view("U0RITA", "case:accept")
    await stage.until(lambda: stage.dialog("U0RITA") == "accept k2?")
    await stage.there.submit("U0RITA", {("reason", "text"): "A partner.", ("days", "pick"): "30"})
    await stage.until(lambda: "k2=accepted" in stage.on_home("U0RITA"))
    assert stage.there.view("U0RITA") is None  # the card below it, which was older, is gone too


async def test_a_guest_sees_no_role_at_home(stage: Stage) -> None:
    await stage.there.open_home("U0GUS")
    await stage.until(lambda: stage.on_home("U0GUS").startswith("Guests may not act on a role."))
    assert "k1" not in stage.on_home("U0GUS")


async def test_a_home_drawn_meanwhile_is_drawn_again_from_what_is_true_now(stage: Stage) -> None:
    await stage.there.open_home("U0RITA")
    await stage.until(lambda: stage.on_home("U0RITA"))
    stage.desk.gate = asyncio.Event()
    await stage.there.click_view("U0RITA", "home:page")
    await asyncio.sleep(0.05)
    stage.desk.rows["k11"].state = "waiting"
    await stage.slack.publish_home("U0RITA", {"type": "home", "blocks": [section("…")]})  # by another replica
    stage.desk.gate.set()
    await stage.until(lambda: "k11=waiting" in stage.on_home("U0RITA"))


# -------------------- commands and shortcuts

HELPED = (
    "What /refine understands: /refine ApplicationRole, /refine list [NAME], /refine status, /refine history ROLE, "
    "/refine rollback ROLE REASON, /refine pause, /refine resume, /refine help"
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", HELPED),
        ("help", HELPED),
        ("ApplicationRole", "Reading what `ApplicationRole` really did; the answer comes in its thread."),
        ("ask ApplicationRole", "Reading what `ApplicationRole` really did; the answer comes in its thread."),
        (f"  {ARN} ", "Reading what `ApplicationRole` really did; the answer comes in its thread."),
        ("list", "25 cases"),
        ("list k2", "7 cases"),
        ("STATUS", "At work"),
        ("history ApplicationRole", "History of ApplicationRole"),
        ("lits k2", "Refine does not know the command 'lits'. Did you mean /refine list k2?"),
        ("frobnicate it", "Refine does not know the command 'frobnicate'. Try /refine help."),
        ("histroy", "There is no role called 'histroy'. Check the spelling. The command is /refine history."),
        ("ask histroy", "There is no role called 'histroy'. Check the spelling."),
        ("history", "/refine history needs the name of a role. Try /refine history ApplicationRole."),
        ("status ApplicationRole", "/refine status takes nothing after it. Did you mean /refine ApplicationRole?"),
        ("<!channel> now", "Refine does not know the command '&lt;!channel&gt;'. Try /refine help."),
    ],
)
async def test_the_command_is_answered_to_the_one_who_typed_it(stage: Stage, text: str, says: str) -> None:
    ack = await stage.there.command("U0RITA", text)
    assert (ack.ok, ack.body) == (True, {})
    assert await stage.until(lambda: stage.told("U0RITA")) == [says]
    assert stage.told("U0ANN") == []


async def test_pausing_is_for_approvers(stage: Stage) -> None:
    await stage.there.command("U0RITA", "pause")
    (text,) = await stage.until(lambda: stage.told("U0RITA"))
    assert text.startswith("You are not one of the approvers.")
    await stage.there.command("U0ANN", "pause")
    await stage.until(lambda: stage.desk.paused == "U0ANN")
    await stage.there.command("U0ANN", "resume")
    await stage.until(lambda: stage.desk.paused == "")


@pytest.mark.parametrize("text", ["list", "status", "history ApplicationRole", "ApplicationRole"])
async def test_a_guest_reads_nothing_by_command(stage: Stage, text: str) -> None:
    await stage.there.command("U0GUS", text)
    (said,) = await stage.until(lambda: stage.told("U0GUS"))
    assert said.startswith("Guests may not act on a role.")


async def test_the_shortcut_offers_roles_and_answers_directly(stage: Stage) -> None:
    assert (await stage.there.shortcut("U0RITA", "refine_role")).ok
    await stage.until(lambda: stage.there.view("U0RITA"))
    options = await stage.there.suggest("U0RITA", "pick", "appl")
    assert [o["value"] for o in options] == ["123456789012/ApplicationRole"]
    assert len(await stage.there.suggest("U0RITA", "pick", "")) == 2
    ack = await stage.there.submit("U0RITA", {("role", "pick"): "123456789012/ApplicationRole"})
    assert ack.ok
    assert stage.there.view("U0RITA") is None
    (text,) = await stage.until(lambda: stage.told("U0RITA"))
    assert text.startswith("Reading what `ApplicationRole` really did")
    assert stage.desk.asked == [("123456789012/ApplicationRole", "U0RITA")]


async def test_the_shortcut_says_directly_what_went_wrong(stage: Stage) -> None:
    await stage.there.shortcut("U0RITA", "refine_role")
    await stage.until(lambda: stage.there.view("U0RITA"))
    await stage.there.suggest("U0RITA", "pick", "Build")
    await stage.there.submit("U0RITA", {("role", "pick"): "123456789012/BuildRole"})
    (text,) = await stage.until(lambda: stage.told("U0RITA"))
    assert text.startswith("There is no role called")


@pytest.mark.parametrize("trouble", ["guest", "error", "slow"])
async def test_suggestions_that_cannot_be_had_are_an_empty_list_in_time(stage: Stage, trouble: str) -> None:
    user = "U0GUS" if trouble == "guest" else "U0RITA"
    await stage.there.shortcut(user, "refine_role")
    await stage.until(lambda: stage.there.view(user))
    if trouble == "error":
        stage.desk.errors["suggest"] = RuntimeError("a bug")
    if trouble == "slow":
        stage.desk.gate = asyncio.Event()
    assert await stage.there.suggest(user, "pick", "") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"Look at {ARN}.", "Reading what `ApplicationRole` really did; the answer comes in its thread."),
        (f"`{ARN}`, again {ARN}", "Reading what `ApplicationRole` really did; the answer comes in its thread."),
        ("Look at ApplicationRole", "This message names no role. Use it on one with an ARN, arn:aws:iam::…:role/Name."),
        (
            f"{ARN} and arn:aws-cn:iam::123456789012:role/a/b/Other",
            f"This message names 2 roles. Ask for the one you mean: /refine {ARN}",
        ),
    ],
)
async def test_the_message_shortcut_takes_the_role_that_the_message_names(stage: Stage, text: str, says: str) -> None:
    message = stage.there.say("U0ANN", text)
    assert (await stage.there.message_shortcut("U0RITA", "refine_message", message["ts"])).ok
    assert await stage.until(lambda: stage.told("U0RITA")) == [says]


async def test_the_message_shortcut_looks_into_blocks_too(stage: Stage) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": f"Role `{ARN}`", "verbatim": True}}]
    ts = await stage.slack.post(SECURITY, {"text": "A finding", "blocks": blocks})
    await stage.there.message_shortcut("U0RITA", "refine_message", ts)
    await stage.until(lambda: stage.desk.asked == [(ARN, "U0RITA")])


async def test_nothing_in_the_log_of_a_day_is_a_secret(
    stage: Stage, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger="handlers")
    ts = await stage.card()
    for action in ("case:review", "case:approve", "case:explain"):
        await stage.there.click("U0GUS", ts, action)
    await stage.there.command("U0GUS", "ApplicationRole secret-word")
    await stage.idle()
    logged = caplog.text + "".join(capsys.readouterr())
    for secret in ("response_url", "/respond/", "trigger", "xoxb-", "local-verification-token", "secret-word"):
        assert secret not in logged, json.dumps(logged[-2000:])
