"""Socket Mode: WebSockets that the bot opened, envelopes down, acknowledgements up."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from sandbox.slack import seeds
from sandbox.slack.faults import Faults

Json = dict[str, Any]

GRACE_SECONDS = 5.0
"""How long a connection that was told to refresh is left open."""
CLOSE_SECONDS = 1.0
"""How long a client may take to answer that it closes, too."""
MOST_CONNECTIONS = 10


@dataclass(eq=False)
class Connection:
    ws: web.WebSocketResponse
    request: web.Request
    draining: bool = False

    def break_off(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


@dataclass
class Sockets:
    """All connections of the app. A payload goes to any one of them, each in turn.

    Attributes:
        changed: is called when a connection comes or goes.
    """

    faults: Faults
    changed: Callable[[], None]
    connections: list[Connection] = field(default_factory=list)
    tickets: set[str] = field(default_factory=set)
    pending: dict[str, asyncio.Future[Json]] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    turn: int = 0

    def ticket(self) -> str:
        """Return a ticket, which opens one connection once."""
        ticket = secrets.token_urlsafe(16)
        self.tickets.add(ticket)
        return ticket

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        if request.query.get("ticket") not in self.tickets:
            raise web.HTTPForbidden(text="invalid ticket")
        self.tickets.discard(request.query["ticket"])
        ws = web.WebSocketResponse(timeout=CLOSE_SECONDS)
        await ws.prepare(request)
        connection = Connection(ws, request)
        self.connections.append(connection)
        self.changed()
        try:
            await ws.send_json(
                {
                    "type": "hello",
                    "num_connections": len(self.connections),
                    "debug_info": {"host": "local", "build_number": 1, "approximate_connection_time": 18060},
                    "connection_info": {"app_id": seeds.APP_ID},
                }
            )
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self._acknowledge(message.data)
        finally:
            self.connections.remove(connection)
            self.changed()
        return ws

    def _acknowledge(self, text: str) -> None:
        answer = json.loads(text)
        # Any connection may acknowledge: the SDK uses the new one for what came on the old one.
        waiting = self.pending.get(answer.get("envelope_id", ""))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.get("payload") or {})

    async def deliver(self, kind: str, payload: Json, retry: int = 0) -> Json:
        """Send an envelope to one connection and return the payload of its acknowledgement.

        Args:
            kind: "interactive", "slash_commands" or "events_api".
            payload: what happened.
            retry: which attempt of an event this is, after the first.

        Raises:
            ConnectionError: nobody is connected.
        """
        envelope: Json = {
            "envelope_id": str(uuid.uuid4()),
            "payload": payload,
            "type": kind,
            "accepts_response_payload": kind != "events_api",
        }
        if kind == "events_api":
            envelope |= {"retry_attempt": retry, "retry_reason": "timeout" if retry else ""}
        waiting: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self.pending[envelope["envelope_id"]] = waiting
        try:
            await self._send(envelope)
            return await waiting
        finally:
            del self.pending[envelope["envelope_id"]]

    async def _send(self, envelope: Json) -> None:
        fault = self.faults.take("socket")
        if fault is not None and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        for connection in self._in_turn():
            if fault is not None and fault.kind == "drop":
                connection.break_off()
                return
            try:
                await connection.ws.send_json(envelope)
                return
            except ConnectionError:
                continue
        raise ConnectionError

    def _in_turn(self) -> list[Connection]:
        live = [each for each in self.connections if not each.ws.closed and not each.draining]
        self.turn += 1
        return live[self.turn % len(live) :] + live[: self.turn % len(live)] if live else []

    async def disconnect(self, reason: str = "refresh_requested", number: int | None = None) -> None:
        """Tell connections to reconnect, all or the one with this number.

        Slack says "warning" some ten seconds before "refresh_requested", and closes the connection after the latter.
        """
        for connection in [*self.connections] if number is None else [self.connections[number]]:
            await connection.ws.send_json({"type": "disconnect", "reason": reason, "debug_info": {"host": "local"}})
            if reason != "warning":
                connection.draining = True
                self._spawn(self._close_later(connection))

    async def _close_later(self, connection: Connection) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        await connection.ws.close()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        for connection in list(self.connections):
            await connection.ws.close()
