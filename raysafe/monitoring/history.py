"""The history of all windows, in Parquet: a file for each flush, joined into one for each day that is over.

A flush's file is named by the first window in it, so that a flush that is made again after a crash replaces itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysafe.data.cache import written_whole
from raysafe.errors import StorageError
from raysafe.monitoring.window_store import Observed, read_windows
from raysafe.records.monitor_tables import MonitorRow
from raysafe.records.store import Store, parse_url

SCHEMA = pa.schema(
    [
        ("start", pa.timestamp("us", tz="UTC")),
        ("seconds", pa.float64()),
        ("service", pa.string()),
        ("gateway", pa.string()),
        ("family", pa.string()),
        ("metric", pa.string()),
        ("count", pa.int64()),
        ("total", pa.float64()),
        ("total_squares", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
"""`metric` of a category has the category behind a slash, and only a count."""


def history_folder(store_url: str) -> Path:
    """RAYSAFE_MONITOR, or monitor/ beside a SQLite store, or runs/monitor. Raises StorageError for no store's URL."""
    if os.environ.get("RAYSAFE_MONITOR"):
        return Path(os.environ["RAYSAFE_MONITOR"])
    url = parse_url(store_url)
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(url.database).parent / "monitor"
    return Path("runs", "monitor").absolute()


def as_table(found: Iterable[Observed]) -> pa.Table:
    """A row for each metric of each window."""
    rows = [row for observed in found for row in _rows(observed)]
    return pa.Table.from_pylist(rows, SCHEMA)


def flush(folder: Path, found: Sequence[Observed]) -> list[Path]:
    """Write windows to the files of their days; returns these. Raises StorageError."""
    days: dict[date, list[Observed]] = {}
    for observed in found:
        days.setdefault(observed.start.astimezone(UTC).date(), []).append(observed)
    written = []
    for day, windows in days.items():
        path = folder / f"{day}" / f"{windows[0].id:012d}.parquet"
        _write(path, as_table(windows))
        written.append(path)
    return written


def compact(folder: Path, today: date) -> list[Path]:
    """Join the files of each day that is over; returns the days' files. Raises StorageError."""
    joined = []
    for place in sorted(folder.glob("????-??-??")):
        # a day's late windows may still come for a while
        if not place.is_dir() or (today - date.fromisoformat(place.name)).days < 2:
            continue
        target = folder / f"{place.name}.parquet"
        parts = sorted(place.glob("*.parquet"))
        if parts:
            known = [pq.read_table(target)] if target.exists() else []
            _write(target, pa.concat_tables([*known, *(pq.read_table(part) for part in parts)]))
            joined.append(target)
        for part in parts:
            part.unlink()
        place.rmdir()
    return joined


def read_history(
    folder: Path,
    *,
    service: str | None = None,
    metric: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """The rows of SCHEMA that fit, in the order of time; none where nothing was written yet. Raises StorageError."""
    try:
        parts = [pq.read_table(path, schema=SCHEMA) for path in _files(folder, since, until)]
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"the monitor's history in {folder} can't be read: {error}") from None
    return _fitting(pa.concat_tables([SCHEMA.empty_table(), *parts]), service, metric, since, until)


def with_recent(
    store: Store,
    folder: Path,
    *,
    service: str | None = None,
    metric: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """As read_history, with what no monitor has put into files yet."""
    with store.reading() as session:
        archived = max((row.archived_up_to for row in session.query(MonitorRow)), default=0)
        recent = as_table(read_windows(session, archived, limit=100_000))
    known = read_history(folder, service=service, metric=metric, since=since, until=until)
    return pa.concat_tables([known, _fitting(recent, service, metric, since, until)])


def _files(folder: Path, since: datetime | None, until: datetime | None) -> list[Path]:
    first = since.astimezone(UTC).date().isoformat() if since else ""
    last = until.astimezone(UTC).date().isoformat() if until else "9999"
    found = (*folder.glob("????-??-??.parquet"), *folder.glob("????-??-??/*.parquet"))
    return sorted(path for path in found if first <= _day(folder, path) <= last)


def _day(folder: Path, path: Path) -> str:
    return path.relative_to(folder).parts[0].removesuffix(".parquet")


def _fitting(
    table: pa.Table, service: str | None, metric: str | None, since: datetime | None, until: datetime | None
) -> pa.Table:
    for column, wanted in (("service", service), ("metric", metric)):
        if wanted is not None:
            table = table.filter(pc.field(column) == wanted)
    if since is not None:
        table = table.filter(pc.field("start") >= since)
    if until is not None:
        table = table.filter(pc.field("start") < until)
    return table.sort_by("start")


def _rows(observed: Observed) -> Iterable[dict[str, object]]:
    window = observed.window
    base = {
        "start": observed.start,
        "seconds": window.seconds,
        "service": observed.service,
        "gateway": observed.gateway,
    }
    for metric, s in window.numbers.items():
        figures = {"count": s.count, "total": s.total, "total_squares": s.total_squares, "low": s.low, "high": s.high}
        yield {**base, "family": metric.partition(".")[0], "metric": metric, **figures}
    for metric, counts in window.categories.items():
        for category, count in counts.items():
            named = {"family": metric.partition(".")[0], "metric": f"{metric}/{category}", "count": count}
            yield {**base, **named}


def _write(path: Path, table: pa.Table) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    except OSError as error:
        raise StorageError(f"can't write the monitor's history to {path}: {error.strerror}") from None
