"""StreamGate: a streamed answer passes through every output guard's filter before any of it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from raysafe.guards.decision import UNFINISHED, Decision
from raysafe.guards.entry import Entry
from raysafe.guards.filters import WholeText, open_filter
from raysafe.guards.guard import Exchange, OutputFilter, Step, Verdict


class StreamGate:
    """Streamed text leaves only after every output guard has cleared it.

    Text flows through the guards' filters in order. A pattern guard holds back the characters that a forbidden phrase
    may still begin with (usually a word, at most its longest phrase); a guard that can't stream holds all to the end;
    one in shadow mode holds nothing back. How an answer is cut into chunks changes neither the decision nor any
    character that leaves.
    """

    def __init__(self, entries: Sequence[Entry], exchange: Exchange, not_run: Mapping[str, str] | None = None) -> None:
        """not_run: guards of the policy that aren't asked about this answer, with the reason."""
        self._exchange = exchange
        self._links = [_Shadow(entry, exchange) if entry.shadow else _Link(entry, exchange) for entry in entries]
        self._not_run = dict(not_run or {})
        self._answer: list[str] = []
        self._verdicts: list[Verdict] = []
        self.decision: Decision | None = None
        self.released = 0
        self.feeds_inline = all(link.feeds_inline for link in self._links)
        """Whether `feed` may run on an event loop; `finish` may where every guard is inline."""

    @property
    def cleared_by(self) -> list[str]:
        """The guards that have seen all that leaves: not one that failed, even where its failure lets text past."""
        return [link.name for link in self._links if link.clears]

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
        self._decide()
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
        for link in self._links:
            self._add(link.said_early)
        self._decide()
        return ""

    def _decide(self) -> None:
        names = [link.name for link in self._links]
        said = {verdict.guard for verdict in self._verdicts}
        unfinished = {name: UNFINISHED for name in names if name not in said}
        in_order = sorted(self._verdicts, key=lambda verdict: names.index(verdict.guard))
        self.decision = Decision("output", tuple(in_order), unfinished | self._not_run)


class _Link:
    """One guard's filter in a gate, with the guard's failure rule around it."""

    said_early: Verdict | None = None

    def __init__(self, entry: Entry, exchange: Exchange) -> None:
        self._entry = entry
        self.name = entry.guard.name
        self.feeds_inline = entry.guard.inline
        self._received: list[str] = []
        self._settled = 0
        self._failed_open: Verdict | None = None
        self._elapsed_s = 0.0
        self._filter: OutputFilter | None = None
        self._exchange = exchange

    @property
    def clears(self) -> bool:
        return self._failed_open is None

    def feed(self, text: str) -> Step:
        if self._failed_open is not None:
            return Step(text, 0)
        self._received.append(text)
        return self._run(lambda: self._opened().feed(text), ended=False)

    def finish(self) -> Step:
        if self._failed_open is not None:
            return Step("", 0, self._failed_open)
        return self._run(lambda: self._opened().finish(), ended=True)

    def _opened(self) -> OutputFilter:
        if self._filter is None:
            self._filter = open_filter(self._entry.guard, self._exchange)
        return self._filter

    def _run(self, work: Callable[[], Step], ended: bool) -> Step:
        started = time.perf_counter()
        result = self._entry.step(work, ended)
        self._elapsed_s += time.perf_counter() - started
        if isinstance(result, Step):
            self._settled = result.settled
            if result.verdict is None:
                return result
            return Step(result.text, result.settled, result.verdict.timed(self._elapsed_s))
        result = result.timed(self._elapsed_s)
        if result.stops:
            return Step("", self._settled, result)
        self._failed_open = result
        return Step("".join(self._received)[self._settled :], 0, result)


class _Shadow:
    """A guard in shadow mode in a gate: it sees the text that passes, holds none of it, and speaks at the end.

    One that may wait is asked once, at the end, so that no piece waits for it.
    """

    clears, feeds_inline = False, True

    def __init__(self, entry: Entry, exchange: Exchange) -> None:
        self._entry = entry
        self.name = entry.guard.name
        self._filter: OutputFilter | None = None
        self._exchange = exchange
        self._elapsed_s = 0.0
        self.said_early: Verdict | None = None

    def feed(self, text: str) -> Step:
        if not self._entry.guard.inline:
            self._opened().feed(text)
        elif self.said_early is None:
            self.said_early = self._run(lambda: self._opened().feed(text), ended=False)
        return Step(text, 0)

    def finish(self) -> Step:
        return Step("", 0, self.said_early or self._run(lambda: self._opened().finish(), ended=True))

    def _opened(self) -> OutputFilter:
        if self._filter is None:
            guard = self._entry.guard
            self._filter = open_filter(guard, self._exchange) if guard.inline else WholeText(guard, self._exchange)
        return self._filter

    def _run(self, work: Callable[[], Step], ended: bool) -> Verdict | None:
        """What the guard said, or that it failed, or None where it has nothing to say yet."""
        started = time.perf_counter()
        result = self._entry.step(work, ended)
        self._elapsed_s += time.perf_counter() - started
        verdict = result.verdict if isinstance(result, Step) else result
        return verdict.timed(self._elapsed_s).as_shadow() if verdict else None
