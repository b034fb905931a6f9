"""Length and rate limits, by a clock of the test's own."""

import pytest

from raysafe.errors import ConfigError
from raysafe.guards.guard import Exchange, Message
from raysafe.guards.limits import LengthConfig, RateConfig, RateGuard
from raysafe.guards.pipeline import Pipeline


def ask(text: str = "hi", key: str = "k", tokens: int | None = None) -> Exchange:
    return Exchange("r", key, "m", (Message("user", text),), max_tokens=tokens)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("limit", "exchange"),
    [
        ({"input_characters": 1}, ask()),
        ({"messages": 1}, Exchange("r", "k", "m", (Message("user", "a"), Message("user", "b")))),
        ({"tokens": 9}, ask(tokens=10)),
    ],
)
def test_what_is_over_a_limit_is_blocked_and_what_is_at_it_passes(limit: dict[str, int], exchange: Exchange) -> None:
    guard = LengthConfig(**limit).build()
    verdict = guard.check(exchange, "input")
    assert (verdict.action, verdict.category) == ("block", "length")
    roomier = LengthConfig(**{name: value + 1 for name, value in limit.items()}).build()
    assert roomier.check(exchange, "input").action == "allow"


def test_a_streamed_answer_ends_where_it_passes_the_limit() -> None:
    gate = Pipeline([LengthConfig(output_characters=5).build()]).stream(ask())
    assert gate.feed("12345") == "12345"
    assert gate.feed("6") == ""
    assert gate.decision is not None and gate.decision.action == "block"


def test_requests_are_refused_when_the_bucket_is_empty_and_admitted_when_it_has_refilled() -> None:
    clock = Clock()
    guard = RateGuard(RateConfig(requests_per_minute=2), clock)
    assert [guard.check(ask(), "input").action for _ in range(3)] == ["allow", "allow", "block"]
    assert guard.check(ask(), "input").retry_after_s == pytest.approx(30)
    clock.now = 30.0
    assert guard.check(ask(), "input").action == "allow"


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    guard = RateGuard(RateConfig(requests_per_minute=60, characters_per_minute=60), clock)
    assert guard.check(ask("x" * 60), "input").action == "allow"
    for _ in range(100):
        assert guard.check(ask("x"), "input").action == "block"
    clock.now = 1.0
    assert guard.check(ask("x"), "input").action == "allow"


def test_keys_have_buckets_of_their_own() -> None:
    guard = RateGuard(RateConfig(requests_per_minute=1), Clock())
    assert [guard.check(ask(key=key), "input").action for key in "abab"] == ["allow", "allow", "block", "block"]


def test_an_answer_is_charged_and_the_next_request_waits_for_the_debt() -> None:
    clock = Clock()
    guard = RateGuard(RateConfig(characters_per_minute=60), clock)
    exchange = ask("x" * 10)
    assert guard.check(exchange, "input").action == "allow"
    gate = Pipeline([guard]).stream(exchange)
    assert gate.feed("y" * 100) == "y" * 100
    gate.finish()
    assert guard.check(ask("x"), "input").retry_after_s == pytest.approx(51)


def test_a_request_larger_than_the_bucket_waits_for_a_full_one_and_leaves_a_debt() -> None:
    guard = RateGuard(RateConfig(characters_per_minute=60), Clock())
    assert guard.check(ask("x" * 90), "input").action == "allow"
    assert guard.check(ask("x" * 90), "input").retry_after_s == pytest.approx(90)


@pytest.mark.parametrize("config", [LengthConfig, RateConfig])
def test_a_limit_guard_without_limits_is_refused(config: type) -> None:
    with pytest.raises(ConfigError, match="needs"):
        config.parse({}, "p.yaml")
