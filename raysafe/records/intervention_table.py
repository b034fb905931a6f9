"""The table of interventions: what is done about a service while it runs, by whom, why, and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from raysafe.records.tables import Base, UtcDateTime


class InterventionRow(Base):
    """One intervention. Once it is applied it counts with its row in the audit log only. Times: the store's clock."""

    __tablename__ = "interventions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    target: Mapped[str] = mapped_column(String(300), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    reason: Mapped[str] = mapped_column(Text)
    alert: Mapped[str | None] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    """proposed, applied, declined or reverted."""
    proposed_by: Mapped[str] = mapped_column(String(200))
    proposed: Mapped[datetime] = mapped_column(UtcDateTime)
    starts: Mapped[datetime | None] = mapped_column(UtcDateTime)
    duration_s: Mapped[float | None] = mapped_column(Float)
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    applied_by: Mapped[str | None] = mapped_column(String(200))
    applied: Mapped[datetime | None] = mapped_column(UtcDateTime)
    audit_hash: Mapped[str | None] = mapped_column(String(64), unique=True)
    ended_by: Mapped[str | None] = mapped_column(String(200))
    end_reason: Mapped[str | None] = mapped_column(Text)
    ended: Mapped[datetime | None] = mapped_column(UtcDateTime)
