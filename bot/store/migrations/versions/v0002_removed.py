"""Count once what a proposal takes away: it was counted in its whole text, each time that somebody opened App Home."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_GONE = '"kept":false'  # stands once in a proposal's canonical text for each action that it takes away


def upgrade() -> None:
    op.add_column("proposals", sa.Column("removed", sa.Integer, nullable=False, server_default="0"))
    proposals = sa.table("proposals", sa.column("body", sa.Text), sa.column("removed", sa.Integer))
    spared = sa.func.length(proposals.c.body) - sa.func.length(sa.func.replace(proposals.c.body, _GONE, ""))
    op.execute(proposals.update().values(removed=spared // len(_GONE)))
