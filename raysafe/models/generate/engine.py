"""What generates text: one interface for rollouts, judges and serving alike, whatever computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, field_validator

from raysafe.config import Config

if TYPE_CHECKING:
    from raysafe.models.generate.pool import Pool

FinishReason = Literal["stop", "length", "cancelled"]
Cancelled = Callable[[], bool]
"""Asked before every token: true ends generation there."""


class SamplingParams(Config):
    """How an answer is drawn. The same seed, prompt and settings draw the same answer, alone or in any batch."""

    max_tokens: int = Field(default=256, ge=1, description="Longest answer, in tokens; the context may end it sooner.")
    temperature: float = Field(default=1.0, ge=0, description="0 always takes the likeliest token.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Draw from the likeliest tokens that reach this mass.")
    top_k: int = Field(default=0, ge=0, description="Draw from this many likeliest tokens; 0 for all.")
    stop: tuple[str, ...] = Field(default=(), description="Strings that end the answer; they are not part of its text.")
    seed: int = Field(default=0, ge=0, description="Seed of every draw.")
    n: int = Field(default=1, ge=1, description="Answers to each prompt.")

    @field_validator("stop")
    @classmethod
    def _no_empty_stop(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if not all(stop):
            raise ValueError("a stop string can't be empty: leave it out")
        return stop


@dataclass(frozen=True)
class Generation:
    """One answer."""

    prompt: int
    """Which prompt it answers, by its place in the call."""
    tokens: list[int]
    """Ids as they were generated, with the end-of-turn token where the model wrote one."""
    logprobs: list[float]
    """Log-probability of each token under the model itself: temperature 1, nothing filtered."""
    text: str
    """Without special tokens, cut before a stop string."""
    finish_reason: FinishReason


class TextStream(Protocol):
    """Pieces of one answer's text as it is written; together they are its text."""

    generation: Generation | None
    """The whole answer, once the pieces are exhausted."""

    def __iter__(self) -> Iterator[str]: ...

    def __next__(self) -> str: ...


class Engine(Protocol):
    """Generates answers to prompts given as token ids."""

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, cancelled: Cancelled | None = None
    ) -> list[Generation]:
        """`sampling.n` answers to each prompt, in the order of the prompts."""
        ...

    def stream(self, prompt: Sequence[int], sampling: SamplingParams, cancelled: Cancelled | None = None) -> TextStream:
        """One answer, piece by piece: no piece ends inside a character or shows a part of a stop string."""
        ...

    def pool(self, max_rows: int) -> Pool:
        """Room for this many answers at a time, of any callers: what a Scheduler steps."""
        ...

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Replace the model's weights by tensors or arrays of the same names and shapes."""
        ...
