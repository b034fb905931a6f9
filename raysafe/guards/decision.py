"""Calling one guard so that its failure closes, and the decision that a stage's verdicts add up to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from raysafe.guards.guard import Action, Guard, Stage, Step, Verdict

T = TypeVar("T", Verdict, Step)
_BY_SEVERITY: tuple[Action, ...] = ("block", "hold", "modify")


@dataclass(frozen=True, slots=True)
class Entry:
    """A guard and how its failures count. `on_error: open` lets text pass a failed guard, and the verdict says so."""

    guard: Guard
    timeout_s: float = 5.0
    on_error: Literal["closed", "open"] = "closed"

    def call(self, stage: Stage, work: Callable[[], T]) -> T | Verdict:
        """The result of `work`, or the verdict on a guard that raised, ran past its timeout or returned nonsense."""
        started = time.perf_counter()
        late = f"ran past its timeout of {self.timeout_s:g} s"
        try:
            result = work() if self.guard.inline else _in_thread(work, self.timeout_s)
            if not isinstance(result, (Verdict, Step)):
                raise TypeError(f"returned a {type(result).__name__}")
        except TimeoutError:
            return self._failed(stage, late, started)
        except Exception as error:
            return self._failed(stage, f"{type(error).__name__}: {error}", started)
        return result if time.perf_counter() - started <= self.timeout_s else self._failed(stage, late, started)

    def _failed(self, stage: Stage, error: str, started: float) -> Verdict:
        action: Action = "block" if self.on_error == "closed" else "allow"
        reason = f"guard '{self.guard.name}' failed; on_error: {self.on_error}"
        elapsed_s = time.perf_counter() - started
        return Verdict(self.guard.name, stage, action, reason, 1.0, "error", error=error, elapsed_s=elapsed_s)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided at one stage: the verdicts of the guards that ran, and the names of those that didn't."""

    stage: Stage
    verdicts: tuple[Verdict, ...]
    not_run: tuple[str, ...] = ()

    @property
    def action(self) -> Action:
        """The severest of the verdicts' actions."""
        taken = {verdict.action for verdict in self.verdicts}
        for action in _BY_SEVERITY:
            if action in taken:
                return action
        return "allow"

    @property
    def stopped_by(self) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.stops), None)


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
