"""Budgets' counters in the store: read and locked in one order by all, so that no two writers wait for each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import select, text, tuple_
from sqlalchemy.orm import Session

from raysafe.control.budget_sums import Spot, Window
from raysafe.records.control_tables import CounterRow

KEPT: dict[Window, int] = {"minute": 1500, "hour": 800, "day": 400}
"""Windows of each counter that are kept, the last ones that were begun, whatever a clock said then."""

_ADD = text(
    "INSERT INTO budget_counters (counter, start, used, place) "
    "SELECT CAST(:counter AS VARCHAR(300)), CAST(:start AS BIGINT), 0, COALESCE(MAX(place), 0) + 1 "
    "FROM budget_counters WHERE counter = :counter ON CONFLICT DO NOTHING"
)
_SWEEP = text(
    "DELETE FROM budget_counters WHERE counter = :counter "
    "AND place <= (SELECT MAX(place) FROM budget_counters WHERE counter = :counter) - :kept"
)
_CHARGE = text("UPDATE budget_counters SET used = used + :units WHERE counter = :counter AND start = :start")


def add_missing(session: Session, spots: Collection[Spot]) -> None:
    """Rows for windows that may have none yet; each that begins sweeps its counter's oldest away."""
    if not spots:
        return
    session.execute(_ADD, [{"counter": counter, "start": start} for counter, start in sorted(spots)])
    swept = [{"counter": counter, "kept": _kept(counter)} for counter, _ in sorted(spots) if _kept(counter)]
    if swept:
        session.execute(_SWEEP, swept)


def read_locked(session: Session, spots: Collection[Spot]) -> dict[Spot, int]:
    """What these counters were charged; nobody else changes them before the transaction ends."""
    where = tuple_(CounterRow.counter, CounterRow.start).in_(sorted(spots))
    query = select(CounterRow.counter, CounterRow.start, CounterRow.used).where(where)
    query = query.order_by(CounterRow.counter, CounterRow.start).with_for_update()
    return {(counter, start): used for counter, start, used in session.execute(query)}


def charge(session: Session, units: Mapping[Spot, int]) -> None:
    """Add to the counters; what is negative gives back."""
    rows = [{"counter": spot[0], "start": spot[1], "units": change} for spot, change in sorted(units.items()) if change]
    if rows:
        session.execute(_CHARGE, rows)


def _kept(counter: str) -> int | None:
    """None for a total, whose only window is always kept."""
    return next((kept for window, kept in KEPT.items() if counter.endswith(f"/{window}")), None)
