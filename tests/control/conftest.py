"""An empty store of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from raysafe.records.store import open_store

TABLES = "leases, kill_orders, interventions, api_keys, budget_counters, holds"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.serve)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store's URL; its audit log is in tmp_path."""
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "audit"))
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path}/raysafe.db"
        open_store(address).close()
        return address
    address = request.getfixturevalue("postgresql")
    with open_store(address) as store, store.session() as session:
        session.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY"))
        session.execute(text("UPDATE control_revision SET number = 0"))
    return address
