"""Streamed and whole answers get the same decision, whatever the chunks, and no part of a forbidden match leaves."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.guards.decision import Entry
from raysafe.guards.guard import Exchange, Guard, OutputFilter, Stage, Verdict
from raysafe.guards.limits import LengthConfig
from raysafe.guards.patterns import PatternsConfig, Rule
from raysafe.guards.pipeline import Pipeline

PHRASES = ("make {0,1} bomb*", "bomb now", "kill (him)? here", "制造炸弹")
PIECES = ["make", "ma", "ke", " ", "a ", "b.o.m.b", "bomb", "b0", "mb", "\u200b", "kill", " him", " here", ".", "制造"]
PIECES += ["炸弹", "é", "\ufb01", "x", "\n", "remake", "now", "I", "'"]
texts = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


def patterns(action: str, name: str = "p") -> Guard:
    rules = (Rule(name="r", phrases=PHRASES),)
    return PatternsConfig(name=name, action=action, replacement="#", rules=rules).build()  # type: ignore[arg-type]


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


@settings(max_examples=250, deadline=None)
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
        first = first_match(whole.output)
        assert len(released) <= first


def first_match(text: str) -> int:
    """Oracle: where the cutting guard, given the whole text, makes its first cut."""
    cut = CUTTING.check(exchange(text), "output").verdicts[0].replacement
    assert cut is not None
    return next((i for i, (a, b) in enumerate(zip(text, cut[0], strict=False)) if a != b), len(text))


@settings(max_examples=250, deadline=None)
@given(chunked())
def test_any_chunking_releases_the_same_modified_text(chunks: list[str]) -> None:
    whole = exchange("".join(chunks))
    decision = CUTTING.check(whole, "output")
    action, left, travelling = stream(CUTTING, chunks)
    assert action == decision.action
    assert "".join(left) == whole.texts("output")[0] == travelling.texts("output")[0]


@settings(max_examples=100, deadline=None)
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
    assert gate.feed("rket") == "market"


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


def test_a_guard_that_raises_blocks_and_the_reason_is_kept() -> None:
    decision = Pipeline([_Failing(), patterns("block")]).check_text("hello")
    assert decision.action == "block"
    assert decision.verdicts[0].error == "RuntimeError: no model"
    assert decision.not_run == ("p",)


def test_a_guard_past_its_timeout_blocks_without_being_waited_for() -> None:
    started = time.perf_counter()
    decision = Pipeline([Entry(_Slow(), timeout_s=0.05)]).check_text("hello")
    assert decision.action == "block"
    assert "timeout of 0.05 s" in (decision.verdicts[0].error or "")
    assert time.perf_counter() - started < 0.8


def test_a_guard_that_returns_no_verdict_blocks() -> None:
    guard = _WholeOnly()
    guard.check = lambda exchange, stage: None  # type: ignore[assignment,return-value]
    assert Pipeline([guard]).check_text("x", "output").verdicts[0].error == "TypeError: returned a NoneType"


def test_on_error_open_lets_text_past_and_never_reads_as_passed() -> None:
    pipeline = Pipeline([Entry(_Failing(), on_error="open"), patterns("block")])
    decision = pipeline.check_text("hello")
    assert decision.action == "allow"
    assert decision.verdicts[0].record()["error"] == "RuntimeError: no model"
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
    assert [verdict.error for verdict in gate.decision.verdicts] == ["RuntimeError: no model", None]


def test_a_streamed_answer_is_blocked_when_a_guard_fails() -> None:
    action, left, travelling = stream(Pipeline([_Failing()]), ["hel", "lo"])
    assert (action, "".join(left)) == ("block", "")
    assert travelling.verdicts[0].category == "error"


def test_a_stopped_stream_names_the_guards_that_did_not_finish() -> None:
    pipeline = Pipeline([patterns("block"), LengthConfig(output_characters=9).build()])
    gate = pipeline.stream(exchange())
    gate.feed("make bomb now")
    assert gate.decision is not None
    assert gate.decision.not_run == ("length",)
    assert gate.feed("more") == gate.finish() == ""


def test_an_empty_pipeline_allows_and_says_that_no_guard_ran() -> None:
    decision = Pipeline([]).check_text("anything")
    assert (decision.action, decision.verdicts) == ("allow", ())


def test_the_exchange_keeps_what_the_client_wrote_beside_what_is_admitted() -> None:
    from raysafe.guards.guard import Message

    travelling = Exchange("r", "k", "m", (Message("system", "be kind"), Message("user", "bomb now please")))
    CUTTING.check(travelling, "input")
    assert travelling.messages[1].content == "bomb now please"
    assert [m.content for m in travelling.admitted()] == ["be kind", "# please"]
