"""Every button of every state, pressed by every kind of user, over Socket Mode and over signed HTTP.

What is expected is written down here from the issue's words and the state table of the design, not taken from
`bot.rules`: who may, what follows, and what card there is then.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from bot.flows import watch
from bot.model import Case, CaseState
from bot.rules import REFINE, Event
from sandbox.slack import seeds
from sandbox.slack.acts import Place
from tests.handlers.house import (
    ANN,
    BEN,
    DORA,
    FLO,
    GROUP,
    GUS,
    NED,
    OLD,
    OTTO,
    PIA,
    RITA,
    ROBO,
    SECURITY,
    STAN,
    UMA,
    House,
    built,
    now,
)
from tests.road.walk import INPUTS

pytestmark = [pytest.mark.buttons, pytest.mark.asyncio(loop_scope="module")]
# One house for each way; where there are several workers, each has one of the two.
SOCKET = pytest.param("socket", marks=pytest.mark.xdist_group("buttons-socket"))
HTTP = pytest.param("http", marks=pytest.mark.xdist_group("buttons-http"))

# -------------------- what is expected

# state → its mark on the card, and the buttons there
CARDS = {
    "new": ("🔴", "review propose narrow accept snooze"),
    "working": ("⏳", ""),
    "cannot_tell": ("⚠️", "retry explain accept snooze"),
    "waiting": ("🟡", "approve decline adjust"),
    "stale": ("♻️", "replan reopen"),
    "applying": ("⚙️", "roll_back"),
    "watching": ("👀", "roll_back give_back"),
    "done": ("🟢", "roll_back give_back reopen"),
    "rolling_back": ("↩️", ""),
    "rolled_back": ("🔵", "replan reopen"),
    "failed": ("🟥", "retry roll_back"),  # the change is in force, unverified
    "declined": ("⚪", "reopen"),
    "expired": ("⚪", "reopen"),
    "snoozed": ("⚪", "reopen"),
    "accepted": ("⚪", "reopen"),
    "nothing": ("⚪", "review narrow accept reopen"),
    "resolved": ("✅", ""),
}
# state and button → the state after it, once the flows came to their end
AFTER = {
    "new": {"review": "new", "propose": "waiting", "narrow": "new", "accept": "accepted", "snooze": "snoozed"},
    "cannot_tell": {"retry": "waiting", "explain": "cannot_tell", "accept": "accepted", "snooze": "snoozed"},
    "waiting": {"approve": "watching", "decline": "declined", "adjust": "waiting"},
    "stale": {"replan": "waiting", "reopen": "new"},
    "applying": {"roll_back": "declined"},  # before anything is written
    "watching": {"roll_back": "rolled_back", "give_back": "waiting"},  # proposed, in force as before
    "done": {"roll_back": "rolled_back", "give_back": "waiting", "reopen": "new"},
    "rolled_back": {"replan": "waiting", "reopen": "new"},
    "failed": {"retry": "waiting", "roll_back": "rolled_back"},
    "declined": {"reopen": "new"},
    "expired": {"reopen": "new"},
    "snoozed": {"reopen": "new"},
    "accepted": {"reopen": "new"},
    "nothing": {"review": "new", "narrow": "nothing", "accept": "accepted", "reopen": "new"},
}
# button → what the audit log says that the person did; empty for what only shows something
AUDIT = {
    "review": "review", "propose": "propose", "replan": "propose", "retry": "propose", "adjust": "propose",
    "approve": "approved", "decline": "decline", "accept": "accept", "snooze": "snooze", "reopen": "reopen",
    "roll_back": "roll_back", "give_back": "propose", "explain": "", "narrow": "",
}  # fmt: skip
# button → the message of the thread that says so, by the start of its key in the outbox
THREAD = {
    "approve": "approved", "decline": "declined", "adjust": "proposal", "propose": "proposal", "replan": "proposal",
    "accept": "accept", "snooze": "snooze", "reopen": "reopen", "review": "review", "roll_back": "rolled_back",
    "give_back": "proposal",
}  # fmt: skip
# Any full member may look and propose. All else decides, and takes an approver.
MEMBERS_TOO = {"review", "propose", "replan", "retry", "explain", "adjust", "give_back", "narrow"}
APPROVERS = [ANN, BEN, PIA]
MEMBERS = [RITA, NED]
NEVER = {
    GUS: "Guests may not act on a role.",
    UMA: "Guests may not act on a role.",
    STAN: "You are from another workspace.",
    OTTO: "You are from another workspace.",
    DORA: "This Slack account is deactivated.",
    ROBO: "Bots and workflows may not act on a role.",
    FLO: "Bots and workflows may not act on a role.",
}
NOT_LISTED = "You are not one of the approvers."
OWN = "You proposed this change, so somebody else has to approve it."
UNREADABLE = "So nobody may do this now"
LATE = "Too late:"

PRESSES = [(state, button) for state, row in AFTER.items() for button in row]
# What is filled in where a button asks first.
FORMS: dict[str, dict[str, Any]] = {
    "approve": {"reason": "Read it."},
    "decline": {"reason": "Not now."},
    "adjust": {"mode": "strict", "window": "30", "reason": "The restore is yearly."},
    "accept": {"reason": "Meant to be so.", "days": "30", "owner": RITA},
    "snooze": {"reason": "The vendor is asked.", "days": "7"},
    "roll_back": {"reason": "It broke."},
    "give_back": {"actions": ["dynamodb:DeleteTable"]},
}


def may(user: str, button: str) -> bool:
    return user not in NEVER and (button in MEMBERS_TOO or (user in APPROVERS and (user, button) != (PIA, "approve")))


def refusal(user: str, button: str) -> str:
    return NEVER.get(user) or (OWN if user == PIA else NOT_LISTED)


# -------------------- the house


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[SOCKET, HTTP])
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with built(tmp_path_factory.mktemp(request.param), request.param) as made:
        yield made


ONE_WAY = pytest.mark.parametrize("house", [HTTP], indirect=True)  # what is behind the door is the same for both


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def as_it_was(house: House) -> AsyncIterator[None]:
    """What a test does to people, group and settings is over with it."""
    settings = house.world.settings
    yield
    house.world.settings = settings
    house.there.workspace.groups[seeds.APPROVERS]["users"] = list(GROUP)
    house.there.workspace.users[BEN]["deleted"] = False
    house.there.api.scopes = seeds.SCOPES
    for user in [*APPROVERS, *MEMBERS, *NEVER]:
        house.forget(user)


def offered(message: dict[str, Any]) -> list[str]:
    """The buttons of the case in a message, in order."""
    found = [e["action_id"] for b in message["blocks"] if b["type"] == "actions" for e in b["elements"]]
    return [a.removeprefix("case:") for a in found if a.startswith("case:")]


def key(message: dict[str, Any]) -> str:
    """Under which the outbox posted the message; files have none."""
    return str(message.get("metadata", {}).get("event_payload", {}).get("key", ""))


def place_of(house: House, user: str, case: Case, button: str, *, in_thread: bool = False) -> Place:
    """Where the user finds the button: on the card, or on a message in its thread where there is one with it."""
    replies = house.there.workspace.replies(SECURITY, case.thread_ts) if in_thread else []
    ts = next((m["ts"] for m in replies if button in offered(m)), case.thread_ts)
    return house.there.acts.in_message(user, SECURITY, ts)


async def press(house: House, user: str, place: Place, button: str, form: dict[str, Any] | None = None) -> None:
    """Click, and send off the dialog that comes of it, where one does."""
    ack = await house.there.acts.click(user, place, f"case:{button}")
    assert ack.ok, ack.error
    view = await dialog(house, user)
    if view is not None and view["submit"] is not None:
        ack = await submit(house, user, view, FORMS[button] if form is None else form)
        assert ack.ok, ack.error


async def dialog(house: House, user: str) -> dict[str, Any] | None:
    """The user's dialog, once it is drawn."""
    await house.jobs.drain(5)
    stack = house.there.workspace.stacks.get(user)
    return stack[-1] if stack else None


