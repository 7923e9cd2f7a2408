"""STS: who the caller is, and AssumeRole that asks the role's trust policy."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.iam.utils import generate_access_key_id_from_account_id
from moto.sts.responses import TokenResponse

from sandbox.aws.front import AwsError, Front
from sandbox.aws.policy import Caller, Context, admits
from sandbox.aws.state import HUB, MEMBER, ORGANIZATION, Session, now

if TYPE_CHECKING:
    from sandbox.aws.local import LocalAws


class Sts(Front, TokenResponse):
    signing_name = "sts"
    failed = ("InternalFailure", "The request processing has failed because of an unknown error.")

    def __init__(self, aws: LocalAws) -> None:
        super().__init__(aws)

    def assume_role(self) -> ActionResult:
        """Give out keys where the role's trust policy lets this caller in.

        Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
        """
        arn: str = self._get_param("RoleArn")
        name: str = self._get_param("RoleSessionName")
        caller, role = self.caller, self.state.role(arn)
        if role is None or role.arn != arn:
            raise self._denied("sts:AssumeRole", arn)
        context = self._context(caller, name)
        asked = ["sts:AssumeRole"]
        asked += ["sts:SetSourceIdentity"] if self._get_param("SourceIdentity") else []
        asked += ["sts:TagSession"] if self._get_param("Tags") else []
        trust = json.loads(role.assume_role_policy_document)
        for action in asked:
            if not admits(trust, caller, action, context):
                raise self._denied(action, arn)
        seconds = self._get_int_param("DurationSeconds", 3600)
        if not 900 <= seconds <= int(role.max_session_duration or 3600):
            raise AwsError(
                "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        account = role.account_id
        key = generate_access_key_id_from_account_id(account, prefix="ASIA", total_length=20)
        session_arn = f"arn:aws:sts::{account}:assumed-role/{role.name}/{name}"
        session = Session(
            caller=Caller(account=account, arn=role.arn, session_arn=session_arn),
            user_id=f"{role.id}:{name}",
            expires=now() + timedelta(seconds=seconds),
        )
        self.state.sessions[key] = session
        answer: dict[str, Any] = {
            "Credentials": {
                "AccessKeyId": key,
                "SecretAccessKey": secrets.token_hex(20),
                "SessionToken": secrets.token_urlsafe(200),
                "Expiration": session.expires,
            },
            "AssumedRoleUser": {"AssumedRoleId": session.user_id, "Arn": session_arn},
        }
        if self._get_param("SourceIdentity"):
            answer["SourceIdentity"] = self._get_param("SourceIdentity")
        return ActionResult(answer)

    def _context(self, caller: Caller, session_name: str) -> Context:
        values = {
            "aws:principalaccount": caller.account,
            "aws:principalarn": caller.arn,
            "sts:rolesessionname": session_name,
        }
        if caller.account in (HUB, MEMBER):
            values["aws:principalorgid"] = ORGANIZATION
        for key, param in (("sts:externalid", "ExternalId"), ("sts:sourceidentity", "SourceIdentity")):
            if self._get_param(param):
                values[key] = self._get_param(param)
        return Context(values=values)

    def _denied(self, action: str, arn: str) -> AwsError:
        who = self.caller.session_arn or self.caller.arn
        return AwsError("AccessDenied", f"User: {who} is not authorized to perform: {action} on resource: {arn}")

    def get_caller_identity(self) -> ActionResult:
        session = self.state.sessions.get(self.access_key)
        return ActionResult(
            {
                "UserId": session.user_id if session else "AIDASANDBOXREFINEUSER",
                "Account": self.caller.account,
                "Arn": self.caller.session_arn or self.caller.arn,
            }
        )
