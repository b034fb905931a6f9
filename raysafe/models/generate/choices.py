"""How likely a model finds each of a few short answers: log p(choice | prompt), the prompt encoded once for all.

A row of the batch is a tree (see models/packing.py): a prompt, then its choices as branches that can't see each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from raysafe.errors import ModelError
from raysafe.models.attention import check_packable
from raysafe.models.language import context_length
from raysafe.models.logprobs import completion_sums, token_logprobs
from raysafe.models.packing import Layout, lay_out
from raysafe.runtime.batches import micro_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
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
    widths = [_width(prompt, choices, layout) for prompt, choices in zip(prompt_ids, choice_ids, strict=True)]
    logps_NK = np.zeros((len(prompt_ids), per_row))
    copies = 1 if layout.share_prompt else per_row
    for rows in micro_batches(widths, max(1, batch_tokens // max(copies, 1)), padded=True):
        prompts = [np.asarray(prompt_ids[row], dtype=np.int64) for row in rows]
        branches = [[np.asarray(ids, dtype=np.int64) for ids in choice_ids[row]] for row in rows]
        batch = lay_out(prompts, branches, layout).to(model.device)
        sums_C = completion_sums(token_logprobs(model, batch).double(), batch)
        logps_NK[rows] = sums_C.reshape(len(rows), per_row).cpu().numpy()
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
