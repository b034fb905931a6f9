"""A store with one registered version, and the audit log beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from raysafe.records.audit import AuditLog
from raysafe.records.registry import Registry
from raysafe.records.store import Store, open_store
from raysafe.records.versions import ModelVersion
from tests.records.test_registry import make_run


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = f"sqlite:///{tmp_path}/raysafe.db"
    monkeypatch.setenv("RAYSAFE_STORE", url)
    monkeypatch.delenv("RAYSAFE_REVIEWER", raising=False)
    monkeypatch.delenv("RAYSAFE_AUDIT", raising=False)
    return url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[AuditLog]:
    with AuditLog(tmp_path / "audit", "review") as log:
        yield log


@pytest.fixture
def version(store: Store, tmp_path: Path) -> ModelVersion:
    return Registry(store).register(make_run(tmp_path / "run"), name="tiny")[0]
