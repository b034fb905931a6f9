"""What a committee did, and the terms of its decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "committee_events",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False, index=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("audit_hash", sa.String(64), nullable=False, unique=True),
    )
    op.add_column("decisions", sa.Column("terms", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("decisions", "terms")
    op.drop_table("committee_events")