async def submit(house: House, user: str, view: dict[str, Any], form: dict[str, Any]) -> Any:
    blocks = {b["block_id"].partition(":")[0]: b["block_id"] for b in view["blocks"]}
    return await house.there.acts.submit(user, view, {blocks[n]: {INPUTS[n]: v} for n, v in form.items()})


async def facts(house: House, case: Case) -> tuple[Any, ...]:
    """All of a case that a refused click must not change."""
    stored = await house.store.case(case.id)
    last = await house.store.history(case.id, limit=1)
    return stored.state, stored.revision, last[0].seq, json.dumps(house.card(stored)), house.aws.there[case.role_arn]


def check_card(house: House, case: Case, more: str = "") -> None:
    mark, buttons = CARDS[case.state.value]
    if case.proposal is not None and case.proposal.give_back is not None:
        buttons = buttons.replace("adjust", "")
    card = house.card(case)
    assert offered(card) == f"{buttons} {more}".split()
    assert card["blocks"][1]["text"]["text"].startswith(mark), card["blocks"][1]
    assert mark in card["text"]


# -------------------- the table


async def test_the_table_is_whole() -> None:
    """Every state and every button that there is has its row."""
    assert set(CARDS) == {s.value for s in CaseState}
    assert {b for _, buttons in CARDS.values() for b in buttons.split()} == set(AUDIT)
    for state, (_, buttons) in CARDS.items():
        assert set(AFTER.get(state, {})) == set(buttons.split())


