"""StreamGate: a streamed answer passes through every output guard's filter before any of it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from raysafe.guards.decision import Decision, Entry
from raysafe.guards.guard import Exchange, Guard, OutputFilter, Step, StreamingGuard, Verdict
from raysafe.guards.soundness import sound_verdict


class StreamGate:
    """Streamed text leaves only after every output guard has cleared it.

    Text flows through the guards' filters in order. A pattern guard holds back the characters that a forbidden phrase
    may still begin with (usually a word, at most its longest phrase); a guard that can't stream holds all to the end.
    How an answer is cut into chunks changes neither the decision nor any character that leaves.
    """

    def __init__(self, entries: Sequence[Entry], exchange: Exchange) -> None:
        self._exchange = exchange
        self._links = [_Link(entry, exchange) for entry in entries]
        self._answer: list[str] = []
        self._verdicts: list[Verdict] = []
        self.decision: Decision | None = None
        self.released = 0

    @property
    def cleared_by(self) -> list[str]:
        """The guards that have seen all that leaves: not one that failed, even where its failure lets text past."""
        return [link.name for link in self._links if link.failed_open is None]

    def feed(self, text: str) -> str:
        """What may leave now. After it, `decision` is set where a guard stopped the answer: nothing leaves any more."""
        if self.decision is not None:
            return ""
        self._answer.append(text)
        return self._count(self._pass(text, 0))

    def finish(self) -> str:
        """The answer has ended: the rest that may leave; `decision` is set."""
        self._exchange.output = "".join(self._answer)
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
        self._exchange.output = "".join(self._answer)
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
        self.failed_open: Verdict | None = None
        self._elapsed_s = 0.0
        self._filter: OutputFilter | None = None
        self._exchange = exchange

    def feed(self, text: str) -> Step:
        if self.failed_open is not None:
            return Step(text, 0)
        self._received.append(text)
        return self._run(lambda: self._opened().feed(text), ended=False)

    def finish(self) -> Step:
        if self.failed_open is not None:
            return Step("", 0, self.failed_open)
        return self._run(lambda: self._opened().finish(), ended=True)

    def _opened(self) -> OutputFilter:
        if self._filter is None:
            guard = self._entry.guard
            streams = cast(StreamingGuard, guard) if _streams(guard) else None
            self._filter = streams.open(self._exchange) if streams else _WholeText(guard, self._exchange)
        return self._filter

    def _run(self, work: Callable[[], Step], ended: bool) -> Step:
        started = time.perf_counter()
        result = self._entry.step(work, ended)
        self._elapsed_s += time.perf_counter() - started
        if isinstance(result, Step):
            self._settled = result.settled
            if result.verdict is None:
                return result
            return replace(result, verdict=replace(result.verdict, elapsed_s=self._elapsed_s))
        if result.stops:
            return Step("", self._settled, result)
        self.failed_open = result
        return Step("".join(self._received)[self._settled :], 0, result)


_STREAMS: dict[type, bool] = {}


def _streams(guard: Guard) -> bool:
    """Whether a guard can judge as it streams; asked once a class, for a protocol's instance check takes 30 us."""
    kind = type(guard)
    if kind not in _STREAMS:
        _STREAMS[kind] = isinstance(guard, StreamingGuard)
    return _STREAMS[kind]


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
        verdict = sound_verdict(self._guard, "output", 1, verdict)
        left = verdict.replacement[0] if verdict.replacement else text
        return Step("" if verdict.stops else left, len(text), verdict)
