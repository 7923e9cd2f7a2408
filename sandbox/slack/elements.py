"""Interactive elements: where they are in blocks, what they hold, and how a person's choice looks in a payload."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

HOLDS = {
    # type: (its value's key in `state.values` and in an action, the key of its initial value)
    "plain_text_input": ("value", "initial_value"),
    "email_text_input": ("value", "initial_value"),
    "url_text_input": ("value", "initial_value"),
    "number_input": ("value", "initial_value"),
    "rich_text_input": ("rich_text_value", "initial_value"),
    "static_select": ("selected_option", "initial_option"),
    "external_select": ("selected_option", "initial_option"),
    "radio_buttons": ("selected_option", "initial_option"),
    "multi_static_select": ("selected_options", "initial_options"),
    "multi_external_select": ("selected_options", "initial_options"),
    "checkboxes": ("selected_options", "initial_options"),
    "users_select": ("selected_user", "initial_user"),
    "multi_users_select": ("selected_users", "initial_users"),
    "conversations_select": ("selected_conversation", "initial_conversation"),
    "multi_conversations_select": ("selected_conversations", "initial_conversations"),
    "channels_select": ("selected_channel", "initial_channel"),
    "multi_channels_select": ("selected_channels", "initial_channels"),
    "datepicker": ("selected_date", "initial_date"),
    "timepicker": ("selected_time", "initial_time"),
    "datetimepicker": ("selected_date_time", "initial_date_time"),
}
STATELESS = frozenset({"button", "overflow", "workflow_button"})


def interactive(blocks: list[Json]) -> Iterator[tuple[Json, Json]]:
    """Yield each block that has interactive elements with each of those elements."""
    for block in blocks:
        inside = [*(block.get("elements") or []), block.get("accessory"), block.get("element")]
        for element in inside:
            if isinstance(element, dict) and (element.get("type") in HOLDS or element.get("type") in STATELESS):
                yield block, element
        yield from interactive(block.get("child_blocks") or [])


def with_ids(blocks: list[Json]) -> list[Json]:
    """Return the blocks with the ids that Slack makes up where there are none."""
    blocks = copy.deepcopy(blocks)
    for block in blocks:
        block.setdefault("block_id", secrets.token_urlsafe(4)[:5])
    for _, element in interactive(blocks):
        element.setdefault("action_id", secrets.token_urlsafe(4)[:5])
    return blocks


def find(
    blocks: list[Json], action_id: str, block_id: str | None = None, value: str | None = None
) -> tuple[Json, Json]:
    """Return the block and the element with this action id.

    Raises:
        LookupError: there is none, or more than one.
    """
    found = [
        (block, element)
        for block, element in interactive(blocks)
        if element["action_id"] == action_id
        and block_id in (None, block["block_id"])
        and value in (None, element.get("value"))
    ]
    if not found:
        there = [element["action_id"] for _, element in interactive(blocks)]
        raise LookupError(f"There is no {action_id!r} here, but {there}.")
    if len(found) > 1:
        raise LookupError(f"There are {len(found)} of {action_id!r} here: say the block_id or the value.")
    return found[0]


def state_of(blocks: list[Json]) -> Json:
    """Return `state.values` as it is before anybody touched anything."""
    values: Json = {}
    for block, element in interactive(blocks):
        if element["type"] in HOLDS:
            values.setdefault(block["block_id"], {})[element["action_id"]] = _initial(element)
    return values


def _initial(element: Json) -> Json:
    key, initial = HOLDS[element["type"]]
    return {"type": element["type"], key: element.get(initial, [] if key.endswith("s") else None)}


def held(element: Json, given: Any, suggestions: dict[str, Json]) -> Json:
    """Return what the element holds once a person gave it `given`.

    Args:
        element: the element.
        given: a text; the value of an option, or the option; a list of those; an id; or what `state.values` has.
        suggestions: options offered for external selects, by value.

    Raises:
        LookupError: there is no such option.
    """
    kind = element["type"]
    key = "selected_option" if kind == "overflow" else HOLDS[kind][0]
    if isinstance(given, dict) and key in given:
        given = given[key]
    if given is None or given == []:
        return {"type": kind, key: [] if key.endswith("s") else None}
    if key == "selected_option":
        given = _option(element, given, suggestions)
    elif key == "selected_options":
        given = [_option(element, each, suggestions) for each in (given if isinstance(given, list) else [given])]
    elif key.endswith("s") and not isinstance(given, list):
        given = [given]
    return {"type": kind, key: given}


def _option(element: Json, given: Any, suggestions: dict[str, Json]) -> Json:
    wanted = given["value"] if isinstance(given, dict) else given
    for option in options_of(element):
        if option["value"] == wanted:
            return option
    if "external" in element["type"] and wanted in suggestions:
        return suggestions[wanted]
    raise LookupError(f"{element['action_id']!r} has no option {wanted!r}.")


def options_of(element: Json) -> list[Json]:
    """Return an element's options, or those of an answer to block_suggestion, the ones in groups too."""
    return [*(element.get("options") or []), *(o for g in element.get("option_groups") or [] for o in g["options"])]


def action(block: Json, element: Json, value: Json | None, ts: str) -> Json:
    """Return the element as it stands in `actions` of a block_actions payload."""
    shown: Json = {
        key: element[key] for key in ("text", "value", "style", "url", "placeholder", "confirm") if key in element
    }
    return {
        **shown,
        **(value or {}),
        "type": element["type"],
        "action_id": element["action_id"],
        "block_id": block["block_id"],
        "action_ts": ts,
    }


def unfit(blocks: list[Json], values: Json) -> dict[str, str]:
    """Return what Slack's client refuses to submit, as a sentence by block id."""
    found = {}
    for block, element in interactive(blocks):
        if block["type"] != "input":
            continue
        key = HOLDS[element["type"]][0]
        value = values.get(block["block_id"], {}).get(element["action_id"], {}).get(key)
        if not value:
            if not block.get("optional"):
                found[block["block_id"]] = "Please complete this required field."
        elif key == "value" and len(value) > element.get("max_length", 3000):
            found[block["block_id"]] = f"Please use no more than {element.get('max_length', 3000)} characters."
        elif key == "value" and len(value) < element.get("min_length", 0):
            found[block["block_id"]] = f"Please use at least {element['min_length']} characters."
        elif isinstance(value, list) and len(value) > element.get("max_selected_items", len(value)):
            found[block["block_id"]] = f"Please select no more than {element['max_selected_items']}."
    return found
