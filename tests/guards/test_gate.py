"""Streamed and whole answers get the same decision, whatever the chunks, and no part of a forbidden match leaves."""

import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards.decision import STOPPED, UNFINISHED
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Exchange, Guard, Message, OutputFilter, Stage, Step, Verdict
from raysafe.guards.limits import LengthConfig
from raysafe.guards.matcher import Scan
from raysafe.guards.patterns import PatternsConfig, Rule
from raysafe.guards.pipeline import Pipeline
from tests.examples import examples

PHRASES = ("make {0,1} bomb*", "bomb now", "kill (him)? here", "制造炸弹")
PIECES = ["make", "ma", "ke", " ", "a ", "b.o.m.b", "bomb", "b0", "mb", "\u200b", "kill", " him", " here", ".", "制造"]
PIECES += ["炸弹", "é", "\ufb01", "x", "\n", "remake", "now", "I", "'"]
texts = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def patterns(action: str, name: str = "p") -> Guard:
    rules = (Rule(name="r", phrases=PHRASES),)
    return PatternsConfig(name=name, action=action, replacement="CUT", rules=rules).build()  # type: ignore[arg-type]


def exchange(output: str = "") -> Exchange:
    return Exchange("r", "k", "m", (), output=output)


@st.composite
def chunked(draw: st.DrawFn) -> list[str]:
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def stream(pipeline: Pipeline, chunks: list[str]) -> tuple[str, list[str], Exchange]:
    """(action, what left after each chunk and at the end, the exchange)."""
    travelling = exchange()
    gate = pipeline.stream(travelling)
    left = [gate.feed(chunk) for chunk in chunks]
    left.append(gate.finish())
    assert gate.decision is not None
    assert gate.released == sum(map(len, left))
    return gate.decision.action, left, travelling


BLOCKING, CUTTING = Pipeline([patterns("block")]), Pipeline([patterns("modify")])


@settings(max_examples=examples(250), deadline=None)
@given(chunked())
def test_any_chunking_gets_the_decision_of_the_whole_and_releases_nothing_forbidden(chunks: list[str]) -> None:
    whole = exchange("".join(chunks))
    decision = BLOCKING.check(whole, "output")
    action, left, _ = stream(BLOCKING, chunks)
    assert action == decision.action
    released = "".join(left)
    assert whole.output.startswith(released)
    if action == "allow":
        assert released == whole.output
    else:
        assert len(released) <= first_match(whole.output)


def first_match(text: str) -> int:
    """Oracle: where the first phrase begins of all that are in the whole text."""
    scan = Scan(BLOCKING.entries[0].guard.matcher)  # type: ignore[attr-defined]
    return min(hit.start for hit in [*scan.feed(text), *scan.finish()])


@settings(max_examples=examples(250), deadline=None)
@given(chunked())
def test_any_chunking_releases_the_same_modified_text(chunks: list[str]) -> None:
    whole = exchange("".join(chunks))
    decision = CUTTING.check(whole, "output")
    action, left, travelling = stream(CUTTING, chunks)
    assert action == decision.action
    if action != "block":
        assert "".join(left) == whole.texts("output")[0] == travelling.texts("output")[0]


@settings(max_examples=examples(100), deadline=None)
@given(chunked())
def test_a_cutting_guard_before_a_blocking_one_streams_as_it_works_whole(chunks: list[str]) -> None:
    length = LengthConfig(output_characters=30).build()
    pipeline = Pipeline([patterns("modify"), _WholeOnly(), length, patterns("block", "q")])
    whole = exchange("".join(chunks))
    decision = pipeline.check(whole, "output")
    action, left, _ = stream(pipeline, chunks)
    assert action == decision.action
    if action in ("allow", "modify"):
        assert "".join(left) == whole.texts("output")[0]
    else:
        assert "".join(left) == ""


def test_ordinary_text_leaves_at_once_but_for_the_word_under_way() -> None:
    gate = BLOCKING.stream(exchange())
    assert gate.feed("we went to the market and ma") == "we went to the market and "
    # the word may still be the beginning of a text in base64
    assert gate.feed("rket") == ""
    assert gate.feed(" ") == "market "


def test_a_hold_never_exceeds_the_longest_phrase() -> None:
    guard = patterns("block")
    gate = Pipeline([guard]).stream(exchange())
    text, left = "make " * 200, 0
    for index, character in enumerate(text):
        left += len(gate.feed(character))
        assert index + 1 - left <= 2 * guard.matcher.max_letters  # type: ignore[attr-defined]


