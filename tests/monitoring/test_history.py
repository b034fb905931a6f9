"""The history: every window in Parquet once, whatever is interrupted, and read back as it was observed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysafe.monitoring.archive import LIVE_S, archive
from raysafe.monitoring.figures import Figure, past_figures
from raysafe.monitoring.history import compact, flush, history_folder, read_history, with_recent
from raysafe.monitoring.lease import Lease
from raysafe.monitoring.window_store import Observed, read_windows, write_windows
from raysafe.monitoring.windows import Window, WindowBuilder
from raysafe.records.monitor_tables import MonitorRow
from raysafe.records.store import Store

DAY = datetime(2026, 11, 26, 23, 59, tzinfo=UTC)


def window(value: float) -> Window:
    builder = WindowBuilder()
    builder.add([("performance.seconds", value), ("performance.seconds", value)])
    builder.count("safety.tools", "search", 3)
    return builder.close(5.0)


def observed(number: int, start: datetime = DAY) -> Observed:
    return Observed(number, "m", "g", start, window(float(number)))


def totals(folder: Path, **asked: object) -> list[float]:
    return read_history(folder, metric="performance.seconds", **asked)["total"].to_pylist()  # type: ignore[arg-type]


def test_what_is_written_is_read_back_by_service_metric_and_time(tmp_path: Path) -> None:
    flush(tmp_path, [observed(1), observed(2, DAY + timedelta(minutes=2))])
    assert totals(tmp_path) == [2.0, 4.0]
    assert totals(tmp_path, since=DAY + timedelta(minutes=1)) == [4.0]
    assert totals(tmp_path, until=DAY + timedelta(minutes=1)) == [2.0]
    assert totals(tmp_path, service="other") == []
    [tools, _] = read_history(tmp_path, metric="safety.tools/search").to_pylist()
    assert (tools["count"], tools["total"], tools["family"]) == (3, None, "safety")


def test_any_reader_of_parquet_reads_the_files(tmp_path: Path) -> None:
    [path] = flush(tmp_path, [observed(1)])
    table = pq.ParquetFile(path).read()
    assert table["metric"].to_pylist() == ["performance.seconds", "safety.tools/search"]
    assert str(table.schema.field("start").type) == "timestamp[us, tz=UTC]"


def test_a_flush_that_is_made_again_replaces_itself(tmp_path: Path) -> None:
    flush(tmp_path, [observed(1), observed(2)])
    flush(tmp_path, [observed(1), observed(2), observed(3)])
    assert sorted(totals(tmp_path)) == [2.0, 4.0, 6.0]


def test_days_that_are_over_become_one_file_and_late_ones_join_it(tmp_path: Path) -> None:
    for number in (1, 2):
        flush(tmp_path, [observed(number)])
    assert compact(tmp_path, date(2026, 11, 27)) == []
    assert compact(tmp_path, date(2026, 11, 28)) == [tmp_path / "2026-11-26.parquet"]
    assert sorted(totals(tmp_path)) == [2.0, 4.0]
    flush(tmp_path, [observed(3)])
    compact(tmp_path, date(2026, 11, 28))
    assert sorted(totals(tmp_path)) == [2.0, 4.0, 6.0]
    assert [path.name for path in tmp_path.iterdir()] == ["2026-11-26.parquet"]


def test_archiving_keeps_live_windows_in_the_store_and_counts_each_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lease = history_folder(store.url), Lease(store, "r")
    assert lease.take("r")
    write_windows(store, "m", "g", [(DAY, window(1.0)), (DAY, window(2.0))])
    assert archive(store, lease, folder) == 2
    assert archive(store, lease, folder) == 0
    write_windows(store, "m", "g", [(DAY, window(3.0))])
    both = with_recent(store, folder, metric="performance.seconds")
    assert both["total"].to_pylist() == [2.0, 4.0, 6.0]
    assert archive(store, lease, folder) == 1
    with store.session() as session:
        assert len(read_windows(session, 0)) == 3
        session.get_one(MonitorRow, "r").read_up_to = 3
    late = DAY.replace(year=2099) + timedelta(seconds=LIVE_S)
    monkeypatch.setattr("raysafe.monitoring.archive.store_now", lambda session: late)
    archive(store, lease, folder)
    with store.reading() as session:
        assert read_windows(session, 0) == []
    assert sum(read_history(folder, metric="performance.seconds")["count"].to_pylist()) == 6


def test_past_figures_are_of_all_windows_whether_archived_or_not(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSAFE_MONITOR", str(tmp_path / "history"))
    flush(tmp_path / "history", [observed(1), observed(2, DAY - timedelta(days=40))])
    write_windows(store, "m", "g", [(DAY, window(7.0))])
    [figure] = past_figures(store, "m", DAY - timedelta(days=1), DAY + timedelta(days=1))
    assert figure == Figure("m", "performance", "performance.seconds", 4, 4.0, 1.0, 7.0)
    assert past_figures(store, "other", DAY - timedelta(days=1), DAY + timedelta(days=1)) == []


def test_who_has_no_lease_archives_nothing(store: Store) -> None:
    write_windows(store, "m", "g", [(DAY, window(1.0))])
    assert archive(store, Lease(store, "r"), history_folder(store.url)) == 0
    assert not history_folder(store.url).exists()


def test_ids_of_swept_windows_are_never_given_again(store: Store) -> None:
    """Or a monitor that goes on after the last that it saw would see nothing more."""
    from sqlalchemy import delete

    from raysafe.records.monitor_tables import WindowRow

    write_windows(store, "m", "g", [(DAY, window(1.0))])
    with store.session() as session:
        [first] = read_windows(session, 0)
        session.execute(delete(WindowRow))
    write_windows(store, "m", "g", [(DAY, window(1.0))])
    with store.reading() as session:
        assert [each.id > first.id for each in read_windows(session, 0)] == [True]
