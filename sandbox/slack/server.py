"""The local Slack as Python sees it: start it, point a bot at it, act as people, look at what they would see."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import aiohttp
from aiohttp import web

from sandbox.slack import seeds
from sandbox.slack.acts import Acts
from sandbox.slack.api import WebApi, merged
from sandbox.slack.control import Control
from sandbox.slack.delivery import Ack, Delivery
from sandbox.slack.faults import Faults
from sandbox.slack.socket_mode import Sockets
from sandbox.slack.state import Refused, Workspace

Json = dict[str, Any]
Found = TypeVar("Found")

HOST = "127.0.0.1"
MOST_BYTES = 20_000_000


class LocalSlack:
    """One workspace behind one port.

    Attributes:
        workspace: its state.
        api: the Web API; `api.calls` holds each call's method and arguments, `api.paced` turns Slack's pace on.
        url: where it is, once started.
    """

    def __init__(self, *, now: Callable[[], float] = time.time, scopes: frozenset[str] = seeds.SCOPES) -> None:
        self.workspace = Workspace(now=now)
        self.faults = Faults()
        self.sockets = Sockets(self.faults, self.workspace.changed)
        self.delivery = Delivery(self.sockets)
        self.acts = Acts(self.workspace, self.delivery)
        self.api = WebApi(self.workspace, self.sockets, self.faults, scopes=scopes)
        self.control = Control(self.workspace, self.acts, self.sockets, self.faults)
        self.url = ""
        self._runner: web.AppRunner | None = None

    # ---- start and stop ----------------------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=MOST_BYTES)
        app.add_routes(self.control.routes())
        app.add_routes(
            [
                web.post("/api/{method}", self.api.handle),
                web.get("/api/{method}", self.api.handle, allow_head=False),
                web.get("/socket", self.sockets.handle),
                web.post("/upload/{key}", self.api.receive),
                web.post("/respond/{key}", self._respond),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, port)
        await site.start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        self.acts.base = self.api.base = self.url
        self.delivery.session = aiohttp.ClientSession()

    async def stop(self) -> None:
        self.control.stopping.set()
        self.workspace.changed()
        await self.sockets.stop()
        await self.delivery.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    def bot_environment(self, way: Literal["socket", "http"] = "socket", bot_url: str | None = None) -> dict[str, str]:
        """Return what tells a bot where this is. For "http", `bot_url` is where the bot will listen for Slack."""
        environment = {
            "SLACK_API_URL": f"{self.url}/api/",
            "SLACK_BOT_TOKEN": seeds.BOT_TOKEN,
            "REFINE_CHANNEL": seeds.SECURITY,
            "REFINE_APPROVERS": seeds.APPROVERS,
        }
        if way == "socket":
            return {**environment, "SLACK_APP_TOKEN": seeds.APP_TOKEN}
        if bot_url is not None:
            self.deliver_to(bot_url)
        return {**environment, "SLACK_SIGNING_SECRET": self.delivery.signing_secret}

    def deliver_to(self, url: str | None) -> None:
        """Send what people do as signed requests to this URL of the bot; None for Socket Mode."""
        self.delivery.url = url

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        fault = self.faults.take("respond")
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        elif fault is not None:
            return web.json_response({"ok": False, "error": "fatal_error"}, status=500)
        try:
            self.acts.respond(request.match_info["key"], await merged(request))
        except Refused as refused:
            gone = refused.error in ("expired_url", "used_url")
            return web.json_response({"ok": False, "error": refused.error, **refused.more}, status=404 if gone else 400)
        return web.Response(text="ok")

    # ---- acts --------------------------------------------------------------------------------------------------------

    async def click(
        self,
        user: str,
        ts: str,
        action_id: str,
        channel: str = seeds.SECURITY,
        selected: Any = None,
        *,
        block_id: str | None = None,
        value: str | None = None,
    ) -> Ack:
        """Click in a message, or an ephemeral message of this person.

        Args:
            user: who.
            ts: of the message.
            action_id: of the element.
            channel: of the message.
            selected: the value of an option, or a list of those, for what is not a button.
            block_id: where the action_id is there more than once.
            value: of the button, where the action_id is there more than once.

        Raises:
            LookupError: this person sees no such element.
        """
        place = self.acts.in_message(user, channel, ts)
        return await self.acts.click(user, place, action_id, block_id=block_id, value=value, selected=selected)

    async def click_view(
        self,
        user: str,
        action_id: str,
        selected: Any = None,
        *,
        values: dict[tuple[str, str], Any] | None = None,
        block_id: str | None = None,
        value: str | None = None,
    ) -> Ack:
        """Click in this person's top modal, or in their home where no modal is open; `values` are typed in before."""
        place = self.acts.on_top(user)
        self.acts.fill(place.shown["view"], _nested(values or {}))
        return await self.acts.click(user, place, action_id, block_id=block_id, value=value, selected=selected)

    async def command(self, user: str, text: str, channel: str = seeds.GENERAL) -> Ack:
        return await self.acts.command(user, text, channel)

    async def submit(self, user: str, values: dict[tuple[str, str], Any] | None = None) -> Ack:
        """Submit this person's top modal; values by (block_id, action_id): a text, an option's value, or a list."""
        return await self.acts.submit(user, self.acts.top(user), _nested(values or {}))

    async def close(self, user: str) -> Ack:
        return await self.acts.close(user, self.acts.top(user))

    async def open_home(self, user: str) -> Ack:
        return await self.acts.open_home(user)

    async def shortcut(self, user: str, callback_id: str) -> Ack:
        return await self.acts.shortcut(user, callback_id)

    async def message_shortcut(self, user: str, callback_id: str, ts: str, channel: str = seeds.SECURITY) -> Ack:
        return await self.acts.message_shortcut(user, callback_id, channel, ts)

    async def suggest(self, user: str, action_id: str, text: str = "") -> list[Json]:
        """Type into an external select of the top modal, or home, and return the options offered.

        Raises:
            RuntimeError: none came.
        """
        ack = await self.acts.suggest(user, self.acts.on_top(user), action_id, text)
        if not ack.ok:
            raise RuntimeError(ack.error)
        return [*ack.body.get("options", []), *(o for g in ack.body.get("option_groups", []) for o in g["options"])]

    def say(self, user: str, text: str, channel: str = seeds.SECURITY, thread_ts: str = "") -> Json:
        """Write a plain message as a person."""
        return self.workspace.add_message(channel, user, {"text": text}, thread_ts)

    # ---- looks -------------------------------------------------------------------------------------------------------

    def messages(self, channel: str = seeds.SECURITY) -> list[Json]:
        """Return copies of what is at the top of the channel, oldest first, each with its `replies`."""
        return [
            {**copy.deepcopy(each), "replies": copy.deepcopy(self.workspace.replies(channel, each["ts"]))}
            for each in self.workspace.messages.get(channel, [])
            if each.get("thread_ts", each["ts"]) == each["ts"]
        ]

    def thread(self, ts: str, channel: str = seeds.SECURITY) -> list[Json]:
        """Return copies of the replies to a message, oldest first."""
        return copy.deepcopy(self.workspace.replies(channel, ts))

    def ephemerals(self, user: str) -> list[Json]:
        """Return copies of what only this person sees, oldest first."""
        return copy.deepcopy([each for each in self.workspace.ephemerals if each["viewer"] == user])

    def view(self, user: str) -> Json | None:
        """Return a copy of this person's top modal."""
        stack = self.workspace.stacks.get(user)
        return copy.deepcopy(stack[-1]) if stack else None

    def home(self, user: str) -> Json | None:
        return copy.deepcopy(self.workspace.homes.get(user))

    def files(self) -> list[Json]:
        """Return copies of all files, with their `content` in bytes."""
        return [
            {**copy.deepcopy(each), "content": self.workspace.contents[each["id"]]}
            for each in self.workspace.files.values()
        ]

    async def until(self, condition: Callable[[], Found], timeout: float = 15) -> Found:
        """Return what `condition` returns as soon as it is true; TimeoutError says what there was instead."""
        return await self.workspace.until(condition, timeout)

    # ---- faults ------------------------------------------------------------------------------------------------------

    def fault(self, method: str = "*", kind: str = "500", times: int | None = 1, **more: Any) -> None:
        """Set a fault: see `sandbox.slack.faults.Fault`."""
        self.faults.add(method=method, kind=kind, times=times, **more)

    def clear_faults(self) -> None:
        self.faults.clear()

    async def disconnect(self, reason: str = "refresh_requested", number: int | None = None) -> None:
        """Tell the bot's sockets to reconnect: all, or the one with this number."""
        await self.sockets.disconnect(reason, number)


def _nested(values: dict[tuple[str, str], Any]) -> Json:
    nested: Json = {}
    for (block_id, action_id), value in values.items():
        nested.setdefault(block_id, {})[action_id] = value
    return nested
