"""What guards that give a text a score have in common: which texts they judge, and how they judge a stream in steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from raysafe.guards.guard import Exchange, Stage, Step, Verdict

Score = Callable[[str], float]


def judged_texts(exchange: Exchange, stage: Stage, roles: tuple[str, ...] | None) -> list[str]:
    """The stage's texts one by one, less messages of other roles, and all together where there is more than one.

    Together, for an attack may be spread over messages.
    """
    texts = list(exchange.texts(stage))
    if stage == "input" and roles is not None:
        messages = exchange.messages
        texts = [text for number, text in enumerate(texts) if number >= len(messages) or messages[number].role in roles]
    texts = [text for text in texts if text]
    return [*texts, "\n".join(texts)] if len(texts) > 1 else texts


@dataclass(frozen=True)
class Steps:
    """How a streamed text is judged: after every `step` characters, by its last `window` characters.

    What a step has judged may leave. The steps lie at fixed places, so that chunks change no decision.
    """

    window: int
    step: int

    def passages(self, text: str) -> Iterable[str]:
        """The passages of a whole text that its stream would be judged by, in order."""
        ends = [*range(self.step, len(text), self.step), len(text)]
        return (text[max(0, end - self.window) : end] for end in ends)


class SteppedFilter:
    """One streamed answer, judged step by step; `verdict(score)` is the guard's verdict at the stage output."""

    def __init__(self, steps: Steps, score: Score, verdict: Callable[[float], Verdict]) -> None:
        self._steps, self._score, self._verdict = steps, score, verdict
        self._tail = ""
        """The last characters that were judged."""
        self._held: list[str] = []
        self._held_length = 0
        self._settled = 0
        self._highest = 0.0

    def feed(self, text: str) -> Step:
        self._held.append(text)
        self._held_length += len(text)
        if self._held_length < self._steps.step:
            return Step("", self._settled)
        held = "".join(self._held)
        whole = len(held) // self._steps.step * self._steps.step
        for start in range(0, whole, self._steps.step):
            verdict = self._judge(held[start : start + self._steps.step])
            if verdict.stops:
                return Step(self._release(held[:start]), self._settled, verdict)
        self._held, self._held_length = [held[whole:]], len(held) - whole
        return Step(self._release(held[:whole]), self._settled)

    def finish(self) -> Step:
        held = "".join(self._held)
        verdict = self._judge(held) if held else self._verdict(self._highest)
        return Step("" if verdict.stops else self._release(held), self._settled, verdict)

    def _judge(self, more: str) -> Verdict:
        self._tail = (self._tail + more)[-self._steps.window :]
        self._highest = max(self._highest, self._score(self._tail))
        return self._verdict(self._highest)

    def _release(self, text: str) -> str:
        self._settled += len(text)
        return text
