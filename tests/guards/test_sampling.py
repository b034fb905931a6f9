"""A sampled guard is asked about its fraction of exchanges, and never reads as passed where it wasn't asked."""

from scipy.stats import binomtest

from raysafe.guards.decision import NOT_SAMPLED
from raysafe.guards.entry import Entry
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.sampling import is_sampled
from tests.guards.planted import Streamed, Telling, asking

KEY = bytes(32)


def test_the_fraction_is_the_one_asked_for() -> None:
    drawn = sum(is_sampled(f"chatcmpl-{number}", "g", 0.2, KEY) for number in range(20_000))
    assert binomtest(drawn, 20_000, 0.2).pvalue > 1e-3


def test_the_draw_is_the_same_each_time_and_another_under_another_key() -> None:
    draws = [[is_sampled(f"r{n}", "g", 0.5, key) for n in range(200)] for key in (KEY, KEY, b"x" * 32)]
    assert draws[0] == draws[1] != draws[2]


def test_guards_draw_by_themselves() -> None:
    both = sum(is_sampled(f"r{n}", "a", 0.5, KEY) and is_sampled(f"r{n}", "b", 0.5, KEY) for n in range(10_000))
    assert binomtest(both, 10_000, 0.25).pvalue > 1e-3


def test_one_is_always_and_nought_is_never() -> None:
    assert all(is_sampled(f"r{n}", "g", 1.0) for n in range(1000))
    assert not any(is_sampled(f"r{n}", "g", 0.0) for n in range(1000))


def test_a_guard_that_is_not_asked_is_recorded_as_not_run_and_does_not_run() -> None:
    guard = Streamed("g", "block")
    pipeline = Pipeline([Entry(guard, sample=0.0), Telling("always")])
    decision = pipeline.check(asking(), "input")
    assert (decision.action, decision.not_run) == ("allow", {"g": NOT_SAMPLED})
    assert [verdict.guard for verdict in decision.verdicts] == ["always"]
    assert guard.saw == []


def test_a_guard_that_is_not_asked_about_a_stream_neither_clears_nor_holds_it() -> None:
    gate = Pipeline([Entry(Telling("whole", "block"), sample=0.0), Streamed("s")]).stream(asking())
    assert gate.feed("now") == "now"
    assert gate.cleared_by == ["s"]
    gate.finish()
    assert gate.decision is not None
    assert (gate.decision.action, gate.decision.not_run) == ("allow", {"whole": NOT_SAMPLED})


def test_an_exchange_is_sampled_alike_at_every_stage() -> None:
    pipeline = Pipeline([Entry(Telling("g"), sample=0.5)])
    for number in range(50):
        exchange = asking(request_id=f"r{number}")
        stages = [pipeline.check(exchange, "input"), pipeline.check(exchange, "output")]
        assert len({bool(decision.verdicts) for decision in stages}) == 1


def test_what_is_not_sampled_is_told_beside_what_was_stopped_in_the_policys_order() -> None:
    pipeline = Pipeline([Entry(Telling("a"), sample=0.0), Telling("b", "block"), Telling("c")])
    assert list(pipeline.check(asking(), "input").not_run) == ["a", "c"]


def test_offline_texts_are_sampled_anew() -> None:
    pipeline = Pipeline([Entry(Telling("g"), sample=0.5)])
    assert len({bool(pipeline.check_text("x").verdicts) for _ in range(60)}) == 2
