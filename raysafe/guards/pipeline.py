"""Pipeline: guards in order, failing closed, every verdict kept; the same object in the gateway and in offline tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from raysafe.guards.guard import Action, Exchange, Guard, Message, OutputFilter, Stage, Step, StreamingGuard, Verdict

T = TypeVar("T")
_SEVERITY: dict[Action, int] = {"allow": 0, "modify": 1, "hold": 2, "block": 3}


@dataclass(frozen=True, slots=True)
class Entry:
    """A guard and how its failures count. `on_error: open` lets text pass a failed guard, and the verdict says so."""

    guard: Guard
    timeout_s: float = 5.0
    on_error: Literal["closed", "open"] = "closed"

    def call(self, stage: Stage, work: Callable[[], T]) -> tuple[T | None, Verdict | None]:
        """(result, None), or (None, the verdict on a guard that raised or ran past its timeout)."""
        started = time.perf_counter()
        try:
            result = work() if self.guard.inline else _in_thread(work, self.timeout_s)
            if not isinstance(result, (Verdict, Step)):
                raise TypeError(f"returned a {type(result).__name__}")
        except TimeoutError:
            return None, self._failed(
                stage, f"ran past its timeout of {self.timeout_s:g} s", time.perf_counter() - started
            )
        except Exception as error:
            return None, self._failed(stage, f"{type(error).__name__}: {error}", time.perf_counter() - started)
        elapsed_s = time.perf_counter() - started
        if elapsed_s > self.timeout_s:
            return None, self._failed(stage, f"ran past its timeout of {self.timeout_s:g} s", elapsed_s)
        return result, None

    def _failed(self, stage: Stage, error: str, elapsed_s: float) -> Verdict:
        action: Action = "block" if self.on_error == "closed" else "allow"
        reason = f"guard '{self.guard.name}' failed; on_error: {self.on_error}"
        return Verdict(self.guard.name, stage, action, reason, 1.0, "error", error=error, elapsed_s=elapsed_s)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the pipeline decided at one stage: the verdicts of the guards that ran, and the names of those that didn't."""

    stage: Stage
    verdicts: tuple[Verdict, ...]
    not_run: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        return max((v.action for v in self.verdicts), key=_SEVERITY.__getitem__, default="allow")

    @property
    def stopped_by(self) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.stops), None)


class Pipeline:
    """Guards in order. `Pipeline([])` allows everything, and says that no guard ran."""

    def __init__(self, entries: Iterable[Entry | Guard]) -> None:
        self.entries = [entry if isinstance(entry, Entry) else Entry(entry) for entry in entries]

    @property
    def inline(self) -> bool:
        """Whether every guard may run on an event loop."""
        return all(entry.guard.inline for entry in self.entries)

    def at(self, stage: Stage) -> list[Entry]:
        return [entry for entry in self.entries if stage in entry.guard.stages]

    def check(self, exchange: Exchange, stage: Stage) -> Decision:
        """Run the stage's guards over the exchange's whole texts, up to the first that stops it."""
        verdicts: list[Verdict] = []
        entries = self.at(stage)
        for index, entry in enumerate(entries):
            started = time.perf_counter()
            verdict, failure = entry.call(stage, lambda guard=entry.guard: guard.check(exchange, stage))
            verdict = failure or _timed(verdict, started)
            exchange.verdicts.append(verdict)
            verdicts.append(verdict)
            if verdict.stops:
                return Decision(stage, tuple(verdicts), tuple(e.guard.name for e in entries[index + 1 :]))
        return Decision(stage, tuple(verdicts))

    def check_text(self, text: str, stage: Stage = "input") -> Decision:
        """Offline: the decision on one text, as a user's message or as a model's answer."""
        messages = (Message("user", text),) if stage == "input" else ()
        return self.check(Exchange("offline", "offline", "offline", messages, output=text), stage)

    def stream(self, exchange: Exchange) -> StreamGate:
        """A gate for one streamed answer."""
        return StreamGate(self.at("output"), exchange)


