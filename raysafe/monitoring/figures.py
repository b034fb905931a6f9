"""Figures for people who look: what all gateways observed in the last seconds, or in a past period, and who watches."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import pyarrow.compute as pc
from sqlalchemy import select

from raysafe.monitoring.history import history_folder, with_recent
from raysafe.monitoring.window_store import recent_windows
from raysafe.monitoring.windows import Summary
from raysafe.records.monitor_tables import MonitorRow
from raysafe.records.store import Store, store_now


class Figure(NamedTuple):
    """One metric of one service, over all of its gateways."""

    service: str
    family: str
    """performance, behaviour, resources or safety."""
    metric: str
    count: int
    mean: float
    low: float
    high: float


class MonitorState(NamedTuple):
    """A monitor, and whether it is alive."""

    name: str
    place: str
    rules: str
    live: bool


def live_figures(store: Store, service: str | None = None, *, last_s: float = 60.0) -> list[Figure]:
    """By service and metric; what was observed in the last seconds, by the store's clock."""
    with store.reading() as session:
        found = recent_windows(session, last_s, service)
    sums: dict[tuple[str, str], Summary] = {}
    for observed in found:
        for metric, summary in observed.window.numbers.items():
            key = (observed.service, metric)
            sums[key] = sums[key].joined(summary) if key in sums else summary
    return [
        Figure(name, metric.partition(".")[0], metric, s.count, s.total / s.count, s.low, s.high)
        for (name, metric), s in sorted(sums.items())
        if s.count
    ]


def past_figures(store: Store, service: str, since: datetime, until: datetime) -> list[Figure]:
    """By metric; from the history, and from what no monitor has put there yet. Raises StorageError."""
    table = with_recent(store, history_folder(store.url), service=service, since=since, until=until)
    # counts of categories have no values
    table = table.filter((pc.field("count") > 0) & pc.field("total").is_valid())
    sums = [("count", "sum"), ("total", "sum"), ("low", "min"), ("high", "max")]
    grouped = table.group_by(["family", "metric"]).aggregate(sums).sort_by("metric")
    return [
        Figure(service, r["family"], r["metric"], n := r["count_sum"], r["total_sum"] / n, r["low_min"], r["high_max"])
        for r in grouped.to_pylist()
    ]


def monitor_state(store: Store) -> list[MonitorState]:
    """The monitors that have ever watched over this store's services."""
    with store.reading() as session:
        now = store_now(session)
        rows = session.scalars(select(MonitorRow).order_by(MonitorRow.name))
        return [MonitorState(r.name, r.place, r.rules, r.holder is not None and now < r.expires) for r in rows]
