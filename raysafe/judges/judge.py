"""What judges: one asynchronous interface, whatever computes it.

A judge reads a prompt and writes a short answer, or says how likely it finds each of a few answers; rubric.py and
compare.py make scores and preferences of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from raysafe.errors import ConfigError, ModelError

Messages = Sequence[Mapping[str, str]]
"""Chat messages, each with `role` and `content`."""
Method = Literal["choice_logprobs", "generate"]
"""How a verdict was got: from the likelihood of each allowed answer, or from an answer that was written and parsed."""
AnyMethod = Literal["auto", "choice_logprobs", "generate"]
"""`auto`: choice_logprobs where the judge declares it, else generate; every result names the one that was used."""


@dataclass(frozen=True)
class Capabilities:
    """What a judge declares of itself."""

    choice_logprobs: bool
    """Whether it can say how likely it finds each of a few answers."""
    deterministic: bool
    """Whether the same prompt, settings and seed give the same answer."""
    concurrent: int = 1
    """Prompts that it works on at the same time."""
    batch: int = 64
    """Prompts that one call should hold to be worth its cost."""


@runtime_checkable
class Judge(Protocol):
    """Answers prompts, and perhaps weighs given answers to them."""

    @property
    def name(self) -> str:
        """What messages and results call it."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def generate(
        self, prompts: Sequence[Messages], *, max_tokens: int = 16, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """One answer a prompt, in order."""
        ...

    async def choice_logprobs(self, prompts: Sequence[Messages], choices: Sequence[str]) -> np.ndarray:
        """log p(choice | prompt, one of the choices), (N, K): normalised over the choices.

        A row is NaN where the judge would have answered none of them. Raises ModelError where it lacks the capability.
        """
        ...


def choose_method(judge: Judge, method: AnyMethod) -> Method:
    """The method that will be used; raises ConfigError where it asks for what the judge can't do."""
    able = judge.capabilities.choice_logprobs
    if method == "auto":
        return "choice_logprobs" if able else "generate"
    if method == "choice_logprobs" and not able:
        raise ConfigError(
            f"the judge {judge.name} doesn't give log-probabilities of choices: set method to 'generate', or to 'auto'"
        )
    return method


def no_choices(name: str) -> ModelError:
    """The error of a judge that is asked for log-probabilities that it doesn't have."""
    return ModelError(f"the judge {name} doesn't give log-probabilities of choices: set method to 'generate'")


def check_choices(choices: Sequence[str]) -> None:
    """Raise ConfigError for choices that can't be told apart."""
    if len(choices) < 2 or len(set(choices)) != len(choices) or not all(choice.strip() for choice in choices):
        raise ConfigError(f"choices must be two or more different texts, got {list(choices)}")


def log_softmax(logits_NK: Any) -> np.ndarray:
    """Log-probabilities normalised over the last axis; minus infinity stays what it is."""
    logits_NK = np.asarray(logits_NK, dtype=np.float64)
    shifted_NK = logits_NK - logits_NK.max(axis=-1, keepdims=True)
    return shifted_NK - np.log(np.exp(shifted_NK).sum(axis=-1, keepdims=True))
