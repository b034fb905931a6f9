"""The table of what a committee did. A row counts where the audit log holds the same event."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from raysafe.records.tables import Base, UtcDateTime


class CommitteeRow(Base):
    """One event; `body` is what oversight.committee.events says of its kind."""

    __tablename__ = "committee_events"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(200))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    audit_hash: Mapped[str] = mapped_column(String(64), unique=True)
