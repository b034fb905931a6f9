"""Losses of adversarial training, one number an example: pure functions of logits (B, K)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div


def kl_divergence(clean_BK: Tensor, adversarial_BK: Tensor) -> Tensor:
    """KL(p_clean || p_adversarial), (B,)."""
    log_clean_BK, log_adversarial_BK = clean_BK.log_softmax(-1), adversarial_BK.log_softmax(-1)
    return kl_div(log_adversarial_BK, log_clean_BK, reduction="none", log_target=True).sum(-1)


def trades_loss(clean_BK: Tensor, adversarial_BK: Tensor, y_B: Tensor, weight: float) -> Tensor:
    """Cross-entropy of the clean input and `weight` times the divergence (Zhang et al. 2019, eq. 5), (B,)."""
    return cross_entropy(clean_BK, y_B, reduction="none") + weight * kl_divergence(clean_BK, adversarial_BK)


def mart_loss(clean_BK: Tensor, adversarial_BK: Tensor, y_B: Tensor, weight: float) -> Tensor:
    """Boosted cross-entropy, and the divergence where the clean input is unsure (Wang et al. 2020, eq. 12), (B,).

    The boosted cross-entropy is -log p_y(x') - log(1 - max_{k != y} p_k(x')).
    """
    probabilities_BK = adversarial_BK.softmax(-1)
    truth_BK = torch.zeros_like(probabilities_BK, dtype=torch.bool).scatter_(1, y_B[:, None], True)
    other_B = probabilities_BK.masked_fill(truth_BK, 0.0).amax(-1)
    # a probability that rounds to 1 must not give an infinite loss
    boosted_B = cross_entropy(adversarial_BK, y_B, reduction="none") - torch.log1p(-other_B.clamp(max=1 - 1e-6))
    unsure_B = 1 - clean_BK.softmax(-1).gather(1, y_B[:, None])[:, 0]
    return boosted_B + weight * kl_divergence(clean_BK, adversarial_BK) * unsure_B
