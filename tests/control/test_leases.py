"""Leases in the store: who is alive, and who has seen a change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from raysafe.control.leases import FORGET_S, LEASE_S, await_seen, give_back, holders, renew
from raysafe.records.control_tables import LeaseRow
from raysafe.records.store import Store, open_store, store_now


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def lease(holder: str, seen: int = 0) -> LeaseRow:
    return LeaseRow(holder=holder, service="m", names=["m"], place="here", seen=seen, renewals=0)


def take(store: Store, row: LeaseRow, ago_s: float = 0.0) -> None:
    with store.session() as session:
        renew(session, row, store_now(session) - timedelta(seconds=ago_s))


class Time:
    """A clock that goes on by sleeping alone; `each` is done at every sleep."""

    def __init__(self, each: object = None) -> None:
        self.now, self.each = 0.0, each

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if callable(self.each):
            self.each()


def stand(store: Store, number: int, time: Time) -> dict[str, str]:
    found = await_seen(store, number, clock=time.clock, sleep=time.sleep)
    return {holder.holder: stands for holder, stands in found}


def test_a_renewed_lease_is_live_and_an_old_one_is_not(store: Store) -> None:
    take(store, lease("a"))
    take(store, lease("b"), ago_s=2 * LEASE_S)
    with store.reading() as session:
        assert {h.holder: h.live for h in holders(session)} == {"a": True, "b": False}


def test_a_lease_that_was_given_back_is_gone(store: Store) -> None:
    take(store, lease("a"))
    with store.session() as session:
        give_back(session, "a")
    assert stand(store, 1, Time()) == {}


def test_a_lease_long_run_out_is_swept_away_and_its_holder_comes_back(store: Store) -> None:
    old = lease("old")
    take(store, old, ago_s=FORGET_S + 2 * LEASE_S)
    take(store, lease("a"))
    with store.reading() as session:
        assert [h.holder for h in holders(session)] == ["a"]
    take(store, old)
    with store.reading() as session:
        assert {h.holder for h in holders(session)} == {"a", "old"}


def test_nobody_is_waited_for_who_has_seen_the_change(store: Store) -> None:
    take(store, lease("a", seen=3))
    time = Time()
    assert stand(store, 3, time) == {"a": "seen"}
    assert time.now == 0.0


def test_one_that_renews_without_having_seen_is_waited_for_and_named(store: Store) -> None:
    row = lease("a", seen=2)
    take(store, row)
    time = Time(lambda: take(store, row))
    assert stand(store, 3, time) == {"a": "waiting"}
    assert time.now >= 2.0


def test_one_that_sees_it_in_time_counts(store: Store) -> None:
    row = lease("a", seen=2)
    take(store, row)

    def renewed() -> None:
        row.seen = 3
        take(store, row)

    assert stand(store, 3, Time(renewed)) == {"a": "seen"}


def test_one_that_renews_no_more_has_closed_when_its_lease_is_over(store: Store) -> None:
    take(store, lease("a", seen=2))
    time = Time()
    assert stand(store, 3, time) == {"a": "lapsed"}
    assert LEASE_S <= time.now < 2.0


def test_a_lease_dated_in_the_future_lapses_all_the_same(store: Store) -> None:
    """As after a wall clock that was set back: only who waits counts the seconds."""
    take(store, lease("a", seen=2), ago_s=-3600)
    assert stand(store, 3, Time()) == {"a": "lapsed"}


def test_the_stores_clock_is_near_this_machines(store: Store) -> None:
    with store.reading() as session:
        assert abs(store_now(session) - datetime.now(UTC)) < timedelta(seconds=60)
