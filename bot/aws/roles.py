"""Reading roles and policies, each document as the text that IAM holds, to the byte."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from bot.aws.clients import Clients
from bot.errors import DeniedError, NotFoundError, RefineError, UnavailableError
from bot.model import PolicyKind, Quotas, Role, RolePolicy

T = TypeVar("T")

_ARN: Final = re.compile(r"arn:[\w-]+:iam::(?P<account>\d{12}):role/(?:[\x21-\x7e]*/)?(?P<name>[\w+=,.@-]{1,64})")
_NAME: Final = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
QUOTAS_FOR: Final = timedelta(hours=1)
# Between the looks at a role that changes under the reader's eyes, or whose parts IAM's servers do not agree on yet.
PAUSES: Final = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRef:
    arn: str
    name: str


class _MovedError(RefineError):
    """What was listed a moment ago is gone: the parts of the answer are not of one moment."""


class Roles:
    """Reads roles; remembers each account's quotas for an hour."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._quotas: dict[str, tuple[datetime, Quotas]] = {}
        self._asking: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def role(self, arn_or_name: str, account: str | None = None) -> Role:
        """Return the role with everything that bears on it.

        Raises:
            NotFoundError: there is no such role.
            UnavailableError: it kept changing while it was read.
        """
        arn, account, name = await self._which(arn_or_name, account)
        return await self._settled(lambda: self._role(arn, account, name))

    async def roles(self) -> tuple[RoleRef, ...]:
        """Return every role of the bot's own account."""
        pages = await self._clients.pages("iam", "ListRoles", PaginationConfig={"PageSize": 1000})
        return tuple(RoleRef(arn=r["Arn"], name=r["RoleName"]) for page in pages for r in page["Roles"])

    async def policy(self, arn: str, *, role_arn: str) -> RolePolicy | None:
        """Return a managed policy as the account of the role sees it; None where there is none."""
        account = role_arn.split(":")[4]
        return await self._settled(lambda: self._managed(account, arn))

    async def room(self, role_arn: str) -> int | None:
        """Return how many more customer managed policies the account may have now; None where AWS does not say."""
        try:
            summary = (await self._iam("GetAccountSummary", role_arn.split(":")[4]))["SummaryMap"]
        except DeniedError:
            return None
        most = summary.get("PoliciesQuota")
        return most - summary.get("Policies", 0) if most else None

    async def _which(self, arn_or_name: str, account: str | None) -> tuple[str, str, str]:
        """Return ARN (empty where only the name is known), account and name."""
        if arn_or_name.startswith("arn:"):
            found = _ARN.fullmatch(arn_or_name)
            if found is None:
                raise NotFoundError(f"{arn_or_name[:120]} is not the ARN of an IAM role.", "Check the spelling.")
            return arn_or_name, found["account"], found["name"]
        name = arn_or_name.rsplit("/", 1)[-1]  # names are unique in an account; people paste them with their path
        account = account or (await self._clients.whoami())[0]
        if not _NAME.fullmatch(name) or not _ACCOUNT.fullmatch(account):
            raise NotFoundError(f"{account}/{name[:64]} cannot be the name of a role.", "Check the spelling.")
        return "", account, name

    async def _settled(self, read: Callable[[], Awaitable[T]]) -> T:
        for pause in PAUSES:
            try:
                return await read()
            except _MovedError:
                await self._clients.settings.sleep(pause)
        try:
            return await read()
        except _MovedError:
            raise UnavailableError(
                "The role's policies kept changing while Refine read them.", "Try again in a minute."
            ) from None

    # -------------------- a role

    async def _role(self, arn: str, account: str, name: str) -> Role:
        read_at = self._clients.settings.clock()
        try:
            head = (await self._iam("GetRole", account, RoleName=name))["Role"]
        except NotFoundError:
            raise NotFoundError(f"There is no role {name} in account {account}.", "Check the spelling.") from None
        if arn and head["Arn"] != arn:
            raise NotFoundError(
                f"There is no role {arn}.", f"The account has a role of that name with another path: {head['Arn']}."
            )
        bound = head.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
        inline, attached, boundary, quotas, stack = await asyncio.gather(
            self._all_inline(account, name),
            self._all_attached(account, name),
            self._managed(account, bound) if bound else _nothing(),
            self._account_quotas(account),
            self._stack(account, name),
        )
        tags = _tags(head)
        template = head.get("SourceRoleTemplate", {}).get("TemplateArn", "")
        last = head.get("RoleLastUsed", {})
        return Role(
            arn=head["Arn"],
            name=head["RoleName"],
            account=account,
            path=head["Path"],
            role_id=head["RoleId"],
            created_at=head["CreateDate"],
            trust_text=_text(head["AssumeRolePolicyDocument"]),
            policies=(*attached, *inline),
            read_at=read_at,
            description=head.get("Description", ""),
            boundary_arn=bound,
            boundary_text=boundary.text if boundary else "",
            last_used_at=last.get("LastUsedDate"),
            last_used_region=last.get("Region", ""),
            # Not a tag at AWS; the rules look for it among them, because it forbids the same.
            tags=(*tags, ("SourceRoleTemplate", template)) if template else tags,
            quotas=quotas,
            stack=stack,
        )

    async def _all_inline(self, account: str, role: str) -> tuple[RolePolicy, ...]:
        pages = await self._iam_pages("ListRolePolicies", account, RoleName=role)
        names = sorted(name for page in pages for name in page["PolicyNames"])
        return tuple(await asyncio.gather(*(self._inline(account, role, name) for name in names)))

    async def _inline(self, account: str, role: str, name: str) -> RolePolicy:
        try:
            answer = await self._iam("GetRolePolicy", account, RoleName=role, PolicyName=name)
        except NotFoundError:
            raise _MovedError(name) from None
        return RolePolicy(name=name, kind=PolicyKind.INLINE, text=_text(answer["PolicyDocument"]))

    async def _all_attached(self, account: str, role: str) -> tuple[RolePolicy, ...]:
        pages = await self._iam_pages("ListAttachedRolePolicies", account, RoleName=role)
        arns = sorted(p["PolicyArn"] for page in pages for p in page["AttachedPolicies"])
        found = await asyncio.gather(*(self._managed(account, arn) for arn in arns))
        if None in found:
            raise _MovedError(role)
        return tuple(p for p in found if p is not None)

    async def _managed(self, account: str, arn: str) -> RolePolicy | None:
        try:
            head = (await self._iam("GetPolicy", account, PolicyArn=arn))["Policy"]
        except NotFoundError:
            return None
        try:
            answer, pages = await asyncio.gather(
                self._iam("GetPolicyVersion", account, PolicyArn=arn, VersionId=head["DefaultVersionId"]),
                self._iam_pages("ListPolicyVersions", account, PolicyArn=arn),
            )
        except NotFoundError:
            raise _MovedError(arn) from None
        default = answer["PolicyVersion"]
        versions = {v["VersionId"]: v["IsDefaultVersion"] for page in pages for v in page["Versions"]}
        if not versions.get(default["VersionId"]):
            raise _MovedError(arn)
        ordered = tuple(sorted(versions, key=lambda v: int(v.removeprefix("v").split(".")[0])))
        kind = PolicyKind.AWS if ":iam::aws:policy/" in arn else PolicyKind.CUSTOMER
        spare = next((v for v in ordered if not versions[v]), None)
        oldest = ""
        if (
            kind is PolicyKind.CUSTOMER
            and spare
            and len(ordered) >= (await self._account_quotas(account)).policy_versions
        ):
            oldest = await self._version(account, arn, spare)
        return RolePolicy(
            name=head["PolicyName"],
            kind=kind,
            oldest_text=oldest,
            text=_text(default["Document"]),
            arn=arn,
            attachments=head.get("AttachmentCount", 0),
            boundary_uses=head.get("PermissionsBoundaryUsageCount", 0),
            default_version=default["VersionId"],
            versions=ordered,
            version_created_at=default.get("CreateDate"),
            path=head.get("Path", "/"),
            description=head.get("Description", ""),
            tags=_tags(head),
        )

    async def _version(self, account: str, arn: str, version: str) -> str:
        try:
            answer = await self._iam("GetPolicyVersion", account, PolicyArn=arn, VersionId=version)
        except NotFoundError:
            raise _MovedError(arn) from None
        return _text(answer["PolicyVersion"]["Document"])

    # -------------------- the account around it

    async def _account_quotas(self, account: str) -> Quotas:
        async with self._asking[account]:  # a first read asks once, however many policies are read side by side
            now = self._clients.settings.clock()
            known = self._quotas.get(account)
            if known is None or now - known[0] >= QUOTAS_FOR:
                known = self._quotas[account] = (now, await self._read_quotas(account))
            return known[1]

    async def _read_quotas(self, account: str) -> Quotas:
        try:
            summary = (await self._iam("GetAccountSummary", account))["SummaryMap"]
        except DeniedError as error:
            self._clients.once(f"quotas/{account}", "quotas unknown, using IAM's defaults", why=error.sentence)
            summary = {}
        default = Quotas()
        return Quotas(
            managed_policy_size=summary.get("PolicySizeQuota", default.managed_policy_size),
            role_policies_size=summary.get("RolePolicySizeQuota", default.role_policies_size),
            attached_policies=summary.get("AttachedPoliciesPerRoleQuota", default.attached_policies),
            policy_versions=summary.get("VersionsPerPolicyQuota", default.policy_versions),
        )

    async def _stack(self, account: str, role: str) -> str:
        """Return the name of the CloudFormation stack that owns the role, in the first Region that has one.

        CloudFormation does not tag the roles it makes, so it has to be asked. Where it may not be asked, or does not
        answer, the owner is unknown and the role is treated as nobody's.
        """
        found = await asyncio.gather(*(self._stack_in(r, account, role) for r in self._clients.regions()))
        return next((stack for stack in found if stack), "")

    async def _stack_in(self, region: str, account: str, role: str) -> str:
        try:
            answer = await self._clients.call(
                "cloudformation", "DescribeStackResources", account=account, region=region, PhysicalResourceId=role
            )
        except RefineError as error:
            # CloudFormation says ValidationError for "no stack has it": RefusedError, and nothing to warn of.
            if error.code != "aws_refused":
                self._clients.once(f"stack/{account}/{region}", "stack owner unknown", why=error.sentence)
            return ""
        return next(
            (
                str(r["StackName"])
                for r in answer.get("StackResources", ())
                if r.get("ResourceType") == "AWS::IAM::Role" and r.get("PhysicalResourceId") == role
            ),
            "",
        )

    async def _iam(self, operation: str, account: str, **params: Any) -> dict[str, Any]:
        return await self._clients.call("iam", operation, account=account, **params)

    async def _iam_pages(self, operation: str, account: str, **params: Any) -> list[dict[str, Any]]:
        return await self._clients.pages("iam", operation, account=account, **params)


async def _nothing() -> None:
    return None


def _text(document: str) -> str:
    """Return the document's own text: IAM sends it URL-encoded after RFC 3986.

    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetPolicyVersion.html
    """
    return unquote(document, errors="strict")


def _tags(head: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((t["Key"], t["Value"]) for t in head.get("Tags", ())))
