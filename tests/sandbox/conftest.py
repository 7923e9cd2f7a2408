"""One local AWS a module, as new for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.aws import LocalAws, start


@pytest.fixture(scope="module")
def server() -> Iterator[LocalAws]:
    aws = start()
    yield aws
    aws.stop()


@pytest.fixture
def aws(server: LocalAws) -> LocalAws:
    server.reset()
    return server
