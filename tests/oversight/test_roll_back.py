"""Where a service can be rolled back to: the last approved version before the one that its gateways serve."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from raysafe.errors import ConfigError
from raysafe.oversight.review import decide
from raysafe.oversight.roll_back import roll_back_of
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.control_tables import LeaseRow
from raysafe.records.registry import Registry
from raysafe.records.store import Store, open_store, store_now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Four versions of m."""
    with open_store(f"sqlite:///{tmp_path}/raysafe.db") as opened:
        for number in range(1, 5):
            folder = tmp_path / f"model{number}"
            folder.mkdir()
            (folder / "config.json").write_text(f'{{"number": {number}}}')
            Registry(opened).register(folder, name="m")
        yield opened


def say(store: Store, label: str, outcome: Literal["approved", "rejected"]) -> None:
    with AuditLog(audit_folder(store.url), writer="review", unique=True) as audit:
        decide(store, audit, label, outcome, reviewer="ada", reason="r")


def serve(store: Store, *names: str) -> None:
    with store.session() as session:
        now = store_now(session)
        times = {"renewed": now, "expires": now + timedelta(seconds=60)}
        session.add(LeaseRow(holder="h", service=names[0], names=list(names), place="p", seen=0, renewals=1, **times))


def test_it_leads_to_the_newest_approved_version_that_is_older(store: Store) -> None:
    for label, outcome in (("m:1", "approved"), ("m:2", "approved"), ("m:3", "rejected"), ("m:4", "approved")):
        say(store, label, outcome)  # type: ignore[arg-type]
    serve(store, "shop", "m", "m:4")
    assert roll_back_of(store, "shop") == ("m:4", "m:2")
    say(store, "m:2", "rejected")
    assert roll_back_of(store, "m") == ("m:4", "m:1")


def test_without_an_older_approved_version_there_is_nowhere_to_go(store: Store) -> None:
    say(store, "m:2", "approved")
    say(store, "m:4", "approved")
    serve(store, "shop", "m", "m:2")
    with pytest.raises(ConfigError, match="no version before that is approved"):
        roll_back_of(store, "shop")


def test_what_no_gateway_serves_is_not_rolled_back(store: Store) -> None:
    serve(store, "upstream")
    with pytest.raises(ConfigError, match="its gateways serve no registered version"):
        roll_back_of(store, "upstream")