@ONE_WAY
@pytest.mark.parametrize("state", CARDS)
async def test_the_card_of_each_state_shows_its_mark_and_its_buttons(house: House, state: str) -> None:
    check_card(house, await house.case_in(CaseState(state)))


@pytest.mark.parametrize(("state", "button"), PRESSES, ids=[f"{s}-{b}" for s, b in PRESSES])
async def test_who_may_moves_the_case_and_who_may_not_moves_nothing(house: House, state: str, button: str) -> None:
    # Where all members may, one of the two approvers and one of the two plain members act over each way.
    turn = 1 if house.url else 0
    acting = [(ANN, BEN)[turn], PIA, (RITA, NED)[turn]] if button in MEMBERS_TOO else APPROVERS
    allowed = [u for u in acting if may(u, button)]
    refused = [u for u in [*NEVER, *APPROVERS, *MEMBERS] if not may(u, button)]
    # What failed and is in force cannot be proposed again: the role is trimmed.
    cases = await asyncio.gather(*(house.case_in(CaseState(state), in_force=button != "retry") for _ in allowed))
    seqs = {c.id: (await house.store.history(c.id, limit=1))[0].seq for c in cases}
    before = await facts(house, cases[0])
    places = [place_of(house, u, cases[0], button, in_thread=n % 2 == 1) for n, u in enumerate(refused)]
    await asyncio.gather(*(press(house, u, p, button) for u, p in zip(refused, places, strict=True)))
    await house.quiet()
    assert await facts(house, cases[0]) == before
    for user in refused:
        assert refusal(user, button) in house.told(user), (user, house.told(user))

    async def act(number: int) -> None:
        user, case = allowed[number], cases[number]
        await press(house, user, place_of(house, user, case, button, in_thread=number % 2 == 1), button)

    await asyncio.gather(*(act(n) for n in range(len(allowed))))
    await house.quiet()
    for user, old in zip(allowed, cases, strict=True):
        case = await house.store.case(old.id)
        assert case.state.value == AFTER[state][button], (user, case.sentence, house.told(user))
        entries = {(e.who, e.what): dict(e.detail) for e in reversed(await house.store.history(case.id))}
        if AUDIT[button]:
            assert case.revision > old.revision
            assert re.fullmatch(r"\d+\.\d+", entries[user, AUDIT[button]]["request"]), (
                "the click's id, without its secret"
            )
        else:
            assert case.revision == old.revision
            assert (await house.store.history(case.id, limit=1))[0].seq == seqs[case.id]
            assert case.role_name in house.told(user)
        if button in THREAD:
            name = "declined" if state == "applying" else THREAD[button]
            told = [m for m in house.there.thread(case.thread_ts) if key(m).startswith(f"{name}/")]
            assert told, (button, [key(m) for m in house.there.thread(case.thread_ts)])
            if button in {"approve", "decline", "accept", "snooze", "roll_back"}:
                assert FORMS[button]["reason"] in json.dumps(told[-1]), button
        # What the re-opened case is about is what is in force: the change may still be taken back.
        more = {"done reopen": "roll_back give_back", f"{state} give_back": "roll_back"}
        check_card(house, case, more=more.get(f"{state} {button}", ""))
        in_force = house.aws.there[case.role_arn].policies[0].text != OLD
        assert in_force == (case.change is not None and button != "roll_back" and state != "rolled_back")


@ONE_WAY
async def test_a_change_is_rolled_back_while_a_proposal_waits(house: House) -> None:
    """Who needs the old permissions now does not have to decline first; the proposal that waited is over."""
    case = await house.case_in(CaseState.WATCHING)
    await press(house, ANN, place_of(house, ANN, case, "give_back"), "give_back")
    await house.quiet()
    waits = await house.store.case(case.id)
    assert waits.state is CaseState.WAITING
    approve = place_of(house, BEN, waits, "approve")
    await press(house, ANN, place_of(house, ANN, waits, "roll_back"), "roll_back")
    await house.quiet()
    back = await house.store.case(case.id)
    assert (back.state, house.aws.there[case.role_arn].policies[0].text) == (CaseState.ROLLED_BACK, OLD)
    check_card(house, back)
    writes = len(house.aws.writes)
    await house.there.acts.click(BEN, approve, "case:approve")
    await house.quiet()
    assert f"Too late: <@{ANN}> rolled it back" in house.told(BEN)
    assert len(house.aws.writes) == writes
    assert (await house.store.case(case.id)).state is CaseState.ROLLED_BACK


