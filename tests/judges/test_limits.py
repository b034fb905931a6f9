"""Rates, pauses and waits, on a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given, strategies

from raysafe.judges.limits import RateLimit, backoff_s, retry_after_s
from tests.judges.endpoint import FakeClock

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


def starts(per_minute: float | None, delays: list[float], pauses: dict[int, float] | None = None) -> list[float]:
    """When each request starts; delays: time between their arrivals; pauses: what the nth answer asks for."""
    clock = FakeClock()
    limit = RateLimit(per_minute, clock)

    async def work() -> list[float]:
        found = []
        for place, delay in enumerate(delays):
            clock.time += delay
            await limit.turn()
            found.append(clock.now())
            if pauses and place in pauses:
                limit.pause(pauses[place])
        return found

    return asyncio.run(work())


@given(strategies.floats(1, 600), strategies.lists(strategies.floats(0, 5), min_size=2, max_size=20))
def test_no_window_of_a_minute_holds_more_requests_than_allowed(per_minute: float, delays: list[float]) -> None:
    found = starts(per_minute, delays)
    for first in found:
        within = [start for start in found if first <= start < first + 60 - 1e-6]
        assert len(within) <= -(-per_minute // 1)


def test_an_idle_limit_lets_a_request_start_at_once() -> None:
    assert starts(30, [0, 0, 50]) == [1000, 1002, 1052]


def test_without_a_rate_only_pauses_hold_requests_back() -> None:
    assert starts(None, [0, 0, 0], {0: 9}) == [1000, 1009, 1009]


def test_a_pause_holds_back_those_that_wait_already() -> None:
    clock = FakeClock()
    limit = RateLimit(60, clock)

    async def work() -> list[float]:
        await limit.turn()
        sleep, found = clock.sleep, []

        async def pausing(seconds: float) -> None:
            clock.sleep = sleep  # type: ignore[method-assign]
            limit.pause(10)
            await sleep(seconds)

        clock.sleep = pausing  # type: ignore[method-assign]
        await limit.turn()
        found.append(clock.now())
        return found

    assert asyncio.run(work()) == [1010]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17), (" 0 ", 0), ("Wed, 25 Nov 2026 12:01:30 GMT", 90), ("Wed, 25 Nov 2026 11:00:00 GMT", 0),
        ("soon", None), ("", None), ("-3", None), ("1e9", None),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": value}, NOW) == seconds


@given(strategies.integers(1, 200), strategies.integers())
def test_waits_double_to_half_a_minute_and_vary_by_a_quarter(failures: int, seed: int) -> None:
    whole = min(0.5 * 2.0 ** (failures - 1), 30)
    assert 0.75 * whole <= backoff_s(failures, Random(seed)) <= whole
