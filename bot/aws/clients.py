"""Clients: one session an account, one open client a service and Region, and the two ways to call.

Reading calls go through `Clients.call` and `Clients.pages`: retried by botocore, in short time limits. The writing call
goes through `Clients.writer`: never retried by botocore, because a write that got no answer has to be read back first.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Self

import structlog
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentialResolver, AioDeferredRefreshableCredentials
from aiobotocore.session import get_session
from botocore import xform_name
from botocore.credentials import CredentialProvider
from botocore.handlers import json_decode_policies

from bot.aws.permissions import Group, actions, permission
from bot.aws.translate import translated
from bot.errors import ConfigError, DeniedError, NotAllowedError
from bot.rules import Permit

log = structlog.get_logger()

READ_ATTEMPTS: Final = 6  # with botocore's pauses (0 to 2**n seconds each): about a quarter of a minute
CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 20
POOL: Final = 16  # connections of one client, and so how many calls run side by side
WRITE_SESSION_SECONDS: Final = 900  # the shortest that STS grants
_ANALYZER: Final = re.compile(r"arn:[\w-]+:access-analyzer:[a-z0-9-]+:\d{12}:analyzer/.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """What the gateway is told beside the standard AWS configuration (profile, Region, AWS_ENDPOINT_URL …).

    Raises:
        ConfigError: an analyzer's ARN is none.
    """

    clock: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    analyzers: tuple[str, ...] = ()  # ARNs; empty: every active one of the Regions
    regions: tuple[str, ...] = ()  # empty: the session's own
    member_role_name: str = "RefineMember"
    external_id: str = field(default="", repr=False)
    report_timeout_seconds: float = 600

    def __post_init__(self) -> None:
        for arn in self.analyzers:
            if not _ANALYZER.fullmatch(arn):
                raise ConfigError(
                    f"REFINE_ANALYZERS names {arn!r}, which is not the ARN of an analyzer.",
                    "`aws accessanalyzer list-analyzers` shows the ARNs.",
                )


class NotAssumedError(DeniedError):
    """STS does not let the bot assume the member role of an account."""


class _AssumedRole(CredentialProvider):
    """Fetches credentials with the first call that needs them, and renews them in time."""

    METHOD = CANONICAL_NAME = "refine-member-role"

    def __init__(self, assume: Callable[[], Awaitable[dict[str, str]]]) -> None:
        self._assume = assume

    async def load(self) -> Any:
        return AioDeferredRefreshableCredentials(  # type: ignore[no-untyped-call]
            refresh_using=self._assume, method=self.METHOD
        )


class Clients:
    """An async context manager that opens clients when they are first needed and closes them all at its end."""

    def __init__(self, settings: AwsSettings) -> None:
        self.settings = settings
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._own = _raw_session()
        self._members: dict[str, Any] = {}
        self._open: dict[tuple[str, str, str, str], Any] = {}
        self._identity: tuple[str, str] | None = None
        self._said: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self._open.clear()

    # -------------------- reading

    async def call(
        self, service: str, operation: str, *, account: str = "", region: str = "", **params: Any
    ) -> dict[str, Any]:
        """Make a reading call, in the bot's own account where none is named, and return AWS's answer.

        Raises:
            KeyError: the operation is not listed in `permissions.py`.
            RefineError: as `translate.py` has it.
        """
        action = _reading(service, operation)
        with translated(action, account):
            client = await self._client(service, account, region)
            answer: dict[str, Any] = await getattr(client, xform_name(operation))(**params)
            return answer

    async def pages(
        self, service: str, operation: str, *, account: str = "", region: str = "", **params: Any
    ) -> list[dict[str, Any]]:
        """Make a reading call and return all pages of its answer."""
        action = _reading(service, operation)
        with translated(action, account):
            client = await self._client(service, account, region)
            return [page async for page in client.get_paginator(xform_name(operation)).paginate(**params)]

    async def whoami(self) -> tuple[str, str]:
        """Return the account and the ARN of the bot's own credentials."""
        if self._identity is None:
            me = await self.call("sts", "GetCallerIdentity")
            self._identity = (me["Account"], me["Arn"])
        return self._identity

    async def partition(self) -> str:
        """Return the partition of the bot's account: "aws", "aws-us-gov", "aws-cn" …"""
        return (await self.whoami())[1].split(":")[1]

    def regions(self) -> tuple[str, ...]:
        """Return the Regions to look in.

        Raises:
            ConfigError: neither the settings nor the standard AWS configuration name one.
        """
        region = self._own.get_config_variable("region")
        analyzers = tuple(sorted({arn.split(":")[3] for arn in self.settings.analyzers}))
        regions = self.settings.regions or ((str(region),) if region else analyzers)
        if not regions:
            raise ConfigError("No AWS Region is set.", "Set REFINE_REGIONS, or AWS_DEFAULT_REGION.")
        return regions

    def once(self, key: str, event: str, **facts: object) -> None:
        """Log a warning, and the next time one of the same key not again."""
        if key not in self._said:
            self._said.add(key)
            log.warning(event, **facts)

    # -------------------- writing

    @asynccontextmanager
    async def writer(self, permit: Permit) -> AsyncIterator[Any]:
        """Lend an IAM client that never repeats a request, for the account of the permit's role.

        In a member account it is a session of its own, named after the change for CloudTrail's readers, which may
        write to this one role and to customer managed policies and do nothing else, whatever the member role may.

        Raises:
            NotAllowedError: it is the role that the bot itself runs as.
        """
        account = permit.role_arn.split(":")[4]
        own, me = await self.whoami()
        if account == own:
            name = permit.role_arn.rsplit("/", 1)[-1]
            # The rules say so too, unless AWS could not be asked when the bot started.
            if f":assumed-role/{name}/" in me:
                raise NotAllowedError(f"Refine itself runs as {name}, so it must not touch it.")
            with translated("IAM", account):
                client = await self._client("iam", "", "", kind="write")
            yield client
            return
        policies = f"arn:{await self.partition()}:iam::{account}:policy/*"
        keys = await self._assume(
            account,
            session=f"refine-{permit.change_id}",
            may=actions(Group.MEMBER_WRITE),
            on=[permit.role_arn, policies],
            seconds=WRITE_SESSION_SECONDS,
        )
        async with AsyncExitStack() as stack:
            with translated("IAM", account):
                client = await stack.enter_async_context(
                    self._own.create_client(
                        "iam",
                        region_name=self._home(),
                        config=_WRITES,
                        aws_access_key_id=keys["AccessKeyId"],
                        aws_secret_access_key=keys["SecretAccessKey"],
                        aws_session_token=keys["SessionToken"],
                    )
                )
            yield client

    # -------------------- clients

    async def _client(self, service: str, account: str, region: str, *, kind: str = "read") -> Any:
        if account and account == (await self.whoami())[0]:
            account = ""
        key = (account, service, region, kind)
        async with self._lock:
            if key not in self._open:
                session = self._session(account)
                self._open[key] = await self._stack.enter_async_context(
                    session.create_client(
                        service,
                        region_name=region or self._home(),
                        config=_WRITES if kind == "write" else self._reads(),
                    )
                )
            return self._open[key]

    def _session(self, account: str) -> Any:
        if not account:
            return self._own
        if account not in self._members:
            session = _raw_session()

            async def assume() -> dict[str, str]:
                keys = await self._assume(
                    account, session="refine-read", may=actions(Group.MEMBER_READ), on="*", seconds=3600
                )
                return {
                    "access_key": keys["AccessKeyId"],
                    "secret_key": keys["SecretAccessKey"],
                    "token": keys["SessionToken"],
                    "expiry_time": keys["Expiration"].isoformat(),
                }

            session.register_component("credential_provider", AioCredentialResolver(providers=[_AssumedRole(assume)]))
            self._members[account] = session
        return self._members[account]

    async def _assume(
        self, account: str, *, session: str, may: tuple[str, ...], on: str | list[str], seconds: int
    ) -> dict[str, Any]:
        """Return fresh keys of the member role, which can do no more than `may` in this session.

        Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#policies_session
        """
        role = self.settings.member_role_name
        external = {"ExternalId": self.settings.external_id} if self.settings.external_id else {}
        limit = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": may, "Resource": on}]}
        try:
            answer = await self.call(
                "sts",
                "AssumeRole",
                RoleArn=f"arn:{await self.partition()}:iam::{account}:role/{role}",
                RoleSessionName=re.sub(r"[^\w+=,.@-]", "-", session)[:64],
                Policy=json.dumps(limit, separators=(",", ":")),
                DurationSeconds=seconds,
                **external,
            )
        except DeniedError:
            raise NotAssumedError(
                f"Refine may not assume the role {role} in account {account}.",
                "Deploy deploy/member.yaml there, with the external id of REFINE_EXTERNAL_ID.",
            ) from None
        keys: dict[str, Any] = answer["Credentials"]
        return keys

    def _home(self) -> str:
        """Return the Region for services that are not Regional: the session's own, or the first that is known."""
        return str(self._own.get_config_variable("region") or self.regions()[0])

    def _reads(self) -> AioConfig:
        # AWS_MAX_ATTEMPTS is honoured for reads; a write is never repeated by botocore, whatever the environment says.
        attempts = self._own.get_config_variable("max_attempts") or READ_ATTEMPTS
        return AioConfig(
            retries={"mode": "standard", "total_max_attempts": int(attempts)},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=POOL,
        )


_WRITES: Final = AioConfig(
    retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS
)


def _raw_session() -> Any:
    """Return a session whose IAM clients leave policy documents as IAM sends them: URL-encoded text.

    botocore would decode them to dicts, which loses spelling, white space and duplicate keys: what a rollback needs.
    """
    session = get_session()  # type: ignore[no-untyped-call]
    session.unregister("after-call.iam", json_decode_policies)
    session.register_component("data_loader", _descriptions())
    return session


@lru_cache(maxsize=1)
def _descriptions() -> Any:
    """Return botocore's descriptions of the services: they take megabytes, so all sessions share one set."""
    return get_session().get_component("data_loader")  # type: ignore[no-untyped-call]


def _reading(service: str, operation: str) -> str:
    found = permission(service, operation)
    if found.group is Group.MEMBER_WRITE:
        raise KeyError(f"{operation} writes: only Aws.write may call it")
    return found.action