@ONE_WAY
async def test_who_may_not_is_told_whom_to_ask(house: House) -> None:
    """By name: of the approvers only those whose click would count, and for an approval not the one who proposed."""
    case = await house.case_in(CaseState.WAITING)
    for user, button, people in (
        (RITA, "approve", f"Ask <@{ANN}> or <@{BEN}>."),
        (RITA, "decline", f"Ask <@{ANN}>, <@{BEN}> or <@{PIA}>."),
        (PIA, "approve", f"Ask <@{ANN}> or <@{BEN}>."),
    ):
        await house.there.acts.click(user, place_of(house, user, case, button), f"case:{button}")
        await house.jobs.drain(5)
        assert people in house.told(user), house.told(user)
        assert house.there.view(user) is None
        house.forget(user)


@ONE_WAY
async def test_what_is_put_aside_says_until_when_why_and_who_answers_for_it(house: House) -> None:
    for button, state in (("snooze", "snoozed"), ("accept", "accepted")):
        case = await house.case_in(CaseState.NEW)
        await press(house, ANN, place_of(house, ANN, case, button), button)
        await house.quiet()
        card = json.dumps(house.card(case), ensure_ascii=False)
        entry = next(e for e in await house.store.history(case.id) if e.what == button)
        detail = dict(entry.detail)
        assert detail["reason"] == FORMS[button]["reason"]
        assert detail["until"][:10] == f"{now() + timedelta(days=int(FORMS[button]['days'])):%Y-%m-%d}"
        assert FORMS[button]["reason"] in card
        assert f"*{state.capitalize()}* by <@{ANN}> until" in card
        assert (f"<@{RITA}> answers for it" in card) == (button == "accept") == ("owner" in detail)
        assert house.aws.shelved.get(case.findings[0].id) == ("ARCHIVED" if button == "accept" else None)
        await house.there.command(RITA, f"history {case.role_name}", channel=SECURITY)
        await house.jobs.drain(5)
        told = house.told(RITA)
        assert FORMS[button]["reason"] in told
        house.forget(RITA)
        await press(house, BEN, place_of(house, BEN, case, "reopen"), "reopen")
        await house.quiet()
        assert FORMS[button]["reason"] not in json.dumps(house.card(case))


@ONE_WAY
async def test_an_adjusted_proposal_is_another_one_and_the_old_one_says_so(house: House) -> None:
    """Window, mode, what to keep and why are those of the dialog; the old message cannot be pressed, and its yes is void."""
    house.world.settings = house.world.settings.model_copy(update={"refine_approvals_needed": 2})
    case = await house.case_in(CaseState.WAITING)
    await press(house, ANN, place_of(house, ANN, case, "approve"), "approve")
    await house.quiet()
    house.forget(ANN)
    case = await house.store.case(case.id)
    old = case.proposal
    assert old is not None
    assert len(case.approvals) == 1
    form = {**FORMS["adjust"], "keep": "dynamodb:Create*", "window": "365"}
    await press(house, RITA, place_of(house, RITA, case, "adjust"), "adjust", form)
    await house.quiet()
    case = await house.store.case(case.id)
    new = case.proposal
    assert new is not None
    assert (case.state, case.approvals, new.supersedes) == (CaseState.WAITING, (), old.id)
    assert (new.settings.window_days, new.settings.mode.value) == (365, "strict")
    assert new.settings.keep_by_hand == ("dynamodb:Create*",)
    assert [a.action for a in new.trim.actions if not a.kept] == ["dynamodb:DeleteTable"]
    assert (new.reason, new.proposed_by) == (form["reason"], RITA)
    messages = {key(m): m for m in house.there.thread(case.thread_ts)}
    before, after = messages[f"proposal/{case.id}/{old.id}"], messages[f"proposal/{case.id}/{new.id}"]
    assert offered(before) == []
    for said in (f"*Replaced* by <@{RITA}>", form["reason"], f"The approval by <@{ANN}> does not count"):
        assert said in json.dumps(before, ensure_ascii=False)
    assert offered(after) == ["approve", "decline", "adjust"]
    for said in ("(not used in 365 days)", "in strict mode, over 365 days", f"Why it was adjusted: {form['reason']}"):
        assert said in json.dumps(after, ensure_ascii=False)
    # Proposed again, it is what was asked for, and not what the settings say.
    await house.store.move(case.id, Event.WENT_STALE, by=REFINE, sentence="The role's policies changed.")
    house.world.poke()
    await house.quiet()
    await press(house, RITA, place_of(house, RITA, case, "replan"), "replan")
    await house.quiet()
    again = (await house.store.case(case.id)).proposal
    assert again is not None
    assert again.id != new.id
    assert (again.settings.window_days, again.settings.mode, again.settings.keep_by_hand) == (
        new.settings.window_days,
        new.settings.mode,
        new.settings.keep_by_hand,
    )


