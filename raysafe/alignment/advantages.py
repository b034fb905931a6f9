"""Advantages of tokens and of answers, as pure functions.

GAE (Schulman et al. 2016, eq. 16), GRPO (Shao et al. 2024, sec. 4.1), Dr. GRPO (Liu et al. 2025), RLOO (Ahmadian et al.
2024), REINFORCE++ (Hu 2025). Answers are rows; what stands outside the mask is no part of an answer.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

GroupKind = Literal["grpo", "dr_grpo", "rloo"]


def gae(rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, (B, T) each, zero outside the mask.

    The last token of the mask ends the episode. A gap in the mask (a tool's output inside an answer) is skipped: the
    token before it is followed by the token after it. Rewards and values outside the mask count for nothing.
    """
    check_discount("gamma", gamma)
    check_discount("lam", lam)
    mask_BT = mask_BT.to(torch.bool)
    advantages_BT = torch.zeros_like(rewards_BT)
    next_value_B = next_advantage_B = torch.zeros_like(rewards_BT[:, 0])
    for t in range(rewards_BT.shape[1] - 1, -1, -1):
        delta_B = rewards_BT[:, t] + gamma * next_value_B - values_BT[:, t]
        advantage_B = delta_B + gamma * lam * next_advantage_B
        inside_B = mask_BT[:, t]
        advantages_BT[:, t] = torch.where(inside_B, advantage_B, torch.zeros_like(advantage_B))
        next_advantage_B = torch.where(inside_B, advantage_B, next_advantage_B)
        next_value_B = torch.where(inside_B, values_BT[:, t], next_value_B)
    returns_BT = torch.where(mask_BT, advantages_BT + values_BT, torch.zeros_like(values_BT))
    return advantages_BT, returns_BT


def group_advantages(rewards_B: Tensor, group_ids_B: Tensor, *, kind: GroupKind, eps: float = 1e-6) -> Tensor:
    """Advantage of each answer over the others to its prompt, (B,); answers to one prompt share a group id.

    grpo: (r - mean) / (std + eps), unbiased std; dr_grpo: r - mean; rloo: r less the mean of the group's others.
    Raises ValueError for an unknown kind, and for a group of one, which has nothing to be compared with.
    """
    if kind not in get_args(GroupKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(GroupKind))}, got '{kind}'")
    ids_G, group_B, counts_G = torch.unique(group_ids_B, return_inverse=True, return_counts=True)
    if bool((counts_G < 2).any()):
        lonely = ids_G[counts_G < 2][0].item()
        raise ValueError(f"group {lonely} has one answer and nothing to compare it with: draw two or more a prompt")
    counts_G = counts_G.to(rewards_B.dtype)
    means_G = torch.zeros_like(counts_G).index_add(0, group_B, rewards_B) / counts_G
    centred_B = rewards_B - means_G[group_B]
    if kind == "dr_grpo":
        return centred_B
    if kind == "rloo":
        return centred_B * (counts_G / (counts_G - 1))[group_B]
    squares_G = torch.zeros_like(counts_G).index_add(0, group_B, centred_B**2)
    return centred_B / ((squares_G / (counts_G - 1)).sqrt()[group_B] + eps)


def whiten(values_BT: Tensor, mask_BT: Tensor, *, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """Values at unit variance (unbiased) over the mask, and at zero mean unless `shift_mean` is off; zero outside."""
    inside = values_BT[mask_BT.to(torch.bool)]
    mean = inside.mean()
    spread = inside.std() if inside.numel() > 1 else torch.zeros_like(mean)
    whitened_BT = (values_BT - mean) / (spread + eps)
    if not shift_mean:
        whitened_BT = whitened_BT + mean
    return torch.where(mask_BT.to(torch.bool), whitened_BT, torch.zeros_like(values_BT))


def token_rewards(scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, *, kl_coefficient: float) -> Tensor:
    """Rewards (B, T): -kl_coefficient * KL on every token of the answer, and the score on its last one.

    The last token of the mask is the end-of-sequence token where the answer has one; it is never padding. An answer
    without tokens gets nothing.
    """
    mask_BT = mask_BT.to(torch.bool)
    rewards_BT = torch.where(mask_BT, -kl_coefficient * kl_BT, torch.zeros_like(kl_BT))
    columns_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = torch.where(mask_BT, columns_T, -1).amax(1)
    rows_B = torch.arange(len(last_B), device=mask_BT.device)
    rewards_BT[rows_B, last_B.clamp_min(0)] += torch.where(last_B >= 0, scores_B, torch.zeros_like(scores_B))
    return rewards_BT


def adapted_kl_coefficient(coefficient: float, kl: float, *, target: float, samples: int, horizon: int) -> float:
    """Next KL coefficient after `samples` answers whose KL was `kl` (Ziegler et al. 2019, eq. in sec. 2.2)."""
    error = min(0.2, max(-0.2, kl / target - 1))
    return coefficient * (1 + error * samples / horizon)


def check_discount(name: str, value: float) -> None:
    """Raise ValueError for a discount outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
