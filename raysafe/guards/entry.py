"""Calling one guard so that its failure closes, and within its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from raysafe.errors import raised_at
from raysafe.guards.guard import Action, Exchange, Guard, Stage, Step, Verdict
from raysafe.guards.soundness import Nonsense, sound_replacement, sound_step, sound_verdict
from raysafe.guards.workers import WORKERS, Crowded, Late

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """A guard and how a policy uses it: see GuardConfig. `on_error: open` lets text pass a failed guard, and the
    verdict says so."""

    guard: Guard
    timeout_s: float = 5.0
    on_error: Literal["closed", "open"] = "closed"
    mode: Literal["enforce", "shadow"] = "enforce"
    sample: float = 1.0
    beside: bool = False

    @property
    def shadow(self) -> bool:
        return self.mode == "shadow"

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """The guard's verdict on a stage's texts, or that on its failure, with the time it took."""
        return self._said(self._run(stage, lambda: self._judge(exchange, stage)), exchange)

    def begin_beside(self, exchange: Exchange) -> Callable[[], Verdict]:
        """Start the check of a request that the model is working on already; calling the result waits for the verdict.

        A guard that would modify what the model has been given has failed, and closes whatever its on_error says.
        """
        end = self._begin("input", lambda: self._judge(exchange, "input"))

        def said() -> Verdict:
            verdict, elapsed_s = end()
            if verdict.action == "modify" and not self.shadow:
                error = "answered modify beside the model, which has been given the text already"
                verdict = self._failed("input", error, "closed")
            return self._said((verdict, elapsed_s), exchange)

        return said

    def step(self, work: Callable[[], Step], ended: bool) -> Step | Verdict:
        """The step that the guard's filter takes in `work`, or the verdict on its failure."""
        return self._run("output", lambda: sound_step(self.guard, ended, work()))[0]

    def _judge(self, exchange: Exchange, stage: Stage) -> Verdict:
        verdict = sound_verdict(self.guard, stage, self.guard.check(exchange, stage))
        if verdict.replacement is not None:
            sound_replacement(verdict, len(exchange.texts(stage)))
        return verdict

    def _said(self, ended: tuple[Verdict, float], exchange: Exchange) -> Verdict:
        verdict = ended[0].timed(ended[1])
        if self.mode == "shadow":
            return verdict.as_shadow()
        return verdict.passing(exchange.released) if exchange.released else verdict

    def _run(self, stage: Stage, work: Callable[[], T]) -> tuple[T | Verdict, float]:
        """The result of `work`, or the verdict on the guard's failure; and the seconds that it took."""
        if self.guard.inline:
            return self._ended(stage, work, time.perf_counter())
        return self._begin(stage, work)()

    def _begin(self, stage: Stage, work: Callable[[], T]) -> Callable[[], tuple[T | Verdict, float]]:
        """Start `work` in a thread; calling the result waits for its end, or for the guard's timeout."""
        started = time.perf_counter()
        try:
            task = WORKERS.begin(work, self.guard)
        except (Crowded, RuntimeError) as error:
            # RuntimeError: the system has no thread left
            failed = self._failed(stage, f"couldn't be started: {error}", self.on_error)
            return lambda: (failed, 0.0)
        return lambda: self._ended(stage, lambda: task.result(started + self.timeout_s), started)

    def _ended(self, stage: Stage, get: Callable[[], T], started: float) -> tuple[T | Verdict, float]:
        try:
            result = get()
        except Late:
            error = self._late
        except Nonsense as nonsense:
            error = str(nonsense)
        except Exception as raised:
            error = f"{type(raised).__name__} at {raised_at(raised)}"
        else:
            elapsed_s = time.perf_counter() - started
            if elapsed_s <= self.timeout_s:
                return result, elapsed_s
            error = self._late
        return self._failed(stage, error, self.on_error), time.perf_counter() - started

    @property
    def _late(self) -> str:
        return f"ran past its timeout of {self.timeout_s:g} s"

    def _failed(self, stage: Stage, error: str, on_error: Literal["closed", "open"]) -> Verdict:
        action: Action = "block" if on_error == "closed" else "allow"
        reason = f"guard '{self.guard.name}' failed; on_error: {on_error}"
        return Verdict(self.guard.name, stage, action, reason, 1.0, "error", error=error)