@ONE_WAY
async def test_what_is_given_back_leaves_mode_and_window_as_they_were_approved(house: House) -> None:
    """Neither is the settings': the role would lose what its approvers never read."""
    assert house.world.settings.refine_window_days == 90
    case = await house.case_in(CaseState.WAITING)
    await press(house, RITA, place_of(house, RITA, case, "adjust"), "adjust")
    await house.quiet()
    case = await house.store.case(case.id)
    await press(house, ANN, place_of(house, ANN, case, "approve"), "approve")
    await house.quiet()
    case = await house.store.case(case.id)
    assert case.state is CaseState.WATCHING
    house.forget(ANN)
    await press(house, ANN, place_of(house, ANN, case, "give_back"), "give_back")
    await house.quiet()
    again = (await house.store.case(case.id)).proposal
    assert again is not None
    assert (again.settings.mode.value, again.settings.window_days) == ("strict", 30)
    assert again.settings.keep_by_hand == ("dynamodb:DeleteTable",)


@ONE_WAY
async def test_a_review_that_could_not_be_had_is_what_retry_tries_again(house: House) -> None:
    """Who asked what a role did gets no proposal for it."""
    case = await house.case_in(CaseState.NEW)
    house.aws.blind.add(case.role_arn)
    await press(house, RITA, place_of(house, RITA, case, "review"), "review")
    await house.quiet()
    assert (await house.store.case(case.id)).state is CaseState.CANNOT_TELL
    house.aws.blind.clear()
    await press(house, RITA, place_of(house, RITA, case, "retry"), "retry")
    await house.quiet()
    after = await house.store.case(case.id)
    assert (after.state, after.proposal) == (CaseState.NEW, None)
    assert after.evidence is not None


@pytest.mark.parametrize("button", [b for b in AUDIT if b not in MEMBERS_TOO])
async def test_a_group_that_cannot_be_read_means_nobody(house: House, button: str) -> None:
    state = next(s for s, row in AFTER.items() if button in row)
    case = await house.case_in(CaseState(state))
    place = place_of(house, ANN, case, button)
    house.there.api.scopes = seeds.SCOPES - {"usergroups:read"}
    before = await facts(house, case)
    for user in (ANN, BEN):
        await press(house, user, place, button)
        await house.jobs.drain(5)
        assert UNREADABLE in house.told(user), house.told(user)
    assert await facts(house, case) == before


# -------------------- buttons that are not what the case is any more


@ONE_WAY
@pytest.mark.parametrize("state", CARDS)
async def test_a_button_of_an_older_card_says_who_moved_the_case(house: House, state: str) -> None:
    """Every button there is, as it was drawn one revision before: nothing happens, whatever state the case is in."""
    case = await house.case_in(CaseState(state))
    before = await facts(house, case)
    elements = [
        {
            "type": "button",
            "action_id": f"case:{button}",
            "text": {"type": "plain_text", "text": button},
            "value": f"{case.id}:{case.revision - 1}",
        }
        for button in [*AUDIT, "propose_safe", "propose_strict"]
    ]
    for number, element in enumerate(elements):
        user = (ANN, BEN)[number % 2]
        place = place_of(house, user, case, "")
        place.blocks[:] = [*place.blocks, {"type": "actions", "block_id": f"old{number}", "elements": [element]}]
        ack = await house.there.acts.click(user, place, element["action_id"], block_id=f"old{number}")
        assert ack.ok
        await house.jobs.drain(5)
        assert LATE in house.told(user) or "already" in house.told(user), (element["action_id"], house.told(user))
        house.forget(user)
    await house.quiet()
    assert await facts(house, case) == before


