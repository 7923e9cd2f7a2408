"""A proxy between the gateway and the local AWS: it notes every request, and answers some itself as AWS might.

For what the local AWS has no fault for: denials, failed jobs, broken connections, answers of another Region.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, urlencode

import aiohttp
from aiohttp import web

_REST = (  # Access Analyzer's paths; the other services name the operation in the form
    ("GET", re.compile(r"^/analyzer$"), "ListAnalyzers"),
    ("POST", re.compile(r"^/findingv2$"), "ListFindingsV2"),
    ("GET", re.compile(r"^/findingv2/[^/]+$"), "GetFindingV2"),
    ("PUT", re.compile(r"^/finding$"), "UpdateFindings"),
    ("POST", re.compile(r"^/policy/validation$"), "ValidatePolicy"),
    ("POST", re.compile(r"^/policy/check-no-new-access$"), "CheckNoNewAccess"),
)
_SCOPE = re.compile(r"Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/")
Form = dict[str, str]


@dataclass(kw_only=True)
class Seen:
    operation: str
    service: str
    region: str
    key: str
    form: Form


@dataclass(kw_only=True)
class _Rule:
    operation: str
    act: Callable[[Seen], bytes | tuple[int, bytes] | str | None]
    region: str = ""
    times: int | None = None


@dataclass
class Between:
    """`url` is what AWS_ENDPOINT_URL has to be; `seen` is every request, in order."""

    upstream: str
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()
        await self._runner.cleanup()

    # -------------------- what to do otherwise

    def refuse(
        self, operation: str, status: int, code: str, message: str = "no", *, region: str = "", times: int | None = None
    ) -> None:
        """Answer with an error as AWS writes it."""

        def act(seen: Seen) -> tuple[int, bytes]:
            if seen.service == "access-analyzer":
                return status, json.dumps({"__type": code, "message": message}).encode()
            text = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
            return status, f"<ErrorResponse>{text}<RequestId>r</RequestId></ErrorResponse>".encode()

        self._rules.append(_Rule(operation=operation, act=act, region=region, times=times))

    def answer(self, operation: str, result: str, *, times: int | None = None) -> None:
        """Answer with the members of a query result, as XML."""
        name = operation
        text = f"<{name}Response><{name}Result>{result}</{name}Result></{name}Response>".encode()
        self._rules.append(_Rule(operation=operation, act=lambda _: (200, text), times=times))

    def json(self, operation: str, answer: dict[str, object], *, region: str = "", times: int | None = None) -> None:
        """Answer with JSON, as Access Analyzer does."""
        text = json.dumps(answer).encode()
        self._rules.append(_Rule(operation=operation, act=lambda _: (200, text), region=region, times=times))

    def cut(self, operation: str, how: str, *, times: int | None = None) -> None:
        """Let the request have its effect and break the answer: reset, close, half, garbage or html."""
        self._rules.append(_Rule(operation=operation, act=lambda _: how, times=times))

    def change(self, operation: str, change: Callable[[Form], Form], *, times: int | None = None) -> None:
        """Pass the request on with another form."""
        self._rules.append(
            _Rule(operation=operation, act=lambda seen: urlencode(change(seen.form)).encode(), times=times)
        )

    def operations(self, service: str = "") -> list[str]:
        return [s.operation for s in self.seen if service in ("", s.service)]

    # -------------------- the proxy

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        seen = self._note(request, body)
        act = self._take(seen)
        if isinstance(act, tuple):
            status, text = act
            kind = "application/json" if text.startswith(b"{") else "text/xml"
            return web.Response(status=status, body=text, content_type=kind)
        async with self._client.request(
            request.method,
            self.upstream + request.raw_path,
            data=act if isinstance(act, bytes) else body,
            headers={k: v for k, v in request.headers.items() if k.lower() not in {"host", "content-length"}},
        ) as answer:
            text = await answer.read()
        if isinstance(act, str):
            return await self._broken(request, act)
        keep = {k: v for k, v in answer.headers.items() if k.lower().startswith(("content-type", "x-amz"))}
        return web.Response(status=answer.status, body=text, headers=keep)

    async def _broken(self, request: web.Request, how: str) -> web.StreamResponse:
        if how == "html":
            return web.Response(status=500, text="<!doctype html><p>Internal Server Error", content_type="text/html")
        if how == "garbage":
            return web.Response(status=200, text="this is not XML", content_type="text/xml")
        transport = request.transport
        assert transport is not None
        if how == "half":
            response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "text/xml"})
            await response.prepare(request)
            await response.write(b"<CreatePolicy")
        if how == "reset":
            sock: socket.socket = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        transport.close()
        return web.Response()

    def _note(self, request: web.Request, body: bytes) -> Seen:
        scope = _SCOPE.search(request.headers.get("Authorization", ""))
        assert scope is not None, "an unsigned request"
        form = dict(parse_qsl(body.decode(), keep_blank_values=True)) if b"Action=" in body else {}
        rest = (name for method, path, name in _REST if method == request.method and path.match(request.path))
        operation = form.get("Action") or next(rest, f"{request.method} {request.path}")
        seen = Seen(operation=operation, service=scope["service"], region=scope["region"], key=scope["key"], form=form)
        self.seen.append(seen)
        return seen

    def _take(self, seen: Seen) -> bytes | tuple[int, bytes] | str | None:
        for rule in list(self._rules):
            if rule.operation != seen.operation or rule.region not in ("", seen.region):
                continue
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
            return rule.act(seen)
        return None
