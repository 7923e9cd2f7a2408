"""What may be written: every message and every view passes here, whichever way it comes."""

from __future__ import annotations

import json
from typing import Any

from sandbox.slack.elements import with_ids
from sandbox.slack.state import Refused
from sandbox.slack.validate import TOO_LONG, problems

Json = dict[str, Any]

TEXT_LIMIT = 40_000
"""A longer text is cut (docs.slack.dev/reference/methods/chat.postMessage, warning message_truncated)."""
UPDATE_TEXT_LIMIT = 4_000
"""A longer text is refused by chat.update (same place, msg_too_long)."""
VIEW_BYTES = 250_000
METADATA_BYTES = 8_000
"""Slack refuses large metadata (metadata_too_large) without saying from where on; ids fit in far less."""


def parsed(value: Any, error: str) -> Any:
    """Return an argument that may have come as JSON or as a string of JSON.

    Raises:
        Refused: with `error`.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value else None
    except ValueError:
        raise Refused(error) from None


def truthy(value: Any) -> bool:
    """Return a flag as the SDK sends it: true, "true" or "1"."""
    return str(value).lower() in ("true", "1")


def message_content(arguments: Json) -> Json:
    """Return `text`, `blocks` and `attachments` of a message as they are stored.

    Raises:
        Refused: no_text, invalid_blocks_format, invalid_blocks, invalid_attachments, msg_blocks_too_long,
            too_many_attachments.
    """
    text = arguments.get("text")
    text = str(text) if text is not None else ""
    blocks = parsed(arguments.get("blocks"), "invalid_blocks_format") or []
    attachments = parsed(arguments.get("attachments"), "invalid_attachments") or []
    if not isinstance(blocks, list):
        raise Refused("invalid_blocks_format")
    if not isinstance(attachments, list):
        raise Refused("invalid_attachments")
    if not text.strip() and not blocks and not attachments:
        raise Refused("no_text")
    if len(attachments) > 100:
        raise Refused("too_many_attachments")
    found = problems({"text": text, "blocks": blocks, "attachments": attachments}, "message")
    if found:
        raise _refusal(found)
    content: Json = {"text": text[:TEXT_LIMIT]}
    if blocks:
        content["blocks"] = with_ids(blocks)
    if attachments:
        content["attachments"] = [
            {"id": number, **each, **({"blocks": with_ids(each["blocks"])} if each.get("blocks") else {})}
            for number, each in enumerate(attachments, 1)
        ]
    return content


def _refusal(found: list[str]) -> Refused:
    if all(each.startswith(TOO_LONG) for each in found):
        return Refused(TOO_LONG, found)
    places = [each for each in found if not each.startswith(TOO_LONG)]
    in_attachments = all("[json-pointer:/attachments" in each for each in places)
    return Refused(
        "invalid_attachments" if in_attachments else "invalid_blocks",
        places,
        errors=[each.removeprefix("[ERROR] ") for each in places],
    )


def metadata_content(value: Any) -> Json | None:
    """Return a message's metadata; None where none is given, {} where it is to be removed.

    Raises:
        Refused: invalid_metadata_format, metadata_too_large.
    """
    metadata: Json | None = parsed(value, "invalid_metadata_format")
    if metadata is None or metadata == {}:
        return metadata
    whole = (
        isinstance(metadata, dict)
        and isinstance(metadata.get("event_type"), str)
        and metadata["event_type"]
        and isinstance(metadata.get("event_payload"), dict)
    )
    if not whole:
        raise Refused("invalid_metadata_format")
    if len(json.dumps(metadata).encode()) > METADATA_BYTES:
        raise Refused("metadata_too_large")
    return {"event_type": metadata["event_type"], "event_payload": metadata["event_payload"]}


def view_content(value: Any, surface: str) -> Json:
    """Return a view as it is stored, blocks with ids.

    Raises:
        Refused: invalid_arguments with what is wrong, view_too_large.
    """
    view = parsed(value, "invalid_arguments")
    if not isinstance(view, dict):
        raise Refused("invalid_arguments", ["[ERROR] missing required field: view [json-pointer:/view]"])
    if len(json.dumps(view).encode()) > VIEW_BYTES:
        raise Refused("view_too_large")
    found = problems(view, surface)
    if found:
        raise Refused("invalid_arguments", found)
    return {**view, "blocks": with_ids(view["blocks"])}


def options_content(body: Json) -> list[Json]:
    """Return the options in an answer to block_suggestion, those in groups too.

    Raises:
        Refused: they would not do in a select.
    """
    offered = {key: body[key] for key in ("options", "option_groups") if body.get(key)}
    if not offered:
        return []
    select = {"type": "static_select", "action_id": "x", **offered}
    found = problems({"blocks": [{"type": "actions", "elements": [select]}]}, "message")
    # The budget is that of a message, not of suggestions.
    found = [each for each in found if not each.startswith(TOO_LONG)]
    if found:
        raise Refused("invalid_options", found)
    return [*(body.get("options") or []), *(o for g in body.get("option_groups") or [] for o in g["options"])]
