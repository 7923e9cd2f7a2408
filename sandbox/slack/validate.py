"""What Slack would refuse, as three libraries not written here see it, and three rules across blocks.

No published JSON Schema of Block Kit exists. `slackblocks` (limits and surfaces from its own registry), `blockkit` and
`slack_sdk` each catch what the others miss; together with the rules at the end they refused 40 of 40 bad payloads and
accepted 7 of 7 good ones (`tests/sandbox/test_slack_validate.py` holds the table). Both builder libraries check when
their classes are constructed, so JSON is turned into constructor calls: an unknown key is an unknown argument.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import blockkit.core as bk
import slackblocks as sb
from slack_sdk.models.attachments import BlockAttachment
from slack_sdk.models.blocks import Block
from slack_sdk.models.views import View

Json = dict[str, Any]

BLOCKS_BUDGET = 13_200
"""Characters of all strings in a message's blocks before `msg_blocks_too_long` (github.com/slackapi/bolt-js/issues/2509
measured 13,297 on text alone; 2867 was refused at 11,341 characters of text with ids and types not counted)."""

TOO_LONG = "msg_blocks_too_long"


def problems(payload: Json, surface: str) -> list[str]:
    """Return what Slack would refuse in `payload`, in the form of Slack's `response_metadata.messages`.

    Args:
        payload: for "message" the arguments of chat.postMessage (`blocks`, `attachments`, `text`); for "modal" and
            "home" the view.
        surface: "message", "modal" or "home".
    """
    if surface == "message":
        found = [*_message(payload), *_budget(payload)]
    else:
        found = _view(payload, surface)
    # Three libraries often say the same thing about the same place.
    return list(dict.fromkeys(found))


def _message(payload: Json) -> list[str]:
    found: list[str] = []
    places: list[tuple[str, Any]] = [("/blocks", payload.get("blocks") or [])]
    for number, attachment in enumerate(payload.get("attachments") or []):
        if not isinstance(attachment, dict):
            return [_say("must be an object", f"/attachments/{number}")]
        found += _attachment(attachment, f"/attachments/{number}")
        places.append((f"/attachments/{number}/blocks", attachment.get("blocks") or []))
    for path, blocks in places:
        found += _blocks(blocks, path, "message")
    return found or _across([block for _, blocks in places for block in blocks])


def _attachment(attachment: Json, path: str) -> list[str]:
    """Check all of an attachment but its blocks; those come with the message's."""
    frame = {key: value for key, value in attachment.items() if key != "blocks"}
    try:
        sb.Attachment(blocks=[], **frame)
        BlockAttachment(blocks=[], **frame)
    except Exception as error:
        return [_say(_reason(error), path)]
    return []


def _view(view: Json, surface: str) -> list[str]:
    if view.get("type") != surface:
        return [_say(f"must be of type {surface}", "/view/type")]
    # Slack treats an absent and an empty string alike here; the libraries do not.
    view = {key: value for key, value in view.items() if value is not None and value != ""}
    blocks = view.get("blocks")
    if not isinstance(blocks, list) or not blocks:
        return [_say("must have at least one block", "/view/blocks")]
    found = _blocks(blocks, "/view/blocks", surface)
    frame = {**view, "blocks": [{"type": "divider"}]}
    if any(isinstance(block, dict) and block.get("type") == "input" for block in blocks):
        frame["blocks"] = [_AN_INPUT]
    for library in (SLACKBLOCKS, BLOCKKIT):
        try:
            library.finish(_construct(frame, "", library))
        except Exception as error:
            found.append(_say(_reason(error), "/view"))
    try:
        if View(**frame).to_dict() != frame:
            found.append(_say("has a key that is unknown or empty", "/view"))
    except Exception as error:
        found.append(_say(_reason(error), "/view"))
    return found or _across(blocks)


_AN_INPUT = {
    "type": "input",
    "label": {"type": "plain_text", "text": "x"},
    "element": {"type": "plain_text_input", "action_id": "x"},
}


def _blocks(blocks: Any, path: str, surface: str) -> list[str]:
    if not isinstance(blocks, list):
        return [_say("must be a list", path)]
    found = []
    most = 50 if surface == "message" else 100
    if len(blocks) > most:
        found.append(_say(f"no more than {most} items allowed", path))
    for number, block in enumerate(blocks):
        where = f"{path}/{number}"
        if not isinstance(block, dict):
            found.append(_say("must be an object", where))
            continue
        found += [_say(text, where) for text in (*_by_builders(block, surface), *_by_sdk(block))]
    return found


