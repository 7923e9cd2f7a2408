"""Random roles, reports and settings over a few services, for the properties."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from bot.errors import TooBigError
from bot.model import ActionUse, Evidence, Mode, PolicyKind, Quotas, RolePolicy, ServiceUse, Trim, TrimSettings
from bot.policy import Catalogue, load_catalogue, trim
from bot.policy.catalogue import Action

NOW = datetime(2026, 1, 31, tzinfo=UTC)
SERVICES = ("dynamodb", "s3", "sqs", "lambda", "iam", "kms", "sts", "rds-db")
# `python -m tests.benchmarks.policy_long` asks for many more.
EXAMPLES = int(os.environ.get("REFINE_EXAMPLES", "60"))


class Few:
    """The real catalogue, but of a few services only: NotAction stays quick to judge."""

    def services(self) -> tuple[str, ...]:
        return tuple(sorted(SERVICES))

    def title(self, service: str) -> str:
        return load_catalogue().title(service)

    def actions(self, service: str) -> dict[str, Action]:
        return dict(load_catalogue().actions(service)) if service in SERVICES else {}


CATALOGUE = Few()
NAMES = {s: sorted(a.name for a in CATALOGUE.actions(s).values()) for s in SERVICES}
ALL = [f"{s}:{n}" for s in SERVICES for n in NAMES[s]]
NEW = ("Act", "ActMore", "Rest")  # actions of a service that only the report knows: newsvc
UNKNOWN = (
    *("s3:Frobnicate", "s3:Frob*", "nowhere:*", "nowhere:Act", "sqs:sendfax"),
    *("newsvc:*", "newsvc:Act*", "newsvc:Rest"),
)


def examples(share: float = 1.0) -> settings:
    return settings(max_examples=max(10, int(EXAMPLES * share)), deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def patterns(draw: st.DrawFn) -> str:
    shape = draw(
        st.sampled_from(
            ("name", "name", "all", "all", "prefix", "infix", "suffix", "mark", "case", "unknown", "every", "pairs")
        )
    )
    service = draw(st.sampled_from(SERVICES))
    name = draw(st.sampled_from(NAMES[service]))
    cut = draw(st.integers(1, len(name)))
    return {
        "name": f"{service}:{name}",
        "all": f"{service}:*",
        "prefix": f"{service}:{name[:cut]}*",
        "infix": f"{service}:*{name[cut // 2 : cut]}*",
        "suffix": f"{service}:*{name[-cut:]}",
        "mark": f"{service}:{name[: cut - 1]}?{name[cut:]}",
        "case": f"{service}:{name}".swapcase(),
        "unknown": draw(st.sampled_from(UNKNOWN)),
        "every": draw(st.sampled_from(("*", "*:*"))),
        "pairs": draw(st.sampled_from(("iam:PassRole", "sts:TagSession", "rds-db:connect", "lambda:CreateFunction"))),
    }[shape]


@st.composite
def statements(draw: st.DrawFn) -> dict:
    key = draw(st.sampled_from(("Action", "Action", "Action", "Action", "NotAction")))
    many = draw(st.lists(patterns(), min_size=1, max_size=4))
    where = draw(st.sampled_from(("Resource", "Resource", "NotResource")))
    return {
        **({"Sid": draw(st.sampled_from(("A", "B", "Read1")))} if draw(st.booleans()) else {}),
        "Effect": draw(st.sampled_from(("Allow", "Allow", "Allow", "Deny"))),
        key: many[0] if len(many) == 1 and draw(st.booleans()) else many,
        where: draw(st.sampled_from(("*", "arn:aws:s3:::b/*", ["arn:aws:s3:::${aws:username}", "*"]))),
        **({"Condition": {"Bool": {"aws:SecureTransport": "true"}}} if draw(st.integers(0, 3)) == 0 else {}),
    }


@st.composite
def documents(draw: st.DrawFn) -> str:
    body = draw(st.lists(statements(), min_size=1, max_size=3))
    return json.dumps(
        {
            **draw(st.sampled_from(({"Version": "2012-10-17"}, {"Version": "2008-10-17"}, {}))),
            "Statement": body[0] if len(body) == 1 and draw(st.booleans()) else body,
        },
        indent=draw(st.sampled_from((None, 1, 4))),
    )


def policy(number: int, kind: PolicyKind, text: str, attachments: int = 1) -> RolePolicy:
    return RolePolicy(
        name=f"P{number}",
        kind=kind,
        arn="" if kind is PolicyKind.INLINE else f"arn:aws:iam::111122223333:policy/P{number}",
        text=text,
        attachments=attachments,
    )


@st.composite
def roles(draw: st.DrawFn) -> list[RolePolicy]:
    kinds = draw(st.lists(st.sampled_from(tuple(PolicyKind)), min_size=1, max_size=3))
    return [policy(i, k, draw(documents()), draw(st.sampled_from((1, 1, 2)))) for i, k in enumerate(kinds)]


@st.composite
def reports(draw: st.DrawFn) -> Evidence:
    def at() -> datetime | None:
        days = draw(st.sampled_from((None, 1, 89, 90, 91, 399)))
        return None if days is None else NOW - timedelta(days=days)

    return Evidence(
        services=tuple(
            ServiceUse(
                namespace=s,
                last_accessed=at(),
                actions=tuple(
                    ActionUse(action=a, last_accessed=at())
                    for a in draw(st.lists(st.sampled_from((*NAMES.get(s, NEW), "BrandNew")), max_size=6, unique=True))
                ),
            )
            for s in draw(st.lists(st.sampled_from((*SERVICES, "newsvc")), unique=True))
        ),
        made_at=NOW,
        role_arn="arn:aws:iam::111122223333:role/R",
    )


def run(
    role: list[RolePolicy],
    report: Evidence,
    mode: Mode = Mode.SAFE,
    quotas: Quotas | None = None,
    keep: tuple[str, ...] = (),
    catalogue: Catalogue = CATALOGUE,
) -> Trim | None:
    """Trim; None where it fits no quota."""
    try:
        settings = TrimSettings(mode=mode, now=NOW, quotas=quotas or Quotas(), keep=keep)
        return trim(role, report, catalogue, settings)
    except TooBigError:
        return None


def used(report: Evidence) -> set[str]:
    return {
        f"{s.namespace}:{a.action}".lower()
        for s in report.services
        for a in s.actions
        if a.last_accessed and NOW - a.last_accessed <= timedelta(days=90)
    }
