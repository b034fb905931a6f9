"""The arithmetic of budgets: nothing is overdrawn, nobody with a claim is turned away, every refusal has a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.control.budget_sums import (
    Budget,
    Charge,
    Granted,
    Refused,
    charges_of,
    corrections,
    decide,
    units_of,
)
from raysafe.errors import ConfigError

NOW = 1_795_650_061.25
"""25 November 2026, 23:41:01.25 UTC."""


def budget(limit: float = 10, **fields: object) -> Budget:
    values = {"subject": "key", "name": "k", "resource": "requests", "window": "minute", "limit": limit}
    return Budget.parse(values | fields)


def test_windows_begin_at_whole_minutes_hours_and_days_of_utc() -> None:
    starts = {window: budget(window=window).start(NOW) for window in ("minute", "hour", "day", "total")}
    assert starts == {"minute": 1_795_650_060, "hour": 1_795_647_600, "day": 1_795_564_800, "total": 0}
    assert budget().left_s(NOW) == 58.75
    assert budget(window="total").left_s(NOW) is None


@pytest.mark.parametrize(
    ("resource", "amount", "units"),
    [("requests", 1, 1), ("tokens", 0.2, 1), ("model_seconds", 0.0001, 1), ("model_seconds", 1.5, 1500)],
)
def test_an_amount_is_rounded_up_to_whole_units(resource: str, amount: float, units: int) -> None:
    assert units_of(resource, amount) == units  # type: ignore[arg-type]


def test_a_limit_is_rounded_down_to_whole_units() -> None:
    assert (budget(2.9).units, budget(1.0009, resource="model_seconds").units) == (2, 1000)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), 1e13])
def test_a_strange_amount_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1e12"):
        charges_of([budget()], {"requests": amount})


def test_two_limits_on_one_counter_are_refused() -> None:
    with pytest.raises(ConfigError, match="two limits are on one counter"):
        charges_of([budget(1), budget(2)], {"requests": 1})


def test_names_with_slashes_share_no_counter() -> None:
    names = ["a", "a/requests/minute", "a/requests", "/a"]
    assert len({budget(name=name).counter for name in names}) == len(names)


def test_who_comes_first_is_served_and_the_rest_wait_for_the_next_window() -> None:
    asks = [charges_of([budget(3)], {"requests": 1})] * 5
    answers, drawn = decide({}, asks, NOW)
    assert [isinstance(answer, Granted) for answer in answers] == [True, True, True, False, False]
    assert answers[-1] == Refused(budget(3), 58.75)
    assert drawn == {("key/k/requests/minute", 1_795_650_060): 3}


def test_a_large_ask_that_fails_leaves_room_for_a_small_one() -> None:
    small, large = (charges_of([budget(3)], {"requests": amount}) for amount in (1, 3))
    answers, _ = decide({}, [small, large, small], NOW)
    assert [isinstance(answer, Granted) for answer in answers] == [True, False, True]


def test_one_budget_that_is_short_keeps_all_others_uncharged() -> None:
    ask = charges_of([budget(10), budget(5, resource="tokens")], {"requests": 1, "tokens": 6})
    answers, drawn = decide({}, [ask], NOW)
    assert isinstance(answers[0], Refused)
    assert drawn == {}


def test_the_wait_is_that_of_the_budget_that_is_short_for_longest() -> None:
    hour = budget(1, window="hour")
    answers, _ = decide(
        {hour.spot(NOW): 1, budget(1).spot(NOW): 1}, [charges_of([budget(1), hour], {"requests": 1})], NOW
    )
    assert answers == [Refused(hour, hour.left_s(NOW))]


@pytest.mark.parametrize(("limit", "window"), [(0, "minute"), (1, "total")])
def test_no_wait_is_promised_where_none_helps(limit: float, window: str) -> None:
    spent = budget(limit, window=window)
    answers, _ = decide({spent.spot(NOW): 1}, [charges_of([spent], {"requests": 1})], NOW)
    assert answers == [Refused(spent, None)]


def test_a_settlement_gives_back_what_was_not_used_and_charges_what_was_used_beyond() -> None:
    limits = [budget(), budget(100, resource="tokens"), budget(100, resource="model_seconds")]
    answers, drawn = decide({}, [charges_of(limits, {"requests": 1, "tokens": 50, "model_seconds": 2})], NOW)
    granted = answers[0]
    assert isinstance(granted, Granted)
    changes = corrections(granted, {"requests": 1, "tokens": 20, "model_seconds": 2.5})
    after = {spot[0].split("/")[2]: units + changes.get(spot, 0) for spot, units in drawn.items()}
    assert after == {"requests": 1, "tokens": 20, "model_seconds": 2500}
    assert {drawn[spot] + change for spot, change in corrections(granted, {}).items()} == {0}


LIMITS = st.builds(
    budget,
    limit=st.integers(0, 20),
    name=st.sampled_from("ab"),
    resource=st.sampled_from(["requests", "tokens"]),
    window=st.sampled_from(["minute", "day", "total"]),
)
ASK = st.tuples(
    st.lists(LIMITS, max_size=4, unique_by=lambda limit: limit.counter),
    st.fixed_dictionaries({"requests": st.integers(0, 3), "tokens": st.integers(0, 9)}),
)


@given(st.lists(ASK, max_size=12), st.dictionaries(LIMITS.map(lambda limit: limit.spot(NOW)), st.integers(0, 25)))
def test_decisions_are_those_of_a_plain_loop_over_counters(asks: list, used: dict) -> None:
    """Against the obvious: one counter after the other, tried, then written."""
    answers, drawn = decide(used, [charges_of(limits, amounts) for limits, amounts in asks], NOW)
    counters, expected = dict(used), []
    for limits, amounts in asks:
        fits = all(counters.get(each.spot(NOW), 0) + amounts[each.resource] <= each.limit for each in limits)
        expected.append(fits)
        for limit in limits if fits else ():
            counters[limit.spot(NOW)] = counters.get(limit.spot(NOW), 0) + amounts[limit.resource]
    assert [isinstance(answer, Granted) for answer in answers] == expected
    assert {spot: used.get(spot, 0) + drawn.get(spot, 0) for spot in counters} == counters


@given(st.lists(st.floats(0, 10, allow_nan=False), max_size=40), st.floats(0, 50))
def test_seconds_never_add_up_to_more_than_the_limit(seconds: list[float], limit: float) -> None:
    time = budget(limit, resource="model_seconds")
    answers, _ = decide({}, [charges_of([time], {"model_seconds": amount}) for amount in seconds], NOW)
    passed = [amount for amount, answer in zip(seconds, answers, strict=True) if isinstance(answer, Granted)]
    assert sum(passed) <= limit * (1 + 1e-12)


@given(ASK, st.fixed_dictionaries({"requests": st.integers(0, 9), "tokens": st.integers(0, 30)}))
def test_after_its_settlement_a_reservation_counts_what_was_used(ask: tuple, actual: dict) -> None:
    limits, amounts = ask
    (answer,), drawn = decide({}, [charges_of(limits, amounts)], NOW)
    if isinstance(answer, Granted):
        changes = corrections(answer, actual)
        for limit in limits:
            assert drawn[limit.spot(NOW)] + changes.get(limit.spot(NOW), 0) == actual[limit.resource]


def test_a_charge_of_nothing_passes_where_nothing_is_left() -> None:
    assert isinstance(decide({budget(1).spot(NOW): 1}, [(Charge(budget(1), 0),)], NOW)[0][0], Granted)


def test_a_budget_names_itself() -> None:
    said = str(budget(2.5, resource="model_seconds", window="hour", subject="tenant", name="acme"))
    assert said == "2.5 seconds of the model's time per hour for the tenant 'acme'"
