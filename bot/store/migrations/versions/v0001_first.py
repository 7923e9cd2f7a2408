"""The first tables, and the triggers that keep the audit log append-only."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "cases",
        _text("id"),
        _text("role_arn"),
        _text("account"),
        _text("state"),
        sa.Column("revision", sa.Integer, nullable=False),
        _time("opened_at"),
        _time("updated_at"),
        _text("findings"),
        _text("role", nullable=True),
        _text("evidence", nullable=True),
        _text("proposal_id", nullable=True),
        sa.Column("approvals_needed", sa.Integer, nullable=False),
        _text("change_id", nullable=True),
        _text("channel"),
        _text("thread_ts"),
        _text("asked_by"),
        _text("reason"),
        _text("sentence"),
        _time("until", nullable=True),
        _text("resume", nullable=True),
        _text("task"),
        sa.PrimaryKeyConstraint("id", name="pk_cases"),
        sa.UniqueConstraint("role_arn", name="uq_cases_role_arn"),
    )
    op.create_index("ix_cases_state", "cases", ["state"])
    op.create_index("ix_cases_updated_at", "cases", ["updated_at"])
    op.create_table(
        "proposals",
        _text("id"),
        _text("case_id"),
        sa.Column("revision", sa.Integer, nullable=False),
        _text("digest"),
        _text("body"),
        sa.PrimaryKeyConstraint("id", name="pk_proposals"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_proposals_case_id"),
    )
    op.create_index("ix_proposals_case_id", "proposals", ["case_id"])
    op.create_table(
        "approvals",
        _text("proposal_id"),
        _text("who"),
        _text("digest"),
        _time("at"),
        _text("reason"),
        sa.PrimaryKeyConstraint("proposal_id", "who", name="pk_approvals"),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name="fk_approvals_proposal_id"),
    )
    op.create_table(
        "changes",
        _text("id"),
        _text("case_id"),
        _text("kind"),
        _time("at"),
        _text("body"),
        _text("outcome"),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_changes_case_id"),
    )
    op.create_index("ix_changes_case_id", "changes", ["case_id"])
    op.create_table(
        "journal",
        _text("change_id"),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        _text("state"),
        _text("made"),
        _time("at"),
        sa.PrimaryKeyConstraint("change_id", "number", name="pk_journal"),
        sa.ForeignKeyConstraint(["change_id"], ["changes.id"], name="fk_journal_change_id"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, nullable=False),
        _text("key"),
        _text("kind"),
        _text("name"),
        _text("case_id", nullable=True),
        _text("args"),
        _text("state"),
        _time("due_at"),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("in_doubt", sa.Boolean, nullable=False),
        sa.Column("again", sa.Boolean, nullable=False),
        _text("why"),
        _text("channel"),
        _text("ts"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("key", name="uq_outbox_key"),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name="fk_outbox_case_id"),
    )
    op.create_index("ix_outbox_state", "outbox", ["state", "case_id", "id"])
    op.create_table("flags", _text("name"), _text("value"), sa.PrimaryKeyConstraint("name", name="pk_flags"))
    op.create_table("kv", _text("key"), _text("value"), sa.PrimaryKeyConstraint("key", name="pk_kv"))
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        _text("case_id", nullable=True),
        _text("body"),
        _text("mac"),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_case_id", "audit", ["case_id"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("seq", sa.Integer, nullable=False),
        _text("mac"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one_row")),
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "mac": ""}])
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
    )
    op.execute(
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
    )
