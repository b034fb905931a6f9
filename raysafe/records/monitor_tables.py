"""Tables of the safety monitor: windows of figures, alerts, silences, what sinks are owed, and who is in charge."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Float, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from raysafe.records.tables import Base, UtcDateTime


class WindowRow(Base):
    """What one gateway observed in one window; `body` is monitoring.windows.Window. Swept once it is in the history."""

    __tablename__ = "monitor_windows"
    # the ids of what was swept are never given again: who reads goes on after the last that it saw
    __table_args__: ClassVar[dict[str, Any]] = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    service: Mapped[str] = mapped_column(String(200), index=True)
    gateway: Mapped[str] = mapped_column(String(64))
    start: Mapped[datetime] = mapped_column(UtcDateTime)
    written: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    """By the store's clock; `start` and the seconds in the body are the gateway's."""
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class AlertRow(Base):
    """An alert of one rule on one service; no two of them are unresolved at a time."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index(
            "alerts_unresolved",
            "rule",
            "service",
            unique=True,
            sqlite_where=text("resolved IS NULL"),
            postgresql_where=text("resolved IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    rule: Mapped[str] = mapped_column(String(200))
    service: Mapped[str] = mapped_column(String(200))
    alert_group: Mapped[str] = mapped_column(String(200))
    severity: Mapped[str] = mapped_column(String(16))
    """As it stands, escalations included."""
    metric: Mapped[str] = mapped_column(String(200))
    summary: Mapped[str] = mapped_column(Text)
    value: Mapped[float] = mapped_column(Float)
    detections: Mapped[int]
    level: Mapped[int]
    """Escalations that have happened."""
    opened: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)
    quiet: Mapped[str | None] = mapped_column(Text)
    """Why nobody is told of it now: a silence, or the alert that inhibits it."""
    acknowledged_by: Mapped[str | None] = mapped_column(String(200))
    acknowledged: Mapped[datetime | None] = mapped_column(UtcDateTime)
    note: Mapped[str | None] = mapped_column(Text)
    resolved: Mapped[datetime | None] = mapped_column(UtcDateTime)
    resolved_by: Mapped[str | None] = mapped_column(String(200))


class SilenceRow(Base):
    """Nobody is told of the alerts that it matches, until it ends. An empty field matches all."""

    __tablename__ = "silences"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    rule: Mapped[str] = mapped_column(String(200))
    service: Mapped[str] = mapped_column(String(200))
    by: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    until: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class DeliveryRow(Base):
    """A notification that a sink is owed, until it has taken it. Its id is the receiver's to tell a repeat by."""

    __tablename__ = "alert_deliveries"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    sink: Mapped[str] = mapped_column(String(200))
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    attempts: Mapped[int]
    next_try: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    delivered: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)


class MonitorRow(Base):
    """The monitor in charge of a set of rules, by lease; what it has read, and what its detectors remember."""

    __tablename__ = "monitors"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    holder: Mapped[str | None] = mapped_column(String(64))
    place: Mapped[str] = mapped_column(String(300))
    rules: Mapped[str] = mapped_column(String(300))
    """Label of the rules in force."""
    expires: Mapped[datetime] = mapped_column(UtcDateTime)
    read_up_to: Mapped[int] = mapped_column(BigInteger)
    archived_up_to: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[dict[str, Any]] = mapped_column(JSON)
