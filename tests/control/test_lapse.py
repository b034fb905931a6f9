"""A hold that nobody decides on by its time is blocked, and the audit log says so, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from raysafe.control.held import Held
from raysafe.control.holds import CLOCK, LAPSED, Holds
from raysafe.errors import ConfigError
from raysafe.records.audit_chain import read_rows
from raysafe.records.audit_verify import verify
from raysafe.records.hold_table import HoldRow
from raysafe.records.store import Store, open_store


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def holds(store: Store, tmp_path: Path) -> Iterator[Holds]:
    yield Holds(store, tmp_path / "audit")


def put(holds: Holds, name: str, hours: float) -> None:
    held = Held(endpoint="chat", model="m", messages=({"role": "user", "content": "hello"},))
    holds.put(
        name,
        hours,
        service="m",
        tenant="acme",
        key_id="ann",
        stage="input",
        guard="g",
        reason="why",
        digest=name * 8,
        held=held,
    )


def rows(folder: Path) -> list[tuple[str, str, str]]:
    found = [row for path in sorted((folder / "audit").glob("holds*.jsonl")) for _, row in read_rows(path)]
    return [(row["kind"], row["actor"], row["subject"]) for row in found if row is not None]


def test_what_nobody_decided_on_is_written_down_once_and_emptied(holds: Holds, tmp_path: Path) -> None:
    put(holds, "late", 1e-9)
    put(holds, "waits", 1)
    assert holds.lapse() == ["late"]
    assert holds.lapse() == []
    assert rows(tmp_path) == [(LAPSED, CLOCK, "late")]
    late = holds.get("late")
    assert late is not None and late.held is None
    assert [hold.id for hold in holds.list()] == ["waits"]
    assert not any(report.problems for report in verify(tmp_path / "audit"))


def test_what_somebody_decided_on_does_not_lapse(holds: Holds, store: Store, tmp_path: Path) -> None:
    put(holds, "refused", 1)
    holds.decide("refused", "refused", reviewer="rita", note="no")
    with store.session() as session:
        session.execute(update(HoldRow).values(expires=datetime.now(UTC) - timedelta(seconds=1)))
    assert holds.lapse() == []
    assert [row[0] for row in rows(tmp_path)] == ["refused"]


def test_a_clock_that_is_set_back_opens_no_lapsed_hold_again(holds: Holds, store: Store) -> None:
    put(holds, "late", 1e-9)
    holds.lapse()
    with store.session() as session:
        session.execute(update(HoldRow).values(expires=datetime.now(UTC) + timedelta(hours=1)))
    with pytest.raises(ConfigError, match="waits for no decision any more: it is expired"):
        holds.decide("late", "released", reviewer="rita", note="too late")
    assert holds.released("late") is None
