"""Slow input guards run beside the model: the others first, all recorded in order, and none of them modifies."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from raysafe.guards.decision import STOPPED, WAITING
from raysafe.guards.entry import Entry
from raysafe.guards.pipeline import Pipeline
from tests.guards.planted import Gate, Telling, asking, fail


def slow(name: str, action: str = "allow", before: Callable[[], Any] | None = None, **more: Any) -> Entry:
    return Entry(Telling(name, action, inline=False, before=before), beside=True, **more)


def test_the_guards_before_the_model_run_first_and_the_rest_beside_it() -> None:
    judge = slow("judge", "block")
    admission = Pipeline([judge, Telling("p")]).admission(asking())
    first = admission.first()
    assert (first.action, [v.guard for v in first.verdicts]) == ("allow", ["p"])
    assert first.not_run == {"judge": WAITING}
    assert admission.waits and admission.inline
    rest = admission.rest()
    assert (rest.action, rest.not_run) == ("block", {})
    assert [verdict.guard for verdict in rest.verdicts] == ["judge", "p"]


def test_a_request_that_is_stopped_first_asks_no_slow_guard() -> None:
    judge = slow("judge")
    admission = Pipeline([judge, Telling("p", "block"), Telling("q")]).admission(asking())
    decision = admission.first()
    assert list(decision.not_run.items()) == [("judge", STOPPED), ("q", STOPPED)]
    assert not admission.waits
    assert judge.guard.saw == []  # type: ignore[attr-defined]


def test_slow_guards_see_the_text_that_the_model_sees() -> None:
    judge = slow("judge")
    exchange = asking("hello")
    Pipeline([judge, Telling("cut", "modify")]).check(exchange, "input")
    assert judge.guard.saw == [("<hello>",)]  # type: ignore[attr-defined]


def test_slow_guards_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=4)
    decision = Pipeline([slow("a", before=both.wait), slow("b", before=both.wait)]).check(asking(), "input")
    assert [verdict.error for verdict in decision.verdicts] == [None, None]


@pytest.mark.parametrize("on_error", ["closed", "open"])
def test_one_that_would_modify_beside_the_model_has_failed_and_closes(on_error: str) -> None:
    exchange = asking("hello")
    decision = Pipeline([slow("judge", "modify", on_error=on_error)]).check(exchange, "input")
    [verdict] = decision.verdicts
    assert (decision.action, verdict.category) == ("block", "error")
    assert verdict.error == "answered modify beside the model, which has been given the text already"
    assert exchange.texts("input") == ("hello",)


def test_a_failure_beside_the_model_closes() -> None:
    decision = Pipeline([slow("judge", before=fail)]).check(asking(), "input")
    assert decision.action == "block"


def test_time_beside_the_model_runs_from_the_start_of_each() -> None:
    gate = Gate()
    guards = [slow(name, before=gate, timeout_s=0.02) for name in "abc"]
    decision = Pipeline(guards).check(asking(), "input")
    gate.open()
    assert [verdict.error for verdict in decision.verdicts] == ["ran past its timeout of 0.02 s"] * 3


def test_all_slow_guards_are_recorded_where_one_stops_the_exchange() -> None:
    decision = Pipeline([slow("a", "block"), slow("b", "hold"), slow("c")]).check(asking(), "input")
    assert [(v.guard, v.action) for v in decision.verdicts] == [("a", "block"), ("b", "hold"), ("c", "allow")]
    assert decision.stopped_by is not None and decision.stopped_by.guard == "a"


def test_a_shadow_guard_beside_the_model_may_say_modify() -> None:
    [verdict] = Pipeline([slow("s", "modify", mode="shadow")]).check(asking(), "input").verdicts
    assert (verdict.action, verdict.shadow, verdict.error) == ("allow", "modify", None)


def test_an_inline_guard_is_not_put_off() -> None:
    admission = Pipeline([Entry(Telling("p"), beside=True)]).admission(asking())
    assert [verdict.guard for verdict in admission.first().verdicts] == ["p"]
    assert not admission.waits


def test_beside_is_a_matter_of_requests_only() -> None:
    pipeline = Pipeline([slow("judge", "modify")])
    exchange = asking()
    exchange.output = "answer"
    assert pipeline.check(exchange, "output").action == "modify"


def test_whether_an_event_loop_may_run_a_stage_is_asked_of_what_comes_before_its_effect() -> None:
    pipeline = Pipeline([slow("judge"), Telling("p")])
    assert pipeline.inline_at("input") and not pipeline.inline_at("output") and not pipeline.inline


def test_the_verdicts_are_added_to_the_exchange() -> None:
    exchange = asking()
    Pipeline([slow("judge"), Telling("p")]).check(exchange, "input")
    assert sorted(verdict.guard for verdict in exchange.verdicts) == ["judge", "p"]
