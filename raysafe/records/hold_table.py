"""The table of exchanges that are held for a person's decision."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from raysafe.records.tables import Base, UtcDateTime


class HoldRow(Base):
    """One exchange at the stage where a guard held it. `body` is control.holds.Held; it is emptied once it expires."""

    __tablename__ = "holds"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    service: Mapped[str] = mapped_column(String(200), index=True)
    tenant: Mapped[str] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(64))
    stage: Mapped[str] = mapped_column(String(16))
    guard: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    expires: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    outcome: Mapped[str | None] = mapped_column(String(16))
    reviewer: Mapped[str | None] = mapped_column(String(200))
    note: Mapped[str | None] = mapped_column(Text)
    decided: Mapped[datetime | None] = mapped_column(UtcDateTime)
    audit_hash: Mapped[str | None] = mapped_column(String(64))
    used: Mapped[datetime | None] = mapped_column(UtcDateTime)
