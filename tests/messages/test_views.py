"""Dialogs: what they carry, what they keep over pages and searches, and App Home."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bot import messages
from bot.model import Case, CaseState, Mode, Tally
from bot.rules import Button
from sandbox.slack.validate import problems
from tests.messages.cases import COUNTS, NOW, PARTNER, PERSON, case_in, proposed, reviewed, settings
from tests.messages.every import ASKING
from tests.messages.test_golden import walk


def block(view: dict[str, Any], name: str) -> dict[str, Any]:
    return next(b for b in view["blocks"] if b.get("block_id", "").partition(":")[0] == name)


def state_of(view: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Return `state.values` of the view as Slack sends them: what is initial, unless somebody changed it."""
    values: dict[str, Any] = {}
    for each in view["blocks"]:
        if each["type"] != "input":
            continue
        element, name = each["element"], each["block_id"].partition(":")[0]
        kind = element["type"]
        if kind == "plain_text_input":
            value = {"value": changed.get(name, element.get("initial_value"))}
        elif kind == "multi_static_select":
            picked = changed.get(name, [o["value"] for o in element.get("initial_options", ())])
            value = {"selected_options": [{"text": {"type": "plain_text", "text": v}, "value": v} for v in picked]}
        elif kind == "users_select":
            value = {"selected_user": changed.get(name, element.get("initial_user"))}
        else:
            value = {"selected_option": {"value": changed.get(name, element.get("initial_option", {}).get("value"))}}
        values[each["block_id"]] = {element["action_id"]: {"type": kind, **value}}
    return values


def picked(view: dict[str, Any]) -> list[str]:
    return [o["value"] for o in block(view, "actions")["element"].get("initial_options", ())]


def offered(view: dict[str, Any]) -> list[str]:
    element = block(view, "actions")["element"]
    options = element.get("options") or [o for g in element["option_groups"] for o in g["options"]]
    return [o["value"] for o in options]


STRICT = case_in(CaseState.WAITING, role=PARTNER, mode=Mode.STRICT)  # 214 actions go
GONE = [a.action for a in proposed(PARTNER, Mode.STRICT).trim.actions if not a.kept]


@pytest.mark.parametrize("button", ASKING)
def test_a_dialog_knows_its_button_case_and_revision(button: Button) -> None:
    view = messages.modal(case_in(CaseState.WATCHING), button, now=NOW)
    assert view["callback_id"] == f"case:{button.value}"
    assert view["private_metadata"] == "c0ffee:7"
    asks = any(b["type"] == "input" for b in view["blocks"])
    assert ("submit" in view) == asks == (button is not Button.NARROW)


@pytest.mark.parametrize("button", sorted(set(Button) - set(ASKING)))
def test_other_buttons_open_no_dialog(button: Button) -> None:
    with pytest.raises(ValueError, match="opens no modal"):
        messages.modal(case_in(CaseState.NEW), button, now=NOW)


def test_approve_shows_what_is_approved() -> None:
    """The whole digest, every action that goes, the writes in order, the proof; the reason may be left out."""
    case = STRICT
    assert case.proposal is not None
    view = messages.modal(case, Button.APPROVE, now=NOW)
    said = json.dumps(view, ensure_ascii=False)
    assert case.proposal.digest() in said
    for name in ("CreateBucket", "Decrypt", "ListTopics", "DescribeVpcs", "TagQueue"):
        assert f"`{name}`" in said
    assert "1. detach `SharedQueues`" not in said  # new before old
    assert "delete version `v1` of `ExportKeys`" in said
    assert block(view, "reason")["optional"] is True


def test_accept_needs_a_reason_and_an_end() -> None:
    view = messages.modal(case_in(CaseState.NEW), Button.ACCEPT, now=NOW)
    assert block(view, "reason")["optional"] is False
    assert [o["value"] for o in block(view, "days")["element"]["options"]] == ["7", "14", "30", "90"]
    assert "optional" not in block(view, "days")