def _by_builders(block: Json, surface: str) -> Iterator[str]:
    kind = str(block.get("type"))
    if kind not in SLACKBLOCKS.blocks:
        yield f"unsupported type: {kind}"
        return
    try:
        built = _construct(block, "blocks", SLACKBLOCKS)
        _SURFACES[surface](built)
    except Exception as error:
        yield _reason(error)
    if kind not in BLOCKKIT.blocks:
        return  # blockkit is older than some blocks, and knows nothing of them.
    try:
        built = _construct(block, "blocks", BLOCKKIT)
        BLOCKKIT.finish(_BLOCKKIT_SURFACES[surface](built))
    except Exception as error:
        yield _reason(error)


def _by_sdk(block: Json) -> Iterator[str]:
    if block.get("type") in ("data_table", "data_visualization"):
        return  # slack_sdk 3.47 has no class for these.
    try:
        parsed = Block.parse(block)
        if parsed is None:
            yield f"unsupported type: {block.get('type')}"
        elif parsed.to_dict() != block:
            # What the SDK's classes drop or mend on the way, Slack would not have taken.
            yield "has a key or value that is unknown, empty or of the wrong type"
    except Exception as error:
        yield _reason(error)


def _across(blocks: list[Json]) -> list[str]:
    """Check what no library does: rules between blocks, and between the elements of one."""
    found = []
    ids = Counter(block["block_id"] for block in blocks if block.get("block_id"))
    found += [_say(f"block_id already exists: {each}", "/blocks") for each, times in ids.items() if times > 1]
    if sum(block["type"] in ("table", "data_table") for block in blocks) > 1:
        found.append(_say("only_one_table_allowed", "/blocks"))
    for number, block in enumerate(blocks):
        elements = [*(block.get("elements") or []), block.get("accessory") or {}, block.get("element") or {}]
        actions = Counter(element["action_id"] for element in elements if "action_id" in element)
        for each, times in actions.items():
            if times > 1:
                found.append(_say(f"action_id already exists in this block: {each}", f"/blocks/{number}"))
    return found


def _budget(payload: Json) -> list[str]:
    size = sum(len(text) for key in ("blocks", "attachments") for text in _strings(payload.get(key)))
    return [f"{TOO_LONG}: {size} characters, {BLOCKS_BUDGET} allowed"] if size > BLOCKS_BUDGET else []


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)


def _say(text: str, pointer: str) -> str:
    return f"[ERROR] {text} [json-pointer:{pointer}]"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


# ---- JSON to constructor calls ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Library:
    """How one library names what Slack's JSON names.

    Attributes:
        blocks: by `type`, for blocks and views; separate from `parts` because "image" is both a block and an element.
        parts: by `type`, for elements, text objects and rich text.
        untyped: by the key under which an object without `type` stands.
        adjust: changes keys, before construction, that the library spells or types differently.
        finish: validates what was built, where construction alone does not.
    """

    blocks: dict[str, Callable[..., Any]]
    parts: dict[str, Callable[..., Any]]
    untyped: dict[str, Callable[..., Any]]
    adjust: Callable[[Json, str], Json]
    finish: Callable[[Any], Any] = field(default=lambda built: built)


def _construct(node: Any, key: str, library: Library) -> Any:
    if isinstance(node, list):
        return [_construct(each, key, library) for each in node]
    if not isinstance(node, dict):
        return node
    kind = node.get("type")
    top = key in ("", "blocks", "child_blocks")
    if kind is None:
        make = library.untyped.get(key)
    else:
        make = (library.blocks if top else library.parts).get(str(kind))
    if make is None:
        raise ValueError(f"unsupported type: {kind} in {key or 'payload'}")
    adjusted = library.adjust(_without_initial_in_groups(node), key)
    arguments = {name: value for name, value in adjusted.items() if name != "type"}
    return make(**{name: _construct(value, name, library) for name, value in arguments.items()})


def _without_initial_in_groups(node: Json) -> Json:
    """Take away what is selected at first among groups, once it is one of the options.

    Slack wants options "that exactly match" those in groups (docs.slack.dev, multi-select menu element); both
    libraries want whole groups there.
    """
    if not node.get("option_groups"):
        return node
    options = [option for group in node["option_groups"] for option in group["options"]]
    initial = [*(node.get("initial_options") or []), *([node["initial_option"]] if node.get("initial_option") else [])]
    if any(each not in options for each in initial):
        raise ValueError("initial options must be among the options")
    return {key: value for key, value in node.items() if key not in ("initial_option", "initial_options")}


