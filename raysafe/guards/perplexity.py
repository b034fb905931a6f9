"""Adversarial suffixes by a language model's windowed perplexity (Alon & Kamfonas 2023; Jain et al. 2023).

- kind: perplexity
  model: SmolLM2-135M-Instruct   # a folder or a hub id
  limit: 2000                    # perplexity of the worst window at which the score is one half

The score is p / (p + limit) for the highest perplexity p among windows of neighbouring tokens. It runs in a thread,
where its timeout cuts it off: a small model reads some 300 tokens a second on 2 cores.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from raysafe.guards.scored import ScoredConfig, ScoredGuard
from raysafe.guards.settings import NOTHING, Resources

if TYPE_CHECKING:
    from torch import Tensor


class PerplexityConfig(ScoredConfig):
    """`kind: perplexity` of a policy."""

    kind: Literal["perplexity"] = "perplexity"
    name: str = Field(default="perplexity", min_length=1)
    model: str = Field(description="Causal language model: a folder, a finished run, or a hub id.")
    window: int = Field(default=16, ge=2, description="Tokens of a window.")
    limit: float = Field(default=2000.0, gt=1, description="Perplexity of the worst window that scores 0.5.")
    threshold: float = Field(default=0.5, gt=0, le=1, description="Score from which the guard acts.")
    timeout_s: float = Field(default=30.0, gt=0, description="A check that takes longer counts as failed.")

    def build(self, resources: Resources = NOTHING) -> PerplexityGuard:
        return PerplexityGuard(self)


class PerplexityGuard(ScoredGuard):
    """Raises ModelError where the model can't be loaded."""

    inline = False

    def __init__(self, config: PerplexityConfig) -> None:
        from raysafe.models.language import check_tokenizer, context_length, load_policy, load_tokenizer

        super().__init__(config, config.threshold, "a passage surprises the language model")
        self._limit, self._window = config.limit, config.window
        self._model, self._tokenizer = load_policy(config.model), load_tokenizer(config.model)
        check_tokenizer(self._model, self._tokenizer)
        self._context = min(context_length(config.model), 1024)
        self._lock = threading.Lock()

    def score(self, text: str) -> float:
        perplexity = worst_perplexity(self.surprises(text), self._window)
        return perplexity / (perplexity + self._limit)

    def surprises(self, text: str) -> np.ndarray:
        """Nats of each token after the first, [T - 1]; each part of the context's length is read by itself."""
        import torch

        tokenizer: Any = self._tokenizer
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        start = tokenizer.bos_token_id
        parts = []
        with self._lock, torch.inference_mode():
            for at in range(0, len(ids), self._context - 1):
                # the token before a part is its context, and a text begins after the tokenizer's first token
                before = [start] if at == 0 and start is not None else ids[max(0, at - 1) : at]
                tokens_T = torch.tensor(before + ids[at : at + self._context - 1])
                if tokens_T.numel() > 1:
                    parts.append(_nats(self._model(tokens_T[None]).logits[0], tokens_T))
        return np.concatenate(parts) if parts else np.zeros(0)


def _nats(logits_TV: Tensor, tokens_T: Tensor) -> np.ndarray:
    """-log p of each token but the first, given those before it."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits_TV[:-1].float(), tokens_T[1:], reduction="none").numpy().astype(np.float64)


def worst_perplexity(nats_T: np.ndarray, window: int) -> float:
    """exp of the highest mean over `window` neighbouring tokens; 1 for no tokens, all of them where they are fewer."""
    if nats_T.size == 0:
        return 1.0
    size = min(window, nats_T.size)
    sums_T = np.concatenate(([0.0], nats_T.cumsum()))
    return float(np.exp(min(((sums_T[size:] - sums_T[:-size]) / size).max(), 700.0)))
