"""What the store's tests share: a clock that is set by hand, small values, and a strategy for large ones."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import types
import typing
from collections.abc import AsyncIterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

import sqlalchemy as sa
from hypothesis import strategies as st

from bot.model import (
    Approval,
    Case,
    CaseId,
    CaseState,
    Change,
    ChangeId,
    Digest,
    Evidence,
    Finding,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    Proof,
    Proposal,
    ProposalId,
    Role,
    RolePolicy,
    Step,
    StepKind,
    Trim,
    TrimSettings,
    UserId,
)
from bot.rules import REFINE, Event, Team
from bot.store import Store
from tests import postgres

AT = datetime(2026, 1, 31, 9, tzinfo=UTC)
KEY = b"a key of the tests"
ARN = "arn:aws:iam::123456789012:role/ApplicationRole"
ANN, BEN, CAT, RITA = UserId("U0ANN"), UserId("U0BEN"), UserId("U0CAT"), UserId("U0RITA")
TEAM = Team(workspace="T1", approvers=frozenset({ANN, BEN, CAT}), needed=1)
TWO = Team(workspace="T1", approvers=frozenset({ANN, BEN, CAT}), needed=2)


_IDS = itertools.count(1)


class Clock:
    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> datetime:
        return self.now

    def on(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


POSTGRESQL = False  # set by the fixture `each_engine`


def url(path: Path) -> str:
    """Return the URL of the database that belongs to the folder, of the kind that the test is about."""
    if given := os.environ.get("TEST_DATABASE_URL"):  # we are another process of a test
        return given
    return postgres.url(path) if POSTGRESQL else f"sqlite:///{path / 'bot.db'}"


@contextlib.asynccontextmanager
async def opened(path: Path, clock: Clock | None = None, **more: typing.Any) -> AsyncIterator[Store]:
    options = {"audit_key": KEY, "clock": clock or Clock(), "new_id": lambda: f"case{next(_IDS)}", **more}
    async with Store.open(url(path), **options) as store:
        yield store


async def ask(store: Store, query: sa.Executable) -> typing.Any:
    """Return the one value of a query, past the store's methods."""

    async def there() -> typing.Any:
        async with store._read() as connection:
            return await connection.scalar(query)

    return await store.place.run(there())


# -------------------- values


def role(arn: str = ARN) -> Role:
    policy = RolePolicy(
        name="DynamoDBAccess",
        kind=PolicyKind.CUSTOMER,
        text='{"Action": "dynamodb:*"}',
        arn="arn:aws:iam::123456789012:policy/DynamoDBAccess",
        default_version="v1",
        versions=("v1",),
    )
    return Role(
        arn=arn,
        name=arn.rsplit("/", 1)[-1],
        account=arn.split(":")[4],
        path="/",
        role_id="AROA1",
        created_at=AT - timedelta(days=500),
        trust_text="{}",
        policies=(policy,),
        read_at=AT,
    )


def finding(name: str, arn: str = ARN) -> Finding:
    return Finding(
        id=name,
        analyzer_arn="arn:aws:access-analyzer:us-east-1:123456789012:analyzer/a",
        region="us-east-1",
        role_arn=arn,
        account="123456789012",
        status="ACTIVE",
        principals=(),
        created_at=AT,
        updated_at=AT,
    )


def proposal(case: Case, *, by: UserId = RITA, text: str = '{"Action": "dynamodb:DescribeTable"}') -> Proposal:
    r = role(case.role_arn)
    outcome = PolicyOutcome(
        name="DynamoDBAccess",
        kind=PolicyKind.CUSTOMER,
        source=r.policies[0].key,
        outcome=Outcome.TRIMMED,
        tier=1,
        text=text,
        characters=len(text),
    )
    proof = Proof(no_new_access=True, nothing_used_lost=True)
    return Proposal(
        id=ProposalId(f"{case.id}-{case.revision}"),
        case_id=case.id,
        role=r,
        evidence=Evidence(services=(), made_at=AT),
        settings=TrimSettings(now=AT),
        trim=Trim(policies=(outcome,), actions=(), services=(), warnings=(), proof=proof),
        proposed_by=by,
        proposed_at=AT,
    )


def yes(case: Case, by: UserId = ANN, **more: typing.Any) -> Approval:
    assert case.proposal is not None
    return Approval(**{"proposal_id": case.proposal.id, "digest": case.proposal.digest(), "by": by, "at": AT, **more})


def change(case: Case, name: str = "", *, kind: str = "apply", steps: int = 2, undoes: str | None = None) -> Change:
    assert case.proposal is not None
    return Change(
        id=ChangeId(name or f"{case.proposal.id}-{kind}"),
        case_id=case.id,
        proposal_id=case.proposal.id,
        kind=kind,
        role_arn=case.role_arn,
        steps=tuple(
            Step(number=n, kind=StepKind.CREATE_VERSION, policy_name=f"P{n}", text="new", before="old")
            for n in range(1, steps + 1)
        ),
        by=ANN,
        at=AT,
        before=role(case.role_arn),
        expected=Digest("d" * 64),
        undoes=ChangeId(undoes) if undoes else None,
    )


async def new_case(store: Store, arn: str = ARN, *, card: bool = True) -> Case:
    case, made = await store.open_case(
        role_arn=arn, account=arn.split(":")[4], by=REFINE, card=card, channel="C0SECURITY"
    )
    assert made
    return case


async def waiting(store: Store, arn: str = ARN) -> Case:
    """Return a case whose proposal waits for approval."""
    case = await new_case(store, arn)
    case = await store.move(case.id, Event.PROPOSE, by=RITA, task="{}", resume=CaseState.NEW)
    return await store.move(case.id, Event.PROPOSED, by=REFINE, asked_by=RITA, proposal=proposal(case))


async def applying(store: Store, arn: str = ARN) -> Case:
    case = await waiting(store, arn)
    return await store.approve(case.id, case.revision, yes(case), team=TEAM)


def no_case(state: CaseState = CaseState.NEW) -> Case:
    return Case(id=CaseId("c"), role_arn=ARN, account="1", state=state, revision=1, opened_at=AT, updated_at=AT)


# -------------------- any value of a type

_LEAVES: dict[object, st.SearchStrategy[typing.Any]] = {
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    int: st.integers(-(2**40), 2**40),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=st.just(UTC)),
    types.NoneType: st.none(),
}


@functools.cache
def values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Build any value of a model type, along its type hints."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind in _LEAVES:
        return _LEAVES[kind]
    if isinstance(kind, typing.NewType):
        return values(kind.__supertype__)
    if origin is typing.Literal:
        return st.sampled_from(args)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(values(a) for a in args))
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(a) for a in args))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    assert is_dataclass(kind)
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{f.name: values(hints[f.name]) for f in fields(kind)})
