"""How the bot hears of what people do: over Socket Mode, or by signed HTTP requests. Slack waits three seconds."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp

from sandbox.slack import seeds
from sandbox.slack.socket_mode import Sockets

Json = dict[str, Any]

ACK_SECONDS = 3.0
NOT_IN_TIME = f"{seeds.BOT_NAME} did not answer in time"
NOT_CONNECTED = f"{seeds.BOT_NAME} is not connected"


@dataclass(frozen=True, kw_only=True)
class Ack:
    """How the bot acknowledged.

    Attributes:
        ok: whether it did so in time, and Slack could use what it said.
        seconds: how long it took.
        body: what it said, {} for nothing.
        error: what the clicker is shown where it is not ok.
    """

    ok: bool
    seconds: float = 0.0
    body: Json = field(default_factory=dict)
    error: str = ""


class BadAnswer(Exception):
    """The bot answered an HTTP request with another status than 200."""


@dataclass
class Delivery:
    """Delivers to the bot's URL where there is one, to its sockets otherwise.

    Attributes:
        retry_seconds: how long to wait before each of the three retries of an event that was not acknowledged
            (docs.slack.dev/apis/events-api, "Retries").
    """

    sockets: Sockets
    url: str | None = None
    signing_secret: str = seeds.SIGNING_SECRET
    retry_seconds: tuple[float, ...] = (0.0, 60.0, 300.0)
    session: aiohttp.ClientSession | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def interactive(self, payload: Json) -> Ack:
        return await self._attempt("interactive", payload)

    async def command(self, payload: Json) -> Ack:
        return await self._attempt("slash_commands", payload)

    async def event(self, event: Json) -> Ack:
        """Deliver an event; one that is not acknowledged comes again later. Returns how the first attempt went."""
        payload = {
            "token": seeds.VERIFICATION_TOKEN,
            "team_id": seeds.TEAM["id"],
            "api_app_id": seeds.APP_ID,
            "type": "event_callback",
            "event": event,
            "event_id": "Ev" + secrets.token_hex(5).upper(),
            "event_time": int(time.time()),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": seeds.TEAM["id"],
                    "user_id": seeds.BOT_USER,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
        }
        ack = await self._attempt("events_api", payload)
        if not ack.ok:
            task = asyncio.create_task(self._again(payload))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return ack

    async def _again(self, payload: Json) -> None:
        for number, seconds in enumerate(self.retry_seconds, 1):
            await asyncio.sleep(seconds)
            if (await self._attempt("events_api", payload, retry=number)).ok:
                return

    async def _attempt(self, kind: str, payload: Json, retry: int = 0) -> Ack:
        start = time.monotonic()
        try:
            async with asyncio.timeout(ACK_SECONDS):
                if self.url is not None:
                    body = await self._post(kind, payload, retry)
                else:
                    body = await self.sockets.deliver(kind, payload, retry)
        except TimeoutError:
            return Ack(ok=False, seconds=time.monotonic() - start, error=NOT_IN_TIME)
        except (ConnectionError, aiohttp.ClientError):
            return Ack(ok=False, seconds=time.monotonic() - start, error=NOT_CONNECTED)
        except BadAnswer as error:
            return Ack(ok=False, seconds=time.monotonic() - start, error=str(error))
        return Ack(ok=True, seconds=time.monotonic() - start, body=body)

    async def _post(self, kind: str, payload: Json, retry: int) -> Json:
        assert self.session is not None
        assert self.url is not None
        form = "application/x-www-form-urlencoded"
        if kind == "events_api":
            text, content_type = json.dumps(payload), "application/json"
        elif kind == "slash_commands":
            text, content_type = urlencode({k: v for k, v in payload.items() if v is not None}), form
        else:
            text, content_type = urlencode({"payload": json.dumps(payload)}), form
        headers = {"Content-Type": content_type, **self.signed(text)}
        if retry:
            headers |= {"X-Slack-Retry-Num": str(retry), "X-Slack-Retry-Reason": "http_timeout"}
        async with self.session.post(self.url, data=text.encode(), headers=headers, allow_redirects=False) as answer:
            said = await answer.text()
            if answer.status != 200:
                raise BadAnswer(f"{seeds.BOT_NAME} answered with an error (HTTP {answer.status})")
            if answer.content_type == "application/json" and said:
                return dict(json.loads(said))
            return {"text": said} if said else {}

    def signed(self, text: str, timestamp: int | None = None) -> dict[str, str]:
        """Return the headers that Slack signs a request with (docs.slack.dev, "Verifying requests from Slack")."""
        at = str(int(time.time()) if timestamp is None else timestamp)
        mac = hmac.new(self.signing_secret.encode(), f"v0:{at}:{text}".encode(), hashlib.sha256)
        return {
            "User-Agent": "Slackbot 1.0 (+https://api.slack.com/robots)",
            "X-Slack-Request-Timestamp": at,
            "X-Slack-Signature": "v0=" + mac.hexdigest(),
        }

    async def stop(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        if self.session is not None:
            await self.session.close()
