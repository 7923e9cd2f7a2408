"""A local AWS, emptied before each test, and gateways that find it as they would find AWS: by the environment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.aws import Aws, AwsSettings
from sandbox.aws import LocalAws, start
from tests.aws.between import Between
from tests.aws.world import EXTERNAL_ID, member_role

Gateway = Callable[..., Awaitable[Aws]]


@pytest.fixture(scope="session")
def server() -> Iterator[LocalAws]:
    aws = start(world=False)
    yield aws
    aws.stop()


@pytest.fixture
def aws(server: LocalAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LocalAws:
    """The local AWS with nothing in it but the member account's role; AWS_ENDPOINT_URL leads there."""
    server.reset(world=False)
    server.report_seconds = 0.0
    member_role(server)
    server._calls.clear()
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "AKIASANDBOX000000000",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "2",  # reads give up soon; what it does to writes is one of the tests
    }.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
async def between(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Between]:
    """A proxy before the local AWS; AWS_ENDPOINT_URL leads to it."""
    async with Between(aws.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
async def gateway(aws: LocalAws) -> AsyncIterator[Gateway]:
    """Open gateways; they are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(**settings: object) -> Aws:
            fields: dict[str, object] = {
                "clock": lambda: datetime.now(UTC),
                "sleep": asyncio.sleep,
                "external_id": EXTERNAL_ID,
                "regions": ("us-east-1", "eu-west-1"),
                "report_timeout_seconds": 5,
            }
            return await stack.enter_async_context(Aws(AwsSettings(**{**fields, **settings})))

        yield make
