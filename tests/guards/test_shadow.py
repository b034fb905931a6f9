"""A guard in shadow mode says what it would have done, and changes nothing: no text, no decision, no other guard."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards.decision import UNFINISHED
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Exchange, Guard
from raysafe.guards.patterns import PatternsConfig, Rule
from raysafe.guards.pipeline import Pipeline
from tests.examples import examples
from tests.guards.planted import Gate, Streamed, Telling, asking, fail


def shadow(guard: Guard, **more: Any) -> Entry:
    return Entry(guard, mode="shadow", **more)


def patterns(action: str, name: str) -> Guard:
    rules = (Rule(name="r", phrases=("make bomb*", "stop")),)
    return PatternsConfig(name=name, action=action, replacement="CUT", rules=rules).build()  # type: ignore[arg-type]


@pytest.mark.parametrize("action", ["allow", "modify", "hold", "block"])
def test_what_it_would_have_done_is_recorded_and_nothing_is_done(action: str) -> None:
    exchange, after = asking("hello"), Telling("after")
    decision = Pipeline([shadow(Telling("s", action)), after]).check(exchange, "input")
    [verdict, _] = decision.verdicts
    assert (decision.action, verdict.action, verdict.shadow, verdict.error) == ("allow", "allow", action, None)
    assert verdict.record()["shadow"] == action
    assert exchange.texts("input") == ("hello",)
    assert after.saw == [("hello",)]


@pytest.mark.parametrize(("on_error", "would"), [("closed", "block"), ("open", "allow")])
def test_its_failure_is_recorded_as_failed_and_stops_nothing(on_error: Any, would: str) -> None:
    decision = Pipeline([shadow(Telling("s", before=fail), on_error=on_error)]).check_text("x")
    [verdict] = decision.verdicts
    assert (decision.action, verdict.action, verdict.shadow) == ("allow", "allow", would)
    assert verdict.error and verdict.category == "error"


def test_its_running_past_its_timeout_stops_nothing() -> None:
    gate = Gate()
    guard = Telling("s", inline=False, before=gate)
    decision = Pipeline([shadow(guard, timeout_s=0.01)]).check_text("x")
    assert (decision.action, decision.verdicts[0].error) == ("allow", "ran past its timeout of 0.01 s")
    gate.open()


def test_a_guard_that_enforces_leaves_no_shadow() -> None:
    [verdict] = Pipeline([Telling("e", "block")]).check_text("x").verdicts
    assert (verdict.shadow, "shadow" in verdict.record()) == (None, False)


pieces = st.lists(st.sampled_from(["make ", "bo", "mbs ", "stop", "x", " ", "ok. "]), max_size=12)
shadows = st.lists(
    st.sampled_from(["block", "modify", "whole", "streamed", "failing", "thread"]), min_size=1, max_size=3
)


def shadow_of(kind: str, name: str) -> Entry:
    guards: dict[str, Guard] = {
        "block": patterns("block", name),
        "modify": patterns("modify", name),
        "whole": Telling(name, "block"),
        "streamed": Streamed(name),
        "failing": Streamed(name, before=fail),
        "thread": Telling(name, "modify", inline=False),
    }
    return shadow(guards[kind])


def leaving(pipeline: Pipeline, chunks: list[str]) -> tuple[list[str], str, Exchange]:
    exchange = Exchange("r", "k", "m", ())
    gate = pipeline.stream(exchange)
    left = [gate.feed(chunk) for chunk in chunks] + [gate.finish()]
    assert gate.decision is not None
    return left, gate.decision.action, exchange


@settings(max_examples=examples(150), deadline=None)
@given(pieces, shadows, st.data())
def test_shadow_guards_anywhere_change_no_piece_of_a_stream(
    chunks: list[str], kinds: list[str], data: st.DataObject
) -> None:
    enforced = [Entry(patterns("modify", "cut")), Entry(patterns("block", "p"))]
    entries = list(enforced)
    for number, kind in enumerate(kinds):
        entries.insert(data.draw(st.integers(0, len(entries))), shadow_of(kind, f"s{number}"))
    left, action, exchange = leaving(Pipeline(entries), chunks)
    expected, expected_action, _ = leaving(Pipeline(enforced), chunks)
    assert (left, action) == (expected, expected_action)
    assert all(verdict.action == "allow" for verdict in exchange.verdicts if verdict.guard.startswith("s"))


@settings(max_examples=examples(100), deadline=None)
@given(pieces, st.sampled_from(["block", "modify"]))
def test_it_says_of_a_stream_what_the_guard_says_of_the_whole(chunks: list[str], action: str) -> None:
    whole = Exchange("r", "k", "m", (), output="".join(chunks))
    enforcing = Pipeline([patterns(action, "p")]).check(whole, "output")
    _, _, exchange = leaving(Pipeline([shadow(patterns(action, "p"))]), chunks)
    assert [verdict.shadow for verdict in exchange.verdicts] == [verdict.action for verdict in enforcing.verdicts]


@pytest.mark.parametrize("guard", [Telling("s", "block"), Telling("s", "block", inline=False), Streamed("s")])
def test_it_never_holds_a_piece_back_and_clears_none(guard: Guard) -> None:
    gate = Pipeline([shadow(guard)]).stream(asking())
    assert [gate.feed("one "), gate.feed("stop "), gate.feed("two")] == ["one ", "stop ", "two"]
    assert gate.cleared_by == []
    gate.finish()
    assert gate.decision is not None
    assert [(verdict.action, verdict.shadow) for verdict in gate.decision.verdicts] == [("allow", "block")]


def test_a_guard_that_waits_is_asked_at_the_end_of_a_stream_and_not_at_each_piece() -> None:
    guard = Telling("s", inline=False)
    gate = Pipeline([shadow(guard)]).stream(asking())
    assert gate.feeds_inline
    gate.feed("one ")
    gate.feed("two")
    assert guard.saw == []
    gate.finish()
    assert guard.saw == [("one two",)]


def test_what_it_said_before_another_guard_stopped_the_stream_is_kept() -> None:
    gate = Pipeline([shadow(Streamed("s")), Telling("whole", "block")]).stream(asking())
    gate.feed("stop")
    gate.finish()
    assert gate.decision is not None
    assert [(v.guard, v.action, v.shadow) for v in gate.decision.verdicts] == [
        ("s", "allow", "block"),
        ("whole", "block", None),
    ]


def test_one_that_had_nothing_to_say_when_a_stream_was_stopped_is_not_recorded_as_run() -> None:
    gate = Pipeline([shadow(Telling("s")), Streamed("e")]).stream(asking())
    gate.feed("stop")
    assert gate.decision is not None
    assert gate.decision.not_run == {"s": UNFINISHED}
    assert [verdict.guard for verdict in gate.decision.verdicts] == ["e"]
