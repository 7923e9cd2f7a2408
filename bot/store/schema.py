"""The tables, in SQL that SQLite and PostgreSQL share. Compound values are canonical JSON (see `codec`).

Change a table here and add a migration beside the others; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

REVISION: Final = "0002"  # of the newest migration


class Utc(sa.TypeDecorator[datetime]):
    """An aware time in UTC, on a database that has no zones too."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _text(name: str, *more: Any, **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *more, **{"nullable": False, **options})


cases = sa.Table(
    "cases",
    metadata,
    _text("id", primary_key=True),
    _text("role_arn", unique=True),
    _text("account"),
    _text("state", index=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("opened_at", Utc, nullable=False),
    sa.Column("updated_at", Utc, nullable=False, index=True),
    _text("findings"),
    _text("role", nullable=True),
    _text("evidence", nullable=True),
    _text("proposal_id", nullable=True),  # the latest
    sa.Column("approvals_needed", sa.Integer, nullable=False),
    _text("change_id", nullable=True),  # the latest
    _text("channel"),
    _text("thread_ts"),
    _text("asked_by"),
    _text("reason"),
    _text("sentence"),
    sa.Column("until", Utc),
    _text("resume", nullable=True),
    _text("task"),
)

proposals = sa.Table(
    "proposals",
    metadata,
    _text("id", primary_key=True),
    _text("case_id", sa.ForeignKey("cases.id"), index=True),
    sa.Column("revision", sa.Integer, nullable=False),  # of the case, from the moment it waits for approval
    _text("digest"),
    _text("body"),
    # How many actions it takes away: the sums over all changes must not read megabytes of `body`.
    sa.Column("removed", sa.Integer, nullable=False, server_default="0"),
)

approvals = sa.Table(
    "approvals",
    metadata,
    _text("proposal_id", sa.ForeignKey("proposals.id"), primary_key=True),
    _text("who", primary_key=True),
    _text("digest"),
    sa.Column("at", Utc, nullable=False),
    _text("reason"),
)

changes = sa.Table(
    "changes",
    metadata,
    _text("id", primary_key=True),
    _text("case_id", sa.ForeignKey("cases.id"), index=True),
    _text("kind"),
    sa.Column("at", Utc, nullable=False),
    _text("body"),
    _text("outcome"),  # empty while it is under way
)

journal = sa.Table(
    "journal",
    metadata,
    _text("change_id", sa.ForeignKey("changes.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    _text("state"),
    _text("made"),  # the version id that the step made
    sa.Column("at", Utc, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    _text("key", unique=True),
    _text("kind"),
    _text("name"),
    _text("case_id", sa.ForeignKey("cases.id"), nullable=True),
    _text("args"),
    _text("state"),  # waiting | sent | dead
    sa.Column("due_at", Utc, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("in_doubt", sa.Boolean(create_constraint=False), nullable=False),  # an earlier try may have reached Slack
    sa.Column("again", sa.Boolean(create_constraint=False), nullable=False),  # a card: moved on since it was handed out
    _text("why"),  # the last try failed
    _text("channel"),
    _text("ts"),
    sa.Index("ix_outbox_state", "state", "case_id", "id"),
)

flags = sa.Table("flags", metadata, _text("name", primary_key=True), _text("value"))

kv = sa.Table("kv", metadata, _text("key", primary_key=True), _text("value"))

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    _text("case_id", nullable=True, index=True),
    _text("body"),
    _text("mac"),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    sa.Column("seq", sa.Integer, nullable=False),
    _text("mac"),
)