@ONE_WAY
async def test_a_dialog_that_was_open_while_somebody_else_decided_decides_nothing(house: House) -> None:
    for button, form in FORMS.items():
        states = {s: [b for b in row if AUDIT[b] and b != button] for s, row in AFTER.items() if button in row}
        state = next(s for s, others in states.items() if others)
        case = await house.case_in(CaseState(state))
        await house.there.acts.click(BEN, place_of(house, BEN, case, button), f"case:{button}")
        view = await dialog(house, BEN)
        assert view is not None
        other = states[state][0]
        await press(house, ANN, place_of(house, ANN, case, other), other)
        await house.quiet()
        before = await facts(house, case)
        assert (await submit(house, BEN, view, form)).ok
        await house.quiet()
        assert await facts(house, case) == before, button
        assert LATE in house.told(BEN) or "no proposal waiting" in house.told(BEN), (button, house.told(BEN))
        house.forget(BEN)
        house.forget(ANN)


@ONE_WAY
async def test_a_dialog_sent_off_twice_acts_once(house: House) -> None:
    for button, form in FORMS.items():
        state = next(s for s, row in AFTER.items() if button in row)
        case = await house.case_in(CaseState(state))
        await house.there.acts.click(BEN, place_of(house, BEN, case, button), f"case:{button}")
        view = await dialog(house, BEN)
        assert view is not None
        writes = len(house.aws.writes)
        acks = await asyncio.gather(submit(house, BEN, view, form), submit(house, BEN, view, form))
        assert all(a.ok for a in acks)
        await house.quiet()
        mine = [e for e in await house.store.history(case.id) if (e.who, e.what) == (BEN, AUDIT[button])]
        assert len(mine) == 1, button
        wrote = button == "approve" or (button == "roll_back" and state != "applying")  # there nothing is written yet
        assert len(house.aws.writes) - writes == int(wrote)
        house.forget(BEN)


@ONE_WAY
async def test_double_clicks_act_once(house: House) -> None:
    for button in (b for b in AUDIT if b not in FORMS and AUDIT[b]):
        state = next(s for s, row in AFTER.items() if button in row)
        case = await house.case_in(CaseState(state))
        place = place_of(house, ANN, case, button)
        acks = await asyncio.gather(*(house.there.acts.click(ANN, place, f"case:{button}") for _ in range(3)))
        assert all(a.ok for a in acks)
        await house.quiet()
        mine = [e for e in await house.store.history(case.id) if (e.who, e.what) == (ANN, AUDIT[button])]
        assert len(mine) == 1, button
        house.forget(ANN)


@ONE_WAY
async def test_five_approvals_at_once_apply_once(house: House) -> None:
    case = await house.case_in(CaseState.WAITING)
    views = {}
    for user in (ANN, BEN):
        await house.there.acts.click(user, place_of(house, user, case, "approve"), "case:approve")
        views[user] = await dialog(house, user)
    writes = len(house.aws.writes)
    await asyncio.gather(
        *(submit(house, u, views[u], FORMS["approve"]) for u in (ANN, BEN, ANN, BEN, ANN))  # type: ignore[arg-type]
    )
    await house.quiet()
    assert len(house.aws.writes) == writes + 1
    assert (await house.store.case(case.id)).state is CaseState.WATCHING
    won = [e.who for e in await house.store.history(case.id) if e.what == "approved"]
    [loser] = {ANN, BEN} - set(won)
    assert "Too late" in house.told(loser) or "no proposal waiting" in house.told(loser)


@ONE_WAY
async def test_the_approver_check_is_repeated_when_the_dialog_is_sent_off(house: House) -> None:
    """Between opening and sending off somebody leaves the group, or the company."""
    for button in (b for b in FORMS if b not in MEMBERS_TOO):
        for leaves, sentence in (("group", NOT_LISTED), ("company", NEVER[DORA])):
            state = next(s for s, row in AFTER.items() if button in row)
            case = await house.case_in(CaseState(state))
            await house.there.acts.click(BEN, place_of(house, BEN, case, button), f"case:{button}")
            view = await dialog(house, BEN)
            assert view is not None
            if leaves == "group":
                house.there.workspace.groups[seeds.APPROVERS]["users"].remove(BEN)
            else:
                house.there.workspace.users[BEN]["deleted"] = True
            before = await facts(house, case)
            await submit(house, BEN, view, FORMS[button])
            await house.quiet()
            assert await facts(house, case) == before, button
            assert sentence in house.told(BEN), (button, house.told(BEN))
            house.there.workspace.groups[seeds.APPROVERS]["users"] = list(GROUP)
            house.there.workspace.users[BEN]["deleted"] = False
            house.forget(BEN)