def test_approve_says_whether_it_is_the_last_yes() -> None:
    """Whether writing starts with this click, or waits for others."""
    last = "Yours is the last approval needed: what is listed above is written at once."
    assert last in json.dumps(messages.modal(STRICT, Button.APPROVE, now=NOW))
    given = case_in(CaseState.APPLYING).approvals
    for approvals, needed, says in (
        ((), 3, "After your approval 2 more are needed before anything is written."),
        (given, 3, "After your approval 1 more is needed before anything is written."),
        (given, 2, last),
    ):
        case = replace(STRICT, approvals=approvals, approvals_needed=needed)
        assert says in json.dumps(messages.modal(case, Button.APPROVE, now=NOW))


def test_who_accepts_answers_for_it_unless_they_name_somebody_else() -> None:
    """And a name once picked stays, as all does that is typed."""
    view = messages.modal(case_in(CaseState.NEW), Button.ACCEPT, now=NOW, by="U0ANN")
    owner = block(view, "owner")["element"]
    assert (owner["type"], owner["initial_user"]) == ("users_select", "U0ANN")
    assert "The owner tag of the role says payments." in block(view, "owner")["hint"]["text"]
    given = state_of(view, owner="U0RITA", reason="Contract 4711.", days="90")
    view = messages.modal(case_in(CaseState.NEW), Button.ACCEPT, now=NOW, by="U0ANN", state=given)
    assert block(view, "owner")["element"]["initial_user"] == "U0RITA"
    assert block(view, "reason")["element"]["initial_value"] == "Contract 4711."
    assert block(view, "days")["element"]["initial_option"]["value"] == "90"


@pytest.mark.parametrize(
    ("button", "says", "never"),
    [
        (
            Button.SNOOZE,
            "Its 2 findings in 2 Regions (`eu-west-1`, `us-east-1`) stay active in Access Analyzer",
            "archive",
        ),
        (
            Button.ACCEPT,
            "Its 2 findings in 2 Regions (`eu-west-1`, `us-east-1`) go to Access Analyzer's archive",
            "stay",
        ),
    ],
)
def test_what_is_put_aside_says_before_what_it_hides(button: Button, says: str, never: str) -> None:
    """Which findings, where, and what comes of the card; both need a reason and an end, and say when that is."""
    view = messages.modal(case_in(CaseState.NEW), button, now=NOW)
    said = json.dumps(view, ensure_ascii=False)
    assert says in said
    assert never not in said
    assert "The card asks nobody any more" in said
    assert "It does not hide a new way in" in said
    assert block(view, "reason")["optional"] is False
    about = [o["text"]["text"] for o in block(view, "days")["element"]["options"]]
    assert about[0] == "7 days, until 2026-02-07"
    assert [a.rpartition(" ")[2] for a in about] == ["2026-02-07", "2026-02-14", "2026-03-02", "2026-05-01"]
    bare = json.dumps(messages.modal(replace(case_in(CaseState.NEW), findings=()), button, now=NOW))
    assert "findings in" not in bare


def test_adjust_says_how_far_back_the_report_can_tell() -> None:
    """IAM's 400 days, or the role's own age; a window beyond that is offered, and says what is not known."""
    old = messages.modal(case_in(CaseState.WAITING), Button.ADJUST, now=NOW)
    assert "IAM looks back 400 days at most." in json.dumps(old)
    young = messages.modal(case_in(CaseState.WAITING, role=PARTNER), Button.ADJUST, now=NOW)
    assert "The role is 30 days old: a longer window tells nothing more, and the proposal warns of it." in json.dumps(
        young
    )
    for view, beyond in ((old, []), (young, ["60", "90", "180", "365", "400"])):
        window = block(view, "window")["element"]
        assert [o["value"] for o in window["options"]] == ["30", "60", "90", "180", "365", "400"]
        assert window["initial_option"]["value"] == "90"
        assert window["options"][2]["text"]["text"] == "90 days, since 2025-11-02"
        said = [o["value"] for o in window["options"] if "Nothing is known from before" in json.dumps(o)]
        assert said == beyond
    case = case_in(CaseState.WAITING)
    made = case.proposal
    assert made is not None
    odd = replace(case, proposal=replace(made, settings=replace(made.settings, window_days=45)))
    window = block(messages.modal(odd, Button.ADJUST, now=NOW), "window")["element"]
    assert window["initial_option"]["value"] == "45"


