"""Evidence finds the files that it is on, whatever their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import update

from raysafe.evaluation.stored import add_to_store
from raysafe.oversight.safety_case import load_case
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.records.tables import VersionRow
from raysafe.runtime.run import Run
from tests.records.test_registry import evidence, make_run


class Notes:
    """In place of a run: what it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, **details: Any) -> None:
        self.events.append((kind, details))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/raysafe.db"


def test_evidence_reaches_every_name_of_the_files(url: str, tmp_path: Path) -> None:
    with open_store(url) as store:
        registry = Registry(store)
        first, _ = registry.register(make_run(tmp_path / "a"), name="first")
        registry.register(make_run(tmp_path / "b", weights="b"), name="second")
        registry.register(tmp_path / "a", name="second")
    notes = Notes()
    assert add_to_store(url, first.digest, [evidence(first.digest, 0.9)], cast(Run, notes))
    assert notes.events == [("evidence stored", {"model": "first:1, second:2"})]
    with open_store(url) as store:
        failed = [load_case(store, label).failures for label in ("first:1", "second:1", "second:2")]
    assert failed == [("safety-prompts/unsafe_rate",), (), ("safety-prompts/unsafe_rate",)]


def test_evidence_never_goes_to_a_model_that_is_called_like_the_digest(url: str, tmp_path: Path) -> None:
    with open_store(url) as store:
        registry = Registry(store)
        version, _ = registry.register(make_run(tmp_path / "a"), name="first")
        other, _ = registry.register(make_run(tmp_path / "b", weights="b"), name="other")
        with store.session() as session:
            session.execute(update(VersionRow).where(VersionRow.id == other.id).values(name=version.digest))
    assert add_to_store(url, version.digest, [evidence(version.digest)], cast(Run, Notes()))
    with open_store(url) as store:
        assert [len(Registry(store).evidence(v)) for v in (version, other)] == [1, 0]


def test_evidence_on_files_that_are_not_registered_is_noted(url: str) -> None:
    notes = Notes()
    assert not add_to_store(url, "0" * 64, [evidence("0" * 64)], cast(Run, notes))
    assert notes.events[0][0] == "not registered"
