"""The server: one thread that answers AWS's services and, under /_sandbox/, whoever runs the show."""

from __future__ import annotations

import json
import socket
import sys
import threading
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from moto.core.request import Request
from moto.iam.models import Role
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from sandbox.aws.analyzer import Analyzer
from sandbox.aws.cloudformation import CloudFormation
from sandbox.aws.faults import Fault, Faults, Hit, Kind
from sandbox.aws.front import Front, LostReplyError
from sandbox.aws.iam import Iam
from sandbox.aws.load import add_roles, load_world, touch
from sandbox.aws.state import HUB, KEYS, MEMBER, State, Use, ago, now
from sandbox.aws.sts import Sts

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HUB", "MEMBER", "LocalAws", "start"]

_SERVICES = {each.signing_name: each for each in (Iam, Sts, Analyzer, CloudFormation)}
_CALLS = 20_000
_SHORT = 200


class _AwsRequest(Request):
    from_wsgi_server = True


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # werkzeug's name
        pass


class LocalAws:
    """A local AWS that runs until `stop`. Each has a state of its own: two of them in one process do not meet."""

    def __init__(self, port: int = 0, world: bool = True) -> None:
        self.report_seconds = 0.3  # how long a last accessed report takes
        self.faults = Faults()
        self.state = State()
        self._session, self._making = boto3.session.Session(), threading.Lock()
        self._calls: deque[dict[str, Any]] = deque(maxlen=_CALLS)
        self.reset(world=world)
        self._server = make_server("127.0.0.1", port, self._app, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True, name="local-aws")
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def reset(self, *, world: bool = True) -> None:
        """Start anew: state, faults and calls."""
        state = State()
        if world:
            load_world(state)
        else:
            state.iam(HUB)
            state.iam(MEMBER)
        self.faults.clear()
        self._calls.clear()
        self.state = state

    # -------------------- for tests and the demo

    def fault(
        self,
        operation: str = "*",
        kind: Kind = "error_before",
        *,
        times: int | None = None,
        service: str = "iam",
        seconds: float = 0.0,
        rate: float = 1.0,
        code: str = "",
    ) -> None:
        """Add a rule: see sandbox.aws.faults.Fault."""
        self.faults.add(
            Fault(kind=kind, operation=operation, service=service, seconds=seconds, rate=rate, times=times, code=code)
        )

    def clear_faults(self) -> None:
        self.faults.clear()

    def calls(self, service: str | None = None, operation: str | None = None) -> list[dict[str, Any]]:
        """Return what was called, oldest first: service, operation, account, region, params, outcome, faults, at."""
        return [
            call
            for call in list(self._calls)
            if service in (None, call["service"]) and operation in (None, call["operation"])
        ]

    def log(self, front: Front, operation: str, hit: Hit) -> None:
        params = {k: v if len(str(v)) <= _SHORT else f"{str(v)[:_SHORT]}…" for k, v in dict(front.params).items()}
        outcome = "lost_reply" if hit.lost_reply and front.outcome == "ok" else front.outcome
        self._calls.append(
            {
                "service": front.signing_name,
                "operation": operation,
                "account": front.current_account,
                "region": front.region,
                "params": json.loads(json.dumps(params, default=str)),
                "outcome": outcome,
                "faults": hit.names(),
                "at": now().isoformat(),
            }
        )

    def snapshot(self, account: str, role_name: str) -> dict[str, Any]:
        """Return a role's permissions policies as they are, to the byte.

        Raises:
            KeyError: there is no such role.
        """
        with self.state.lock:
            role = self._role(account, role_name)
            attached = {
                policy.arn: {
                    "default_version": policy.default_version_id,
                    "document_text": next(v.document for v in policy.versions if v.is_default),
                    "versions": {v.version_id: v.document for v in policy.versions},
                }
                for policy in role.managed_policies.values()
            }
            return {"attached": attached, "inline": dict(role.policies)}

    def use(
        self, role_name: str, action: str, *, days_ago: float = 0.0, region: str = "us-east-1", account: str = HUB
    ) -> None:
        """Let the role have tried an action (`service:Action`): the next report shows it where it is granted."""
        with self.state.lock:
            role = self._role(account, role_name)
            self.state.used.setdefault(role.arn, {})[action] = Use(at=ago(days_ago), region=region)
            touch(self.state, role)

    def add_role(self, name: str, data: dict[str, Any], *, account: str = HUB) -> None:
        """Add a role, told as the files of world/ tell theirs; see world/README.md.

        Raises:
            ValueError: a key does not exist, or a policy.
        """
        with self.state.lock:
            add_roles(self.state, {(name, account): data})

    def _role(self, account: str, name: str) -> Role:
        for role in self.state.iam(account).roles.values():
            if role.name == name:
                return role
        raise KeyError(f"there is no role {name} in {account}")

    def client(self, service: str, *, account: str = HUB, region: str = "us-east-1", **config: Any) -> Any:
        """Return a boto3 client with long-lived keys of the account."""
        key = next(k for k, caller in KEYS.items() if caller.account == account)
        with self._making:  # a session's models are read once; making clients is not thread-safe
            return self._session.client(
                service,
                region_name=region,
                endpoint_url=self.url,
                aws_access_key_id=key,
                aws_secret_access_key="sandbox",
                config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
            )

    # -------------------- HTTP

    def _app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            if environ["PATH_INFO"].startswith("/_sandbox/"):
                return self._control(_AwsRequest(environ))(environ, start_response)
            service = _service_of(environ)
            if service not in _SERVICES:
                return _moto()(environ, start_response)
            status, headers, body = _SERVICES[service](self)._dispatch(_AwsRequest(environ))
            return Response(body, status, dict(headers))(environ, start_response)
        except LostReplyError:
            connection: socket.socket = environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError from None
        except Exception as error:
            # A fake that fails must be seen to: no retry of a client hides a status of 400.
            traceback.print_exc(file=sys.stderr)
            body = f"<ErrorResponse><Error><Code>SandboxBug</Code><Message>{type(error).__name__}: {_plain(error)}"
            body += "</Message></Error></ErrorResponse>"
            return Response(body, 400, content_type="text/xml")(environ, start_response)

    def _control(self, request: Request) -> Response:
        """Answer the control paths; see README.md."""
        path, method = request.path.removeprefix("/_sandbox/"), request.method
        try:
            match method, path:
                case "POST", "faults":
                    rules = request.get_json()
                    self.faults.add(*[Fault(**rule) for rule in (rules if isinstance(rules, list) else [rules])])
                case "DELETE", "faults":
                    self.faults.clear()
                case "GET", "faults":
                    return _json(self.faults.as_json())
                case "GET", "calls":
                    return _json(self.calls(request.args.get("service"), request.args.get("operation")))
                case "DELETE", "calls":
                    self._calls.clear()
                case "POST", "reset":
                    self.reset(world=request.args.get("world", "true") == "true")
                case "POST", "use":
                    self.use(**request.get_json())
                case "POST", "roles":
                    for name, data in request.get_json().items():
                        self.add_role(name, data, account=data.get("account", HUB))
                case "GET", "snapshot":
                    return _json(self.snapshot(request.args.get("account", HUB), request.args["role"]))
                case _:
                    return _json({"error": f"there is no {method} /_sandbox/{path}"}, 404)
        except (KeyError, TypeError, ValueError) as error:
            return _json({"error": str(error)}, 400)
        return _json({"ok": True})


def _json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value), status, content_type="application/json")


def _plain(error: Exception) -> str:
    return str(error)[:_SHORT].replace("&", "&amp;").replace("<", "&lt;")


def _service_of(environ: dict[str, Any]) -> str:
    """Return the service that a request was signed for."""
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0].split("/")
    return scope[3] if len(scope) == 5 else ""


_moto_app: Any = None


def _moto() -> Any:
    """Return moto's own server, for services that it does well enough: they share one state in this process."""
    global _moto_app  # noqa: PLW0603
    if _moto_app is None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        _moto_app = DomainDispatcherApplication(create_backend_app)
    return _moto_app


def start(port: int = 0, world: bool = True) -> LocalAws:
    """Start a local AWS in a thread of this process and return when it listens; port 0 takes a free one."""
    return LocalAws(port, world=world)
