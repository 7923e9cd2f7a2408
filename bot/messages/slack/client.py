"""What the flows and the handlers ask of Slack: paced posts that can be found again by their key, people, views.

Nothing of a request, a token or a `response_url` gets into an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot.errors import NotFoundError, RefineError
from bot.messages.slack.checks import Check, checks
from bot.messages.slack.errors import NoPictureError, lost, translated
from bot.messages.slack.pace import Again, Clock, Pace, Sleep
from bot.model import Person, UserId

log = structlog.get_logger()

Payload = dict[str, Any]
File = tuple[str, bytes, str]  # file name, content, title
Blocks = list[dict[str, Any]]
Sent = TypeVar("Sent")

TEXT: Final = 4000  # chat.update refuses more: https://docs.slack.dev/reference/methods/chat.update
PAGES: Final = 10  # of 200 messages, when looking for a post by its key
PAGE: Final = 200
SHOWN_AFTER: Final = (0.5, 1.0, 2.0)  # seconds between tries to show a picture that was just uploaded


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view that is on somebody's screen; `hash` names the drawing, so that an older one never replaces a newer."""

    id: str
    hash: str


@asynccontextmanager
async def web_client(
    token: str, base_url: str, *, sleep: Sleep = asyncio.sleep, patience: float = 60.0
) -> AsyncIterator[AsyncWebClient]:
    """Yield a client with a session of its own: the SDK would open one for every call, and ignores its own timeout."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        yield AsyncWebClient(token, base_url=base_url, session=session, retry_handlers=[Again(sleep, patience)])


class Slack:
    """What the flows and the handlers ask of Slack.

    `spacing` is the pause in seconds between two posts to one channel, and between two edits of one message.
    Source: https://docs.slack.dev/apis/web-api/rate-limits (one message a second and channel)
    """

    def __init__(
        self,
        client: AsyncWebClient,
        clock: Clock,
        sleep: Sleep,
        *,
        spacing: float = 1.0,
        group_seconds: float = 300.0,
    ) -> None:
        self.client = client
        self._clock = clock
        self._sleep = sleep
        self._unseen: set[str] = set()  # files that Slack does not show
        self._pace = Pace(clock, sleep, spacing)
        self._group_age = timedelta(seconds=group_seconds)
        self._groups: dict[str, tuple[datetime, frozenset[UserId]]] = {}
        self._group_lock = asyncio.Lock()
        self._identity: Mapping[str, Any] | None = None

    # -------------------- messages

    async def post(self, channel: str, payload: Payload, thread_ts: str | None = None, key: str = "") -> str:
        """Post once and return the message's ts. With a `key`, `find` can tell later whether it arrived.

        Raises:
            UnknownOutcomeError: it was sent and no answer came: look for it by its key before sending it again.
        """
        more: dict[str, Any] = {k: v for k, v in payload.items() if k not in {"text", "blocks"}}
        if key:
            # Anybody in the workspace can read metadata: an id, and nothing else.
            more["metadata"] = {"event_type": "refine", "event_payload": {"key": key}}

        async def send(shown: Blocks | None) -> Mapping[str, Any]:
            return await self.ask(
                "posting a message",
                self.client.chat_postMessage(
                    channel=channel,
                    text=_cut(payload["text"]),
                    blocks=shown,
                    thread_ts=thread_ts or None,
                    parse="none",
                    unfurl_links=False,
                    unfurl_media=False,
                    **more,
                ),
                sends=True,
            )

        async with self._pace.turn(channel):
            answer = await self._pictured(payload.get("blocks"), send)
        return str(answer["ts"])

    async def update(self, channel: str, ts: str, payload: Payload, *, at_once: bool = False) -> None:
        """Redraw a message; `at_once` where somebody waits for it: the next redraw keeps the pace then.

        Without `parse`, Slack would go back to linking names in it.
        """
        async with self._pace.turn(f"{channel}/{ts}", wait=not at_once):
            await self.ask(
                "redrawing a message",
                self.client.chat_update(
                    channel=channel,
                    ts=ts,
                    text=_cut(payload["text"]),
                    blocks=payload.get("blocks", []),  # left out, the old ones would stay
                    parse="none",
                ),
            )

    async def find(self, channel: str, key: str, thread_ts: str | None = None) -> str | None:
        """Return the ts of the bot's message that was posted with `key`, None where Slack has none."""
        me = await self._me()
        cursor = ""
        for _ in range(PAGES):
            if thread_ts:
                call = self.client.conversations_replies(
                    channel=channel, ts=thread_ts, include_all_metadata=True, limit=PAGE, cursor=cursor or None
                )
            else:
                call = self.client.conversations_history(
                    channel=channel, include_all_metadata=True, limit=PAGE, cursor=cursor or None
                )
            answer = await self.ask("looking for a message", call)
            for message in answer.get("messages", ()):
                metadata = message.get("metadata") or {}
                ours = me["user_id"] == message.get("user") or me.get("bot_id") == message.get("bot_id", "-")
                payload = metadata.get("event_payload") or {}
                if ours and metadata.get("event_type") == "refine" and payload.get("key") == key:
                    return str(message["ts"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor", "")
            if not cursor:
                break
        return None

    async def upload(self, channel: str, thread_ts: str, files: Sequence[File]) -> None:
        """Put files into a thread, as one message. Slack refuses empty files, so they are left out."""
        uploads = [
            {"filename": name, "content": content, "title": title, "alt_txt": title if name.endswith(".png") else None}
            for name, content, title in files
            if content
        ]
        if not uploads:
            return
        async with self._pace.turn(channel):
            await self.ask(
                "uploading files",
                self.client.files_upload_v2(channel=channel, thread_ts=thread_ts or None, file_uploads=uploads),
                sends=True,
            )

    async def ephemeral(
        self,
        channel: str,
        user: str,
        text: str,
        blocks: list[dict[str, Any]] | None = None,
        thread_ts: str = "",
        response_url: str = "",
        *,
        replace: bool = False,
    ) -> None:
        """Tell one person something, where they are; else by the `response_url` of their click, else directly.

        With `replace`, what they clicked in is itself such a message, and the new one takes its place; where that is
        too late (half an hour), it comes beside it.

        Raises:
            RefineError: none of the three ways is open; the last one's error.
        """
        text = _cut(text)
        if replace and response_url and await self._respond(response_url, text, blocks, replace=True):
            return
        if channel:
            try:
                await self.ask(
                    "answering",
                    self.client.chat_postEphemeral(
                        channel=channel, user=user, text=text, blocks=blocks, thread_ts=thread_ts or None, parse="none"
                    ),
                )
            except RefineError:
                pass  # the bot is not in that channel, or the person is not any more
            else:
                return
        if response_url and await self._respond(response_url, text, blocks):
            return
        await self.post(user, {"text": text, "blocks": blocks})

    async def _respond(
        self, response_url: str, text: str, blocks: list[dict[str, Any]] | None, *, replace: bool = False
    ) -> bool:
        # It is good for five answers within 30 minutes, and an expired one raises nothing.
        hook = AsyncWebhookClient(response_url, session=self.client.session, retry_handlers=[])
        try:
            answer = await hook.send(text=text, blocks=blocks, response_type="ephemeral", replace_original=replace)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        return bool(answer.status_code == 200)

    async def permalink(self, channel: str, ts: str) -> str:
        answer = await self.ask("asking for a link", self.client.chat_getPermalink(channel=channel, message_ts=ts))
        return str(answer["permalink"])

    # -------------------- views

    async def open_view(self, trigger_id: str, view: Payload, *, push: bool = False) -> View:
        """Open a modal, or `push` it onto the one that is open; the trigger is good once, for three seconds."""
        act = self.client.views_push if push else self.client.views_open
        answer = await self.ask("opening a dialog", act(trigger_id=trigger_id, view=view))
        return View(id=str(answer["view"]["id"]), hash=str(answer["view"].get("hash", "")))

    async def update_view(self, view_id: str, view: Payload, hash: str = "") -> View:  # noqa: A002  # Slack's word
        """Redraw a modal.

        Raises:
            StaleError: it was redrawn since `hash`.
            NotFoundError: the person closed it.
        """
        answer = await self.ask(
            "redrawing a dialog", self.client.views_update(view_id=view_id, view=view, hash=hash or None)
        )
        return View(id=view_id, hash=str((answer.get("view") or {}).get("hash", "")))

    async def publish_home(self, user: str, view: Payload, hash: str = "") -> None:  # noqa: A002  # Slack's word
        """Draw somebody's App Home.

        Raises:
            StaleError: it was drawn anew since `hash`: draw it from the store again.
        """

        async def send(shown: Blocks | None) -> None:
            await self.ask(
                "drawing App Home",
                self.client.views_publish(user_id=user, view={**view, "blocks": shown}, hash=hash or None),
            )

        await self._pictured(view["blocks"], send)

    # -------------------- pictures

    async def host(self, name: str, content: bytes) -> str:
        """Give Slack an image to show in blocks, without sharing it anywhere, and return the file's id.

        Source: https://docs.slack.dev/reference/block-kit/composition-objects/slack-file-object
        """
        answer = await self.ask("uploading a picture", self.client.files_upload_v2(filename=name, content=content))
        return str(answer["files"][0]["id"])

    async def _pictured(self, blocks: Blocks | None, send: Callable[[Blocks | None], Awaitable[Sent]]) -> Sent:
        """Send blocks with their pictures: one that Slack does not show yet is waited for, and then left out.

        An upload is processed behind Slack's answer, and until then no block may name the file.
        Source: https://github.com/slackapi/python-slack-sdk/issues/1521
        """
        shown = [b for b in blocks or () if _file(b) not in self._unseen]
        files = {_file(b) for b in shown} - {""}
        if not files:
            return await send(shown if blocks is not None else None)
        for pause in SHOWN_AFTER:
            try:
                return await send(shown)
            except NoPictureError:
                await self._sleep(pause)
        log.warning("message without its picture", files=sorted(files))
        self._unseen |= files
        return await send([b for b in shown if not _file(b)])

    # -------------------- people

    async def team_id(self) -> str:
        return str((await self._me())["team_id"])

    async def _me(self) -> Mapping[str, Any]:
        if self._identity is None:
            self._identity = await self.ask("asking who the bot is", self.client.auth_test())
        return self._identity

    async def person(self, user_id: UserId) -> Person:
        """Return the person as Slack knows them now. Whom Slack does not show us is a stranger.

        Source: https://docs.slack.dev/reference/objects/user-object
        """
        me = await self._me()
        try:
            answer = await self.ask("looking up a person", self.client.users_info(user=user_id))
        except NotFoundError:
            return Person(id=user_id, name=user_id, team="", stranger=True)
        user: Mapping[str, Any] = answer["user"]
        enterprise: Mapping[str, Any] = user.get("enterprise_user") or {}
        # In an Enterprise organization `team_id` is a person's home; what counts is that ours is among theirs.
        teams = {user.get("team_id", ""), *enterprise.get("teams", ())}
        member = me["team_id"] in teams and enterprise.get("enterprise_id") in {None, me.get("enterprise_id")}
        profile: Mapping[str, Any] = user.get("profile") or {}
        return Person(
            id=user_id,
            name=profile.get("display_name") or user.get("real_name") or user.get("name") or user_id,
            team=me["team_id"] if member else str(user.get("team_id", "")),
            deleted=bool(user.get("deleted")),
            # `is_app_user` marks people who use the app: it does not say bot.
            bot=user_id == "USLACKBOT" or any(user.get(k) for k in ("is_bot", "is_workflow_bot", "is_connector_bot")),
            guest=any(user.get(k) for k in ("is_restricted", "is_ultra_restricted", "is_invited_user")),
            stranger=bool(user.get("is_stranger")) or not member,
        )

    async def group_members(self, group_id: str) -> frozenset[UserId]:
        """Return who is in a user group, at most five minutes old: Slack allows some twenty such calls a minute.

        Raises:
            RefineError: it cannot be read now. An older answer is not given: it fails closed.
        """
        async with self._group_lock:  # fifty clicks at once are one call
            known = self._groups.get(group_id)
            if known is not None and self._clock() - known[0] < self._group_age:
                return known[1]
            self._groups.pop(group_id, None)
            answer = await self.ask(
                "reading a user group", self.client.usergroups_users_list(usergroup=group_id, include_disabled=False)
            )
            members = frozenset(UserId(u) for u in answer.get("users", ()))
            self._groups[group_id] = (self._clock(), members)
            return members

    async def checks(self, channel: str, app_token: str = "", approvers: Sequence[str] = ()) -> list[Check]:
        """Look at tokens, scopes, the channel and the approvers, and say for each what to do."""
        return await checks(self, channel, app_token, approvers)

    # -------------------- one way out

    async def ask(self, doing: str, call: Awaitable[Any], *, sends: bool = False) -> Mapping[str, Any]:
        data: Mapping[str, Any] = (await self.call(doing, call, sends=sends)).data
        return data

    async def call(self, doing: str, call: Awaitable[Any], *, sends: bool = False) -> Any:
        """Await a call and translate what goes wrong. `sends`: a second try could do it twice.

        The SDK's errors hold the whole answer, and aiohttp's hold addresses: neither is chained.
        """
        try:
            return await call
        except SlackApiError as error:
            raise translated(error, doing, sends=sends) from None
        except SlackClientError as error:  # the store of files did not take one: nothing was posted
            raise lost(doing, type(error).__name__, sends=False) from None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise lost(doing, type(error).__name__, sends=sends) from None


def _file(block: Mapping[str, Any]) -> str:
    """Return the id of the file that the block shows; empty where it shows none."""
    return str((block.get("slack_file") or {}).get("id", ""))


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"
