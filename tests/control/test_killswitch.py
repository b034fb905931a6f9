"""The switch by itself, on a clock of the test's: when it is open, when it closes, and who is told."""

from __future__ import annotations

import threading
import time

import pytest

from raysafe.control.kill_log import Order
from raysafe.control.killswitch import KillSwitch, own_clock
from raysafe.control.leases import LEASE_S, RENEW_S

ORDER = Order("m", "ada", "strange answers", "2026-11-26T00:00:00", "0" * 64)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def switch(clock: Clock) -> KillSwitch:
    return KillSwitch(clock)


def test_it_is_closed_before_the_store_was_read(switch: KillSwitch) -> None:
    assert switch.state().status == "unreachable"
    assert switch.closed == "the kill switch has not been read yet"


def test_the_lease_counts_from_the_start_of_the_look_not_its_end(switch: KillSwitch, clock: Clock) -> None:
    begun = clock.now
    clock.now += 0.9
    switch.renewed(begun, None)
    assert switch.closed is None
    clock.now = begun + LEASE_S
    assert switch.state().status == "stale"


def test_a_look_that_took_longer_than_the_lease_opens_nothing(switch: KillSwitch, clock: Clock) -> None:
    clock.now += LEASE_S
    switch.renewed(clock.now - LEASE_S, None)
    assert switch.state().status == "stale"


def test_a_failed_look_closes_when_the_lease_ends_and_not_before(switch: KillSwitch, clock: Clock) -> None:
    switch.renewed(clock.now, None)
    switch.failed("disk I/O error")
    assert switch.closed is None
    clock.now += LEASE_S
    assert switch.state() == ("unreachable", "the kill switch can't be read: disk I/O error", None)


def test_an_order_closes_at_once_and_stays_when_the_store_goes(switch: KillSwitch, clock: Clock) -> None:
    switch.renewed(clock.now, None)
    switch.renewed(clock.now, ORDER)
    assert switch.state() == ("killed", str(ORDER), "ada")
    clock.now += 10 * LEASE_S
    switch.failed("gone")
    assert switch.state().status == "killed"


def test_a_lifted_order_opens(switch: KillSwitch, clock: Clock) -> None:
    switch.renewed(clock.now, ORDER)
    switch.renewed(clock.now, None)
    assert switch.closed is None


def test_an_ended_switch_never_opens_again(switch: KillSwitch, clock: Clock) -> None:
    switch.renewed(clock.now, None)
    switch.end("the service is stopping")
    switch.renewed(clock.now, None)
    assert switch.closed == "the service is stopping"


def test_the_lease_is_renewed_more_than_twice_before_it_ends() -> None:
    assert 2 * RENEW_S < LEASE_S == 1.0


def test_everyone_is_told_once_for_each_closing(switch: KillSwitch, clock: Clock) -> None:
    told: list[str] = []
    switch.renewed(clock.now, None)
    for name in ("a", "b"):
        switch.on_close(lambda reason, name=name: told.append(name))
    switch.renewed(clock.now, ORDER)
    switch.renewed(clock.now, ORDER)
    assert told == ["a", "b"]
    switch.renewed(clock.now, None)
    switch.renewed(clock.now, ORDER)
    assert told == ["a", "b", "a", "b"]


def test_who_comes_when_it_is_closed_is_told_at_once(switch: KillSwitch) -> None:
    told: list[str] = []
    switch.on_close(told.append)
    assert told == ["the kill switch has not been read yet"]


def test_who_was_taken_off_is_not_told(switch: KillSwitch, clock: Clock) -> None:
    told: list[str] = []
    switch.renewed(clock.now, None)
    take_off = switch.on_close(told.append)
    take_off()
    take_off()
    switch.renewed(clock.now, ORDER)
    assert told == []


def test_one_that_fails_keeps_no_other_from_being_told(switch: KillSwitch, clock: Clock) -> None:
    told: list[str] = []

    def fail(reason: str) -> None:
        raise RuntimeError

    switch.renewed(clock.now, None)
    switch.on_close(fail)
    switch.on_close(told.append)
    switch.renewed(clock.now, ORDER)
    assert told == [str(ORDER)]


def test_the_end_of_a_lease_is_told_though_nobody_asks_and_no_store_answers() -> None:
    switch, told = KillSwitch(), threading.Event()
    switch.start()
    # nine tenths of the lease are over
    switch.renewed(own_clock() - 0.9 * LEASE_S, None)
    switch.on_close(lambda reason: told.set())
    assert not told.is_set()
    assert told.wait(30)
    assert switch.state().status == "stale"
    switch.end("over")


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_jump_of_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    switch, real = KillSwitch(), time.time
    switch.renewed(own_clock(), None)
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert switch.closed is None
    switch.renewed(own_clock() - LEASE_S, None)
    assert switch.state().status == "stale"
