"""Interventions, and what the safety monitor keeps: windows, alerts, silences, deliveries, and who is in charge."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "interventions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("target", sa.String(300), nullable=False, index=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("alert", sa.String(32)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("proposed_by", sa.String(200), nullable=False),
        sa.Column("proposed", _TIME, nullable=False),
        sa.Column("starts", _TIME),
        sa.Column("duration_s", sa.Float),
        sa.Column("until", _TIME),
        sa.Column("applied_by", sa.String(200)),
        sa.Column("applied", _TIME),
        sa.Column("audit_hash", sa.String(64), unique=True),
        sa.Column("ended_by", sa.String(200)),
        sa.Column("end_reason", sa.Text),
        sa.Column("ended", _TIME),
    )
    op.create_table(
        "monitor_windows",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("service", sa.String(200), nullable=False, index=True),
        sa.Column("gateway", sa.String(64), nullable=False),
        sa.Column("start", _TIME, nullable=False),
        sa.Column("written", _TIME, nullable=False, index=True),
        sa.Column("body", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("rule", sa.String(200), nullable=False),
        sa.Column("service", sa.String(200), nullable=False),
        sa.Column("alert_group", sa.String(200), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("metric", sa.String(200), nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("detections", sa.Integer, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("opened", _TIME, nullable=False, index=True),
        sa.Column("updated", _TIME, nullable=False),
        sa.Column("quiet", sa.Text),
        sa.Column("acknowledged_by", sa.String(200)),
        sa.Column("acknowledged", _TIME),
        sa.Column("note", sa.Text),
        sa.Column("resolved", _TIME),
        sa.Column("resolved_by", sa.String(200)),
    )
    unresolved = sa.text("resolved IS NULL")
    op.create_index(
        "alerts_unresolved",
        "alerts",
        ["rule", "service"],
        unique=True,
        sqlite_where=unresolved,
        postgresql_where=unresolved,
    )
    op.create_table(
        "silences",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("rule", sa.String(200), nullable=False),
        sa.Column("service", sa.String(200), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("until", _TIME, nullable=False, index=True),
    )
    op.create_table(
        "alert_deliveries",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("sink", sa.String(200), nullable=False),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try", _TIME, nullable=False, index=True),
        sa.Column("delivered", _TIME),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "monitors",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("holder", sa.String(64)),
        sa.Column("place", sa.String(300), nullable=False),
        sa.Column("rules", sa.String(300), nullable=False),
        sa.Column("expires", _TIME, nullable=False),
        sa.Column("read_up_to", sa.BigInteger, nullable=False),
        sa.Column("archived_up_to", sa.BigInteger, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("monitors", "alert_deliveries", "silences", "alerts", "monitor_windows", "interventions"):
        op.drop_table(table)
