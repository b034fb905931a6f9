"""Log-probabilities of completions under a causal language model, packed or padded."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysafe.models.packing import TokenBatch


def token_logprobs(model: nn.Module, batch: TokenBatch) -> Tensor:
    """log p(token | what precedes it) of every completion token, (N,), in float32 or better.

    `model` is a transformers causal language model or a wrapper around one; one forward pass.
    """
    return _logprobs(_logits(model, batch), batch)


def token_logprobs_and_entropy(model: nn.Module, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """token_logprobs, and the entropy in nats of the distribution that each completion token was drawn from, (N,)."""
    logits_NV = _logits(model, batch)
    normal_NV = logits_NV.log_softmax(-1)
    return _logprobs(logits_NV, batch), -(normal_NV.exp() * normal_NV).sum(-1)


def _logprobs(logits_NV: Tensor, batch: TokenBatch) -> Tensor:
    return -F.cross_entropy(logits_NV, batch.target_N, reduction="none")


def _logits(model: nn.Module, batch: TokenBatch) -> Tensor:
    """Logits (N, V) that predict the completion tokens."""
    inputs = batch.model_inputs()
    width = batch.input_ids_RT.shape[1]
    if batch.logits_everywhere:
        logits_RTV = model(**inputs).logits
        logits_NV = logits_RTV.flatten(0, 1)[batch.predictor_N]
    elif batch.trees is not None:
        # one row: the model itself skips the vocabulary projection of all other tokens
        logits_NV = model(**inputs, logits_to_keep=batch.predictor_N).logits[0]
    else:
        columns_K, inverse_N = torch.unique(batch.predictor_N % width, return_inverse=True)
        logits_RKV = model(**inputs, logits_to_keep=columns_K).logits
        logits_NV = logits_RKV[batch.predictor_N // width, inverse_N]
    if logits_NV.dtype in (torch.bfloat16, torch.float16):
        logits_NV = logits_NV.float()
    return logits_NV


def sequence_logprobs(model: nn.Module, batch: TokenBatch) -> Tensor:
    """Summed log-probability of each completion, (C,)."""
    return completion_sums(token_logprobs(model, batch), batch)


def completion_sums(logps_N: Tensor, batch: TokenBatch) -> Tensor:
    """Each completion's sum over its tokens, (C,), in the dtype of the tokens' figures."""
    return torch.zeros(batch.completions, dtype=logps_N.dtype, device=logps_N.device).index_add(
        0, batch.completion_N, logps_N
    )
