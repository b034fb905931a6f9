"""What gateways share while they serve: kill orders, leases, API keys and budgets' counters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    revisions = op.create_table(
        "control_revision",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(revisions, [{"id": 1, "number": 0}])
    op.create_table(
        "leases",
        sa.Column("holder", sa.String(64), primary_key=True),
        sa.Column("service", sa.String(200), nullable=False),
        sa.Column("names", sa.JSON, nullable=False),
        sa.Column("place", sa.String(300), nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("renewals", sa.BigInteger, nullable=False),
        sa.Column("renewed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "kill_orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("target", sa.String(300), nullable=False, index=True),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("audit_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("restored_by", sa.String(200)),
        sa.Column("restore_reason", sa.Text),
        sa.Column("restored", sa.DateTime(timezone=True)),
        sa.Column("restore_hash", sa.String(64)),
    )
    op.create_table(
        "api_keys",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String(64), nullable=False, index=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True)),
        sa.Column("ended", sa.DateTime(timezone=True)),
        sa.Column("replaced_by", sa.Integer),
    )
    op.create_table(
        "budget_counters",
        sa.Column("counter", sa.String(300), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
    )
    op.create_index("budget_counters_place", "budget_counters", ["counter", "place"])


def downgrade() -> None:
    for table in ("budget_counters", "api_keys", "kill_orders", "leases", "control_revision"):
        op.drop_table(table)
