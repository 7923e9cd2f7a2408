"""The table of Block Kit payloads: what Slack refuses is refused here, and what it takes is taken."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sandbox.slack.validate import BLOCKS_BUDGET, TOO_LONG, problems

Json = dict[str, Any]


def plain(text: str = "words") -> Json:
    return {"type": "plain_text", "text": text, "emoji": False}


def mrkdwn(text: str = "*words*") -> Json:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def section(text: str = "*words*", **more: Any) -> Json:
    return {"type": "section", "text": mrkdwn(text), **more}


def button(action_id: str = "go", **more: Any) -> Json:
    return {"type": "button", "action_id": action_id, "text": plain("Go"), "value": "1:1", **more}


def actions(*elements: Json, **more: Any) -> Json:
    return {"type": "actions", "elements": list(elements), **more}


def option(number: int = 1, **more: Any) -> Json:
    return {"text": plain(f"Option {number}"), "value": f"v{number}", **more}


def options(count: int) -> list[Json]:
    return [option(number) for number in range(count)]


def select(**more: Any) -> Json:
    return {"type": "static_select", "action_id": "pick", "options": options(3), **more}


def confirm(**more: Any) -> Json:
    return {"title": plain(), "text": plain(), "confirm": plain("Yes"), "deny": plain("No"), **more}


def cell(text: str = "x") -> Json:
    return {"type": "raw_text", "text": text}


def table(rows: int = 3, columns: int = 3, kind: str = "table", **more: Any) -> Json:
    return {"type": kind, "rows": [[cell() for _ in range(columns)] for _ in range(rows)], **more}


def text_input(**more: Any) -> Json:
    return {"type": "plain_text_input", "action_id": "text", **more}


def entry(element: Json, block_id: str = "b", **more: Any) -> Json:
    return {"type": "input", "block_id": block_id, "label": plain("Label"), "element": element, **more}


def message(*blocks: Json) -> Json:
    return {"text": "fallback", "blocks": list(blocks)}


def modal(*blocks: Json, **more: Any) -> Json:
    return {"type": "modal", "title": plain("Title"), "submit": plain("Save"), "blocks": list(blocks), **more}


def home(*blocks: Json) -> Json:
    return {"type": "home", "blocks": list(blocks)}


def without(node: Json, *keys: str) -> Json:
    return {key: value for key, value in node.items() if key not in keys}


INVALID: dict[str, tuple[str, Json]] = {
    "51 blocks in a message": ("message", message(*[{"type": "divider"} for _ in range(51)])),
    "section text of 3001": ("message", message(section("x" * 3001))),
    "button text of 76": ("message", message(actions(button(text=plain("x" * 76))))),
    "duplicate block_id": ("message", message(section(block_id="a"), section(block_id="a"))),
    "bad button style": ("message", message(actions(button(style="warning")))),
    "empty text": ("message", message(section(""))),
    "table of 101 rows": ("message", message(table(101))),
    "table of 21 columns": ("message", message(table(2, 21))),
    "two tables": ("message", message(table(), table())),
    "duplicate action_id in a block": ("message", message(actions(button("go"), button("go")))),
    "header as mrkdwn": ("message", message({"type": "header", "text": mrkdwn()})),
    "button text as mrkdwn": ("message", message(actions(button(text=mrkdwn())))),
    "11 fields": ("message", message({"type": "section", "fields": [mrkdwn() for _ in range(11)]})),
    "field of 2001": ("message", message({"type": "section", "fields": [mrkdwn("x" * 2001)]})),
    "unknown block type": ("message", message({"type": "nope"})),
    "unknown key": ("message", message(section(colour="red"))),
    "confirm without deny": ("message", message(actions(button(confirm=without(confirm(), "deny"))))),
    "text as a bare string": ("message", message({"type": "section", "text": "words"})),
    "no elements in actions": ("message", message(actions())),
    "image without alt_text": ("message", message({"type": "image", "image_url": "https://example.com/a.png"})),
    "option text of 76": ("message", message(actions(select(options=[option(text=plain("x" * 76))])))),
    "text input inside actions": ("message", message(actions(text_input()))),
    "alert in a message": ("message", message({"type": "alert", "text": plain()})),
    "table in a modal": ("modal", modal(table())),
    "modal with an input but no submit": ("modal", without(modal(entry(text_input())), "submit")),
    "ragged data_table": (
        "message",
        message({"type": "data_table", "caption": "c", "rows": [[cell(), cell()], [cell()]]}),
    ),
    "26 elements": ("message", message(actions(*[button(f"a{n}") for n in range(26)]))),
    "button value of 2001": ("message", message(actions(button(value="x" * 2001)))),
    "action_id of 256": ("message", message(actions(button("x" * 256)))),
    "block_id of 256": ("message", message(section(block_id="x" * 256))),
    "101 options": ("message", message(actions(select(options=options(101))))),
    "overflow of 6": (
        "message",
        message(actions({"type": "overflow", "action_id": "more", "options": options(6)})),
    ),
    "11 context elements": ("message", message({"type": "context", "elements": [mrkdwn() for _ in range(11)]})),
    "modal title of 25": ("modal", modal(section(), title=plain("x" * 25))),
    "101 blocks in a view": ("modal", modal(*[{"type": "divider"} for _ in range(101)])),
    "private_metadata of 3001": ("modal", modal(section(), private_metadata="x" * 3001)),
    "markdown of 12001": ("message", message({"type": "markdown", "text": "x" * 12001})),
    "header of 151": ("message", message({"type": "header", "text": plain("x" * 151)})),
    "confirm title of 101": ("message", message(actions(button(confirm=confirm(title=plain("x" * 101)))))),
    "section without text": ("message", message({"type": "section"})),
}

RICH = {
    "type": "rich_text",
    "elements": [
        {
            "type": "rich_text_section",
            "elements": [
                {"type": "text", "text": "Diff of ", "style": {"bold": True}},
                {"type": "user", "user_id": "U0ANN"},
                {"type": "usergroup", "usergroup_id": "S0APPROVERS"},
                {"type": "link", "url": "https://example.com/", "text": "a page"},
                {"type": "date", "timestamp": 1700000000, "format": "{date_short}", "fallback": "2023"},
                {"type": "emoji", "name": "white_check_mark"},
            ],
        },
        {"type": "rich_text_preformatted", "border": 0, "elements": [{"type": "text", "text": "- a\n+ b"}]},
        {
            "type": "rich_text_list",
            "style": "bullet",
            "indent": 0,
            "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "one"}]}],
        },
        {"type": "rich_text_quote", "elements": [{"type": "text", "text": "said"}]},
    ],
}

VALID: dict[str, tuple[str, Json]] = {
    "a card": (
        "message",
        {
            "text": "fallback",
            "channel": "C0SECURITY",
            "blocks": [
                {"type": "header", "block_id": "head", "text": plain("ApplicationRole is open to 999988887777")},
                section("`dynamodb:*` for <https://example.com/|all>", block_id="facts", expand=True),
                {"type": "section", "fields": [mrkdwn("*Role*\nx"), plain("plain")], "accessory": select()},
                {"type": "divider"},
                {
                    "type": "actions",
                    "block_id": "do",
                    "elements": [
                        button("case:approve", style="primary", confirm=confirm(style="primary")),
                        button("case:decline", style="danger", confirm=confirm(style="danger", text=plain("Sure?"))),
                        button("case:review", accessibility_label="Review ApplicationRole"),
                        button("case:link", url="https://example.com/"),
                        {"type": "overflow", "action_id": "more", "options": options(5), "confirm": confirm()},
                    ],
                },
                {
                    "type": "context",
                    "elements": [
                        mrkdwn("by <@U0ANN>"),
                        {"type": "image", "image_url": "https://example.com/a.png", "alt_text": "a"},
                    ],
                },
            ],
        },
    ),
    "a table": (
        "message",
        message(
            section(),
            table(
                25,
                4,
                block_id="t",
                column_settings=[{"align": "right", "is_wrapped": True}, {"align": "left"}],
            )
            | {
                "rows": [
                    [cell("service"), {"type": "rich_text", "elements": RICH["elements"][:1]}],
                    [cell("dynamodb"), {"type": "raw_number", "value": 2, "text": "2"}],
                ]
            },
        ),
    ),
    "a data_table": (
        "message",
        message({"type": "data_table", "caption": "Services", "rows": [[cell(), cell()], [cell(), cell()]]}),
    ),
    "a container and a plan": (
        "message",
        message(
            {"type": "container", "title": plain("Raw policy"), "child_blocks": [section()], "is_collapsible": True},
            {
                "type": "plan",
                "title": "Applying",
                "tasks": [{"type": "task_card", "task_id": "1", "title": "Write", "status": "in_progress"}],
            },
        ),
    ),
    "rich text": ("message", message(RICH)),
    "a modal with every input": (
        "modal",
        modal(
            {"type": "alert", "text": plain("Careful"), "level": "warning"},
            section("Exactly this", block_id="s"),
            RICH,
            entry(text_input(multiline=True, max_length=500, placeholder=plain("Why")), "reason", optional=True),
            entry(select(initial_option=option(1), placeholder=plain("Days")), "days", hint=plain("a hint")),
            entry(
                {"type": "external_select", "action_id": "pick", "min_query_length": 0, "placeholder": plain("Role")},
                "role",
            ),
            entry(
                {
                    "type": "multi_static_select",
                    "action_id": "pick",
                    "options": options(100),
                    "initial_options": [option(1)],
                },
                "actions",
            ),
            entry(
                {
                    "type": "multi_static_select",
                    "action_id": "pick",
                    "option_groups": [{"label": plain("g"), "options": options(2)}],
                    "initial_options": [option(1)],
                    "max_selected_items": 2,
                },
                "grouped",
                optional=True,
            ),
            entry(
                {
                    "type": "radio_buttons",
                    "action_id": "pick",
                    "options": [option(1, description=plain("why")), option(2, text=mrkdwn())],
                    "initial_option": option(1, description=plain("why")),
                },
                "mode",
            ),
            entry({"type": "checkboxes", "action_id": "pick", "options": options(10)}, "checks", optional=True),
            entry({"type": "users_select", "action_id": "pick"}, "who", optional=True),
            entry({"type": "datepicker", "action_id": "pick", "initial_date": "2026-01-02"}, "when", optional=True),
            entry(
                {
                    "type": "plain_text_input",
                    "action_id": "text",
                    "dispatch_action_config": {"trigger_actions_on": ["on_enter_pressed"]},
                },
                "search",
                dispatch_action=True,
                optional=True,
            ),
            actions(button("modal:page", value="2"), block_id="pages"),
            callback_id="case:approve",
            private_metadata="case:1",
            close=plain("Cancel"),
            notify_on_close=True,
            clear_on_close=False,
            external_id="",
        ),
    ),
    "a home tab": (
        "home",
        home(
            {"type": "header", "text": plain("Cases")},
            section(accessory=button("case:open")),
            actions(select(action_id="home:filter"), button("home:page", value="2:all"), block_id="pages"),
            {"type": "context", "elements": [plain("page 1")]},
        )
        | {"private_metadata": ""},
    ),
}


def test_the_table_has_forty_bad_payloads_and_seven_good_ones() -> None:
    assert (len(INVALID), len(VALID)) == (40, 7)


@pytest.mark.parametrize("name", INVALID)
def test_what_slack_refuses_is_refused(name: str) -> None:
    surface, payload = INVALID[name]
    before = copy.deepcopy(payload)
    found = problems(payload, surface)
    assert found
    assert all(each.startswith("[ERROR] ") and "[json-pointer:/" in each for each in found)
    assert payload == before


@pytest.mark.parametrize("name", VALID)
def test_what_slack_takes_is_taken(name: str) -> None:
    surface, payload = VALID[name]
    before = copy.deepcopy(payload)
    assert problems(payload, surface) == []
    assert payload == before


@pytest.mark.parametrize(("length", "taken"), [(1, True), (2000, True), (2001, False)])
def test_a_picture_of_slacks_own_has_words_of_any_length_that_slack_takes(length: int, taken: bool) -> None:
    picture = {"type": "image", "slack_file": {"id": "F0123456789"}, "alt_text": "x" * length}
    assert (problems({"text": "x", "blocks": [picture]}, "message") == []) is taken
    assert (problems(home(picture), "home") == []) is taken


def test_blocks_in_an_attachment_are_checked_too() -> None:
    good = {"text": "x", "attachments": [{"color": "#d00000", "fallback": "x", "blocks": [section(), table()]}]}
    assert problems(good, "message") == []
    assert problems({**good, "blocks": [table()]}, "message") == [
        "[ERROR] only_one_table_allowed [json-pointer:/blocks]"
    ]
    bad = {"text": "x", "attachments": [{"color": "#d00000", "blocks": [{"type": "nope"}]}]}
    assert any("/attachments/0/blocks/0" in each for each in problems(bad, "message"))
    assert problems({"attachments": [{"color": "red", "blocks": []}]}, "message")
    assert problems({"attachments": [{"colour": "#d00000", "blocks": []}]}, "message")


def test_many_fine_blocks_are_too_long_together() -> None:
    each = 2900
    fits = message(*[section("x" * each) for _ in range(4)])
    too_long = message(*[section("x" * each) for _ in range(5)])
    assert 4 * each < BLOCKS_BUDGET < 5 * each
    assert problems(fits, "message") == []
    assert [found.split(":")[0] for found in problems(too_long, "message")] == [TOO_LONG]
    assert problems(modal(*too_long["blocks"]), "modal") == []


@pytest.mark.parametrize(
    "more",
    [
        {"options": options(2), "initial_options": [option(9)]},
        {"option_groups": [{"label": plain(), "options": options(2)}], "initial_options": [option(9)]},
        {"option_groups": [{"label": plain(), "options": []}]},
        {"option_groups": [{"label": plain(), "options": options(2)}], "options": options(2)},
    ],
)
def test_what_is_selected_at_first_is_one_of_the_options(more: Json) -> None:
    element = {"type": "multi_static_select", "action_id": "pick", **more}
    assert problems(message(actions(element)), "message")


@pytest.mark.parametrize(
    ("payload", "surface"),
    [
        ({"blocks": "[]"}, "message"),
        ({"blocks": [None]}, "message"),
        ({"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": 5}}]}, "message"),
        ({"blocks": [{"type": "table", "rows": None}]}, "message"),
        ({"blocks": [{"type": ["x"]}]}, "message"),
        ({"attachments": ["x"]}, "message"),
        ({}, "modal"),
        ({"type": "modal", "title": plain(), "blocks": []}, "modal"),
        ({"type": "modal", "blocks": [section()]}, "modal"),
        ({"type": "home", "title": plain(), "blocks": [section()]}, "home"),
        ({"type": "home", "blocks": [table()]}, "home"),
        ({"type": "home", "blocks": [section()]}, "modal"),
        ({"type": "modal", "title": plain(), "blocks": [section()], "colour": "red"}, "modal"),
    ],
)
def test_nonsense_is_a_problem_and_not_a_crash(payload: Json, surface: str) -> None:
    assert problems(payload, surface)
