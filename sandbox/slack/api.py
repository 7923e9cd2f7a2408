"""The Web API, as slack_sdk's AsyncWebClient calls it. Error names and rules: docs.slack.dev/reference/methods."""

from __future__ import annotations

import asyncio
import base64
import json
import mimetypes
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from sandbox.slack import seeds
from sandbox.slack.content import (
    UPDATE_TEXT_LIMIT,
    message_content,
    metadata_content,
    parsed,
    truthy,
    view_content,
)
from sandbox.slack.faults import Faults
from sandbox.slack.seeds import BOT_ID, BOT_USER, TEAM
from sandbox.slack.socket_mode import MOST_CONNECTIONS, Sockets
from sandbox.slack.state import Refused, Workspace

Json = dict[str, Any]
Method = Callable[[Json], Awaitable[Json]]

POST_SECONDS = 1.0
"""Slack takes about one chat.postMessage a second per channel (docs.slack.dev/apis/web-api/rate-limits)."""
PACE_SLACK = 0.9
"""A client that keeps the pace may be early by a little."""
SNIPPET_BYTES = 1_000_000
PICTURES = frozenset({"gif", "jpeg", "jpg", "png"})
SNIPPET_TYPES = frozenset({"diff", "javascript", "json", "markdown", "python", "shell", "text", "xml", "yaml"})


async def merged(request: web.Request) -> Json:
    """Return a request's arguments, from query, form and JSON together: the SDK uses all three.

    Raises:
        Refused: invalid_json, json_not_object.
    """
    arguments: Json = dict(request.query)
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.text() or "{}")
        except ValueError:
            raise Refused("invalid_json") from None
        if not isinstance(body, dict):
            raise Refused("json_not_object")
        arguments |= body
    elif request.method == "POST":
        arguments |= dict(await request.post())
    return {key: value for key, value in arguments.items() if value is not None}


