"""The real messages and the real handlers together: every button that a card offers, pressed; every dialog, sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bot import messages, rules
from bot.flows import Answer
from bot.model import CaseId, CaseState, Mode, UserId
from bot.rules import Button
from handlers.buttons import ASKS, AT_ONCE
from tests.handlers.conftest import SECURITY, Stage
from tests.handlers.small_desk import Row, SmallDesk
from tests.messages.cases import NOW, PARTNER, PERSON, case_in, permits

Json = dict[str, Any]

# What is filled in, and what the flow gets of it.
FILLED: dict[Button, tuple[dict[tuple[str, str], Any], str, Json]] = {
    Button.APPROVE: ({("reason", "text"): "Looks right."}, "approved", {"reason": "Looks right."}),
    Button.DECLINE: ({}, "declined", {"reason": ""}),
    Button.ADJUST: (
        {
            ("reason", "text"): "The yearly restore.",
            ("window", "pick"): "180",
            ("mode", "pick"): "strict",
            ("keep", "patterns"): "s3:Get*",
        },
        "proposing/adjust",
        {"mode": "strict", "window": 180, "keep": ("s3:Get*",), "reason": "The yearly restore."},
    ),
    Button.SNOOZE: (
        {("reason", "text"): "The vendor is asked.", ("days", "pick"): "14"},
        "snoozed",
        {"reason": "The vendor is asked.", "days": 14},
    ),
    Button.ACCEPT: (
        {("reason", "text"): "Contract 4711.", ("days", "pick"): "90"},
        "accepted",
        {"reason": "Contract 4711.", "days": 90, "owner": "U0ANN"},
    ),
    Button.ROLL_BACK: ({("reason", "text"): "It broke."}, "rolling back", {"reason": "It broke."}),
    Button.GIVE_BACK: (
        {("actions", "pick"): ["s3:CreateBucket"]},
        "giving back",
        {"actions": ("s3:CreateBucket",)},
    ),
}


class DrawnDesk(SmallDesk):
    """Decides as the small desk does, draws as the real one."""

    def __init__(self, state: CaseState, mode: Mode) -> None:
        super().__init__()
        self.case = case_in(state, role=PARTNER, mode=mode)
        self.rows = {self.case.id: Row(id=self.case.id, revision=self.case.revision)}

    async def card(self, case_id: CaseId) -> Json:
        return messages.card(self.case, NOW, permits(PARTNER))

    async def modal(
        self,
        case_id: CaseId,
        button: Button,
        page: int = 0,
        search: str = "",
        state: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> Json:
        return messages.modal(self.case, button, now=NOW, page=page, search=search, state=state, by=by)

    async def service(self, case_id: CaseId, namespace: str) -> Answer:
        assert self.case.proposal is not None
        payload = messages.review_service(self.case, namespace, self.case.proposal.trim)
        return Answer(text=payload["text"], blocks=payload["blocks"])

    async def explain(self, case_id: CaseId) -> Answer:
        payload = messages.explain(self.case, 90)
        return Answer(text=payload["text"], blocks=payload["blocks"])

    async def home(self, by: UserId, page: int = 0, filter: str = "") -> Json:  # noqa: A002  # the Desk's word
        counts = {self.case.state: 31}
        return messages.home(
            [self.case], page=page, total=31, person=PERSON, now=NOW, counts=counts, state=filter or "all"
        )


OFFERED = [(state, button) for state in CaseState for button in rules.buttons(case_in(state, role=PARTNER))]


@pytest.mark.parametrize(("state", "button"), OFFERED, ids=[f"{s}-{b}" for s, b in OFFERED])
async def test_every_button_of_every_card_does_what_it_says(
    socket_stage: Stage, state: CaseState, button: Button
) -> None:
    stage = on_stage(socket_stage, state)
    row = stage.desk.rows["c0ffee"]
    before = row.revision
    await stage.there.click("U0ANN", await stage.card("c0ffee"), f"case:{button}")
    if button in AT_ONCE:
        await stage.until(lambda: row.revision == before + 1)
    elif button is Button.EXPLAIN:
        await stage.until(lambda: stage.told("U0ANN"))
    elif button is Button.NARROW:
        view = await stage.until(lambda: filled(stage))
        assert view["submit"] is None
    else:
        assert button in ASKS
        await stage.until(lambda: filled(stage))
        values, moved, detail = FILLED[button]
        ack = await stage.there.submit("U0ANN", at_blocks(stage, values))
        assert ack.ok, ack
        await stage.until(lambda: row.revision == before + 1)
        assert (row.state, row.detail) == (moved, detail)


def on_stage(stage: Stage, state: CaseState, mode: Mode = Mode.SAFE) -> Stage:
    """Let the desk that the listeners know draw as the real one does."""
    drawn = DrawnDesk(state, mode)
    stage.desk.__class__, stage.desk.__dict__ = DrawnDesk, drawn.__dict__
    return stage


def filled(stage: Stage) -> Json | None:
    """The top dialog, once it no longer loads."""
    view = stage.there.view("U0ANN")
    return view if view is not None and view["callback_id"] else None


def at_blocks(stage: Stage, values: dict[tuple[str, str], Any]) -> dict[tuple[str, str], Any]:
    """Name the blocks as they are drawn: one that is drawn anew with another content has a suffix."""
    view = filled(stage)
    assert view is not None
    drawn = {b["block_id"].partition(":")[0]: b["block_id"] for b in view["blocks"]}
    return {(drawn[block], action): value for (block, action), value in values.items()}


async def test_what_was_picked_stays_over_pages_and_searches(socket_stage: Stage) -> None:
    stage = on_stage(socket_stage, CaseState.WATCHING, Mode.STRICT)
    await stage.there.click("U0ANN", await stage.card("c0ffee"), "case:give_back")
    await stage.until(lambda: filled(stage))
    await redrawn(stage, "modal:page", value="1")
    await redrawn(stage, "modal:page", value="2")
    picked = choices(stage)[3]
    await redrawn(stage, "modal:search", {("actions", "pick"): [picked], ("search", "text"): "sqs:"})
    assert choices(stage)[0] == picked
    assert all(name.startswith("sqs:") for name in choices(stage)[1:])
    ack = await stage.there.submit("U0ANN")
    assert ack.ok, ack
    await stage.until(lambda: stage.desk.rows["c0ffee"].detail == {"actions": (picked,)})


async def redrawn(
    stage: Stage, action: str, values: dict[tuple[str, str], Any] | None = None, value: str | None = None
) -> None:
    before = filled(stage)
    assert before is not None
    await stage.there.click_view("U0ANN", action, values=at_blocks(stage, values or {}), value=value)
    await stage.until(lambda: (filled(stage) or before)["hash"] != before["hash"])


def choices(stage: Stage) -> list[str]:
    view = filled(stage)
    assert view is not None
    (picker,) = [b["element"] for b in view["blocks"] if b["block_id"].startswith("actions:")]
    return [o["value"] for o in picker["options"]]


async def test_a_real_card_and_a_real_explanation_fit_into_dialogs(socket_stage: Stage) -> None:
    stage = on_stage(socket_stage, CaseState.CANNOT_TELL)
    await stage.there.open_home("U0ANN")
    await stage.until(lambda: stage.there.home("U0ANN"))
    await stage.there.click_view("U0ANN", "case:open")
    await stage.until(lambda: (filled(stage) or {}).get("callback_id") == "card")
    await stage.there.click_view("U0ANN", "case:explain")
    await stage.until(lambda: stage.dialog("U0ANN").startswith("*Why there is no proposal"))
    assert stage.told("U0ANN") == []


async def test_a_real_home_is_turned_and_filtered(socket_stage: Stage) -> None:
    stage = on_stage(socket_stage, CaseState.WAITING)
    await stage.there.open_home("U0ANN")
    await stage.until(lambda: stage.there.home("U0ANN"))
    await stage.there.click_view("U0ANN", "home:page", value="1:open")
    await stage.until(lambda: stage.there.home("U0ANN")["private_metadata"] == "1:open")
    await stage.there.click_view("U0ANN", "home:filter", selected="waiting")
    await stage.until(lambda: stage.there.home("U0ANN")["private_metadata"] == "0:waiting")


async def test_a_real_review_opens_a_service_in_its_thread(socket_stage: Stage) -> None:
    stage = on_stage(socket_stage, CaseState.WAITING)
    case = stage.desk.case
    root = await stage.card("c0ffee")
    ts = await stage.slack.post(SECURITY, messages.review(case, case.proposal.trim, NOW), root)
    await stage.there.click("U0ANN", ts, "review:service", selected="s3")
    (opened,) = await stage.until(lambda: stage.there.ephemerals("U0ANN"))
    assert "Amazon S3 (s3)" in opened["text"]
    for action, selected, says in (
        ("review:order", "s3|tracked|never|0", "Not accessed first"),
        ("review:show", "s3|all|never|0", "All actions"),
        ("review:service", "*||never|0", "All services"),
    ):
        await stage.there.click("U0ANN", opened["ts"], action, selected=selected)

        def chosen(action: str = action) -> str:
            (now,) = stage.there.ephemerals("U0ANN")  # one message, drawn anew
            (row,) = [b for b in now["blocks"] if b["type"] == "actions"]
            return next(str(e["initial_option"]["text"]["text"]) for e in row["elements"] if e["action_id"] == action)

        await stage.until(lambda says=says, chosen=chosen: chosen() == says)


def test_the_manifest_asks_for_the_scopes_that_the_client_needs() -> None:
    import yaml

    from bot.messages.slack import SCOPES

    assert set(yaml.safe_load(messages.manifest())["oauth_config"]["scopes"]["bot"]) == set(SCOPES)
