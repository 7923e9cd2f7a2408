"""What the page asks for: its own files, the state, a stream of changes, and acts. Not part of Slack."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox.slack import seeds
from sandbox.slack.acts import Acts, Place
from sandbox.slack.delivery import Ack
from sandbox.slack.faults import Faults
from sandbox.slack.seeds import BOT_USER
from sandbox.slack.socket_mode import Sockets
from sandbox.slack.state import Workspace

Json = dict[str, Any]

PAGE = Path(__file__).parent / "page"
KEEP_ALIVE_SECONDS = 15.0
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
PICTURE_TYPES = frozenset({"image/gif", "image/jpeg", "image/png"})
TEXT_TYPES = ("text/", "application/json", "application/x-yaml")


@dataclass
class Control:
    workspace: Workspace
    acts: Acts
    sockets: Sockets
    faults: Faults
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.index),
            web.get("/page/{path:.+}", self.page_file),
            web.get("/files/{id}", self.file),
            web.get("/_sandbox/state", self.state),
            web.get("/_sandbox/events", self.events),
            web.post("/_sandbox/act", self.act),
            web.post("/_sandbox/faults", self.set_faults),
            web.delete("/_sandbox/faults", self.clear_faults),
        ]

    # ---- files -------------------------------------------------------------------------------------------------------

    async def index(self, _: web.Request) -> web.StreamResponse:
        return self._from_page("index.html")

    async def page_file(self, request: web.Request) -> web.StreamResponse:
        return self._from_page(request.match_info["path"])

    def _from_page(self, name: str) -> web.StreamResponse:
        path = (PAGE / name).resolve()
        if not path.is_relative_to(PAGE) or not path.is_file() or path.suffix not in PAGE_TYPES:
            raise web.HTTPNotFound(headers=SECURITY)
        return web.FileResponse(path, headers={**SECURITY, "Content-Type": PAGE_TYPES[path.suffix]})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Serve an uploaded file: text and pictures as such, never as something that a browser would run."""
        file = self.workspace.files.get(request.match_info["id"])
        if file is None:
            raise web.HTTPNotFound(headers=SECURITY)
        text = file["mimetype"].startswith(TEXT_TYPES)
        picture = file["mimetype"] in PICTURE_TYPES
        headers = {
            **SECURITY,
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Content-Type": "text/plain; charset=utf-8" if text else "application/octet-stream",
        }
        if picture:
            headers["Content-Type"] = file["mimetype"]
        elif not text:
            headers["Content-Disposition"] = "attachment"
        return web.Response(body=self.workspace.contents[file["id"]], headers=headers)

    # ---- state -------------------------------------------------------------------------------------------------------

    async def state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.picture(request.query.get("user", "U0ANN")), headers=SECURITY)

    def picture(self, user: str) -> Json:
        """Return all that this person sees."""
        ws = self.workspace
        mine = [each for each in ws.channels.values() if not each["is_im"] or each.get("user") == user]
        return {
            "team": {"id": seeds.TEAM["id"], "name": seeds.TEAM["name"]},
            "bot": {"id": seeds.BOT_ID, "user_id": BOT_USER, "name": seeds.BOT_NAME, "app_id": seeds.APP_ID},
            "commands": seeds.COMMANDS,
            "shortcuts": seeds.SHORTCUTS,
            "connected": self.acts.delivery.url is not None or bool(self.sockets.connections),
            "users": [
                {
                    "id": each["id"],
                    "name": each["name"],
                    "real_name": each["real_name"],
                    "title": each["profile"]["title"],
                    "kind": each["kind"],
                }
                for each in ws.users.values()
            ],
            "groups": [
                {"id": each["id"], "handle": each["handle"], "name": each["name"], "users": each["users"]}
                for each in ws.groups.values()
            ],
            "channels": [
                {
                    "id": each["id"],
                    "name": seeds.BOT_NAME if each["is_im"] else each["name"],
                    "topic": each["topic"]["value"],
                    "is_im": each["is_im"],
                }
                for each in mine
            ],
            "messages": {each["id"]: [_shown(m) for m in ws.messages.get(each["id"], [])] for each in mine},
            "ephemerals": [_shown(each) for each in ws.ephemerals if each["viewer"] == user],
            "views": ws.stacks.get(user, []),
            "home": ws.homes.get(user),
            "files": {
                each["id"]: {
                    "id": each["id"],
                    "name": each["name"],
                    "title": each["title"],
                    "mimetype": each["mimetype"],
                    "size": each["size"],
                    "url": f"/files/{each['id']}",
                }
                for each in ws.files.values()
            },
            "seq": ws.seq,
        }

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Say after every change that there was one."""
        response = web.StreamResponse(headers={**SECURITY, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        told = -1
        while not self.stopping.is_set():
            # Not read again after waiting: what changes while this is being written is told in the next round.
            seq = self.workspace.seq
            text = f"data: {json.dumps({'seq': seq})}\n\n" if seq != told else ": still here\n\n"
            try:
                await response.write(text.encode())
            except ConnectionError:
                break
            told = seq
            if self.workspace.seq == told:
                await self.workspace.news(KEEP_ALIVE_SECONDS)
        return response

    # ---- acts --------------------------------------------------------------------------------------------------------

    async def act(self, request: web.Request) -> web.StreamResponse:
        body = await _json(request)
        acts = {
            "click": self._click,
            "click_view": self._click_view,
            "click_home": self._click_home,
            "click_ephemeral": self._click_ephemeral,
            "close": self._close,
            "command": self._command,
            "dismiss": self._dismiss,
            "message": self._message,
            "message_shortcut": self._message_shortcut,
            "open_home": self._open_home,
            "shortcut": self._shortcut,
            "submit": self._submit,
            "suggest": self._suggest,
        }
        try:
            if body.get("user") not in self.workspace.users:
                raise LookupError(f"There is no user {body.get('user')!r}.")
            ack = await acts[body["do"]](body)
        except KeyError as error:
            return _no(f"Not understood: {error} is missing or unknown.")
        except LookupError as error:
            return _no(str(error))
        answer: Json = {"ok": ack.ok, "seconds": round(ack.seconds, 3)}
        if ack.error:
            answer["error"] = ack.error
        if ack.body:
            answer["ack"] = ack.body
            for key in ("options", "option_groups"):
                if body["do"] == "suggest" and key in ack.body:
                    answer[key] = ack.body[key]
        return web.json_response(answer, headers=SECURITY)

    async def _press(self, body: Json, place: Place) -> Ack:
        if "values" in body and "view" in place.shown:
            self.acts.fill(place.shown["view"], body["values"])
        return await self.acts.click(
            body["user"],
            place,
            body["action_id"],
            block_id=body.get("block_id"),
            value=(body.get("element") or {}).get("value"),
            selected=body.get("selected"),
        )

    async def _click(self, body: Json) -> Ack:
        return await self._press(body, self.acts.in_message(body["user"], body["channel"], body["ts"]))

    async def _click_view(self, body: Json) -> Ack:
        return await self._press(body, self.acts.in_view(self.acts.view_of(body["user"], body["view_id"])))

    def _home(self, body: Json) -> Json:
        home = self.workspace.homes.get(body["user"])
        if home is None:
            raise LookupError("This home tab is empty.")
        return home

    async def _click_home(self, body: Json) -> Ack:
        return await self._press(body, self.acts.in_view(self._home(body)))

    def _ephemeral(self, body: Json) -> Json:
        for each in self.workspace.ephemerals:
            if each["id"] == body["id"] and each["viewer"] == body["user"]:
                return each
        raise LookupError("This message is gone.")

    async def _click_ephemeral(self, body: Json) -> Ack:
        return await self._press(body, self.acts.in_ephemeral(self._ephemeral(body)))

    async def _dismiss(self, body: Json) -> Ack:
        self.workspace.ephemerals.remove(self._ephemeral(body))
        self.workspace.changed()
        return Ack(ok=True)

    async def _command(self, body: Json) -> Ack:
        if body["channel"] not in self.workspace.channels:
            raise LookupError("There is no such channel.")
        return await self.acts.command(
            body["user"], body["text"], body["channel"], body.get("command") or seeds.COMMANDS[0]["command"]
        )

    async def _message(self, body: Json) -> Ack:
        if body["channel"] not in self.workspace.channels:
            raise LookupError("There is no such channel.")
        text = str(body["text"]).strip()
        if not text:
            raise LookupError("There is nothing to say.")
        thread_ts = str(body.get("thread_ts") or "")
        if thread_ts and self.workspace.find(body["channel"], thread_ts) is None:
            raise LookupError("That message is gone.")
        self.workspace.add_message(body["channel"], body["user"], {"text": text}, thread_ts)
        return Ack(ok=True)

    async def _submit(self, body: Json) -> Ack:
        view = self.acts.view_of(body["user"], body["view_id"])
        return await self.acts.submit(body["user"], view, body.get("values") or {})

    async def _close(self, body: Json) -> Ack:
        return await self.acts.close(body["user"], self.acts.view_of(body["user"], body["view_id"]))

    async def _open_home(self, body: Json) -> Ack:
        return await self.acts.open_home(body["user"])

    async def _shortcut(self, body: Json) -> Ack:
        return await self.acts.shortcut(body["user"], body["callback_id"])

    async def _message_shortcut(self, body: Json) -> Ack:
        return await self.acts.message_shortcut(body["user"], body["callback_id"], body["channel"], body["ts"])

    async def _suggest(self, body: Json) -> Ack:
        user = body["user"]
        if "view_id" in body:
            place = self.acts.in_view(self.acts.view_of(user, body["view_id"]))
        elif "ts" in body:
            place = self.acts.in_message(user, body["channel"], body["ts"])
        elif "id" in body:
            place = self.acts.in_ephemeral(self._ephemeral(body))
        else:
            place = self.acts.on_top(user)
        return await self.acts.suggest(
            user, place, body["action_id"], str(body.get("text") or ""), body.get("block_id")
        )

    # ---- faults ------------------------------------------------------------------------------------------------------

    async def set_faults(self, request: web.Request) -> web.StreamResponse:
        """Set faults: a list of rules as in `Fault`; `{"kind": "disconnect", "reason": …}` happens at once."""
        rules = await _json(request)
        try:
            for rule in rules if isinstance(rules, list) else [rules]:
                if rule.get("kind") == "disconnect":
                    await self.sockets.disconnect(rule.get("reason", "refresh_requested"), rule.get("number"))
                else:
                    self.faults.add(**rule)
        except (AttributeError, TypeError, ValueError, IndexError) as error:
            return _no(str(error))
        return web.json_response({"ok": True}, headers=SECURITY)

    async def clear_faults(self, _: web.Request) -> web.StreamResponse:
        self.faults.clear()
        return web.json_response({"ok": True}, headers=SECURITY)


async def _json(request: web.Request) -> Any:
    """Return the body; only of requests that another site's page cannot make without asking."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send application/json", headers=SECURITY)
    try:
        return json.loads(await request.text())
    except ValueError:
        raise web.HTTPBadRequest(text="this is not JSON", headers=SECURITY) from None


def _no(error: str) -> web.Response:
    return web.json_response({"ok": False, "error": error}, headers=SECURITY)


def _shown(message: Json) -> Json:
    """Return a message as the page wants it: files by id, and whether a reply is broadcast."""
    shown = {key: value for key, value in message.items() if key not in ("metadata", "files", "viewer")}
    shown["files"] = [each["id"] for each in message.get("files", [])]
    shown["blocks"] = message.get("blocks", [])
    shown["broadcast"] = message.get("subtype") == "thread_broadcast"
    return shown
