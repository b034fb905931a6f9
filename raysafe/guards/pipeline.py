"""Pipeline: guards in order, failing closed, every verdict kept; one object for the gateway and for offline tests."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from raysafe.guards.decision import Decision, Entry
from raysafe.guards.gate import StreamGate
from raysafe.guards.guard import Exchange, Guard, Message, Stage, Verdict


class Pipeline:
    """Guards in order. `Pipeline([])` allows everything, and says that no guard ran."""

    def __init__(self, entries: Iterable[Entry | Guard]) -> None:
        self.entries = [entry if isinstance(entry, Entry) else Entry(entry) for entry in entries]

    @property
    def inline(self) -> bool:
        """Whether every guard may run on an event loop."""
        return all(entry.guard.inline for entry in self.entries)

    def at(self, stage: Stage) -> list[Entry]:
        """The stage's guards in order; those of the output see tool calls too, whose arguments the model wrote."""
        asked = {stage, "output"} if stage == "tool_call" else {stage}
        return [entry for entry in self.entries if entry.guard.stages & asked]

    def check(self, exchange: Exchange, stage: Stage) -> Decision:
        """Run the stage's guards over the exchange's whole texts, up to the first that stops it."""
        verdicts: list[Verdict] = []
        entries = self.at(stage)
        for index, entry in enumerate(entries):
            started = time.perf_counter()
            verdict = entry.check(exchange, stage)
            verdict = replace(verdict, elapsed_s=time.perf_counter() - started)
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
