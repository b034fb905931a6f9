"""Tables of the store. Their only other home is migrations/: a change here needs a migration there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Common metadata."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC: SQLite keeps no time zone, and PostgreSQL answers in the server's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class VersionRow(Base):
    """One version of a named model."""

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("name", "version"), UniqueConstraint("name", "digest"))

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), index=True)
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64), index=True)
    path: Mapped[str] = mapped_column(Text)
    run: Mapped[str | None] = mapped_column(Text)
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    inputs: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    parent: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime)


class EvidenceRow(Base):
    """What one examination said of one version; `body` is records.evidence.Evidence."""

    __tablename__ = "evidence"

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"), index=True)
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    added: Mapped[datetime] = mapped_column(UtcDateTime)


class DecisionRow(Base):
    """One decision on one version; the newest counts, the older ones are its history."""

    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"), index=True)
    outcome: Mapped[str] = mapped_column(String(20))
    reviewer: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    accepted_failures: Mapped[list[str]] = mapped_column(JSON)
    capabilities: Mapped[dict[str, Any]] = mapped_column(JSON)
    evidence_digest: Mapped[str] = mapped_column(String(64))
    terms: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    audit_hash: Mapped[str] = mapped_column(String(64))
    time: Mapped[datetime] = mapped_column(UtcDateTime)


class FeedbackItemRow(Base):
    """One thing that people compare or rate; `body` is feedback.items.Item."""

    __tablename__ = "feedback_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    place: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]] = mapped_column(JSON)


class FeedbackRaterRow(Base):
    """One person who judges, known by the digest of a token."""

    __tablename__ = "feedback_raters"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)


class FeedbackJudgementRow(Base):
    """One judgement, kept for good: an undone one says when. A rater has one on an item that is not undone."""

    __tablename__ = "feedback_judgements"
    __table_args__ = (
        Index(
            "feedback_judgements_live",
            "rater_id",
            "item_id",
            unique=True,
            sqlite_where=text("undone IS NULL"),
            postgresql_where=text("undone IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("feedback_items.id"), index=True)
    rater_id: Mapped[int] = mapped_column(ForeignKey("feedback_raters.id"))
    choice: Mapped[str] = mapped_column(String(8))
    rating: Mapped[float | None]
    first: Mapped[str | None] = mapped_column(String(1))
    seconds: Mapped[float]
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    undone: Mapped[datetime | None] = mapped_column(UtcDateTime)
