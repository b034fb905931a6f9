"""Calling one guard so that its failure closes, and the decision that a stage's verdicts add up to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from raysafe.guards.guard import Action, Exchange, Guard, Stage, Step, Verdict
from raysafe.guards.soundness import Nonsense, sound_step, sound_verdict

T = TypeVar("T")
_BY_SEVERITY: tuple[Action, ...] = ("block", "hold", "modify")


@dataclass(frozen=True, slots=True)
class Entry:
    """A guard and how its failures count. `on_error: open` lets text pass a failed guard, and the verdict says so."""

    guard: Guard
    timeout_s: float = 5.0
    on_error: Literal["closed", "open"] = "closed"

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """The guard's verdict on a stage's texts, or that on its failure."""
        texts = len(exchange.texts(stage))
        return self._call(stage, lambda: sound_verdict(self.guard, stage, texts, self.guard.check(exchange, stage)))

    def step(self, work: Callable[[], Step], ended: bool) -> Step | Verdict:
        """The step that the guard's filter takes in `work`, or the verdict on its failure."""
        return self._call("output", lambda: sound_step(self.guard, ended, work()))

    def _call(self, stage: Stage, work: Callable[[], T]) -> T | Verdict:
        """The result of `work`, or the verdict on a guard that raised, ran past its timeout or returned nonsense."""
        started = time.perf_counter()
        late = f"ran past its timeout of {self.timeout_s:g} s"
        try:
            result = work() if self.guard.inline else _in_thread(work, self.timeout_s)
        except _Late:
            return self._failed(stage, late, started)
        except Nonsense as error:
            return self._failed(stage, str(error), started)
        except Exception as error:
            return self._failed(stage, f"{type(error).__name__} at {raised_at(error)}", started)
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


def raised_at(error: BaseException) -> str:
    """file:line that raised the error: what is written down in place of its message, which may quote a prompt."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "an unknown place"


class _Late(Exception):
    """A guard isn't done in time."""


def _in_thread(work: Callable[[], T], timeout_s: float) -> T:
    """Run `work` in a thread of its own; raises _Late when it isn't done in time (the thread is left behind)."""
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
        raise _Late
    if raised:
        raise raised[0]
    return result[0]
