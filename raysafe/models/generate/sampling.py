"""Choosing the next token. Every row brings its own uniform number, so a draw doesn't depend on its neighbours."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import torch
from torch import Tensor


def choose(logits_BV: Tensor, uniforms_B: Tensor | None, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Token ids (B,): the likeliest where temperature is 0, else drawn by inverting the distribution function.

    uniforms_B in [0, 1), float64, may be None at temperature 0. Tokens are filtered by top_k first, then by top_p
    among what is left.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    assert uniforms_B is not None
    logits_BV = logits_BV.double() / temperature
    if not top_k and top_p == 1:
        return _invert(logits_BV.softmax(-1), uniforms_B)
    kept = min(top_k, logits_BV.shape[-1]) if top_k else logits_BV.shape[-1]
    ordered_BK, ids_BK = logits_BV.topk(kept, dim=-1)
    probabilities_BK = ordered_BK.softmax(-1)
    before_BK = probabilities_BK.cumsum(-1) - probabilities_BK
    return ids_BK.gather(-1, _invert(probabilities_BK * (before_BK < top_p), uniforms_B)[:, None]).squeeze(-1)


def _invert(weights_BK: Tensor, uniforms_B: Tensor) -> Tensor:
    """First column whose cumulative weight exceeds the uniform share of the total, (B,)."""
    cumulative_BK = weights_BK.cumsum(-1)
    shares_B1 = uniforms_B[:, None].to(cumulative_BK.device) * cumulative_BK[:, -1:]
    return torch.searchsorted(cumulative_BK, shares_B1, right=True).squeeze(-1).clamp_max(weights_BK.shape[-1] - 1)


def row_uniforms(prompt: Sequence[int], count: int, *, seed: int, occurrence: int, sample: int) -> Tensor:
    """`count` uniforms in [0, 1), float64, of one answer.

    They depend on the seed, the prompt's tokens, how often that prompt came before in the call, and the answer's
    number: not on the batch, the shard or the machine that the prompt was put on.
    """
    identity = struct.pack(f"<{len(prompt) + 3}q", seed, occurrence, sample, *prompt)
    derived = int.from_bytes(hashlib.sha256(identity).digest()[:8], "little", signed=False) >> 1
    generator = torch.Generator().manual_seed(derived)
    return torch.rand(count, generator=generator, dtype=torch.float64)
