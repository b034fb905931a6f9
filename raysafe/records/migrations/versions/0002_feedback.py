"""What people judge, who they are, and their judgements."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "feedback_items",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
    )
    op.create_table(
        "feedback_raters",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "feedback_judgements",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("feedback_items.id"), nullable=False, index=True),
        sa.Column("rater_id", sa.Integer, sa.ForeignKey("feedback_raters.id"), nullable=False),
        sa.Column("choice", sa.String(8), nullable=False),
        sa.Column("rating", sa.Float),
        sa.Column("first", sa.String(1)),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone", sa.DateTime(timezone=True)),
    )
    live = sa.text("undone IS NULL")
    op.create_index(
        "feedback_judgements_live",
        "feedback_judgements",
        ["rater_id", "item_id"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )


def downgrade() -> None:
    for table in ("feedback_judgements", "feedback_raters", "feedback_items"):
        op.drop_table(table)
