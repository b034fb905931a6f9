"""Choosing the next token. Every row brings its own uniform number, so a draw doesn't depend on its neighbours."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 64


def draw(
    logits_BV: Tensor, uniforms_B: Tensor | None, *, temperature: float, top_k: int, top_p: float
) -> tuple[Tensor, Tensor]:
    """Token ids (B,) as `choose` has them, and their log-probabilities (B,) at temperature 1 with nothing filtered."""
    if temperature != 1 or top_k or top_p < 1:
        tokens_B = choose(logits_BV, uniforms_B, temperature=temperature, top_k=top_k, top_p=top_p)
        return tokens_B, _picked(logits_BV, tokens_B) - logits_BV.logsumexp(-1)
    assert uniforms_B is not None
    # one pass serves both: the weights that are drawn from add up to what the log-probability is normalised by
    highest_B1 = logits_BV.amax(-1, keepdim=True)
    tokens_B, total_B = _invert(_weights(logits_BV, highest_B1, 1.0), uniforms_B, logits_BV.shape[-1])
    return tokens_B, _picked(logits_BV, tokens_B) - highest_B1.squeeze(-1) - total_B.log().to(logits_BV.dtype)


def choose(logits_BV: Tensor, uniforms_B: Tensor | None, *, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Token ids (B,): the likeliest where temperature is 0, else drawn by inverting the distribution function.

    uniforms_B in [0, 1), float64, may be None at temperature 0. Tokens are filtered by top_k first, then by top_p
    among what is left.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    assert uniforms_B is not None
    columns = logits_BV.shape[-1]
    if not top_k and top_p == 1:
        return _invert(_weights(logits_BV, logits_BV.amax(-1, keepdim=True), temperature), uniforms_B, columns)[0]
    kept = min(top_k, columns) if top_k else columns
    ordered_BK, ids_BK = logits_BV.topk(kept, dim=-1)
    weights_BK = _weights(ordered_BK, ordered_BK[:, :1], temperature)
    cumulative_BK = weights_BK.cumsum(-1, dtype=torch.float64)
    inside_BK = cumulative_BK - weights_BK < top_p * cumulative_BK[:, -1:]
    return _picked(ids_BK, _invert(weights_BK * inside_BK, uniforms_B, kept)[0])


def _weights(logits_BV: Tensor, highest_B1: Tensor, temperature: float) -> Tensor:
    """exp((logits - highest) / temperature), followed by zeros up to a whole number of blocks."""
    rows, columns = logits_BV.shape
    weights_BK = logits_BV.new_empty(rows, columns + -columns % _BLOCK)
    weights_BK[:, columns:] = 0
    weights_BV = weights_BK[:, :columns]
    torch.sub(logits_BV, highest_B1, out=weights_BV)
    if temperature != 1:
        weights_BV.div_(temperature)
    weights_BV.exp_()
    return weights_BK


def _invert(weights_BK: Tensor, uniforms_B: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """First of `columns` whose cumulative weight exceeds the uniform share of the total; and the totals, float64.

    Sums of blocks are searched first, then the one block: a float64 sum over all columns costs many times as much.
    """
    blocks_BKW = weights_BK.unflatten(-1, (-1, _BLOCK))
    sums_BK = blocks_BKW.sum(-1).cumsum(-1, dtype=torch.float64)
    totals_B1 = sums_BK[:, -1:]
    shares_B1 = uniforms_B[:, None].to(sums_BK.device) * totals_B1
    block_B1 = _first_beyond(sums_BK, shares_B1)
    before_B1 = F.pad(sums_BK, (1, 0)).gather(-1, block_B1)
    chosen_BW = blocks_BKW.gather(1, block_B1[..., None].expand(-1, 1, _BLOCK)).squeeze(1)
    column_B1 = _first_beyond(chosen_BW.cumsum(-1, dtype=torch.float64), (shares_B1 - before_B1).clamp_min(0))
    # where a weight is not a number, the search ends beyond the last column
    return (block_B1 * _BLOCK + column_B1).squeeze(-1).clamp_max(columns - 1), totals_B1.squeeze(-1)


def _first_beyond(cumulative_BK: Tensor, shares_B1: Tensor) -> Tensor:
    """First column that exceeds the share, (B, 1). Rounding can't lead to one that adds no weight."""
    totals_B1 = cumulative_BK[:, -1:]
    shares_B1 = shares_B1.minimum(totals_B1.nextafter(torch.zeros_like(totals_B1)))
    return torch.searchsorted(cumulative_BK, shares_B1, right=True).clamp_max(cumulative_BK.shape[-1] - 1)


def _picked(values_BK: Tensor, columns_B: Tensor) -> Tensor:
    return values_BK.gather(-1, columns_B[:, None]).squeeze(-1)


def row_seed(prompt: Sequence[int], *, seed: int, occurrence: int, sample: int) -> int:
    """Seed of one answer, below 2**63.

    It depends on the call's seed, the prompt's tokens, how often that prompt came before in the call, and the answer's
    number: not on the batch, the shard or the machine that the prompt was put on.
    """
    identity = struct.pack(f"<{len(prompt) + 3}q", seed, occurrence, sample, *prompt)
    return int.from_bytes(hashlib.sha256(identity).digest()[:8], "little", signed=False) >> 1


def row_uniforms(prompt: Sequence[int], count: int, *, seed: int, occurrence: int, sample: int) -> Tensor:
    """`count` uniforms in [0, 1), float64, of one answer: those of its `row_seed`."""
    derived = row_seed(prompt, seed=seed, occurrence=occurrence, sample=sample)
    generator = torch.Generator().manual_seed(derived)
    return torch.rand(count, generator=generator, dtype=torch.float64)