def test_adjust_starts_from_the_proposal() -> None:
    """Its mode, what was kept by hand, and the patterns that were asked for."""
    made = proposed(PARTNER, Mode.STRICT, ("kms:Decrypt",))
    made = replace(made, settings=settings(Mode.STRICT, keep_by_hand=("kms:decrypt", "s3:Get*")))
    view = messages.modal(case_in(CaseState.WAITING, proposal=made), Button.ADJUST, now=NOW)
    assert block(view, "mode")["element"]["initial_option"]["value"] == "strict"
    assert block(view, "keep")["element"]["initial_value"] == "s3:Get*"
    assert picked(view) == ["kms:Decrypt"]


def test_every_action_can_be_reached_and_none_twice() -> None:
    """Hundreds of actions: page by page, all that go are offered exactly once."""
    seen: list[str] = []
    page = 0
    while True:
        view = messages.modal(STRICT, Button.ADJUST, now=NOW, page=page)
        seen += offered(view)
        on = [n for n in walk(view) if n.get("action_id") == "modal:page" and int(n["value"]) > page]
        if not on:
            break
        page = int(on[0]["value"])
    assert seen == GONE
    assert page == 2


def test_what_is_picked_and_typed_stays_over_pages_and_searches() -> None:
    view = messages.modal(STRICT, Button.ADJUST, now=NOW)
    given = state_of(view, actions=GONE[:3], keep="sqs:*", mode="safe", window="180", reason="A restore.")
    view = messages.modal(STRICT, Button.ADJUST, now=NOW, page=1, state=given)
    assert picked(view) == GONE[:3]
    assert block(view, "window")["element"]["initial_option"]["value"] == "180"
    assert block(view, "reason")["element"]["initial_value"] == "A restore."
    assert set(GONE[100:200]) < set(offered(view))
    given = state_of(view, actions=[*GONE[:3], GONE[150]])
    view = messages.modal(STRICT, Button.ADJUST, now=NOW, search="topic", state=given)
    assert picked(view) == [*GONE[:3], GONE[150]]
    assert offered(view)[4:] == [a for a in GONE if "topic" in a.lower()]
    assert block(view, "keep")["element"]["initial_value"] == "sqs:*"
    assert block(view, "mode")["element"]["initial_option"]["value"] == "safe"
    assert block(view, "search")["element"]["initial_value"] == "topic"


def test_unpicking_everything_is_kept_too() -> None:
    """An empty choice is a choice: the proposal's own picks do not come back."""
    made = replace(proposed(PARTNER, Mode.STRICT), settings=settings(Mode.STRICT, keep_by_hand=(GONE[0],)))
    case = case_in(CaseState.WAITING, proposal=made)
    view = messages.modal(case, Button.ADJUST, now=NOW)
    assert picked(view) == [GONE[0]]
    view = messages.modal(case, Button.ADJUST, now=NOW, page=1, state=state_of(view, actions=[]))
    assert picked(view) == []


def test_a_redrawn_choice_is_a_new_block() -> None:
    """Slack keeps what a block of the same id held, and would show the old page's options."""
    ids = [
        block(messages.modal(STRICT, Button.ADJUST, now=NOW, page=page, search=search), "actions")["block_id"]
        for page, search in ((0, ""), (1, ""), (0, "topic"))
    ]
    assert len(set(ids)) == 3


def test_more_than_a_select_holds_goes_into_groups() -> None:
    """Slack takes 100 options in one select, and 100 in each of its groups."""
    view = messages.modal(STRICT, Button.ADJUST, now=NOW)
    view = messages.modal(STRICT, Button.ADJUST, now=NOW, page=2, state=state_of(view, actions=GONE[:150]))
    groups = block(view, "actions")["element"]["option_groups"]
    assert [len(g["options"]) for g in groups] == [100, 50, len(GONE) - 200]
    assert picked(view) == GONE[:150]
    assert problems(view, "modal") == []


def test_a_search_without_a_match_says_so() -> None:
    view = messages.modal(STRICT, Button.ADJUST, now=NOW, search="no such thing")
    assert not [b for b in view["blocks"] if b.get("block_id", "").startswith("actions")]
    assert "No action with `no such thing` in the name." in json.dumps(view)