def _adjust_slackblocks(node: Json, key: str) -> Json:
    kind = node.get("type")
    node = dict(node)
    if kind == "section":
        node.pop("expand", None)
    if kind == "usergroup":
        node["user_group_id"] = node.pop("usergroup_id", None)
    if kind == "table":
        # slackblocks wraps rich text cells itself, and has no number cells in this block.
        node["rows"] = [[_slackblocks_cell(cell) for cell in row] for row in node["rows"]]
    if kind == "multi_static_select":
        node.setdefault("options", None)  # Its class takes option_groups only together with an argument `options`.
    if kind in ("date", "broadcast", "color"):
        # Newer than slackblocks; blockkit and slack_sdk look at these.
        node = {"type": "text", "text": "x"}
    style = node.get("style")
    if isinstance(style, dict):
        node.pop("style")
        node |= style
    return node


def _slackblocks_cell(cell: Json) -> Any:
    if cell.get("type") == "rich_text" and len(cell.get("elements") or []) == 1:
        return cell["elements"][0]
    if cell.get("type") == "raw_number":
        return {"type": "raw_text", "text": str(cell["text"])}
    return cell


def _adjust_blockkit(node: Json, key: str) -> Json:
    node = dict(node)
    kind = node.get("type")
    if kind == "image" and isinstance(node.get("alt_text"), str):
        # Slack documents 2,000 characters (docs.slack.dev, image block), as slackblocks has it; blockkit knows of 255.
        node["alt_text"] = node["alt_text"][:255]
    if node.get("min_query_length") == 0:
        node.pop("min_query_length")  # Slack documents no minimum and takes 0: suggestions before a letter is typed.
    if kind == "image" and isinstance(node.get("alt_text"), str) and len(node["alt_text"]) <= 2000:
        # Slack takes 2,000 characters (docs.slack.dev/reference/block-kit/blocks/image-block), as slackblocks has it.
        node["alt_text"] = node["alt_text"][:255]
    if kind in ("radio_buttons", "checkboxes"):
        # These two alone may have mrkdwn in their options; blockkit has one class for all options.
        node["options"] = [_plain_option(option) for option in node["options"]]
        if "initial_option" in node:
            node["initial_option"] = _plain_option(node["initial_option"])
        if "initial_options" in node:
            node["initial_options"] = [_plain_option(option) for option in node["initial_options"]]
    if kind == "datetimepicker":
        node["initial_date_time"] = node.pop("initial_datetime", None)
    if kind == "table":
        node["rows"] = [
            [{"type": "raw_text", "text": str(c["text"])} if c.get("type") == "raw_number" else c for c in row]
            for row in node["rows"]
        ]
    return node


def _plain_option(option: Json) -> Json:
    return {**option, "text": {"type": "plain_text", "text": option["text"]["text"]}}


SLACKBLOCKS = Library(
    blocks={
        "actions": sb.ActionsBlock,
        "alert": sb.AlertBlock,
        "card": sb.CardBlock,
        "container": sb.ContainerBlock,
        "context": sb.ContextBlock,
        "data_table": sb.DataTableBlock,
        "divider": sb.DividerBlock,
        "header": sb.HeaderBlock,
        "image": sb.ImageBlock,
        "input": sb.InputBlock,
        "markdown": sb.MarkdownBlock,
        "plan": sb.PlanBlock,
        "rich_text": sb.RichTextBlock,
        "section": sb.SectionBlock,
        "table": sb.TableBlock,
        "task_card": sb.TaskCardBlock,
        "video": sb.VideoBlock,
        "modal": sb.ModalView,
        "home": sb.HomeTabView,
    },
    parts={
        "plain_text": partial(sb.Text, type_=sb.TextType.PLAINTEXT),
        "mrkdwn": partial(sb.Text, type_=sb.TextType.MARKDOWN),
        "raw_text": sb.RawText,
        "raw_number": sb.RawNumber,
        "button": sb.Button,
        "channels_select": sb.ChannelSelectMenu,
        "checkboxes": sb.CheckboxGroup,
        "conversations_select": sb.ConversationSelectMenu,
        "datepicker": sb.DatePicker,
        "datetimepicker": sb.DateTimePicker,
        "email_text_input": sb.EmailInput,
        "external_select": sb.ExternalSelectMenu,
        "file_input": sb.FileInput,
        "image": sb.Image,
        "multi_channels_select": sb.ChannelMultiSelectMenu,
        "multi_conversations_select": sb.ConversationMultiSelectMenu,
        "multi_external_select": sb.ExternalMultiSelectMenu,
        "multi_static_select": sb.StaticMultiSelectMenu,
        "multi_users_select": sb.UserMultiSelectMenu,
        "number_input": sb.NumberInput,
        "overflow": sb.OverflowMenu,
        "plain_text_input": sb.PlainTextInput,
        "radio_buttons": sb.RadioButtonGroup,
        "rich_text_input": sb.RichTextInput,
        "static_select": sb.StaticSelectMenu,
        "timepicker": sb.TimePicker,
        "url_text_input": sb.URLInput,
        "users_select": sb.UserSelectMenu,
        "rich_text": sb.RichTextBlock,
        "rich_text_list": sb.RichTextList,
        "rich_text_preformatted": sb.RichTextCodeBlock,
        "rich_text_quote": sb.RichTextQuote,
        "rich_text_section": sb.RichTextSection,
        "channel": sb.RichTextChannel,
        "emoji": sb.RichTextEmoji,
        "link": sb.RichTextLink,
        "text": sb.RichText,
        "user": sb.RichTextUser,
        "usergroup": sb.RichTextUserGroup,
        "date": sb.RichText,
        "broadcast": sb.RichText,
        "color": sb.RichText,
        "task_card": sb.TaskCardBlock,
        "url": sb.URLSource,
    },
    untyped={
        "column_settings": sb.ColumnSettings,
        "confirm": sb.ConfirmationDialogue,
        "dispatch_action_config": sb.DispatchActionConfiguration,
        "filter": sb.ConversationFilter,
        "initial_option": sb.Option,
        "initial_options": sb.Option,
        "option_groups": sb.OptionGroup,
        "options": sb.Option,
        "slack_file": partial(sb.SlackFile, url=None, id=None),  # Both are arguments; Slack wants one of them.
    },
    adjust=_adjust_slackblocks,
)