class _WholeOnly:
    """A guard that can't stream; it forbids 'xx'."""

    name, inline = "whole", False
    stages: frozenset[Stage] = frozenset({"output"})

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        return Verdict(self.name, stage, "block" if "xx" in exchange.texts(stage)[0] else "allow")


def test_a_guard_that_cannot_stream_holds_everything_to_the_end() -> None:
    gate = Pipeline([_WholeOnly()]).stream(exchange())
    assert gate.feed("abc ") + gate.feed("def") == ""
    assert gate.finish() == "abc def"


class _Failing:
    """Passes text on until it has seen 'boom'."""

    name, inline = "failing", True
    stages: frozenset[Stage] = frozenset({"input", "output"})

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        raise RuntimeError("no model")


class _Slow(_Failing):
    name, inline = "slow", False

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        time.sleep(1.0)
        return Verdict(self.name, stage, "allow")


def test_a_guard_that_raises_blocks_and_what_it_raised_is_kept_without_its_message() -> None:
    decision = Pipeline([_Failing(), patterns("block")]).check_text("hello")
    assert decision.action == "block"
    assert re.fullmatch(r"RuntimeError at .*test_gate\.py:\d+", decision.verdicts[0].error or "")
    assert decision.not_run == {"p": STOPPED}


def test_a_failure_in_a_guards_own_thread_is_told_by_its_own_place() -> None:
    guard = _Failing()
    guard.inline = False
    inline, threaded = (Pipeline([each]).check_text("hello").verdicts[0].error for each in (_Failing(), guard))
    assert inline == threaded


def test_a_guard_past_its_timeout_blocks_without_being_waited_for() -> None:
    started = time.perf_counter()
    decision = Pipeline([Entry(_Slow(), timeout_s=0.05)]).check_text("hello")
    assert decision.action == "block"
    assert "timeout of 0.05 s" in (decision.verdicts[0].error or "")
    assert time.perf_counter() - started < 0.8


def test_a_guard_that_returns_no_verdict_blocks() -> None:
    guard = _WholeOnly()
    guard.check = lambda exchange, stage: None  # type: ignore[assignment,return-value]
    [verdict] = Pipeline([guard]).check_text("x", "output").verdicts
    assert (verdict.action, verdict.error) == ("block", "returned a NoneType instead of a Verdict")


def saying(**said: Any) -> Verdict:
    return Verdict(**{"guard": "odd", "stage": "output", "action": "allow", **said})


NONSENSE: dict[str, Any] = {
    "no verdict": None,
    "a step": Step("x", 1, saying()),
    "an unknown action": saying(action="deny"),
    "an action in capitals": saying(action="Block"),
    "no action": saying(action=None),
    "another guard's name": saying(guard="length"),
    "another stage": saying(stage="input"),
    "modify without a replacement": saying(action="modify"),
    "modify with a string": saying(action="modify", replacement="x"),
    "modify with too many texts": saying(action="modify", replacement=("x", "y")),
    "modify with too few texts": saying(action="modify", replacement=()),
    "a replacement that is no text": saying(action="modify", replacement=(None,)),
    "a replacement without modify": saying(replacement=("x",)),
    "a score that is no number": saying(score=float("nan")),
    "an unknown category": saying(category="bad"),
    "a shadow of its own": saying(shadow="block"),
}


class _Odd:
    """A guard that returns what the test gives it."""

    name, inline = "odd", True
    stages: frozenset[Stage] = frozenset({"output"})

    def __init__(self, said: Any) -> None:
        self._said = said

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        return self._said


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_from_a_guard_blocks_whole_and_streamed(said: Any) -> None:
    pipeline = Pipeline([_Odd(said)])
    [verdict] = pipeline.check_text("secret", "output").verdicts
    assert (verdict.action, verdict.category) == ("block", "error")
    action, left, travelling = stream(pipeline, ["sec", "ret"])
    assert (action, "".join(left)) == ("block", "")
    assert [(v.guard, v.category) for v in travelling.verdicts] == [("odd", "error")]
    assert "secret" not in str(verdict.record())


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_let_past_by_on_error_open_never_reads_as_passed(said: Any) -> None:
    pipeline = Pipeline([Entry(_Odd(said), on_error="open")])
    [verdict] = pipeline.check_text("text", "output").verdicts
    assert verdict.action == "allow" and verdict.error
    action, left, travelling = stream(pipeline, ["te", "xt"])
    assert (action, "".join(left)) == ("allow", "text")
    assert travelling.verdicts[0].error


class _OddFilter(_Odd):
    """A streaming guard whose filter returns what the test gives it."""

    def __init__(self, fed: Any, ended: Any) -> None:
        self._fed, self._ended = fed, ended

    def open(self, exchange: Exchange) -> OutputFilter:
        return self  # type: ignore[return-value]

    def feed(self, text: str) -> Any:
        return self._fed

    def finish(self) -> Any:
        return self._ended


