"""A small bot on the real slack_bolt, for the tests of the local Slack: it records what it hears and answers as told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.http_retry.async_handler import AsyncRetryHandler
from slack_sdk.web.async_client import AsyncWebClient

from sandbox.slack import LocalSlack

Json = dict[str, Any]
ANY = re.compile(r".*")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text}


def button(action_id: str = "go", value: str = "1:1") -> Json:
    return {"type": "button", "action_id": action_id, "value": value, "text": plain("Go")}


def actions(*elements: Json, block_id: str = "do") -> Json:
    return {"type": "actions", "block_id": block_id, "elements": list(elements)}


def section(text: str = "words", **more: Any) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}, **more}


def option(value: str) -> Json:
    return {"text": plain(value.title()), "value": value}


def select(action_id: str = "pick", kind: str = "static_select", **more: Any) -> Json:
    return {"type": kind, "action_id": action_id, "options": [option("one"), option("two")], **more}


def entry(block_id: str, element: Json, **more: Any) -> Json:
    return {"type": "input", "block_id": block_id, "label": plain(block_id), "element": element, **more}


def modal(*blocks: Json, **more: Any) -> Json:
    return {
        "type": "modal",
        "callback_id": "m",
        "title": plain("T"),
        "submit": plain("Save"),
        "blocks": [*blocks],
        **more,
    }


REASON = entry("reason", {"type": "plain_text_input", "action_id": "text"})


def client(slack: LocalSlack, token: str | None = None, *retries: AsyncRetryHandler) -> AsyncWebClient:
    env = slack.bot_environment()
    return AsyncWebClient(
        token or env["SLACK_BOT_TOKEN"], base_url=env["SLACK_API_URL"], retry_handlers=list(retries), timeout=5
    )


class Echo:
    """Records every payload; `answers` by callback id, action id or command is what `ack` is called with."""

    def __init__(self, slack: LocalSlack, *, signing_secret: str | None = None) -> None:
        self.slack = slack
        self.client = client(slack)
        self.seen: list[Json] = []
        self.headers: list[Any] = []
        self.answers: dict[str, Json | Callable[[Json], Any]] = {}
        self.silent: set[str] = set()  # heard, but never acknowledged
        self.deaf = False  # nothing gets past the middleware
        self.app = AsyncApp(
            client=self.client,
            signing_secret=signing_secret,
            raise_error_for_unhandled_request=signing_secret is not None,
        )
        self.app.middleware(self._gate)
        for kind in ("action", "command", "shortcut", "options", "view"):
            getattr(self.app, kind)(ANY)(self._listen)
        self.app.view_closed(ANY)(self._listen)
        self.app.event("app_home_opened")(self._listen)

    async def _gate(self, body: Json, req: Any, next: Callable[[], Any]) -> None:  # noqa: A002
        self.seen.append(body)
        self.headers.append(req.headers)
        if not self.deaf:
            await next()

    async def _listen(self, ack: Any, body: Json) -> None:
        name = self._name(body)
        if name in self.silent:
            return
        answer = self.answers.get(name, {})
        if callable(answer):
            answer = await answer(body) or {}
        await ack(**answer)

    @staticmethod
    def _name(body: Json) -> str:
        if "actions" in body:
            return str(body["actions"][0]["action_id"])
        if "event" in body:
            return str(body["event"]["type"])
        if "view" in body and "action_id" not in body:
            return str(body["view"]["callback_id"])
        return str(body.get("callback_id") or body.get("action_id") or body["command"])

    @property
    def last(self) -> Json:
        return self.seen[-1]

    def opens(self, view: Json, how: str = "views_open") -> Callable[[Json], Any]:
        """Return an answer that opens this view with the payload's trigger."""

        async def answer(body: Json) -> None:
            await getattr(self.client, how)(trigger_id=body["trigger_id"], view=view)

        return answer


@contextlib.asynccontextmanager
async def echo(slack: LocalSlack, way: str = "socket", sockets: int = 1) -> AsyncIterator[Echo]:
    """Connect an echo to the local Slack, over Socket Mode or signed HTTP."""
    if way == "socket":
        bot = Echo(slack)
        handlers = [AsyncSocketModeHandler(bot.app, slack.bot_environment()["SLACK_APP_TOKEN"]) for _ in range(sockets)]
        for each in handlers:
            await each.connect_async()
        try:
            yield bot
        finally:
            for each in handlers:
                await each.close_async()
        return
    bot = Echo(slack, signing_secret=slack.bot_environment("http")["SLACK_SIGNING_SECRET"])
    runner = web.AppRunner(bot.app.web_app("/slack/events"), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.deliver_to(f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events")
    try:
        yield bot
    finally:
        await runner.cleanup()
