"""What every request to the local AWS passes before and after moto: faults, lag, the log, the check of the shape."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from botocore.model import ListShape, MapShape, OperationNotFoundError, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator
from moto.core.errors import COMMON_ERROR_CODES
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.iam.models import IAMBackend

from sandbox.aws.policy import Caller
from sandbox.aws.state import State, now

if TYPE_CHECKING:
    from sandbox.aws.faults import Hit
    from sandbox.aws.local import LocalAws


class LostReplyError(Exception):
    """The request had its effect, and nobody will hear of it."""


class AwsError(ServiceException):
    """An error that AWS answers. Not moto's class itself: moto would look for a service model beside that one."""


# Codes that no operation's model lists have no status there, and moto warns of them.
_STATUS = {"AccessDenied": 403, "ExpiredToken": 403, "InternalFailure": 500, "Throttling": 400, "InvalidAction": 400}
_STATUS |= {"EntityTemporarilyUnmodifiable": 409, "ConcurrentModification": 409}
COMMON_ERROR_CODES.extend(_STATUS)


class Front(BaseResponse):
    """Mixed into moto's response classes, before them."""

    signing_name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ("Get", "List", "Describe")
    throttled: ClassVar[tuple[str, str]] = ("Throttling", "Rate exceeded")
    denied: ClassVar[str] = "AccessDenied"
    failed: ClassVar[tuple[str, str]] = (
        "ServiceFailure",
        "The request processing has failed because of an unknown error, exception or failure.",
    )

    def __init__(self, aws: LocalAws, **more: Any) -> None:
        super().__init__(**more)
        self.automated_parameter_parsing = True
        self.aws = aws
        self.lag = 0.0
        self.outcome = "ok"

    @property
    def state(self) -> State:
        return self.aws.state

    @property
    def iam(self) -> IAMBackend:
        """The caller's account's IAM, as this request is to see it."""
        return self.state.iam(self.current_account, self.lag)

    @property
    def caller(self) -> Caller:
        return self.state.caller(self.access_key)

    def get_current_account(self) -> str:
        return self.state.caller(self.get_access_key()).account

    def parse_parameters(self, request: Any) -> None:
        try:
            super().parse_parameters(request)
        except OperationNotFoundError:
            self.params = {}

    def call_action(self) -> Any:
        operation = self._get_action() or "?"
        hit = self.aws.faults.take(self.signing_name, operation)
        time.sleep(hit.latency)
        try:
            if hit.throttle:
                return self.refuse(*self.throttled)
            if hit.denied:
                return self.refuse(self.denied, f"You are not authorized to perform {self.signing_name}:{operation}")
            if hit.refused:
                return self.refuse(hit.refused, "The request was refused on purpose.")
            if hit.error_before:
                return self.refuse(*self.failed)
            session = self.state.sessions.get(self.access_key)
            if session and session.expires < now():
                return self.refuse("ExpiredToken", "The security token included in the request is expired")
            answer = self._act(operation, hit)
            if hit.lost_reply:
                raise LostReplyError
            return self.refuse(*self.failed) if hit.error_after else answer
        finally:
            self.aws.log(self, operation, hit)

    def _act(self, operation: str, hit: Hit) -> Any:
        with self.state.lock:
            if operation.startswith(self.reads):
                self.lag = hit.lag
            elif self.aws.faults.lagging():
                self.state.remember(self.current_account)
            try:
                return super().call_action()
            except NotImplementedError:
                return self.refuse("InvalidAction", f"The local AWS does not have {self.signing_name}:{operation}.")

    def refuse(self, code: str, message: str) -> Any:
        return self.serialized(ActionResult(AwsError(code, message)))

    def serialized(self, action_result: ActionResult) -> Any:
        result = action_result.result
        if isinstance(result, ServiceException):
            self.outcome = result.code
        elif isinstance(result, dict):
            self._check(result)
        status, headers, body = super().serialized(action_result)
        return _STATUS.get(self.outcome, status), headers, body

    def _check(self, result: dict[str, Any]) -> None:
        """Hold an answer that was made here against botocore's model of it.

        Raises:
            AssertionError: it is not what AWS could have sent.
        """
        from moto.core.utils import get_service_model

        shape = get_service_model(self.boto3_service_name).operation_model(self._get_action()).output_shape
        plain = {k: v for k, v in result.items() if v is not None}
        if _has_objects(plain):
            return  # moto's own objects, that its serialiser reads member by member
        if plain.get("JobStatus") == "IN_PROGRESS":
            # Real answers lack these although the model requires them.
            plain = {"ServicesLastAccessed": [], "JobCompletionDate": now(), **plain}
        problems = ParamValidator().validate(plain, shape).generate_report()
        problems += "; ".join(enum_problems(plain, shape))
        assert not problems, f"{self._get_action()} would answer in a wrong shape: {problems}"


def _has_objects(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_objects(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(_has_objects(v) for v in value)
    return not isinstance(value, str | int | float | bytes | datetime | None)


def enum_problems(value: Any, shape: Shape, path: str = "") -> list[str]:
    """Return what ParamValidator does not look at: unknown members and values that no enum has."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        unknown = [f"{path}.{k} is not a member" for k in value if k not in shape.members]
        return unknown + [
            p for k, v in value.items() if k in shape.members for p in enum_problems(v, shape.members[k], f"{path}.{k}")
        ]
    if isinstance(shape, ListShape):
        return [p for i, v in enumerate(value) for p in enum_problems(v, shape.member, f"{path}[{i}]")]
    if isinstance(shape, MapShape):
        return [p for k, v in value.items() for p in enum_problems(v, shape.value, f"{path}.{k}")]
    if isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
        return [f"{path} is {value!r}, not one of {shape.enum}"]
    return []