@dataclass
class WebApi:
    """All methods.

    Attributes:
        paced: whether chat.postMessage answers 429 to more than one message a second in a channel.
        scopes: what the bot token may do.
        processing_seconds: how long after its upload a file cannot be shown in blocks yet.
    """

    workspace: Workspace
    sockets: Sockets
    faults: Faults
    scopes: frozenset[str] = seeds.SCOPES
    paced: bool = False
    processing_seconds: float = 0.0
    base: str = ""
    posted: dict[str, float] = field(default_factory=dict)
    uploads: dict[str, Json] = field(default_factory=dict)
    processed: dict[str, float] = field(default_factory=dict)
    calls: list[tuple[str, Json]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.methods: dict[str, tuple[str, Method]] = {
            "apps.connections.open": ("connections:write", self.connections_open),
            "auth.test": ("", self.auth_test),
            "bots.info": ("users:read", self.bots_info),
            "chat.delete": ("chat:write", self.chat_delete),
            "chat.getPermalink": ("", self.chat_permalink),
            "chat.postEphemeral": ("chat:write", self.chat_ephemeral),
            "chat.postMessage": ("chat:write", self.chat_post),
            "chat.update": ("chat:write", self.chat_update),
            "conversations.history": ("channels:history", self.history),
            "conversations.info": ("channels:read", self.conversation_info),
            "conversations.list": ("channels:read", self.conversation_list),
            "conversations.members": ("channels:read", self.conversation_members),
            "conversations.open": ("im:write", self.conversation_open),
            "conversations.replies": ("channels:history", self.replies),
            "files.completeUploadExternal": ("files:write", self.upload_complete),
            "files.getUploadURLExternal": ("files:write", self.upload_url),
            "reactions.add": ("reactions:write", self.reaction_add),
            "team.info": ("team:read", self.team_info),
            "usergroups.list": ("usergroups:read", self.group_list),
            "usergroups.users.list": ("usergroups:read", self.group_users),
            "users.info": ("users:read", self.user_info),
            "users.list": ("users:read", self.user_list),
            "views.open": ("", self.view_open),
            "views.publish": ("", self.view_publish),
            "views.push": ("", self.view_push),
            "views.update": ("", self.view_update),
        }

    # ---- one request -------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer `POST` or `GET /api/{method}`."""
        method = request.match_info["method"]
        fault = self.faults.take(method)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        elif fault is not None and fault.kind == "429":
            return _too_many(fault.retry_after)
        elif fault is not None and fault.kind == "500":
            return web.json_response({"ok": False, "error": "fatal_error"}, status=500)
        elif fault is not None and fault.kind == "drop":
            return _broken_off(request)
        answer = await self._answer(request, method)
        if fault is not None and fault.kind == "lost_reply":
            return _broken_off(request)
        return answer

    async def _answer(self, request: web.Request, method: str) -> web.Response:
        needed, _ = self.methods.get(method, ("", None))
        headers = {"x-oauth-scopes": ",".join(sorted(self.scopes)), "x-accepted-oauth-scopes": needed}
        try:
            arguments = await merged(request)
            call = self._allowed(request, method, arguments)
            self.calls.append((method, arguments))
            if method == "chat.postMessage" and self._too_fast(arguments):
                return _too_many(1)
            answer = {"ok": True, **await call(arguments)}
        except Refused as refused:
            answer = {"ok": False, "error": refused.error, **refused.more}
        return web.json_response(answer, headers=headers)

    def _allowed(self, request: web.Request, method: str, arguments: Json) -> Method:
        """Return the method, once the token may call it."""
        token = arguments.pop("token", "")
        if request.headers.get("Authorization", "").startswith("Bearer "):
            token = request.headers["Authorization"].removeprefix("Bearer ").strip()
        if not token:
            raise Refused("not_authed")
        if token not in (seeds.BOT_TOKEN, seeds.APP_TOKEN):
            raise Refused("invalid_auth")
        if method not in self.methods:
            raise Refused("unknown_method", req_method=method)
        needed, call = self.methods[method]
        if (token == seeds.APP_TOKEN) != (method == "apps.connections.open"):
            raise Refused("not_allowed_token_type")
        if needed and token == seeds.BOT_TOKEN and needed not in self.scopes:
            raise Refused("missing_scope", needed=needed, provided=",".join(sorted(self.scopes)))
        return call

    def _too_fast(self, arguments: Json) -> bool:
        channel, now = str(arguments.get("channel")), self.workspace.now()
        if self.paced and now - self.posted.get(channel, 0.0) < POST_SECONDS * PACE_SLACK:
            return True
        self.posted[channel] = now
        return False

    # ---- who and where -----------------------------------------------------------------------------------------------

    async def connections_open(self, _: Json) -> Json:
        if len(self.sockets.connections) >= MOST_CONNECTIONS:
            raise Refused("too_many_websockets")
        url = self.base.replace("http://", "ws://", 1)
        return {"url": f"{url}/socket?ticket={self.sockets.ticket()}&app_id={seeds.APP_ID}"}

    async def auth_test(self, _: Json) -> Json:
        return {
            "url": self.base + "/",
            "team": TEAM["name"],
            "user": self.workspace.users[BOT_USER]["name"],
            "team_id": TEAM["id"],
            "user_id": BOT_USER,
            "bot_id": BOT_ID,
            "is_enterprise_install": False,
        }

    async def bots_info(self, arguments: Json) -> Json:
        if arguments.get("bot", BOT_ID) != BOT_ID:
            raise Refused("bot_not_found")
        bot = {"id": BOT_ID, "deleted": False, "name": seeds.BOT_NAME, "app_id": seeds.APP_ID, "user_id": BOT_USER}
        return {"bot": {**bot, "updated": 1700000000, "icons": {}}}

    async def team_info(self, _: Json) -> Json:
        return {"team": {**TEAM, "email_domain": "", "icon": {}}}

    async def user_info(self, arguments: Json) -> Json:
        return {"user": _user(self._user(arguments.get("user")))}

    async def user_list(self, arguments: Json) -> Json:
        page, cursor = _page(list(self.workspace.users.values()), arguments)
        return {"members": [_user(each) for each in page], "cache_ts": int(self.workspace.now()), **cursor}

    async def group_list(self, arguments: Json) -> Json:
        with_users = truthy(arguments.get("include_users", False))
        return {
            "usergroups": [
                each if with_users else {key: value for key, value in each.items() if key != "users"}
                for each in self.workspace.groups.values()
                if not each["date_delete"] or truthy(arguments.get("include_disabled", False))
            ]
        }

    async def group_users(self, arguments: Json) -> Json:
        group = self.workspace.groups.get(str(arguments.get("usergroup")))
        if group is None:
            raise Refused("no_such_subteam")
        if group["date_delete"] and not truthy(arguments.get("include_disabled", False)):
            raise Refused("subteam_disabled")
        return {"users": group["users"]}

    def _user(self, user_id: Any) -> Json:
        if user_id not in self.workspace.users:
            raise Refused("user_not_found")
        return self.workspace.users[user_id]

    async def conversation_info(self, arguments: Json) -> Json:
        return {"channel": _channel(self.workspace.channel(str(arguments.get("channel"))))}

    async def conversation_list(self, arguments: Json) -> Json:
        page, cursor = _page([each for each in self.workspace.channels.values() if not each["is_im"]], arguments)
        return {"channels": [_channel(each) for each in page], **cursor}

    async def conversation_members(self, arguments: Json) -> Json:
        members = sorted(self.workspace.channel(str(arguments.get("channel")))["members"])
        page, cursor = _page([each for each in members if not self.workspace.users[each]["deleted"]], arguments)
        return {"members": page, **cursor}

    async def conversation_open(self, arguments: Json) -> Json:
        users = (
            parsed(arguments.get("users"), "user_not_found") if str(arguments.get("users")).startswith("[") else None
        )
        user = self._user((users or [arguments.get("users")])[0])
        if user["deleted"]:
            raise Refused("user_disabled")
        if user["is_bot"]:
            raise Refused("cannot_dm_bot")
        return {"channel": _channel(self.workspace.direct(user["id"]))}

    def _own_channel(self, arguments: Json) -> Json:
        """Return a channel that the bot is in."""
        channel = self.workspace.channel(str(arguments.get("channel") or ""))
        if BOT_USER not in channel["members"]:
            raise Refused("not_in_channel")
        return channel

    # ---- messages ----------------------------------------------------------------------------------------------------

    async def chat_post(self, arguments: Json) -> Json:
        channel = self._own_channel(arguments)["id"]
        content = self._content(arguments)
        metadata = metadata_content(arguments.get("metadata"))
        thread_ts = str(arguments.get("thread_ts") or "")
        if thread_ts:
            self.workspace.check_thread(channel, thread_ts)
        message = self._post(channel, content, metadata, thread_ts, truthy(arguments.get("reply_broadcast", False)))
        return {"channel": channel, "ts": message["ts"], "message": message}

    def _post(self, channel: str, content: Json, metadata: Json | None, thread_ts: str, broadcast: bool) -> Json:
        own = {"bot_id": BOT_ID, "app_id": seeds.APP_ID, **content, **({"metadata": metadata} if metadata else {})}
        return self.workspace.add_message(channel, BOT_USER, own, thread_ts, broadcast)

    async def chat_update(self, arguments: Json) -> Json:
        channel = self.workspace.channel(str(arguments.get("channel") or ""))["id"]
        message = self._own_message(channel, arguments.get("ts"), "cant_update_message")
        if len(str(arguments.get("text") or "")) > UPDATE_TEXT_LIMIT:
            raise Refused("msg_too_long")
        content = self._content(arguments)
        metadata = metadata_content(arguments.get("metadata"))
        # What is left out stays as it was, an empty list takes it away: github.com/slackapi/python-slack-sdk/issues/523
        for key in ("blocks", "attachments"):
            if key in arguments and key not in content:
                message.pop(key, None)
        message |= content
        message["edited"] = {"user": BOT_USER, "ts": self.workspace.ts()}
        if metadata is not None:
            message.pop("metadata", None)
            message |= {"metadata": metadata} if metadata else {}
        if truthy(arguments.get("reply_broadcast", False)):
            message["subtype"] = "thread_broadcast"
        self.workspace.changed()
        return {"channel": channel, "ts": message["ts"], "text": message["text"], "message": message}

    async def chat_delete(self, arguments: Json) -> Json:
        channel = self.workspace.channel(str(arguments.get("channel") or ""))["id"]
        message = self._own_message(channel, arguments.get("ts"), "cant_delete_message")
        self.workspace.delete_message(channel, message)
        return {"channel": channel, "ts": message["ts"]}

    def _content(self, arguments: Json) -> Json:
        """Return what is in a message, once the pictures in it are there."""
        content = message_content(arguments)
        wrong = self._unseen(content.get("blocks", []), "/blocks")
        if wrong:
            raise Refused("invalid_blocks", wrong, errors=[each.removeprefix("[ERROR] ") for each in wrong])
        return content

    def _view(self, arguments: Json, surface: str) -> Json:
        content = view_content(arguments.get("view"), surface)
        wrong = self._unseen(content["blocks"], "/view/blocks")
        if wrong:
            raise Refused("invalid_arguments", wrong)
        return content

    def _unseen(self, blocks: list[Json], path: str) -> list[str]:
        """Say which pictures cannot be shown: no such file, no image, or too new.

        See docs.slack.dev/reference/block-kit/composition-objects/slack-file-object, and for the words
        github.com/slackapi/python-slack-sdk/issues/1658 and 1521.
        """
        found = []
        for number, block in enumerate(blocks):
            for place, each in _pictures(block):
                file = self.workspace.files.get(str(each.get("id", "")), {"filetype": ""})
                if file["filetype"] not in PICTURES or self.workspace.now() < self.processed[file["id"]]:
                    found.append(f"[ERROR] invalid slack file [json-pointer:{path}/{number}{place}/slack_file]")
        return found

    def _own_message(self, channel: str, ts: Any, error: str) -> Json:
        message = self.workspace.find(channel, str(ts))
        if message is None or message.get("subtype") == "tombstone":
            raise Refused("message_not_found")
        if message.get("bot_id") != BOT_ID:
            raise Refused(error)
        return message

    async def chat_ephemeral(self, arguments: Json) -> Json:
        channel = self._own_channel(arguments)
        if arguments.get("user") not in channel["members"]:
            raise Refused("user_not_in_channel")
        if len(str(arguments.get("text") or "")) > UPDATE_TEXT_LIMIT:
            raise Refused("msg_too_long")
        content = self._content(arguments)
        thread_ts = str(arguments.get("thread_ts") or "")
        if thread_ts:
            self.workspace.check_thread(channel["id"], thread_ts)
        ephemeral = self.workspace.add_ephemeral(channel["id"], arguments["user"], content, thread_ts)
        return {"message_ts": ephemeral["ts"]}

    async def chat_permalink(self, arguments: Json) -> Json:
        channel = self.workspace.channel(str(arguments.get("channel") or ""))["id"]
        message = self.workspace.find(channel, str(arguments.get("message_ts")))
        if message is None:
            raise Refused("message_not_found")
        link = f"{self.base}/archives/{channel}/p{message['ts'].replace('.', '')}"
        if message.get("thread_ts", message["ts"]) != message["ts"]:
            link += f"?thread_ts={message['thread_ts']}&cid={channel}"
        return {"channel": channel, "permalink": link}

    async def history(self, arguments: Json) -> Json:
        channel = self._own_channel(arguments)["id"]
        found = [
            each
            for each in reversed(self.workspace.messages.get(channel, []))
            if each.get("thread_ts", each["ts"]) == each["ts"] or each.get("subtype") == "thread_broadcast"
        ]
        return self._page_of_messages(found, arguments)

    async def replies(self, arguments: Json) -> Json:
        channel = self._own_channel(arguments)["id"]
        message = self.workspace.find(channel, str(arguments.get("ts")))
        if message is None:
            raise Refused("thread_not_found")
        root = self.workspace.find(channel, str(message.get("thread_ts"))) or message
        return self._page_of_messages([root, *self.workspace.replies(channel, root["ts"])], arguments)

    def _page_of_messages(self, found: list[Json], arguments: Json) -> Json:
        oldest, latest = str(arguments.get("oldest") or "0"), str(arguments.get("latest") or "9999999999.0")
        inclusive = truthy(arguments.get("inclusive", False))
        within = [
            each
            for each in found
            if float(oldest) < float(each["ts"]) < float(latest) or (inclusive and each["ts"] in (oldest, latest))
        ]
        page, cursor = _page(within, arguments)
        if not truthy(arguments.get("include_all_metadata", False)):
            page = [{key: value for key, value in each.items() if key != "metadata"} for each in page]
        return {"messages": page, "has_more": bool(cursor["response_metadata"]["next_cursor"]), **cursor}

    async def reaction_add(self, arguments: Json) -> Json:
        channel = self._own_channel(arguments)["id"]
        message = self.workspace.find(channel, str(arguments.get("timestamp") or ""))
        if message is None:
            raise Refused("message_not_found")
        name = str(arguments.get("name") or "").strip(":")
        if not name:
            raise Refused("invalid_name")
        reactions = message.setdefault("reactions", [])
        same = next((each for each in reactions if each["name"] == name), None)
        if same is None:
            same = {"name": name, "users": [], "count": 0}
            reactions.append(same)
        if BOT_USER in same["users"]:
            raise Refused("already_reacted")
        same["users"].append(BOT_USER)
        same["count"] += 1
        self.workspace.changed()
        return {}

    # ---- files -------------------------------------------------------------------------------------------------------

    async def upload_url(self, arguments: Json) -> Json:
        try:
            length = int(arguments.get("length") or 0)
        except ValueError:
            raise Refused("invalid_arguments") from None
        name = str(arguments.get("filename") or "")
        if length <= 0 or not name:
            raise Refused("missing_argument")
        kind = arguments.get("snippet_type")
        if kind and kind not in SNIPPET_TYPES:
            raise Refused("unknown_snippet_type")
        if kind and length > SNIPPET_BYTES:
            raise Refused("snippet_too_large")
        file_id, key = "F" + secrets.token_hex(5).upper(), secrets.token_urlsafe(12)
        self.uploads[key] = {"id": file_id, "name": name, "length": length, "snippet_type": kind, "content": None}
        return {"file_id": file_id, "upload_url": f"{self.base}/upload/{key}"}

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Take the bytes of an upload: `POST /upload/{key}`, raw or as a form."""
        fault = self.faults.take("upload")
        if fault is not None and fault.kind == "429":
            return _too_many(fault.retry_after)
        if fault is not None and fault.kind == "500":
            return web.Response(status=500, text="error")
        if fault is not None and fault.kind == "drop":
            return _broken_off(request)
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        upload = self.uploads.get(request.match_info["key"])
        if upload is None:
            return web.Response(status=404, text="not found")
        if request.content_type == "multipart/form-data":
            form = await request.post()
            content = next((part.file.read() for part in form.values() if isinstance(part, web.FileField)), b"")
        else:
            content = await request.read()
        if len(content) != upload["length"]:
            return web.Response(status=400, text="size mismatch")
        upload["content"] = content
        if fault is not None and fault.kind == "lost_reply":
            return _broken_off(request)
        return web.Response(text=f"OK - {len(content)}")

    async def upload_complete(self, arguments: Json) -> Json:
        wanted = parsed(arguments.get("files"), "invalid_arguments")
        if not isinstance(wanted, list) or not wanted:
            raise Refused("invalid_arguments")
        channels = [c for c in str(arguments.get("channels") or arguments.get("channel_id") or "").split(",") if c]
        thread_ts = str(arguments.get("thread_ts") or "")
        found = [self._uploaded(each) for each in wanted]
        for name in channels:
            channel = self._own_channel({"channel": name})["id"]
            if thread_ts:
                self.workspace.check_thread(channel, thread_ts)
        comment = str(arguments.get("initial_comment") or "")
        blocks = None if comment else parsed(arguments.get("blocks"), "invalid_blocks")
        content = message_content({"text": comment, "blocks": blocks}) if comment or blocks else {"text": ""}
        files = [self._file(upload, title) for upload, title in found]
        for name in channels:
            channel = self._own_channel({"channel": name})["id"]
            content |= {"files": files, "upload": True}
            message = self._post(channel, content, None, thread_ts, broadcast=False)
            for file in files:
                share = {"ts": message["ts"], **({"thread_ts": thread_ts} if thread_ts else {})}
                file["shares"].setdefault("public", {}).setdefault(channel, []).append(share)
                file["channels"].append(channel)
        self.workspace.changed()
        return {"files": files}

    def _uploaded(self, wanted: Any) -> tuple[Json, str]:
        for upload in self.uploads.values():
            if isinstance(wanted, dict) and upload["id"] == wanted.get("id") and upload["content"] is not None:
                if upload["id"] in self.workspace.files:
                    break
                return upload, str(wanted.get("title") or upload["name"])
        raise Refused("file_not_found")

    def _file(self, upload: Json, title: str) -> Json:
        file_id = upload["id"]
        kind = upload["snippet_type"] or upload["name"].rpartition(".")[2]
        file = {
            "id": file_id,
            "created": int(self.workspace.now()),
            "timestamp": int(self.workspace.now()),
            "name": upload["name"],
            "title": title,
            "mimetype": mimetypes.guess_type(upload["name"])[0] or "text/plain",
            "filetype": kind,
            "pretty_type": kind.upper(),
            "user": BOT_USER,
            "user_team": TEAM["id"],
            "mode": "snippet" if upload["snippet_type"] else "hosted",
            "size": upload["length"],
            "url_private": f"{self.base}/files/{file_id}",
            "permalink": f"{self.base}/files/{file_id}",
            "channels": [],
            "shares": {},
        }
        self.workspace.files[file_id] = file
        self.processed[file_id] = self.workspace.now() + self.processing_seconds
        self.workspace.contents[file_id] = upload["content"]
        return file

    # ---- views -------------------------------------------------------------------------------------------------------

    async def view_open(self, arguments: Json) -> Json:
        content = self._view(arguments, "modal")
        trigger = self.workspace.exchange(arguments.get("trigger_id"))
        return {"view": self.workspace.open_view(trigger.user, content)}

    async def view_push(self, arguments: Json) -> Json:
        content = self._view(arguments, "modal")
        trigger = self.workspace.exchange(arguments.get("trigger_id"))
        return {"view": self.workspace.push_view(trigger.user, content)}

    async def view_update(self, arguments: Json) -> Json:
        view = self.workspace.find_view(
            view_id=str(arguments.get("view_id") or ""), external_id=str(arguments.get("external_id") or "")
        )
        if view is None:
            raise Refused("not_found")
        content = self._view(arguments, view["type"])
        return {"view": self.workspace.update_view(view, content, str(arguments.get("hash") or ""))}

    async def view_publish(self, arguments: Json) -> Json:
        if arguments.get("user_id") not in self.workspace.users:
            raise Refused("invalid_arguments", ["[ERROR] invalid `user_id`"])
        content = self._view(arguments, "home")
        home = self.workspace.publish_home(arguments["user_id"], content, str(arguments.get("hash") or ""))
        return {"view": home}


def _pictures(block: Json) -> list[tuple[str, Json]]:
    """Return the Slack files that a block shows, each with its place in the block."""
    places = [("", block), ("/accessory", block.get("accessory") or {})]
    places += [(f"/elements/{n}", each) for n, each in enumerate(block.get("elements") or [])]
    return [(place, each["slack_file"]) for place, each in places if each.get("slack_file")]


def _user(user: Json) -> Json:
    return {key: value for key, value in user.items() if key != "kind"}


def _channel(channel: Json) -> Json:
    shown = {key: value for key, value in channel.items() if key != "members"}
    return {**shown, "is_member": BOT_USER in channel["members"], "num_members": len(channel["members"])}


def _page(things: list[Any], arguments: Json) -> tuple[list[Any], Json]:
    """Return a page of `things` and the cursor of the next."""
    try:
        limit = min(int(arguments.get("limit") or 100), 1000)
        start = int(base64.b64decode(arguments["cursor"])) if arguments.get("cursor") else 0
    except ValueError:
        raise Refused("invalid_cursor" if arguments.get("cursor") else "invalid_limit") from None
    more = base64.b64encode(str(start + limit).encode()).decode() if start + limit < len(things) else ""
    return things[start : start + limit], {"response_metadata": {"next_cursor": more}}


def _too_many(seconds: int) -> web.Response:
    return web.json_response(
        {"ok": False, "error": "ratelimited"}, status=429, headers={"Retry-After": str(max(0, seconds))}
    )


def _broken_off(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
