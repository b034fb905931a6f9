"""An empty store of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from raysafe.records.store import Store, open_store

TABLES = "monitor_windows, alerts, silences, alert_deliveries, monitors, interventions, leases, kill_orders"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.serve)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Its audit log and its history are in tmp_path."""
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "audit"))
    monkeypatch.setenv("RAYSAFE_MONITOR", str(tmp_path / "monitor"))
    if request.param == "sqlite":
        with open_store(f"sqlite:///{tmp_path}/raysafe.db") as opened:
            yield opened
        return
    with open_store(request.getfixturevalue("postgresql")) as opened:
        with opened.session() as session:
            session.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY"))
        yield opened
