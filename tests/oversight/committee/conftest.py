"""A founded committee over a store of each kind. It is founded once; each test gets a copy of its log."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from raysafe.records.store import Store, open_store
from tests.oversight.committee.house import House

TABLES = "committee_events, decisions, evidence, model_versions"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.serve)])
def either(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """An empty store of each kind; its audit log is in tmp_path."""
    monkeypatch.setenv("RAYSAFE_AUDIT", str(tmp_path / "audit"))
    address = f"sqlite:///{tmp_path}/raysafe.db"
    if request.param == "postgresql":
        address = request.getfixturevalue("postgresql")
    with open_store(address) as opened:
        if request.param == "postgresql":
            with opened.session() as session:
                session.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
        yield opened


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house with members and a policy, and no model."""
    folder = tmp_path_factory.mktemp("founded")
    with pytest.MonkeyPatch.context() as patch, open_store(f"sqlite:///{folder}/raysafe.db") as opened:
        patch.setenv("RAYSAFE_AUDIT", str(folder / "audit"))
        house = House(opened, folder)
        house.found()
    return house


def copy_of(founded: House, store: Store, folder: Path) -> House:
    """The log, its anchors and key: the store takes its events from there."""
    for name in ("audit", "audit-anchors"):
        shutil.copytree(founded.folder / name, folder / name)
    shutil.copy(founded.folder / "audit-key.pem", folder)
    house = House(store, folder, keys=dict(founded.keys), ids=dict(founded.ids))
    house.register()
    return house


@pytest.fixture
def both(founded: House, either: Store, tmp_path: Path) -> House:
    """On SQLite and on PostgreSQL."""
    return copy_of(founded, either, tmp_path)


@pytest.fixture
def house(founded: House, store: Store, tmp_path: Path) -> House:
    """On SQLite."""
    return copy_of(founded, store, tmp_path)
