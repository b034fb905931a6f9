"""Items, raters and judgements of one project in a store. A judgement is durable when `add` returns."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from raysafe.errors import ConfigError, DataError
from raysafe.feedback.items import Item
from raysafe.feedback.order import Which
from raysafe.records.store import Store
from raysafe.records.tables import FeedbackItemRow, FeedbackJudgementRow, FeedbackRaterRow

Choice = Literal["a", "b", "tie", "skip", "rating"]
RATER_NAME = re.compile(r"[\w.@+-]{1,64}")


class AlreadyJudged(Exception):
    """The rater has a judgement of this item that is not undone."""


@dataclass(frozen=True)
class Judgement:
    """What one rater said of one item."""

    rater: str
    item: str
    choice: Choice
    rating: float | None
    """For the choice `rating`."""
    first: Which | None
    """The side that was shown first; None where there is one side."""
    seconds: float
    """How long the rater had it in view, by the page's clock."""
    time: datetime
    undone: datetime | None = None


class Judgements:
    """One project's rows. Several threads and processes may use the same store at once."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add_items(self, items: Sequence[Item]) -> int:
        """Keep those that are new, after those that are there; returns how many.

        Raises DataError where an item of the same name holds something else, and keeps none then.
        """
        with self._store.session(alone=True) as session:
            known = {row.name: row.digest for row in session.scalars(select(FeedbackItemRow))}
            changed = [item.name for item in items if known.get(item.name, item.digest) != item.digest]
            if changed:
                raise DataError(
                    f"item '{changed[0]}' was something else when it was first shown: give what changed another id, "
                    "or judge it in another folder"
                )
            new = [item for item in items if item.name not in known]
            for place, item in enumerate(new, start=len(known)):
                body = item.model_dump(mode="json", exclude={"rewards"})
                session.add(FeedbackItemRow(name=item.name, place=place, digest=item.digest, body=body))
            return len(new)

    def items(self) -> list[Item]:
        """All items, in the order in which they came."""
        with self._store.reading() as session:
            rows = session.scalars(select(FeedbackItemRow).order_by(FeedbackItemRow.place))
            return [Item.model_validate(row.body) for row in rows]

    def add_rater(self, name: str, *, renew: bool = False) -> str | None:
        """The token of a new rater, or of a known one to `renew`; None for a known one, whose token is not kept.

        A token has 256 random bits, so that one round of SHA-256 hides it.
        """
        if not RATER_NAME.fullmatch(name):
            raise ConfigError(f"a rater's name has 1 to 64 letters, digits or any of _ . @ + -, got {name[:80]!r}")
        token = secrets.token_urlsafe(32)
        with self._store.session(alone=True) as session:
            row = session.scalar(select(FeedbackRaterRow).where(FeedbackRaterRow.name == name))
            if row is None:
                session.add(FeedbackRaterRow(name=name, sha256=_digest(token), created=datetime.now(UTC)))
            elif renew:
                row.sha256 = _digest(token)
            else:
                return None
        return token

    def raters(self) -> list[str]:
        """Names, in the order in which they came."""
        with self._store.reading() as session:
            return list(session.scalars(select(FeedbackRaterRow.name).order_by(FeedbackRaterRow.id)))

    def identify(self, token: str) -> str | None:
        """The rater that a token belongs to, or None; every digest is compared in constant time."""
        digest, found = _digest(token), None
        with self._store.reading() as session:
            for name, kept in session.execute(select(FeedbackRaterRow.name, FeedbackRaterRow.sha256)):
                if hmac.compare_digest(digest, kept):
                    found = name
        return found

    def add(self, judgement: Judgement) -> None:
        """Keep a judgement; raises AlreadyJudged. It has been written to disk when this returns."""
        with self._store.session(alone=True) as session:
            rater, item = _ids(session, judgement.rater, judgement.item)
            row = FeedbackJudgementRow
            live = select(row.id).where(row.rater_id == rater, row.item_id == item, row.undone.is_(None))
            if session.scalar(live) is not None:
                raise AlreadyJudged
            session.add(
                row(
                    rater_id=rater,
                    item_id=item,
                    choice=judgement.choice,
                    rating=judgement.rating,
                    first=judgement.first,
                    seconds=judgement.seconds,
                    time=judgement.time,
                )
            )

    def undo(self, rater: str, *, among: Collection[str]) -> str | None:
        """Mark the rater's latest judgement as undone and return its item; None where it is on none of `among`."""
        row = FeedbackJudgementRow
        with self._store.session(alone=True) as session:
            latest = session.execute(
                select(row, FeedbackItemRow.name)
                .join(FeedbackItemRow)
                .join(FeedbackRaterRow)
                .where(FeedbackRaterRow.name == rater, row.undone.is_(None))
                .order_by(row.id.desc())
                .limit(1)
            ).first()
            if latest is None or latest[1] not in among:
                return None
            latest[0].undone = datetime.now(UTC)
            return latest[1]

    def done(self, rater: str) -> set[str]:
        """Items that the rater has judged or skipped."""
        row = FeedbackJudgementRow
        query = (
            select(FeedbackItemRow.name)
            .join(row, row.item_id == FeedbackItemRow.id)
            .join(FeedbackRaterRow, row.rater_id == FeedbackRaterRow.id)
            .where(FeedbackRaterRow.name == rater, row.undone.is_(None))
        )
        with self._store.reading() as session:
            return set(session.scalars(query))

    def counts(self) -> dict[str, int]:
        """How many judgements each item has, without skips and what was undone; items without any are left out."""
        row = FeedbackJudgementRow
        query = (
            select(FeedbackItemRow.name, func.count())
            .join(row, row.item_id == FeedbackItemRow.id)
            .where(row.undone.is_(None), row.choice != "skip")
            .group_by(FeedbackItemRow.name)
        )
        with self._store.reading() as session:
            return {item: int(count) for item, count in session.execute(query)}

    def all(self, *, undone: bool = False) -> list[Judgement]:
        """Every judgement, oldest first; those that were undone too, if asked for."""
        row = FeedbackJudgementRow
        query = (
            select(row, FeedbackRaterRow.name, FeedbackItemRow.name)
            .join(FeedbackRaterRow, row.rater_id == FeedbackRaterRow.id)
            .join(FeedbackItemRow, row.item_id == FeedbackItemRow.id)
            .order_by(row.id)
        )
        if not undone:
            query = query.where(row.undone.is_(None))
        with self._store.reading() as session:
            return [
                Judgement(rater, item, j.choice, j.rating, j.first, j.seconds, j.time, j.undone)  # type: ignore[arg-type]
                for j, rater, item in session.execute(query)
            ]


def _ids(session: Session, rater: str, item: str) -> tuple[int, int]:
    """Row numbers of a rater and an item."""
    found = session.scalar(select(FeedbackRaterRow.id).where(FeedbackRaterRow.name == rater))
    shown = session.scalar(select(FeedbackItemRow.id).where(FeedbackItemRow.name == item))
    if found is None or shown is None:
        raise DataError(f"there is no rater '{rater}'" if found is None else f"there is no item '{item}'")
    return found, shown


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
