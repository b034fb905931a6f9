"""Tables that gateways share while they serve: kill orders, leases, API keys and budgets' counters."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from raysafe.records.tables import Base, UtcDateTime


class RevisionRow(Base):
    """One row, counted up by every change of kill orders and keys: who has its number has seen the change."""

    __tablename__ = "control_revision"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)


class LeaseRow(Base):
    """A gateway that says it is alive. Times are by the store's clock."""

    __tablename__ = "leases"

    holder: Mapped[str] = mapped_column(String(64), primary_key=True)
    service: Mapped[str] = mapped_column(String(200))
    names: Mapped[list[str]] = mapped_column(JSON)
    place: Mapped[str] = mapped_column(String(300))
    seen: Mapped[int] = mapped_column(BigInteger)
    renewals: Mapped[int] = mapped_column(BigInteger)
    renewed: Mapped[datetime] = mapped_column(UtcDateTime)
    expires: Mapped[datetime] = mapped_column(UtcDateTime)


class KillRow(Base):
    """An order that a target be closed, until it is restored. It counts with its row in the audit log only."""

    __tablename__ = "kill_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(String(300), index=True)
    by: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    audit_hash: Mapped[str] = mapped_column(String(64), unique=True)
    restored_by: Mapped[str | None] = mapped_column(String(200))
    restore_reason: Mapped[str | None] = mapped_column(Text)
    restored: Mapped[datetime | None] = mapped_column(UtcDateTime)
    restore_hash: Mapped[str | None] = mapped_column(String(64))


class KeyRow(Base):
    """A secret of an API key, as its digest. A key that was rotated has several rows of one id."""

    __tablename__ = "api_keys"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    id: Mapped[str] = mapped_column(String(64), index=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    tenant: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it was revoked, or seen to have expired: from then on for good, whatever the clock says later."""
    replaced_by: Mapped[int | None]


class CounterRow(Base):
    """What one budget's window has been charged: requests, tokens, or milliseconds of a model's time."""

    __tablename__ = "budget_counters"
    __table_args__ = (Index("budget_counters_place", "counter", "place"),)

    counter: Mapped[str] = mapped_column(String(300), primary_key=True)
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    used: Mapped[int] = mapped_column(BigInteger)
    place: Mapped[int] = mapped_column(BigInteger)
    """Counts its counter's windows as they begin to be used: the oldest are swept away by this, for clocks are set."""
