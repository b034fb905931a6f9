"""What is taken from an endpoint's answer: its text, and the first token's alternatives where they were asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raysafe.errors import ModelError


@dataclass(frozen=True)
class Reply:
    """An answer as it is cached."""

    text: str
    tokens: list[str] | None = None
    """The answer's tokens, where log-probabilities were asked for."""
    alternatives: list[tuple[str, float]] | None = None
    """Tokens that the answer might have begun with, and their log-probabilities."""

    def dump(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Reply | None:
        """A reply from the cache; None where the file holds something else."""
        text, tokens, pairs = kept.get("text"), kept.get("tokens"), kept.get("alternatives")
        if not isinstance(text, str) or not all(isinstance(part, list | None) for part in (tokens, pairs)):
            return None
        return cls(text, tokens, None if pairs is None else [(str(token), float(logp)) for token, logp in pairs])


def parse_reply(answer: Any, name: str, *, logprobs: bool) -> Reply:
    """The reply in a chat completion; raises ModelError where it, or the log-probabilities asked for, are missing.

    A refusal, whose content is null, is an empty text.
    """
    choices = getattr(answer, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raise ModelError(f"the judge {name} returned no chat completion: check that base_url ends where /chat/… begins")
    text = choices[0].message.content or ""
    if not logprobs:
        return Reply(text)
    found = getattr(choices[0].logprobs, "content", None)
    if not found or not found[0].top_logprobs:
        raise ModelError(
            f"the judge {name} returns no log-probabilities: set choice_logprobs to false, or name another model"
        )
    alternatives = [(top.token, float(top.logprob)) for top in found[0].top_logprobs]
    return Reply(text, [step.token for step in found], alternatives)


def choice_weights(reply: Reply, choices: Sequence[str]) -> list[float]:
    """Probability of each choice among the first token's alternatives: with and without space around it, summed."""
    weights = dict.fromkeys(choices, 0.0)
    for token, logp in reply.alternatives or ():
        if token.strip() in weights:
            weights[token.strip()] += math.exp(logp)
    return list(weights.values())
