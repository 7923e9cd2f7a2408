"""The one writing call. It sends nothing without a permit of the rules, and sends nothing twice by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from botocore import xform_name

from bot.aws.clients import Clients
from bot.aws.permissions import permission
from bot.aws.translate import translated
from bot.errors import NotAllowedError
from bot.model import Step, StepKind
from bot.rules import Permit

OWN_PATH: Final = ":policy/refine/"  # where Refine's own copies live; it makes and deletes policies nowhere else


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a write made: the id of the version that is the default now, where it made one."""

    version: str = ""


async def nothing_more() -> None:
    """Have no last word before a write."""


async def write(
    clients: Clients, permit: Permit, step: Step, last: Callable[[], Awaitable[None]] = nothing_more
) -> Made:
    """Send one step's write, once: whoever wants to send it again has to look again first.

    `last` is the caller's last word: awaited when all is ready, right before the request. What it raises goes through,
    and then nothing was sent.

    Raises:
        NotAllowedError: the permit does not cover the step; nothing was sent.
        UnknownOutcomeError: it was sent and no usable answer came.
        RefineError: any other (a throttle, say): nothing was changed.
    """
    if not isinstance(permit, Permit) or not permit.covers(step):
        raise NotAllowedError("A write without a permit was refused.", "This is a bug: report it.")
    operation, params = request(permit, step)
    action = permission("iam", operation).action
    account = permit.role_arn.split(":")[4]
    async with clients.writer(permit) as client:
        await last()
        with translated(action, account, writing=True):
            return _made(step, await getattr(client, xform_name(operation))(**params))


def request(permit: Permit, step: Step) -> tuple[str, dict[str, Any]]:
    """Return the operation and the parameters of a step's write."""
    role = permit.role_arn.rsplit("/", 1)[-1]
    arn = step.policy_arn
    if step.kind in {StepKind.CREATE_POLICY, StepKind.DELETE_POLICY} and OWN_PATH not in arn:
        raise NotAllowedError(f"{arn} is not one of Refine's own policies.", "This is a bug: report it.")
    match step.kind:
        case StepKind.CREATE_POLICY:
            path = arn.split(":policy")[1].removesuffix(step.policy_name)
            return "CreatePolicy", {
                "PolicyName": step.policy_name,
                "Path": path,
                "PolicyDocument": step.text,
                "Description": f"Made by Refine for the role {role}, change {permit.change_id}.",
            }
        case StepKind.CREATE_VERSION:
            return "CreatePolicyVersion", {"PolicyArn": arn, "PolicyDocument": step.text, "SetAsDefault": True}
        case StepKind.DELETE_VERSION:
            return "DeletePolicyVersion", {"PolicyArn": arn, "VersionId": step.version}
        case StepKind.SET_DEFAULT_VERSION:
            return "SetDefaultPolicyVersion", {"PolicyArn": arn, "VersionId": step.version}
        case StepKind.ATTACH:
            return "AttachRolePolicy", {"RoleName": role, "PolicyArn": arn}
        case StepKind.DETACH:
            return "DetachRolePolicy", {"RoleName": role, "PolicyArn": arn}
        case StepKind.PUT_INLINE:
            return "PutRolePolicy", {"RoleName": role, "PolicyName": step.policy_name, "PolicyDocument": step.text}
        case StepKind.DELETE_INLINE:
            return "DeleteRolePolicy", {"RoleName": role, "PolicyName": step.policy_name}
        case StepKind.DELETE_POLICY:
            return "DeletePolicy", {"PolicyArn": arn}


def _made(step: Step, answer: dict[str, Any]) -> Made:
    if step.kind is StepKind.CREATE_POLICY:
        return Made(version=answer["Policy"]["DefaultVersionId"])
    if step.kind is StepKind.CREATE_VERSION:
        return Made(version=answer["PolicyVersion"]["VersionId"])
    return Made()
