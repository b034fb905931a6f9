"""How likely a model finds each of a few short answers: log p(choice | prompt), the prompt encoded once for all.

A row of the batch is a tree (see models/packing.py): a prompt, then its choices as branches that can't see each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raysafe.errors import ModelError
from raysafe.models.attention import check_packable
from raysafe.models.language import context_length
from raysafe.models.packing import Layout, TokenBatch, lay_out

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def choice_logprobs(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    choice_ids: Sequence[Sequence[Sequence[int]]],
    *,
    batch_tokens: int = 8192,
) -> np.ndarray:
    """log p(choice | prompt), summed over a choice's tokens and not normalised over the choices, (N, K), float64.

    prompt_ids: N prompts; choice_ids: the same number K of choices for each. The model is one that isn't set to packed
    attention, such as an engine's. batch_tokens bounds a forward pass, padding included, a single longer row aside.
    Raises ModelError where a prompt is empty or exceeds the context with a choice, or the output isn't finite.
    """
    _check(prompt_ids, choice_ids, context_length(model.config))
    layout = _layout(model)
    per_row = len(choice_ids[0]) if choice_ids else 0
    lengths_N = np.array(
        [_width(prompt, choices, layout) for prompt, choices in zip(prompt_ids, choice_ids, strict=True)], dtype=int
    )
    logps_NK = np.zeros((len(prompt_ids), per_row))
    copies = 1 if layout.share_prompt else per_row
    for rows in _batches(lengths_N, max(1, batch_tokens // max(copies, 1))):
        prompts = [np.asarray(prompt_ids[row], dtype=np.int64) for row in rows]
        branches = [[np.asarray(ids, dtype=np.int64) for ids in choice_ids[row]] for row in rows]
        batch = lay_out(prompts, branches, layout).to(model.device)
        logps_NK[rows] = _sums(model, batch).reshape(len(rows), per_row).cpu().numpy()
    if not np.isfinite(logps_NK).all():
        raise ModelError("the model's output is not finite: its weights are damaged or its precision is too low")
    return logps_NK


def telling_ids(choices: Sequence[Sequence[int]]) -> list[list[int]]:
    """The choices' ids, less the end that all of them share, unless one choice would then begin another.

    A template's end of turn says nothing of which choice it is, except where it tells `1` from the first half of `10`.
    """
    shared = 0
    while all(len(ids) > shared for ids in choices) and len({ids[-1 - shared] for ids in choices}) == 1:
        shared += 1
    short = [list(ids[: len(ids) - shared]) for ids in choices]
    return short if exclusive(short) else [list(ids) for ids in choices]


def exclusive(choices: Sequence[Sequence[object]]) -> bool:
    """Whether no choice is empty, equal to another, or the beginning of another."""
    return all(len(one) > 0 for one in choices) and not any(
        i != j and list(other[: len(one)]) == list(one)
        for i, one in enumerate(choices)
        for j, other in enumerate(choices)
    )


@torch.inference_mode()
def _sums(model: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """Summed log-probability of each branch, (C,), float64."""
    columns_K, inverse_N = torch.unique(batch.predictor_N % batch.input_ids_RT.shape[1], return_inverse=True)
    logits_RKV = model(**batch.model_inputs(), logits_to_keep=columns_K).logits
    logits_NV = logits_RKV[batch.predictor_N // batch.input_ids_RT.shape[1], inverse_N]
    logps_N = -F.cross_entropy(logits_NV.float(), batch.target_N, reduction="none").double()
    return torch.zeros(batch.completions, dtype=torch.float64, device=logps_N.device).index_add(
        0, batch.completion_N, logps_N
    )


def _layout(model: PreTrainedModel) -> Layout:
    """Prompts are shared where the model's attention is the plain causal kind, which a tree's mask replaces."""
    try:
        check_packable(model)
    except ModelError:
        return Layout(share_prompt=False, pack=False)
    return Layout(share_prompt=True, pack=False)


def _width(prompt: Sequence[int], choices: Sequence[Sequence[int]], layout: Layout) -> int:
    sizes = [len(ids) for ids in choices]
    return len(prompt) + (sum(sizes) if layout.share_prompt else max(sizes))


def _check(prompt_ids: Sequence[Sequence[int]], choice_ids: Sequence[Sequence[Sequence[int]]], context: int) -> None:
    for place, (prompt, choices) in enumerate(zip(prompt_ids, choice_ids, strict=True)):
        if not len(prompt):
            raise ModelError(f"prompt {place} is empty: begin it with the beginning-of-sequence token")
        if len(choices) != len(choice_ids[0]) or not exclusive(choices):
            raise ModelError(f"the choices of prompt {place} must differ, and none may be empty or begin another")
        longest = len(prompt) + max(len(ids) for ids in choices)
        if longest > context:
            raise ModelError(
                f"prompt {place} has {longest} tokens with its longest choice, the model takes {context}: shorten it"
            )


def _batches(widths_N: np.ndarray, budget: int) -> list[np.ndarray]:
    """Row numbers, longest first, in groups whose padded tokens stay within the budget."""
    groups: list[list[int]] = []
    for row in np.argsort(-widths_N, kind="stable"):
        if not groups or (len(groups[-1]) + 1) * int(widths_N[groups[-1][0]]) > budget:
            groups.append([])
        groups[-1].append(int(row))
    return [np.array(group) for group in groups]
