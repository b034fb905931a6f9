"""Preference losses as pure functions of summed log-probabilities and rewards.

DPO (Rafailov et al. 2023, eq. 7), conservative DPO (Mitchell 2023), robust DPO (Chowdhury et al. 2024, eq. 12),
IPO (Azar et al. 2023, eq. 17, averaged over the length), hinge (SLiC, Zhao et al. 2023), Bradley-Terry (1952).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

DPOKind = Literal["sigmoid", "conservative", "robust", "ipo", "hinge"]


def check_dpo_options(kind: str, label_smoothing: float) -> None:
    """Raise ValueError for an option that the loss would ignore or that has no meaning in it."""
    if kind not in get_args(DPOKind):
        raise ValueError(f"kind must be one of {', '.join(get_args(DPOKind))}, got '{kind}'")
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
    if label_smoothing and kind not in ("conservative", "robust"):
        raise ValueError(
            f"label_smoothing does nothing in the {kind} loss, got {label_smoothing}; "
            "set it to 0, or choose conservative or robust"
        )
    if kind == "robust" and label_smoothing >= 0.5:
        raise ValueError(f"the robust loss needs label_smoothing below 0.5, got {label_smoothing}")


def dpo_loss(
    policy_chosen_B: Tensor,
    policy_rejected_B: Tensor,
    ref_chosen_B: Tensor,
    ref_rejected_B: Tensor,
    *,
    beta: float,
    kind: DPOKind = "sigmoid",
    label_smoothing: float = 0.0,
    chosen_lengths_B: Tensor | None = None,
    rejected_lengths_B: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """DPO loss per pair from log-probabilities summed over completion tokens.

    Args are (B,); lengths, in tokens, are for `ipo`, which averages over them. Returns (loss_B, chosen_rewards_B,
    rejected_rewards_B); rewards are the implicit beta (policy - reference), detached. Raises ValueError for an option
    that does nothing in the chosen loss.
    """
    check_dpo_options(kind, label_smoothing)
    if beta <= 0:
        raise ValueError(f"beta must be positive, got {beta}")
    chosen_B = policy_chosen_B - ref_chosen_B
    rejected_B = policy_rejected_B - ref_rejected_B
    rewards_B = (beta * chosen_B).detach(), (beta * rejected_B).detach()
    if kind == "ipo":
        if chosen_lengths_B is None or rejected_lengths_B is None:
            raise ValueError(
                "the ipo loss averages over completion tokens: give chosen_lengths_B and rejected_lengths_B"
            )
        delta_B = chosen_B / chosen_lengths_B - rejected_B / rejected_lengths_B
        return (delta_B - 1 / (2 * beta)) ** 2, *rewards_B
    delta_B = chosen_B - rejected_B
    if kind == "hinge":
        return F.relu(1 - beta * delta_B), *rewards_B
    right_B, wrong_B = -F.logsigmoid(beta * delta_B), -F.logsigmoid(-beta * delta_B)
    if kind == "conservative":
        loss_B = (1 - label_smoothing) * right_B + label_smoothing * wrong_B
    elif kind == "robust":
        loss_B = ((1 - label_smoothing) * right_B - label_smoothing * wrong_B) / (1 - 2 * label_smoothing)
    else:
        loss_B = right_B
    return loss_B, *rewards_B


def bradley_terry_loss(
    chosen_B: Tensor, rejected_B: Tensor, *, margin_B: Tensor | None = None, center: float = 0.0
) -> Tensor:
    """-log sigmoid(r_chosen - r_rejected - margin) + center (r_chosen + r_rejected)^2 per pair, (B,)."""
    if center < 0:
        raise ValueError(f"center must not be negative, got {center}")
    gap_B = chosen_B - rejected_B
    if margin_B is not None:
        gap_B = gap_B - margin_B
    loss_B = -F.logsigmoid(gap_B)
    return loss_B + center * (chosen_B + rejected_B) ** 2 if center else loss_B