class StreamGate:
    """Streamed text leaves only after every output guard has cleared it.

    Text flows through the guards' filters in order. A pattern guard holds back the characters that a forbidden phrase
    may still begin with (usually a word, at most its longest phrase); a guard that can't stream holds all to the end.
    How an answer is cut into chunks changes neither the decision nor any character that leaves.
    """

    def __init__(self, entries: Sequence[Entry], exchange: Exchange) -> None:
        self._exchange = exchange
        self._links = [_Link(entry, exchange) for entry in entries]
        self._verdicts: list[Verdict] = []
        self.decision: Decision | None = None
        self.released = 0

    def feed(self, text: str) -> str:
        """What may leave now. After it, `decision` is set where a guard stopped the answer: nothing leaves any more."""
        if self.decision is not None:
            return ""
        self._exchange.output += text
        return self._count(self._pass(text, 0))

    def finish(self) -> str:
        """The answer has ended: the rest that may leave; `decision` is set."""
        rest = ""
        for index, link in enumerate(self._links):
            if self.decision is not None:
                return ""
            step = link.finish()
            self._add(step.verdict)
            if step.verdict is not None and step.verdict.stops:
                return self._stop()
            rest += self._pass(step.text, index + 1)
        if self.decision is not None:
            return ""
        self.decision = Decision("output", tuple(self._verdicts))
        return self._count(rest)

    def _count(self, text: str) -> str:
        self.released += len(text)
        return text

    def _pass(self, text: str, start: int) -> str:
        for link in self._links[start:]:
            if not text:
                return ""
            step = link.feed(text)
            self._add(step.verdict)
            if step.verdict is not None and step.verdict.stops:
                return self._stop()
            text = step.text
        return text

    def _add(self, verdict: Verdict | None) -> None:
        if verdict is not None and not any(verdict is known for known in self._verdicts):
            self._verdicts.append(verdict)
            self._exchange.verdicts.append(verdict)

    def _stop(self) -> str:
        said = {verdict.guard for verdict in self._verdicts}
        unfinished = tuple(link.name for link in self._links if link.name not in said)
        self.decision = Decision("output", tuple(self._verdicts), unfinished)
        return ""


class _Link:
    """One guard's filter in a gate, with the guard's failure rule around it."""

    def __init__(self, entry: Entry, exchange: Exchange) -> None:
        self._entry = entry
        self.name = entry.guard.name
        self._received: list[str] = []
        self._settled = 0
        self._failed_open: Verdict | None = None
        self._elapsed_s = 0.0
        self._filter: OutputFilter | None = None
        guard = entry.guard
        self._open: Callable[[], OutputFilter] = (
            (lambda: guard.open(exchange))
            if isinstance(guard, StreamingGuard)
            else (lambda: _WholeText(guard, exchange))
        )

    def feed(self, text: str) -> Step:
        if self._failed_open is not None:
            return Step(text, 0)
        self._received.append(text)
        return self._run(lambda: self._opened().feed(text))

    def finish(self) -> Step:
        if self._failed_open is not None:
            return Step("", 0, self._failed_open)
        return self._run(lambda: self._opened().finish())

    def _opened(self) -> OutputFilter:
        if self._filter is None:
            self._filter = self._open()
        return self._filter

    def _run(self, work: Callable[[], Step]) -> Step:
        started = time.perf_counter()
        step, failure = self._entry.call("output", work)
        self._elapsed_s += time.perf_counter() - started
        if failure is None and step is not None:
            self._settled = step.settled
            if step.verdict is not None:
                return replace(step, verdict=replace(step.verdict, elapsed_s=self._elapsed_s))
            return step
        assert failure is not None
        if failure.stops:
            return Step("", self._settled, failure)
        self._failed_open = failure
        return Step("".join(self._received)[self._settled :], 0, failure)


class _WholeText:
    """Holds an answer to its end for a guard that can only judge it whole."""

    def __init__(self, guard: Guard, exchange: Exchange) -> None:
        self._guard, self._exchange = guard, exchange
        self._held: list[str] = []

    def feed(self, text: str) -> Step:
        self._held.append(text)
        return Step("", 0)

    def finish(self) -> Step:
        text = "".join(self._held)
        # the guard judges what would leave: the text as the filters before it passed it on, not the model's own
        passed_on = [verdict for verdict in self._exchange.verdicts if verdict.stage != "output"]
        verdict = self._guard.check(replace(self._exchange, output=text, verdicts=passed_on), "output")
        left = verdict.replacement[0] if verdict.replacement else text
        return Step("" if verdict.stops else left, len(text), verdict)


def filter_whole(guard: StreamingGuard, exchange: Exchange) -> Verdict:
    """A streaming guard's verdict on the whole output: its filter, fed once."""
    stream = guard.open(exchange)
    step = stream.feed(exchange.texts("output")[0])
    if step.verdict is None:
        step = stream.finish()
    assert step.verdict is not None
    return step.verdict


def _timed(verdict: Verdict | None, started: float) -> Verdict:
    assert verdict is not None
    return replace(verdict, elapsed_s=time.perf_counter() - started)


def _in_thread(work: Callable[[], T], timeout_s: float) -> T:
    """Run `work` in a thread of its own; raises TimeoutError when it isn't done in time (the thread is left behind)."""
    result: list[T] = []
    raised: list[Exception] = []

    def body() -> None:
        try:
            result.append(work())
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise TimeoutError
    if raised:
        raise raised[0]
    return result[0]