@pytest.mark.parametrize(
    ("fed", "ended"),
    [
        (saying(), Step("", 0, saying())),
        (None, Step("", 0, saying())),
        (Step("x", 1, saying()), Step("", 0, saying())),
        (Step("x", 1, saying(action="deny")), Step("", 0, saying())),
        (Step(None, 1), Step("", 0, saying())),  # type: ignore[arg-type]
        (Step("", -1), Step("", 0, saying())),
        (Step("", 0), Step("", 0)),
        (Step("", 0), saying()),
        (Step("", 0), Step("", 0, saying(action="deny"))),
        (Step("", 0), Step("", 0, saying(action="modify"))),
    ],
)
def test_nonsense_from_a_filter_blocks_the_stream(fed: Any, ended: Any) -> None:
    action, left, travelling = stream(Pipeline([_OddFilter(fed, ended)]), ["sec", "ret"])
    assert (action, "".join(left)) == ("block", "")
    assert travelling.verdicts[0].category == "error"


def test_a_replacement_for_each_message_is_taken() -> None:
    guard = _Odd(saying(stage="input", action="modify", replacement=("a", "b")))
    guard.stages = frozenset({"input"})
    travelling = Exchange("r", "k", "m", (Message("system", "x"), Message("user", "y")))
    assert Pipeline([guard]).check(travelling, "input").action == "modify"
    assert travelling.texts("input") == ("a", "b")


def test_the_answer_is_put_together_once_and_not_at_every_piece() -> None:
    travelling = exchange()
    gate = BLOCKING.stream(travelling)
    for piece in ("we ", "went ", "home"):
        gate.feed(piece)
        assert travelling.output == ""
    gate.finish()
    assert travelling.output == "we went home"


def test_a_stopped_answer_is_kept_as_far_as_it_came() -> None:
    travelling = exchange()
    gate = BLOCKING.stream(travelling)
    for piece in ("so make ", "bomb now ", "more"):
        gate.feed(piece)
    assert travelling.output == "so make bomb now "


def test_on_error_open_lets_text_past_and_never_reads_as_passed() -> None:
    pipeline = Pipeline([Entry(_Failing(), on_error="open"), patterns("block")])
    decision = pipeline.check_text("hello")
    assert decision.action == "allow"
    assert decision.verdicts[0].record()["error"].startswith("RuntimeError at ")
    action, left, _ = stream(pipeline, ["hel", "lo"])
    assert (action, "".join(left)) == ("allow", "hello")
    assert stream(pipeline, ["make bo", "mb "])[0] == "block"


class _FailingToOpen(_Failing):
    def open(self, exchange: Exchange) -> OutputFilter:
        raise RuntimeError("no model")


def test_a_guard_that_failed_open_is_not_named_as_having_cleared_the_text() -> None:
    gate = Pipeline([Entry(_FailingToOpen(), on_error="open"), patterns("block")]).stream(exchange())
    assert gate.feed("hello ") == "hello "
    assert gate.cleared_by == ["p"]
    assert gate.finish() == ""
    assert gate.decision is not None
    assert [verdict.error is None for verdict in gate.decision.verdicts] == [False, True]


def test_a_streamed_answer_is_blocked_when_a_guard_fails() -> None:
    action, left, travelling = stream(Pipeline([_Failing()]), ["hel", "lo"])
    assert (action, "".join(left)) == ("block", "")
    assert travelling.verdicts[0].category == "error"


def test_a_stopped_stream_names_the_guards_that_did_not_finish() -> None:
    pipeline = Pipeline([patterns("block"), LengthConfig(output_characters=9).build()])
    gate = pipeline.stream(exchange())
    gate.feed("make bomb now")
    assert gate.decision is not None
    assert gate.decision.not_run == {"length": UNFINISHED}
    assert gate.feed("more") == gate.finish() == ""


def test_an_empty_pipeline_allows_and_says_that_no_guard_ran() -> None:
    decision = Pipeline([]).check_text("anything")
    assert (decision.action, decision.verdicts) == ("allow", ())


def test_the_exchange_keeps_what_the_client_wrote_beside_what_is_admitted() -> None:
    travelling = Exchange("r", "k", "m", (Message("system", "be kind"), Message("user", "bomb now please")))
    CUTTING.check(travelling, "input")
    assert travelling.messages[1].content == "bomb now please"
    assert [m.content for m in travelling.admitted()] == ["be kind", "CUT please"]
