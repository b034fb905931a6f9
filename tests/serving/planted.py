"""Guards that do as they are told where they see a marker, and an audit log whose rows take a while to be durable."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import Any, Literal

from pydantic import Field

from raysafe.guards.guard import Action, Exchange, Stage, Step, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources

MARKER, CUT = "SECRET-1234", "CUT"
Outcome = Literal["allow", "modify", "hold", "block", "error", "timeout"]
Where = Literal["input", "output", "tool", "stream"]
OUTCOMES: tuple[Outcome, ...] = ("allow", "modify", "hold", "block", "error", "timeout")
PLACES: tuple[Where, ...] = ("input", "output", "tool", "stream")
_STAGES: dict[Where, Stage] = {"input": "input", "output": "output", "tool": "tool_call", "stream": "output"}


class PlantedConfig(GuardConfig):
    """`kind: planted`: on a text with the marker it does `outcome`; any other text it allows."""

    kind: Literal["planted"] = "planted"
    name: str = Field(default="planted")
    where: Where
    outcome: Outcome

    def build(self, resources: Resources = NOTHING) -> Planted:
        return Streaming(self) if self.where == "stream" else Planted(self)


class Planted:
    """Judges whole texts."""

    def __init__(self, config: PlantedConfig) -> None:
        self.config, self.name = config, config.name
        self.stages: frozenset[Stage] = frozenset({_STAGES[config.where]})
        self.inline = config.outcome != "timeout"

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        texts = exchange.texts(stage)
        if not any(MARKER in text for text in texts) or self.config.outcome == "allow":
            return Verdict(self.name, stage, "allow")
        if self.config.outcome == "modify":
            return Verdict(self.name, stage, "modify", replacement=tuple(t.replace(MARKER, CUT) for t in texts))
        return Verdict(self.name, stage, self._act(), "the marker is in it", 1.0)

    def _act(self) -> Action:
        """hold or block; or fail."""
        outcome = self.config.outcome
        if outcome == "error":
            raise RuntimeError(f"it saw {MARKER}")
        if outcome == "timeout":
            time.sleep(self.config.timeout_s * 2)
            return "block"
        assert outcome in ("hold", "block")
        return outcome


class Streaming(Planted):
    """Clears words as they are complete; the marker is one."""

    def open(self, exchange: Exchange) -> _Words:
        return _Words(self)


class _Words:
    def __init__(self, guard: Streaming) -> None:
        self._guard, self._held, self._settled, self._cut = guard, "", 0, list[str]()

    def feed(self, text: str) -> Step:
        *words, self._held = (self._held + text).split(" ")
        return self._step("".join(f"{word} " for word in words), None)

    def finish(self) -> Step:
        guard = self._guard
        rest, self._held = self._held, ""
        step = self._step(rest, Verdict(guard.name, "output", "allow"))
        if step.verdict is None or step.verdict.stops or guard.config.outcome != "modify":
            return step
        changed = Verdict(guard.name, "output", "modify", replacement=("".join(self._cut),))
        return Step(step.text, step.settled, changed)

    def _step(self, text: str, verdict: Verdict | None) -> Step:
        guard = self._guard
        if MARKER in text and guard.config.outcome not in ("allow", "modify"):
            return Step("", self._settled, Verdict(guard.name, "output", guard._act(), "the marker is in it", 1.0))
        self._settled += len(text)
        left = text.replace(MARKER, CUT) if guard.config.outcome == "modify" else text
        self._cut.append(left)
        return Step(left, self._settled, verdict)


class SlowAudit:
    """Rows that are durable a moment after they were handed over; `durable` holds those that are."""

    def __init__(self, delay_s: float = 0.002) -> None:
        self.rows: list[dict[str, Any]] = []
        self.durable: list[dict[str, Any]] = []
        self._delay_s, self._lock = delay_s, threading.Lock()

    def submit(self, kind: str, actor: str, subject: str, details: dict[str, Any]) -> Future[Any]:
        future: Future[Any] = Future()
        row = {"kind": kind, "subject": subject, **details}
        with self._lock:
            self.rows.append(row)

        def commit() -> None:
            self.durable.append(row)
            future.set_result(None)

        asyncio.get_running_loop().call_later(self._delay_s, commit)
        return future

    def close(self) -> None:
        return None
