"""What is in the workspace: messages, ephemeral messages, views, files, triggers; and who wants to know of changes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sandbox.slack import seeds
from sandbox.slack.elements import state_of
from sandbox.slack.seeds import BOT_USER, TEAM

Json = dict[str, Any]
Found = TypeVar("Found")

TRIGGER_SECONDS = 3.0
RESPONSE_URL_USES = 5
RESPONSE_URL_SECONDS = 30 * 60
STACK = 3
"""Most views in a modal's stack (docs.slack.dev/reference/methods/views.push)."""


class Refused(Exception):
    """Slack says no.

    Attributes:
        error: Slack's name for it.
        more: further keys of the answer, such as `response_metadata`.
    """

    def __init__(self, error: str, messages: list[str] | None = None, **more: Any) -> None:
        super().__init__(error)
        self.error = error
        self.more = {**more, **({"response_metadata": {"messages": messages}} if messages else {})}


@dataclass(kw_only=True)
class Trigger:
    user: str
    made: float
    used: bool = False


@dataclass(kw_only=True)
class ResponseUrl:
    """Where an interaction may be answered: its person, and the message that it came from, if any."""

    user: str
    channel: str
    made: float
    ts: str = ""
    ephemeral: bool = False
    uses: int = 0


@dataclass(kw_only=True)
class Workspace:
    """The state of everything. `changed` is to be called after each change.

    Attributes:
        messages: by channel, replies too, oldest first; each as conversations.history has it.
        ephemerals: as messages, with `id`, `channel` and `viewer`, who alone sees it.
        unseen: ephemeral messages that Slack took and shows to nobody.
        selections: what is selected in the elements of a message, by its channel and ts.
        stacks: open modals by user, the top one last.
        suggestions: options last offered for external selects, by value.
    """

    now: Callable[[], float]
    users: dict[str, Json] = field(default_factory=seeds.users)
    groups: dict[str, Json] = field(default_factory=seeds.groups)
    channels: dict[str, Json] = field(default_factory=seeds.channels)
    messages: dict[str, list[Json]] = field(default_factory=dict)
    ephemerals: list[Json] = field(default_factory=list)
    unseen: list[Json] = field(default_factory=list)
    selections: dict[tuple[str, str], Json] = field(default_factory=dict)
    stacks: dict[str, list[Json]] = field(default_factory=dict)
    homes: dict[str, Json] = field(default_factory=dict)
    files: dict[str, Json] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    triggers: dict[str, Trigger] = field(default_factory=dict)
    response_urls: dict[str, ResponseUrl] = field(default_factory=dict)
    suggestions: dict[str, Json] = field(default_factory=dict)
    seq: int = 0
    _last_ts: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    # ---- changes -----------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        self.seq += 1
        self._news.set()
        self._news = asyncio.Event()

    async def news(self, timeout: float) -> None:
        """Return at the next change, or when the time is over."""
        try:
            await asyncio.wait_for(self._news.wait(), timeout)
        except TimeoutError:
            return

    async def until(self, condition: Callable[[], Found], timeout: float = 15) -> Found:
        """Return what `condition` returns as soon as that is true; it is asked after every change.

        Raises:
            TimeoutError: saying what is in the channels instead.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while not (found := condition()):
            left = end - loop.time()
            if left <= 0:
                texts = [f"{m['channel_id']}: {m['text'][:100]}" for m in self._all_messages()][-10:]
                raise TimeoutError(f"Not so after {timeout} s. The last messages are: {texts}")
            # What is waited for may also depend on more than this workspace: ask now and then.
            await self.news(min(left, 0.25))
        return found

    def _all_messages(self) -> list[Json]:
        flat = [{**each, "channel_id": name} for name, those in self.messages.items() for each in those]
        return sorted(flat, key=lambda each: each["ts"])

    def ts(self) -> str:
        """Return a timestamp that no message has, in Slack's form."""
        self._last_ts = max(self._last_ts + 1, int(self.now() * 1_000_000))
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    # ---- conversations -----------------------------------------------------------------------------------------------

    def direct(self, user: str) -> Json:
        """Return the direct message channel of the bot and a person."""
        channel_id = "D" + user[1:]
        if channel_id not in self.channels:
            self.channels[channel_id] = seeds.channel(
                channel_id, "", "", {user, BOT_USER}, is_channel=False, is_im=True, user=user
            )
        return self.channels[channel_id]

    def channel(self, reference: str) -> Json:
        """Return the conversation by id, by #name, or a person's direct messages by their id.

        Raises:
            Refused: channel_not_found.
        """
        if reference in self.channels:
            return self.channels[reference]
        if reference in self.users:
            return self.direct(reference)
        for each in self.channels.values():
            if each["name"] and each["name"] == reference.removeprefix("#"):
                return each
        raise Refused("channel_not_found")

    # ---- messages ----------------------------------------------------------------------------------------------------

    def find(self, channel: str, ts: str) -> Json | None:
        return next((each for each in self.messages.get(channel, []) if each["ts"] == ts), None)

    def replies(self, channel: str, ts: str) -> list[Json]:
        return [m for m in self.messages.get(channel, []) if m.get("thread_ts") == ts and m["ts"] != ts]

    def add_message(self, channel: str, user: str, content: Json, thread_ts: str = "", broadcast: bool = False) -> Json:
        message = {"type": "message", "user": user, "ts": self.ts(), "team": self.users[user]["team_id"], **content}
        if thread_ts:
            message |= {"thread_ts": thread_ts, "parent_user_id": self._root(channel, thread_ts)["user"]}
            if broadcast:
                message["subtype"] = "thread_broadcast"
        self.messages.setdefault(channel, []).append(message)
        if thread_ts:
            self._count_replies(channel, thread_ts)
        self.changed()
        return message

    def _root(self, channel: str, thread_ts: str) -> Json:
        root = self.find(channel, thread_ts)
        if root is None or root.get("thread_ts", thread_ts) != thread_ts:
            # Slack makes an odd thread of some of these; a bot that asks for one has lost its card.
            raise Refused("cannot_reply_to_message")
        return root

    def check_thread(self, channel: str, thread_ts: str) -> None:
        """Refuse a reply to what is not a message at the top of the channel."""
        self._root(channel, thread_ts)

    def _count_replies(self, channel: str, thread_ts: str) -> None:
        root = self.find(channel, thread_ts)
        if root is None:
            return
        replies = self.replies(channel, thread_ts)
        for key in ("thread_ts", "reply_count", "reply_users_count", "latest_reply", "reply_users"):
            root.pop(key, None)
        if replies:
            who = list(dict.fromkeys(each["user"] for each in replies))
            root |= {
                "thread_ts": thread_ts,
                "reply_count": len(replies),
                "reply_users_count": len(who),
                "latest_reply": replies[-1]["ts"],
                "reply_users": who,
            }

    def delete_message(self, channel: str, message: Json) -> None:
        """Take the message away; one with replies stays as a tombstone, as in Slack."""
        if self.replies(channel, message["ts"]):
            for key in ("blocks", "attachments", "files", "metadata", "edited", "reactions"):
                message.pop(key, None)
            message |= {"subtype": "tombstone", "text": "This message was deleted.", "hidden": True}
        else:
            self.messages[channel].remove(message)
            if "thread_ts" in message:
                self._count_replies(channel, message["thread_ts"])
        self.changed()

    def add_ephemeral(self, channel: str, viewer: str, content: Json, thread_ts: str = "") -> Json:
        """Show something to one person. In a thread without a reply Slack takes it, and shows it to nobody.

        See docs.slack.dev/reference/methods/chat.postEphemeral, argument `thread_ts`.
        """
        ephemeral = {
            "id": "E" + secrets.token_hex(5).upper(),
            "type": "message",
            "ts": self.ts(),
            "channel": channel,
            "viewer": viewer,
            "user": BOT_USER,
            "is_ephemeral": True,
            **content,
            **({"thread_ts": thread_ts} if thread_ts else {}),
        }
        dead = thread_ts and not self.replies(channel, thread_ts)
        (self.unseen if dead else self.ephemerals).append(ephemeral)
        self.changed()
        return ephemeral

    # ---- interactions ------------------------------------------------------------------------------------------------

    def new_trigger(self, user: str) -> str:
        trigger_id = f"{secrets.randbelow(10**13)}.{secrets.randbelow(10**12)}.{secrets.token_hex(16)}"
        self.triggers[trigger_id] = Trigger(user=user, made=self.now())
        return trigger_id

    def exchange(self, trigger_id: Any) -> Trigger:
        """Use up a trigger.

        Raises:
            Refused: it is unknown, was used, or is older than three seconds.
        """
        trigger = self.triggers.get(str(trigger_id))
        if trigger is None:
            raise Refused("invalid_trigger_id")
        if trigger.used:
            raise Refused("exchanged_trigger_id")
        if self.now() - trigger.made > TRIGGER_SECONDS:
            raise Refused("expired_trigger_id")
        trigger.used = True
        return trigger

    def new_response_url(self, user: str, channel: str, ts: str = "", *, ephemeral: bool = False) -> str:
        """Return the id of a response_url."""
        key = secrets.token_urlsafe(16)
        self.response_urls[key] = ResponseUrl(user=user, channel=channel, made=self.now(), ts=ts, ephemeral=ephemeral)
        return key

    # ---- views -------------------------------------------------------------------------------------------------------

    def open_view(self, user: str, content: Json) -> Json:
        view = self._new_view(content)
        self.stacks[user] = [view]
        self.changed()
        return view

    def push_view(self, user: str, content: Json) -> Json:
        stack = self.stacks.get(user)
        if not stack:
            raise Refused("not_found")
        if len(stack) >= STACK:
            raise Refused("push_limit_reached")
        view = self._new_view(content)
        view |= {"root_view_id": stack[0]["id"], "previous_view_id": stack[-1]["id"]}
        stack.append(view)
        self.changed()
        return view

    def find_view(self, *, view_id: str = "", external_id: str = "") -> Json | None:
        views = [*self.homes.values(), *(view for stack in self.stacks.values() for view in stack)]
        for view in views:
            if view["id"] == view_id or (external_id and view["external_id"] == external_id):
                return view
        return None

    def update_view(self, view: Json, content: Json, given_hash: str = "") -> Json:
        """Replace what a view shows; what was typed into blocks that stay is kept.

        Raises:
            Refused: hash_conflict.
        """
        if given_hash and given_hash != view["hash"]:
            raise Refused("hash_conflict")
        fresh = self._new_view(content, instead_of=view["id"])
        for key in ("id", "root_view_id", "previous_view_id"):
            fresh[key] = view[key]
        old = view["state"]["values"]
        for block_id, values in fresh["state"]["values"].items():
            for action_id, value in values.items():
                kept = old.get(block_id, {}).get(action_id)
                if kept is not None and kept["type"] == value["type"]:
                    values[action_id] = kept
        view.clear()
        view.update(fresh)
        self.changed()
        return view

    def publish_home(self, user: str, content: Json, given_hash: str = "") -> Json:
        home = self.homes.get(user)
        if home is not None:
            return self.update_view(home, content, given_hash)
        if given_hash:
            raise Refused("hash_conflict")
        view = self.homes[user] = self._new_view(content)
        self.changed()
        return view

    def _new_view(self, content: Json, instead_of: str = "") -> Json:
        external_id = content.get("external_id") or ""
        same = self.find_view(external_id=external_id) if external_id else None
        if same is not None and same["id"] != instead_of:
            raise Refused("duplicate_external_id")
        view_id = "V" + secrets.token_hex(5).upper()
        return {
            "id": view_id,
            "team_id": TEAM["id"],
            "type": content["type"],
            "title": content.get("title"),
            "close": content.get("close"),
            "submit": content.get("submit"),
            "blocks": content["blocks"],
            "private_metadata": content.get("private_metadata") or "",
            "callback_id": content.get("callback_id") or "",
            "external_id": external_id,
            "state": {"values": state_of(content["blocks"])},
            "hash": f"{int(self.now())}.{secrets.token_hex(4)}",
            "clear_on_close": bool(content.get("clear_on_close")),
            "notify_on_close": bool(content.get("notify_on_close")),
            "root_view_id": view_id,
            "previous_view_id": None,
            "app_id": seeds.APP_ID,
            "app_installed_team_id": TEAM["id"],
            "bot_id": seeds.BOT_ID,
        }