def test_narrow_tells_what_to_write_and_changes_nothing() -> None:
    view = messages.modal(case_in(CaseState.NEW), Button.NARROW, now=NOW)
    said = json.dumps(view)
    assert "sts:ExternalId" in said
    assert "Refine does not change trust policies" in said
    partner = json.dumps(messages.modal(case_in(CaseState.NEW, role=PARTNER), Button.NARROW, now=NOW))
    assert "never-shown-7f3a" not in partner


def test_roll_back_counts_what_its_own_change_took() -> None:
    """A newer proposal's numbers are not those of the change that is rolled back."""
    case = case_in(CaseState.WATCHING)
    assert "35 actions come back: 45 → 80 actions" in json.dumps(
        messages.modal(case, Button.ROLL_BACK, now=NOW), ensure_ascii=False
    )
    assert case.proposal is not None
    newer = replace(case, proposal=replace(case.proposal, id="c0ffee-9"))  # type: ignore[arg-type]
    assert "35 actions" not in json.dumps(messages.modal(newer, Button.ROLL_BACK, now=NOW))


# -------------------- home


def home(cases: list[Case], **more: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"page": 0, "total": len(cases), "person": PERSON, "counts": COUNTS, "state": ""}
    return messages.home(cases, now=NOW, **{**about, **more})


def test_home_turns_its_pages_within_the_filter() -> None:
    cases = [case_in(CaseState.WAITING)] * 10
    view = home(cases, page=1, total=43, state="waiting")
    turns = [n["value"] for n in walk(view) if n.get("action_id") == "home:page"]
    assert turns == ["0:waiting", "2:waiting"]
    assert [n["value"] for n in walk(home(cases, total=10)) if n.get("action_id") == "home:page"] == []
    (select,) = [n for n in walk(view) if n.get("action_id") == "home:filter"]
    assert select["initial_option"]["value"] == "waiting"
    assert {o["value"] for o in select["options"]} >= {"open", "mine", "changes", "every", "waiting", "new"}
    assert "11–20 of 43, the longest waiting first" in json.dumps(view, ensure_ascii=False)


def test_home_shows_open_cases_where_nothing_is_picked() -> None:
    """Also for the filter of an older version of the view."""
    for state in ("", "all", "no such"):
        (select,) = [
            n for n in walk(home([case_in(CaseState.NEW)], state=state)) if n.get("action_id") == "home:filter"
        ]
        assert select["initial_option"]["value"] == "open"
        assert select["initial_option"]["text"]["text"] == "Open (16)"


def test_home_says_whose_turn_it_is_and_what_came_of_it() -> None:
    glance = messages.Glance(
        mine=2,
        longest=case_in(CaseState.WAITING),
        ever=Tally(trimmed=22, removed=1234),
        lately=Tally(trimmed=3, removed=288),
        worst={case_in(CaseState.NEW).id: "can delete data"},
    )
    said = json.dumps(home([case_in(CaseState.NEW)], glance=glance), ensure_ascii=False)
    assert "*3 proposals wait* for an approver, the longest since <!date" in said
    assert "*2 for you*" in said
    assert "*1,234 permissions removed* in 22 changes; 288 of them in the last 30 days." in said
    assert "It can delete data." in said
    assert "removed" not in json.dumps(home([]))  # nothing to boast of


def test_home_opens_each_card() -> None:
    view = home([case_in(s) for s in list(CaseState)[:10]])
    assert [n["value"] for n in walk(view) if n.get("action_id") == "case:open"] == ["c0ffee:7"] * 10


# -------------------- a service of the review


def test_opening_a_service_shows_every_tracked_action() -> None:
    case = reviewed()
    assert case.evidence is not None
    payload = messages.review_service(case, "dynamodb")
    (table,) = [b for b in payload["blocks"] if b["type"] == "table"]
    rows = [[c["text"] for c in row] for row in table["rows"]]
    assert rows[0] == ["Action", "Verdict", "Last accessed"]
    assert rows[1] == ["DescribeTable", "accessed", "2026-01-30 19:30 UTC, us-east-1"]
    assert {r[0] for r in rows[1:]} == {a.action for a in case.evidence.services[0].actions}


