"""What people do: clicks, commands, submissions. Each becomes a payload as Slack sends it; its answer takes effect."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sandbox.slack import elements, seeds
from sandbox.slack.content import message_content, options_content, truthy, view_content
from sandbox.slack.delivery import Ack, Delivery
from sandbox.slack.seeds import BOT_ID, BOT_USER, TEAM
from sandbox.slack.state import RESPONSE_URL_SECONDS, RESPONSE_URL_USES, Refused, ResponseUrl, Workspace

Json = dict[str, Any]

TROUBLE = "We had some trouble connecting. Try again?"
"""What Slack's client says in a modal when the app's answer is of no use."""


@dataclass(kw_only=True)
class Place:
    """Where an element is: a message, an ephemeral message, a modal or the home tab."""

    container: Json
    blocks: list[Json]
    values: Json
    shown: Json
    response: Callable[[], str] | None = None

    @property
    def in_view(self) -> bool:
        return "view" in self.shown


@dataclass
class Acts:
    """Everything that a person can do. An act that the page would not offer raises LookupError."""

    workspace: Workspace
    delivery: Delivery
    base: str = ""

    # ---- places ------------------------------------------------------------------------------------------------------

    def in_message(self, user: str, channel: str, ts: str) -> Place:
        """Return the place that is a message, or an ephemeral message of this person."""
        message = self.workspace.find(channel, ts)
        if message is None:
            for each in self.workspace.ephemerals:
                if each["ts"] == ts and each["viewer"] == user:
                    return self.in_ephemeral(each)
            raise LookupError(f"{user} sees no message {ts} in {channel}.")
        container = {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": False}
        if "thread_ts" in message:
            container["thread_ts"] = message["thread_ts"]
        return Place(
            container=container,
            blocks=_all_blocks(message),
            values=self._selections(channel, ts, _all_blocks(message)),
            shown={"channel": self._channel(channel), "message": copy.deepcopy(message)},
            response=lambda: self.workspace.new_response_url(user, channel, ts),
        )

    def in_ephemeral(self, ephemeral: Json) -> Place:
        channel, ts = ephemeral["channel"], ephemeral["ts"]
        container = {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": True}
        if "thread_ts" in ephemeral:
            container["thread_ts"] = ephemeral["thread_ts"]
        return Place(
            container=container,
            blocks=_all_blocks(ephemeral),
            values=self._selections(channel, ts, _all_blocks(ephemeral)),
            shown={"channel": self._channel(channel)},
            response=lambda: self.workspace.new_response_url(ephemeral["viewer"], channel, ts, ephemeral=True),
        )

    def in_view(self, view: Json) -> Place:
        return Place(
            container={"type": "view", "view_id": view["id"]},
            blocks=view["blocks"],
            values=view["state"]["values"],
            shown={"view": view},
        )

    def _selections(self, channel: str, ts: str, blocks: list[Json]) -> Json:
        """Return what is selected in a message, kept from click to click."""
        fresh = elements.state_of(blocks)
        kept = self.workspace.selections.get((channel, ts), {})
        for block_id, values in fresh.items():
            values |= {key: value for key, value in kept.get(block_id, {}).items() if key in values}
        self.workspace.selections[channel, ts] = fresh
        return fresh

    def top(self, user: str) -> Json:
        stack = self.workspace.stacks.get(user)
        if not stack:
            raise LookupError(f"{user} has no modal open.")
        return stack[-1]

    def on_top(self, user: str) -> Place:
        """Return the top modal, or the home tab where no modal is open."""
        if self.workspace.stacks.get(user) or user not in self.workspace.homes:
            return self.in_view(self.top(user))
        return self.in_view(self.workspace.homes[user])

    def view_of(self, user: str, view_id: str) -> Json:
        """Return a view that this person has open, or their home."""
        views = [*self.workspace.stacks.get(user, [])]
        if user in self.workspace.homes:
            views.append(self.workspace.homes[user])
        for view in views:
            if view["id"] == view_id:
                return view
        raise LookupError(f"{user} has no view {view_id} open.")

    def _channel(self, channel: str) -> Json:
        whole = self.workspace.channels[channel]
        return {"id": channel, "name": "directmessage" if whole["is_im"] else whole["name"]}

    # ---- payloads ----------------------------------------------------------------------------------------------------

    def _person(self, user: str) -> Json:
        whole = self.workspace.users[user]
        return {"id": user, "username": whole["name"], "name": whole["name"], "team_id": whole["team_id"]}

    def _payload(self, kind: str, user: str, **more: Any) -> Json:
        return {
            "type": kind,
            "user": self._person(user),
            "api_app_id": seeds.APP_ID,
            "token": seeds.VERIFICATION_TOKEN,
            "team": {"id": TEAM["id"], "domain": TEAM["domain"]},
            "enterprise": None,
            "is_enterprise_install": False,
            **more,
        }

    def _respond_at(self, key: str) -> str:
        return f"{self.base}/respond/{key}"

    # ---- clicks ------------------------------------------------------------------------------------------------------

    async def click(
        self,
        user: str,
        place: Place,
        action_id: str,
        *,
        block_id: str | None = None,
        value: str | None = None,
        selected: Any = None,
    ) -> Ack:
        """Press a button or choose in a select; a confirmation dialogue counts as confirmed."""
        block, element = elements.find(place.blocks, action_id, block_id, value)
        chosen: Json | None = None
        if element["type"] != "button":
            chosen = elements.held(element, selected, self.workspace.suggestions)
        if chosen is not None and element["type"] in elements.HOLDS:
            place.values.setdefault(block["block_id"], {})[action_id] = chosen
            self.workspace.changed()
        more: Json = {} if place.in_view else {"state": {"values": place.values}}
        if place.response is not None:
            more["response_url"] = self._respond_at(place.response())
        payload = self._payload(
            "block_actions",
            user,
            container=place.container,
            trigger_id=self.workspace.new_trigger(user),
            **copy.deepcopy(place.shown),
            **more,
            actions=[elements.action(block, element, chosen, self.workspace.ts())],
        )
        return await self.delivery.interactive(payload)

    async def suggest(self, user: str, place: Place, action_id: str, text: str, block_id: str | None = None) -> Ack:
        """Type into an external select. The options are in the body of the answer."""
        block, element = elements.find(place.blocks, action_id, block_id)
        payload = self._payload(
            "block_suggestion",
            user,
            container=place.container,
            action_id=element["action_id"],
            block_id=block["block_id"],
            value=text,
            **copy.deepcopy(place.shown),
        )
        ack = await self.delivery.interactive(payload)
        if not ack.ok:
            return ack
        try:
            options = options_content(ack.body)
        except Refused as refused:
            return _useless(ack, refused)
        self.workspace.suggestions |= {each["value"]: each for each in options}
        return ack

    # ---- commands and shortcuts --------------------------------------------------------------------------------------

    async def command(self, user: str, text: str, channel: str, command: str = "/refine") -> Ack:
        whole, person = self.workspace.channels[channel], self.workspace.users[user]
        payload = {
            "token": seeds.VERIFICATION_TOKEN,
            "team_id": TEAM["id"],
            "team_domain": TEAM["domain"],
            "channel_id": channel,
            "channel_name": "directmessage" if whole["is_im"] else whole["name"],
            "user_id": user,
            "user_name": person["name"],
            "command": command,
            "text": text,
            "api_app_id": seeds.APP_ID,
            "is_enterprise_install": "false",
            "response_url": self._respond_at(self.workspace.new_response_url(user, channel)),
            "trigger_id": self.workspace.new_trigger(user),
        }
        ack = await self.delivery.command(payload)
        if not ack.ok or not ack.body:
            return ack
        try:
            self.answer(user, channel, ack.body)
        except Refused as refused:
            return _useless(ack, refused)
        return ack

    def answer(self, user: str, channel: str, body: Json, thread_ts: str = "") -> None:
        """Show what the bot answered: to this person alone, or in the channel where it says so.

        Raises:
            Refused: it is not a message.
        """
        content = message_content(body)
        if body.get("response_type") == "in_channel":
            own = {"bot_id": BOT_ID, "app_id": seeds.APP_ID, **content}
            self.workspace.add_message(channel, BOT_USER, own, thread_ts)
        else:
            self.workspace.add_ephemeral(channel, user, content, thread_ts)

    async def shortcut(self, user: str, callback_id: str) -> Ack:
        payload = self._payload(
            "shortcut",
            user,
            callback_id=callback_id,
            trigger_id=self.workspace.new_trigger(user),
            action_ts=self.workspace.ts(),
        )
        return await self.delivery.interactive(payload)

    async def message_shortcut(self, user: str, callback_id: str, channel: str, ts: str) -> Ack:
        message = self.workspace.find(channel, ts)
        if message is None:
            raise LookupError(f"There is no message {ts} in {channel}.")
        payload = self._payload(
            "message_action",
            user,
            callback_id=callback_id,
            trigger_id=self.workspace.new_trigger(user),
            action_ts=self.workspace.ts(),
            message_ts=ts,
            message=copy.deepcopy(message),
            channel=self._channel(channel),
            response_url=self._respond_at(self.workspace.new_response_url(user, channel, ts)),
        )
        return await self.delivery.interactive(payload)

    async def open_home(self, user: str) -> Ack:
        event: Json = {
            "type": "app_home_opened",
            "user": user,
            "channel": self.workspace.direct(user)["id"],
            "tab": "home",
            "event_ts": self.workspace.ts(),
        }
        if user in self.workspace.homes:
            event["view"] = copy.deepcopy(self.workspace.homes[user])
        return await self.delivery.event(event)

    # ---- modals ------------------------------------------------------------------------------------------------------

    def fill(self, view: Json, values: Json) -> None:
        """Put into a view what a person typed and chose: `{block_id: {action_id: value}}`."""
        for block_id, given in values.items():
            for action_id, value in given.items():
                _, element = elements.find(view["blocks"], action_id, block_id)
                if element["type"] in elements.HOLDS:
                    chosen = elements.held(element, value, self.workspace.suggestions)
                    view["state"]["values"].setdefault(block_id, {})[action_id] = chosen
        if values:
            self.workspace.changed()

    async def submit(self, user: str, view: Json, values: Json) -> Ack:
        """Fill in and submit a modal. What the client refuses never reaches the bot; its `body` says why."""
        if view["submit"] is None:
            raise LookupError("This modal has no submit button.")
        self.fill(view, values)
        unfit = elements.unfit(view["blocks"], view["state"]["values"])
        if unfit:
            return Ack(
                ok=False,
                body={"response_action": "errors", "errors": unfit},
                error="; ".join(dict.fromkeys(unfit.values())),
            )
        payload = self._payload(
            "view_submission",
            user,
            trigger_id=self.workspace.new_trigger(user),
            view=copy.deepcopy(view),
            response_urls=[],
        )
        ack = await self.delivery.interactive(payload)
        if not ack.ok:
            return ack
        try:
            self._submitted(user, view, ack.body)
        except Refused as refused:
            return _useless(ack, refused)
        return ack

    def _submitted(self, user: str, view: Json, body: Json) -> None:
        does = body.get("response_action")
        if does == "errors":
            known = {block["block_id"] for block in view["blocks"] if block["type"] == "input"}
            errors = body.get("errors")
            if not isinstance(errors, dict) or not errors or not set(errors) <= known:
                raise Refused("invalid_errors")
        elif does == "update":
            self.workspace.update_view(view, view_content(body.get("view"), "modal"))
        elif does == "push":
            self.workspace.push_view(user, view_content(body.get("view"), "modal"))
        elif does == "clear":
            self._take_away(user, [*self.workspace.stacks.get(user, [])])
        elif does is None:
            self._take_away(user, [view])
        else:
            raise Refused("invalid_response_action")

    def _take_away(self, user: str, views: list[Json]) -> None:
        gone = {view["id"] for view in views}
        self.workspace.stacks[user] = [v for v in self.workspace.stacks.get(user, []) if v["id"] not in gone]
        self.workspace.changed()

    async def close(self, user: str, view: Json) -> Ack:
        """Close a modal: the top one, or all where it says clear_on_close. The bot hears of it where it asked to."""
        stack = [*self.workspace.stacks.get(user, [])]
        closed = stack if view["clear_on_close"] else [view]
        self._take_away(user, closed)
        ack = Ack(ok=True)
        for each in reversed(closed):
            if each["notify_on_close"]:
                payload = self._payload("view_closed", user, view=copy.deepcopy(each), is_cleared=len(closed) > 1)
                ack = await self.delivery.interactive(payload)
        return ack

    # ---- response_url ------------------------------------------------------------------------------------------------

    def respond(self, key: str, body: Json) -> None:
        """Take an answer at a response_url.

        Raises:
            Refused: used_url after five uses, expired_url after thirty minutes, or what is wrong with the message.
        """
        target = self.workspace.response_urls.get(key)
        if target is None or self.workspace.now() - target.made > RESPONSE_URL_SECONDS:
            raise Refused("expired_url")
        if target.uses >= RESPONSE_URL_USES:
            raise Refused("used_url")
        if truthy(body.get("delete_original", False)):
            self._delete_original(target)
        elif truthy(body.get("replace_original", False)) and target.ts:
            self._replace_original(target, message_content(body))
        else:
            self.answer(target.user, target.channel, body, str(body.get("thread_ts") or ""))
        target.uses += 1

    def _delete_original(self, target: ResponseUrl) -> None:
        if target.ephemeral:
            self.workspace.ephemerals.remove(self._ephemeral(target))
            self.workspace.changed()
            return
        self.workspace.delete_message(target.channel, self._own_original(target))

    def _replace_original(self, target: ResponseUrl, content: Json) -> None:
        message = self._ephemeral(target) if target.ephemeral else self._own_original(target)
        for part in ("blocks", "attachments"):
            message.pop(part, None)
        message |= content
        if not target.ephemeral:
            message["edited"] = {"user": BOT_USER, "ts": self.workspace.ts()}
        self.workspace.changed()

    def _ephemeral(self, target: ResponseUrl) -> Json:
        for each in self.workspace.ephemerals:
            if each["ts"] == target.ts and each["viewer"] == target.user:
                return each
        raise Refused("message_not_found")

    def _own_original(self, target: ResponseUrl) -> Json:
        message = self.workspace.find(target.channel, target.ts)
        if message is None or message.get("bot_id") != BOT_ID:
            raise Refused("message_not_found")
        return message


def _all_blocks(message: Json) -> list[Json]:
    """Return a message's blocks, those of its attachments too."""
    inside = [block for each in message.get("attachments") or [] for block in each.get("blocks") or []]
    return [*(message.get("blocks") or []), *inside]


def _useless(ack: Ack, refused: Refused) -> Ack:
    return Ack(ok=False, seconds=ack.seconds, body=ack.body, error=f"{TROUBLE} ({refused.error}: {refused.more})")
