"""The number of the last change of kill orders and keys, which every gateway must see."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from raysafe.records.control_tables import RevisionRow


def bump(session: Session) -> int:
    """Count a change, in the transaction that makes it; returns its number."""
    query = update(RevisionRow).where(RevisionRow.id == 1).values(number=RevisionRow.number + 1)
    return session.execute(query.returning(RevisionRow.number)).scalar_one()


def read_revision(session: Session) -> int:
    return session.execute(select(RevisionRow.number).where(RevisionRow.id == 1)).scalar_one()