def test_opening_a_service_after_a_proposal_shows_its_verdicts() -> None:
    payload = messages.review_service(case_in(CaseState.WAITING), "dynamodb|all")
    said = {c["text"] for n in walk(payload) if n.get("type") == "table" for row in n["rows"] for c in row}
    assert {"used", "not used", "IAM does not track it", "Scan"} <= said


def rows_of(payload: dict[str, Any]) -> list[list[str]]:
    (table,) = [b for b in payload["blocks"] if b["type"] == "table"]
    return [[c["text"] for c in row] for row in table["rows"][1:]]


def element(payload: dict[str, Any], action_id: str) -> dict[str, Any] | None:
    return next((n for n in walk(payload) if n.get("action_id") == action_id), None)


def test_a_report_is_sorted_as_in_the_console() -> None:
    """Last accessed first; not accessed first, then the longest ago, and what nobody can tell at the end; by name."""
    trim = proposed().trim
    said = [r[1] for r in rows_of(messages.review_service(reviewed(), "dynamodb|all|latest", trim))]
    assert said == ["used"] * 2 + ["not used"] * 35 + ["IAM does not track it"] * 43
    rows = rows_of(messages.review_service(reviewed(), "dynamodb|all|never", trim))
    assert [r[1] for r in rows] == ["not used"] * 35 + ["used"] * 2 + ["IAM does not track it"] * 43
    assert rows[35][0] == "DescribeKinesisStreamingDestination"  # twelve days ago: before fourteen hours ago
    names = [r[0] for r in rows_of(messages.review_service(reviewed(), "dynamodb|all|name", trim))]
    assert names == sorted(names, key=str.lower)


def test_every_control_of_an_opened_report_keeps_what_the_others_chose() -> None:
    payload = messages.review_service(reviewed(PARTNER), "s3|unused|name", proposed(PARTNER).trim)
    service, show, order = (element(payload, f"review:{a}") for a in ("service", "show", "order"))
    assert service is not None
    assert show is not None
    assert order is not None
    chosen = [e["initial_option"]["text"]["text"] for e in (service, show, order)]
    assert chosen == ["s3", "Not used", "By name"]
    assert {o["value"] for o in show["options"]} >= {"s3|unused|name|0", "s3|all|name|0"}
    assert {o["value"] for o in order["options"]} == {f"s3|unused|{o}|0" for o in ("latest", "never", "name")}
    assert service["options"][0]["text"]["text"] == "All services"
    assert {o["value"].partition("|")[0] for o in service["options"]} == {"*", "s3", "sqs", "sns", "kms", "ec2"}


def test_every_action_of_a_long_report_is_on_one_of_its_pages() -> None:
    """Hundreds of actions of a hundred services: nothing is cut, and each page fits into a message."""
    made = proposed().trim
    some = [a for a in made.actions if not a.kept]
    actions = tuple(replace(some[n % len(some)], action=f"svc{n // 7:03}:Act{n:04}") for n in range(800))
    report = reviewed()
    assert report.evidence is not None
    [service] = report.evidence.services
    services = tuple(replace(service, namespace=f"svc{n:03}", actions=()) for n in range(115))
    case = replace(report, evidence=replace(report.evidence, services=services))
    seen: list[str] = []
    pick = "*|all|name"
    while True:
        payload = messages.review_service(case, pick, replace(made, actions=actions))
        assert problems(payload, "message") == []
        assert sum(len(n["text"]) for n in walk(payload["blocks"]) if isinstance(n.get("text"), str)) < 10_000
        seen += [r[0] for r in rows_of(payload)]
        assert "of 800 actions shown; the whole report is the CSV file in this thread." in json.dumps(payload)
        assert "99 of 115 services to pick from; “All services”" in json.dumps(payload, ensure_ascii=False)
        on = element(payload, "review:on")
        if on is None:
            break
        pick = on["value"]
    assert seen == [a.action for a in actions]
    last = messages.review_service(case, "*|all|name|9999", replace(made, actions=actions))
    assert rows_of(last)[-1][0] == "svc114:Act0799"
    assert element(last, "review:back") is not None


def test_a_service_that_is_not_there_is_said() -> None:
    assert "has no service `lambda`" in messages.review_service(reviewed(), "lambda")["text"]
    assert "has no service" in messages.review_service(case_in(CaseState.NEW), "dynamodb")["text"]
