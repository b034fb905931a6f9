"""Interventions: who may apply and lift them, and that whoever writes the store alone opens nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_log import CHAIN, InterventionLog, standing
from raysafe.control.intervention_orders import (
    apply,
    confirm,
    decline,
    list_interventions,
    propose,
    read_interventions,
    revert,
)
from raysafe.control.kill_log import KillLog
from raysafe.control.kill_orders import restore, why_killed
from raysafe.control.measures import NONE, Measures
from raysafe.errors import ConfigError, NotApproved, StorageError
from raysafe.records.audit import audit_folder, read_rows
from raysafe.records.intervention_table import InterventionRow
from raysafe.records.store import Store, open_store, store_now

DEGRADE = InterventionOrder(kind="degrade", target="m")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def measures(store: Store, *names: str, later_s: float = 0.0) -> Measures:
    with store.reading() as session:
        now, stored = store_now(session), read_interventions(session)
    found = standing(stored, InterventionLog(audit_folder(store.url)))
    return Measures.of(found, frozenset(names or ("m",)), now + timedelta(seconds=later_s))


def rows(store: Store) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(audit_folder(store.url) / f"{CHAIN}.jsonl") if row is not None]


def test_what_is_proposed_does_nothing_until_a_second_person_confirms_it(store: Store) -> None:
    found = propose(store, DEGRADE, by="ada", reason="strange answers")
    assert measures(store) == NONE
    with pytest.raises(NotApproved, match="second person"):
        confirm(store, found.id, by=" ADA ")
    applied, _ = confirm(store, found.id, by="bo")
    assert measures(store) == Measures(degraded=True, in_force=(found.id,))
    assert (applied.proposed_by, applied.applied_by, applied.state) == ("ada", "bo", "applied")


def test_an_intervention_is_lifted_by_another_person_than_applied_it(store: Store) -> None:
    found, _ = apply(store, DEGRADE, by="ada", reason="r")
    with pytest.raises(NotApproved, match="second person"):
        revert(store, found.id, by="Ada", reason="over")
    assert measures(store).degraded
    ended, _ = revert(store, found.id, by="bo", reason="over")
    assert (ended.state, ended.ended_by) == ("reverted", "bo")
    assert measures(store) == NONE


def test_each_step_is_in_the_audit_log_in_order(store: Store) -> None:
    found = propose(store, DEGRADE, by="ada", reason="r")
    confirm(store, found.id, by="bo")
    revert(store, found.id, by="ada", reason="over")
    steps = [(row["kind"], row["actor"], row["subject"]) for row in rows(store)]
    kinds = ("intervention proposed", "intervention applied", "intervention reverted")
    assert steps == list(zip(kinds, ("ada", "bo", "ada"), "mmm", strict=True))
    assert {row["details"]["intervention"] for row in rows(store)} == {found.id}


def test_what_is_declined_stays_without_effect(store: Store) -> None:
    found = propose(store, DEGRADE, by="ada", reason="r")
    assert decline(store, found.id, by="bo", reason="no").state == "declined"
    with pytest.raises(ConfigError, match="is declined already"):
        confirm(store, found.id, by="bo")


@pytest.mark.parametrize(
    "change",
    [
        delete(InterventionRow),
        update(InterventionRow).values(state="reverted"),
        update(InterventionRow).values(state="declined"),
        update(InterventionRow).values(kind="throttle", options={"requests_per_minute": 1e9}),
        update(InterventionRow).values(until=datetime(2000, 1, 1, tzinfo=UTC)),
        update(InterventionRow).values(target="other"),
    ],
)
def test_who_writes_the_store_alone_lifts_nothing(store: Store, change: Any) -> None:
    apply(store, DEGRADE, by="ada", reason="r")
    with store.session() as session:
        session.execute(change)
    assert measures(store).degraded


def test_a_row_that_only_the_store_has_is_in_force_and_is_not_lifted_by_this_log(store: Store, tmp_path: Path) -> None:
    found, _ = apply(store, DEGRADE, by="ada", reason="r", audit=tmp_path / "other")
    assert measures(store).degraded
    with pytest.raises(StorageError, match="knows nothing of"):
        revert(store, found.id, by="bo", reason="over")


def test_a_broken_log_is_a_quarantine(store: Store) -> None:
    found, _ = apply(store, DEGRADE, by="ada", reason="r")
    path = audit_folder(store.url) / f"{CHAIN}.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"degrade"', b'"nothing"'))
    assert measures(store, "anything").quarantined
    with pytest.raises(StorageError, match="broken"):
        revert(store, found.id, by="bo", reason="over")


def test_it_begins_and_ends_by_the_stores_clock(store: Store) -> None:
    with store.reading() as session:
        soon = store_now(session) + timedelta(hours=1)
    order = InterventionOrder(kind="quarantine", target="m", starts=soon, duration_s=3600)
    found, _ = apply(store, order, by="ada", reason="r")
    hours = [measures(store, later_s=3600 * hour).quarantined for hour in (0, 0.5, 1.5, 2.5)]
    assert hours == [False, False, True, False]
    assert [status for _, status in list_interventions(store)] == ["scheduled"]
    revert(store, found.id, by="bo", reason="not needed")
    assert not measures(store, later_s=5400).quarantined


def test_an_intervention_reaches_a_gateway_by_its_names_only(store: Store) -> None:
    apply(store, DEGRADE, by="ada", reason="r")
    apply(store, InterventionOrder(kind="require_review", target="*"), by="ada", reason="r")
    found = measures(store, "other", "other:1")
    assert (found.degraded, found.review) == (False, True)


def test_of_several_throttles_the_lowest_holds(store: Store) -> None:
    for rate in (60, 6, 600):
        apply(store, InterventionOrder(kind="throttle", target="m", requests_per_minute=rate), by="ada", reason="r")
    assert measures(store).requests_per_minute == 6


def test_a_roll_back_closes_the_version_that_it_leads_away_from_and_no_other(store: Store) -> None:
    order = InterventionOrder(kind="roll_back", target="m", away_from="m:2", to="m:1")
    apply(store, order, by="ada", reason="r")
    assert measures(store, "m", "m:2").rolled_back
    assert not measures(store, "m", "m:1").rolled_back


def test_a_kill_is_a_kill_order_and_its_end_is_that_orders(store: Store) -> None:
    found = propose(store, InterventionOrder(kind="kill", target="m"), by="monitor", reason="r")
    assert why_killed(store, ["m"]) is None
    applied, _ = confirm(store, found.id, by="ada")
    assert applied.audit_hash in KillLog(audit_folder(store.url)).open
    assert why_killed(store, ["m"]) is not None
    with pytest.raises(NotApproved):
        revert(store, found.id, by="ada", reason="over")
    restore(store, "m", by="bo", reason="over")
    assert [(each.state, each.ended_by) for each, _ in list_interventions(store, everything=True)] == [
        ("reverted", "bo")
    ]


def test_reverting_a_kill_restores_its_target(store: Store) -> None:
    found, _ = apply(store, InterventionOrder(kind="kill", target="m"), by="ada", reason="r")
    revert(store, found.id, by="bo", reason="over")
    assert why_killed(store, ["m"]) is None


def test_reverting_what_the_store_lost_works_by_the_log(store: Store) -> None:
    found, _ = apply(store, DEGRADE, by="ada", reason="r")
    with store.session() as session:
        session.execute(delete(InterventionRow))
    revert(store, found.id, by="bo", reason="over")
    assert measures(store) == NONE


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "throttle", "target": "m"}, "requests_per_minute"),
        ({"kind": "degrade", "target": "m", "requests_per_minute": 1}, "requests_per_minute"),
        ({"kind": "roll_back", "target": "m"}, "names the versions"),
        ({"kind": "kill", "target": "m", "duration_s": 5}, "restored"),
        ({"kind": "degrade", "target": "m", "starts": datetime(2026, 1, 1)}, "time zone"),
        ({"kind": "pause", "target": "m"}, "throttle"),
    ],
)
def test_an_impossible_order_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InterventionOrder(**fields)


@pytest.mark.parametrize("act", [propose, apply])
def test_nothing_is_done_without_a_name_and_a_reason(store: Store, act: Callable[..., Any]) -> None:
    for by, reason in (("", "r"), ("ada", " ")):
        with pytest.raises(ConfigError, match="name and a reason"):
            act(store, DEGRADE, by=by, reason=reason)
    assert not audit_folder(store.url).exists()


@pytest.mark.parametrize(
    ("stricter", "than", "expected"),
    [
        (Measures(degraded=True), NONE, True),
        (NONE, Measures(degraded=True), False),
        (Measures(degraded=True), Measures(degraded=True, review=True), False),
        (Measures(review=True), Measures(degraded=True), True),
        (Measures(requests_per_minute=1.0), NONE, False),
    ],
)
def test_stricter_measures_stop_what_was_begun_under_others(stricter: Measures, than: Measures, expected: bool) -> None:
    assert stricter.stricter_than(than) is expected