# -------------------- more than one approver, expiry, pause


@ONE_WAY
async def test_two_approvals_are_two_people(house: House) -> None:
    """The first yes keeps the case waiting, the same person's second counts for nothing, the other's applies it."""
    house.world.settings = house.world.settings.model_copy(update={"refine_approvals_needed": 2})
    case = await house.case_in(CaseState.WAITING)
    stale = place_of(house, BEN, case, "approve", in_thread=True)
    await house.there.acts.click(BEN, stale, "case:approve")
    opened = await dialog(house, BEN)
    assert opened is not None
    await press(house, ANN, place_of(house, ANN, case, "approve"), "approve")
    await house.quiet()
    first = await house.store.case(case.id)
    assert (first.state, len(first.approvals)) == (CaseState.WAITING, 1)
    house.forget(ANN)
    await press(house, ANN, place_of(house, ANN, first, "approve"), "approve")
    await house.quiet()
    assert "You have approved this proposal already." in house.told(ANN)
    assert (await house.store.case(case.id)).revision == first.revision
    # The dialog that was open meanwhile showed the very same text: its yes counts.
    await submit(house, BEN, opened, FORMS["approve"])
    await house.quiet()
    assert (await house.store.case(case.id)).state is CaseState.WATCHING
    names = [key(m).split("/")[0] for m in house.there.thread(case.thread_ts)]
    assert names.count("approved") == 2


@ONE_WAY
async def test_an_expired_proposal_loses_its_buttons_and_its_dialogs(tmp_path: Path) -> None:
    async with built(tmp_path, "socket") as house:
        case = await house.case_in(CaseState.WAITING)
        place = place_of(house, BEN, case, "approve")
        await house.there.acts.click(BEN, place, "case:approve")
        view = await dialog(house, BEN)
        assert view is not None
        house.world.clock = lambda: now() + timedelta(hours=25)
        await submit(house, BEN, view, FORMS["approve"])
        await house.jobs.drain(5)
        assert "This proposal has expired." in house.told(BEN)
        await watch.tick(house.world)
        await house.quiet()
        gone = await house.store.case(case.id)
        assert gone.state is CaseState.EXPIRED
        check_card(house, gone)
        for message in house.there.thread(case.thread_ts):
            assert not {"approve", "decline", "adjust"} & set(offered(message))
        assert "expired before it had the approvals" in house.told(PIA)


@ONE_WAY
async def test_the_one_who_proposed_hears_how_it_ended_and_the_channel_of_what_went_wrong(tmp_path: Path) -> None:
    """A direct message for each end that somebody else brought; failure and rollback are broadcast, nothing else is."""
    async with built(tmp_path, "socket") as house:

        async def end(state: CaseState, user: str, button: str, *, locked: bool = False) -> tuple[str, set[str]]:
            case = await house.case_in(state)
            if locked:
                house.aws.locked.add(case.role_arn)
            house.forget(PIA)
            await press(house, user, place_of(house, user, case, button), button)
            await house.quiet()
            direct = house.there.workspace.messages.get("D0PIA", [])
            shouted = {
                key(m).split("/")[0]
                for m in house.there.thread(case.thread_ts)
                if m.get("subtype") == "thread_broadcast"
            }
            assert len(direct) <= 1
            assert all(case.role_name in m["text"] and "Open its card" in m["text"] for m in direct)
            return (direct[0]["text"] if direct else ""), shouted

        told, shouted = await end(CaseState.WAITING, BEN, "approve")
        assert "applied and verified" in told
        assert not shouted
        told, shouted = await end(CaseState.WAITING, BEN, "approve", locked=True)
        assert "ran into an error" in told
        assert shouted == {"failed"}
        told, shouted = await end(CaseState.WATCHING, BEN, "roll_back")
        assert "was rolled back" in told
        assert shouted == {"rolled_back"}
        told, shouted = await end(CaseState.WAITING, BEN, "decline")
        assert "was declined" in told
        assert not shouted
        assert await end(CaseState.WAITING, PIA, "decline") == ("", set())


