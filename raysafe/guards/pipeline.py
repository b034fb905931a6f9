"""Pipeline: guards in order, failing closed, every verdict kept; one object for the gateway and for offline tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from raysafe.guards.admission import Admission
from raysafe.guards.decision import NOT_SAMPLED, Decision
from raysafe.guards.entry import Entry
from raysafe.guards.gate import StreamGate
from raysafe.guards.guard import Exchange, Guard, Message, Stage
from raysafe.guards.sampling import is_sampled


class Pipeline:
    """Guards in order. `Pipeline([])` allows everything, and says that no guard ran."""

    def __init__(self, entries: Iterable[Entry | Guard]) -> None:
        self.entries = [entry if isinstance(entry, Entry) else Entry(entry) for entry in entries]
        self._stages = {stage: _Stage.of(self.at(stage), stage) for stage in get_args(Stage)}

    @property
    def inline(self) -> bool:
        """Whether every guard may run on an event loop."""
        return all(entry.guard.inline for entry in self.entries)

    def inline_at(self, stage: Stage) -> bool:
        """Whether the guards that come before the stage's effect may run on an event loop: `Admission.rest` isn't
        meant, nor what a stream's `feed` needs (StreamGate.feeds_inline)."""
        return self._stages[stage].inline

    def at(self, stage: Stage) -> list[Entry]:
        """The stage's guards in order; those of the output see tool calls too, whose arguments the model wrote."""
        asked = {stage, "output"} if stage == "tool_call" else {stage}
        here = [entry for entry in self.entries if entry.guard.stages & asked]
        # a guard of what may be done judges the call as it will leave, whatever others made of it
        return sorted(here, key=lambda entry: getattr(entry.guard, "judges_last", False))

    def admission(self, exchange: Exchange, stage: Stage = "input") -> Admission:
        """The stage's check in two parts, for a model that may start while slow guards still think."""
        here = self._stages[stage]
        if not here.sampled:
            return Admission(exchange, stage, here.first, here.beside, here.names, {})
        out = here.not_sampled(exchange)
        first, beside = ([e for e in part if e.guard.name not in out] for part in (here.first, here.beside))
        return Admission(exchange, stage, first, beside, here.names, out)

    def check(self, exchange: Exchange, stage: Stage) -> Decision:
        """Run the stage's guards over the exchange's whole texts, up to the first that stops it."""
        admission = self.admission(exchange, stage)
        decision = admission.first()
        return admission.rest() if admission.waits else decision

    def check_text(self, text: str, stage: Stage = "input") -> Decision:
        """Offline: the decision on one text, as a user's message or as a model's answer. Guards are sampled anew."""
        messages = (Message("user", text),) if stage == "input" else ()
        request_id = f"offline-{secrets.token_hex(8)}"
        return self.check(Exchange(request_id, "offline", "offline", messages, output=text), stage)

    def stream(self, exchange: Exchange) -> StreamGate:
        """A gate for one streamed answer."""
        here = self._stages["output"]
        out = here.not_sampled(exchange)
        return StreamGate([entry for entry in here.entries if entry.guard.name not in out], exchange, out)


@dataclass(frozen=True)
class _Stage:
    """The guards of one stage, parted once for all exchanges."""

    entries: Sequence[Entry]
    first: Sequence[Entry]
    beside: Sequence[Entry]
    names: Sequence[str]
    sampled: Sequence[Entry]
    inline: bool

    @classmethod
    def of(cls, entries: list[Entry], stage: Stage) -> _Stage:
        # an inline guard has nothing to gain beside the model
        waits = [entry.beside and stage == "input" and not entry.guard.inline for entry in entries]
        beside = [entry for entry, later in zip(entries, waits, strict=True) if later]
        first = [entry for entry, later in zip(entries, waits, strict=True) if not later]
        sampled = [entry for entry in entries if entry.sample < 1]
        names = [entry.guard.name for entry in entries]
        return cls(entries, first, beside, names, sampled, all(entry.guard.inline for entry in first))

    def not_sampled(self, exchange: Exchange) -> dict[str, str]:
        """The guards that aren't asked about this exchange, with the reason."""
        if not self.sampled:
            return {}
        names = ((entry.guard.name, entry.sample) for entry in self.sampled)
        return {name: NOT_SAMPLED for name, sample in names if not is_sampled(exchange.request_id, name, sample)}
