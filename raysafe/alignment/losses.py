"""Losses as pure functions of log-probabilities, rewards and values.

Preferences: DPO (Rafailov et al. 2023, eq. 7), conservative DPO (Mitchell 2023), robust DPO (Chowdhury et al. 2024,
eq. 12), IPO (Azar et al. 2023, eq. 17, averaged over the length), hinge (SLiC, Zhao et al. 2023), the likelihood of the
chosen answer beside them (Pang et al. 2024, eq. 3), Bradley-Terry (1952).
Policy gradients: PPO (Schulman et al. 2017, eq. 7) with dual clip (Ye et al. 2020, eq. 5) and separate bounds, the
clipped value loss, KL estimates (Schulman 2020), truncated importance weights (Ionides 2008).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

DPOKind = Literal["sigmoid", "conservative", "robust", "ipo", "hinge"]
KLKind = Literal["k1", "k2", "k3"]
MOST_EXPONENT = 20.0
"""Log-ratios beyond this are cut before the exponential: one stray token must not make a batch infinite."""


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


def likelihood_loss(chosen_logps_B: Tensor, chosen_lengths_B: Tensor) -> Tensor:
    """-log p of the chosen answer per token, (B,): DPO alone lets it fall as long as the rejected one falls faster
    (Pang et al. 2024, eq. 3). Lengths are in tokens."""
    return -chosen_logps_B / chosen_lengths_B


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


def ppo_policy_loss(
    logps_BT: Tensor,
    old_logps_BT: Tensor,
    advantages_BT: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """PPO's clipped loss of each token and whether the clip held it, same shape as the arguments (any shape).

    The ratio is clipped to [1 - clip_low, 1 + clip_high], clip_high being clip_low by default. dual_clip (above 1)
    bounds the loss of a token with a negative advantage by -dual_clip * advantage.
    """
    clip_high = clip_low if clip_high is None else clip_high
    if not 0 < clip_low < 1 or clip_high <= 0:
        raise ValueError(f"clip_low must be in (0, 1) and clip_high above 0, got {clip_low} and {clip_high}")
    if dual_clip is not None and dual_clip <= 1:
        raise ValueError(f"dual_clip must be above 1, got {dual_clip}")
    ratio_BT = (logps_BT - old_logps_BT).clamp(-MOST_EXPONENT, MOST_EXPONENT).exp()
    free_BT = -advantages_BT * ratio_BT
    held_BT = -advantages_BT * ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    loss_BT = torch.maximum(free_BT, held_BT)
    clipped_BT = held_BT > free_BT
    if dual_clip is not None:
        bound_BT = -advantages_BT * dual_clip
        bounded_BT = (advantages_BT < 0) & (loss_BT > bound_BT)
        loss_BT = torch.where(bounded_BT, bound_BT, loss_BT)
        clipped_BT = clipped_BT | bounded_BT
    return loss_BT, clipped_BT


def ppo_value_loss(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, *, clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """Half the squared error of each value, and whether the clip held it; with `clip` the larger of both errors.

    The clipped value stays within `clip` of the value before the update.
    """
    error_BT = (values_BT - returns_BT) ** 2
    if clip is None:
        return 0.5 * error_BT, torch.zeros_like(error_BT, dtype=torch.bool)
    if clip <= 0:
        raise ValueError(f"clip must be above 0, got {clip}")
    # a value within the bounds stays as it is, to the last bit: it must not count as held
    near_BT = torch.clamp(values_BT, old_values_BT - clip, old_values_BT + clip)
    held_BT = (near_BT - returns_BT) ** 2
    return 0.5 * torch.maximum(error_BT, held_BT), held_BT > error_BT


def kl_estimate(logps_BT: Tensor, ref_logps_BT: Tensor, *, kind: KLKind) -> Tensor:
    """Estimate of KL(policy || reference) at each sampled token, from d = logps - ref_logps, any shape.

    k1 = d (unbiased, may be negative), k2 = d^2 / 2, k3 = exp(-d) - 1 + d (unbiased, never negative).
    """
    difference_BT = logps_BT - ref_logps_BT
    if kind == "k1":
        return difference_BT
    if kind == "k2":
        return difference_BT**2 / 2
    if kind == "k3":
        # cut as a whole: the exponential alone would leave a gradient that points away from the reference
        difference_BT = difference_BT.clamp(min=-MOST_EXPONENT)
        return (-difference_BT).exp() - 1 + difference_BT
    raise ValueError(f"kind must be one of {', '.join(get_args(KLKind))}, got '{kind}'")


def importance_weights(
    logps_BT: Tensor, behaviour_logps_BT: Tensor, *, most: float, answer_N: Tensor | None = None
) -> Tensor:
    """Truncated weights min(p / p_behaviour, most) of tokens that another policy drew, without a gradient.

    A token's own ratio leaves the other policy's distribution of the rest of its answer. With answer_N, the answer of
    each token, all its tokens get the ratio of the whole answer: unbiased below the cap, of a larger variance.
    """
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    difference_BT = (logps_BT - behaviour_logps_BT).detach()
    if answer_N is not None:
        sums_C = difference_BT.new_zeros(int(answer_N.max()) + 1 if answer_N.numel() else 0)
        difference_BT = sums_C.index_add(0, answer_N, difference_BT)[answer_N]
    return difference_BT.clamp(-MOST_EXPONENT, MOST_EXPONENT).exp().clamp(max=most)