BLOCKKIT = Library(
    blocks={
        "actions": bk.Actions,
        "context": bk.Context,
        "divider": bk.Divider,
        "header": bk.Header,
        "image": bk.Image,
        "input": bk.Input,
        "markdown": bk.Markdown,
        "rich_text": bk.RichText,
        "section": bk.Section,
        "table": bk.Table,
        "video": bk.Video,
        "modal": bk.Modal,
        "home": bk.Home,
    },
    parts={
        "plain_text": partial(bk.Text, type="plain_text"),
        "mrkdwn": partial(bk.Text, type="mrkdwn"),
        "raw_text": bk.RawText,
        "button": bk.Button,
        "channels_select": bk.ChannelsSelect,
        "checkboxes": bk.Checkboxes,
        "conversations_select": bk.ConversationsSelect,
        "datepicker": bk.DatePicker,
        "datetimepicker": bk.DatetimePicker,
        "email_text_input": bk.EmailInput,
        "external_select": bk.ExternalSelect,
        "file_input": bk.FileInput,
        "image": bk.ImageEl,
        "multi_channels_select": bk.MultiChannelsSelect,
        "multi_conversations_select": bk.MultiConversationsSelect,
        "multi_external_select": bk.MultiExternalSelect,
        "multi_static_select": bk.MultiStaticSelect,
        "multi_users_select": bk.MultiUsersSelect,
        "number_input": bk.NumberInput,
        "overflow": bk.Overflow,
        "plain_text_input": bk.PlainTextInput,
        "radio_buttons": bk.RadioButtons,
        "rich_text_input": bk.RichTextInput,
        "static_select": bk.StaticSelect,
        "timepicker": bk.TimePicker,
        "url_text_input": bk.UrlInput,
        "users_select": bk.UsersSelect,
        "rich_text": bk.RichText,
        "rich_text_list": bk.RichTextList,
        "rich_text_preformatted": bk.RichTextPreformatted,
        "rich_text_quote": bk.RichTextQuote,
        "rich_text_section": bk.RichTextSection,
        "broadcast": bk.RichBroadcastEl,
        "channel": bk.RichChannelEl,
        "color": bk.RichColorEl,
        "date": bk.RichDateEl,
        "emoji": bk.RichEmojiEl,
        "link": bk.RichLinkEl,
        "text": bk.RichTextEl,
        "user": bk.RichUserEl,
        "usergroup": bk.RichUserGroupEl,
    },
    untyped={
        "column_settings": bk.ColumnSettings,
        "confirm": bk.Confirm,
        "dispatch_action_config": bk.DispatchActionConfig,
        "filter": bk.ConversationFilter,
        "initial_option": bk.Option,
        "initial_options": bk.Option,
        "option_groups": bk.OptionGroup,
        "options": bk.Option,
        "slack_file": bk.SlackFile,
        "style": bk.RichStyle,
    },
    adjust=_adjust_blockkit,
    finish=lambda built: built.build(),
)

_SURFACES: dict[str, Callable[[Any], Any]] = {
    "message": lambda block: sb.Message(channel="C", blocks=[block]),
    "modal": lambda block: sb.ModalView(title="x", submit="x", blocks=[block]),
    "home": lambda block: sb.HomeTabView(blocks=[block]),
}

_BLOCKKIT_SURFACES: dict[str, Callable[[Any], Any]] = {
    "message": lambda block: bk.Message(blocks=[block]),
    "modal": lambda block: bk.Modal(title="x", submit="x", blocks=[block]),
    "home": lambda block: bk.Home(blocks=[block]),
}