@ONE_WAY
async def test_reminders_come_at_growing_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 4 hours, then 8 more, then none before it expires: and one late look posts one reminder, not two."""
    async with built(tmp_path, "socket") as house:
        monkeypatch.setattr(watch, "PAGE", 1)  # however many cases there are, each has its turn
        case = await house.case_in(CaseState.WAITING)
        start = now()
        for hours, seen in ((3.9, 0), (4.1, 1), (8, 1), (11.9, 1), (12.1, 2), (23, 2)):
            house.world.clock = lambda hours=hours: start + timedelta(hours=hours)
            await watch.tick(house.world)
            await house.quiet()
            assert sum(key(m).startswith("reminder/") for m in house.there.thread(case.thread_ts)) == seen, hours
        house.world.clock = now
        away = await house.case_in(CaseState.WAITING)
        house.world.clock = lambda: start + timedelta(hours=13)
        await watch.tick(house.world)
        await house.quiet()
        assert sum(key(m).startswith("reminder/") for m in house.there.thread(away.thread_ts)) == 1


@ONE_WAY
async def test_while_paused_nobody_approves_and_everybody_is_told_why(house: House) -> None:
    case = await house.case_in(CaseState.WAITING)
    await house.desk.pause(ANN, on=True)
    try:
        await press(house, BEN, place_of(house, BEN, case, "approve"), "approve")
        await house.quiet()
        assert "Refine is paused" in house.told(BEN)
        assert (await house.store.case(case.id)).state is CaseState.WAITING
    finally:
        await house.desk.pause(ANN, on=False)


# -------------------- other ways to the same buttons


@ONE_WAY
async def test_a_signed_request_sent_again_is_refused(house: House) -> None:
    for state, button in (("new", "propose"), ("declined", "reopen"), ("waiting", "decline")):
        case = await house.case_in(CaseState(state))
        house.requests.clear()
        await press(house, ANN, place_of(house, ANN, case, button), button)
        await house.quiet()
        before = await facts(house, case)
        requests = list(house.requests)
        assert requests
        async with aiohttp.ClientSession() as session:
            for body, headers in requests:
                async with session.post(house.url, data=body, headers=headers) as answer:
                    assert answer.status == 401
        await house.quiet()
        assert await facts(house, case) == before
        house.forget(ANN)


# state that App Home shows as open → the one button that it offers there beside "Open card"
HOME = {
    "new": "review",
    "cannot_tell": "retry",
    "waiting": "approve",
    "stale": "replan",
    "rolled_back": "replan",
}


@ONE_WAY
async def test_app_home_has_the_same_buttons_under_the_same_rules(tmp_path: Path) -> None:
    """It shows the case as it is, also after a flow moved it later, without being opened again."""
    async with built(tmp_path, "http") as house:
        for state, button in HOME.items():
            await at_home(house, state, button)


async def at_home(house: House, state: str, button: str) -> None:
    case = await house.case_in(CaseState(state))
    for user, sentence in NEVER.items():
        await house.there.open_home(user)
        await house.jobs.drain(5)
        home = house.there.home(user)
        assert home is not None
        assert sentence in json.dumps(home)
        assert not offered(home)
    await house.there.open_home(BEN)
    await house.jobs.drain(5)
    place = house.there.acts.in_view(house.there.workspace.homes[BEN])
    rows = [e for b in place.blocks if b["type"] == "actions" for e in b["elements"]]
    mine = [e for e in rows if e.get("value", "").startswith(f"{case.id}:")]
    assert [e["action_id"] for e in mine] == ["case:open", f"case:{button}"]
    await house.there.acts.click(BEN, place, "case:open", value=mine[0]["value"])
    view = await dialog(house, BEN)
    assert view is not None
    assert offered(view) == CARDS[state][1].split()
    house.forget(BEN)
    await house.there.acts.click(BEN, place, f"case:{button}", value=mine[1]["value"])
    view = await dialog(house, BEN)
    if view is not None:
        await submit(house, BEN, view, FORMS[button])
    await house.quiet()
    house.forget(BEN)
    moved = await house.store.case(case.id)
    assert moved.state.value == AFTER[state][button]
    await house.there.until(lambda: on_home(house, BEN, moved), timeout=15)


def on_home(house: House, user: str, case: Case) -> bool:
    """Whether the user's App Home shows the case as it is; what is under watch is not open any more, and leaves it."""
    home = house.there.home(user)
    assert home is not None
    values = [e.get("value", "") for b in home["blocks"] if b["type"] == "actions" for e in b["elements"]]
    mine = {v for v in values if v.startswith(f"{case.id}:")}
    if case.state is CaseState.WATCHING:
        return not mine
    shown = json.dumps(home, ensure_ascii=False)
    return mine == {f"{case.id}:{case.revision}"} and CARDS[case.state.value][0] in shown
