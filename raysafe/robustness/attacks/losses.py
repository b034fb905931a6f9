"""What an attack raises, per sample: cross-entropy, difference of logits ratio (DLR), margin of logits.

`target_B` None: away from the label y; otherwise towards the target. DLR after Croce and Hein 2020b, equations 6 and 7.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysafe.errors import ConfigError
from raysafe.robustness.attacks.settings import Loss

_TINY = 1e-12


def attack_loss(name: Loss, logits_BK: Tensor, y_B: Tensor, target_B: Tensor | None) -> Tensor:
    """(B,) to be raised; raises ConfigError where there are too few classes for DLR."""
    if name == "cross-entropy":
        if target_B is None:
            return nn.functional.cross_entropy(logits_BK, y_B, reduction="none")
        return -nn.functional.cross_entropy(logits_BK, target_B, reduction="none")
    if name == "margin":
        return margin(logits_BK, y_B) if target_B is None else -margin(logits_BK, target_B)
    return dlr(logits_BK, y_B) if target_B is None else targeted_dlr(logits_BK, y_B, target_B)


def margin(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """The largest other logit less y's: above 0 where the prediction isn't y."""
    own_B1 = logits_BK.gather(1, y_B[:, None])
    others_BK = logits_BK.scatter(1, y_B[:, None], -torch.inf)
    return others_BK.amax(1) - own_B1.squeeze(1)


def dlr(logits_BK: Tensor, y_B: Tensor) -> Tensor:
    """The margin in units of the first logit's lead on the third: scaling the logits changes nothing."""
    _need(logits_BK, 3, "dlr")
    top_B3 = logits_BK.topk(3, dim=1).values
    return margin(logits_BK, y_B) / (top_B3[:, 0] - top_B3[:, 2] + _TINY)


def targeted_dlr(logits_BK: Tensor, y_B: Tensor, target_B: Tensor) -> Tensor:
    """The target's logit less y's, in units of the first logit's lead on the third's and fourth's mean."""
    _need(logits_BK, 4, "targeted dlr")
    top_B4 = logits_BK.topk(4, dim=1).values
    lead_B = difference(logits_BK, y_B, target_B)
    return lead_B / (top_B4[:, 0] - 0.5 * (top_B4[:, 2] + top_B4[:, 3]) + _TINY)


def difference(logits_BK: Tensor, y_B: Tensor, target_B: Tensor) -> Tensor:
    """The target's logit less y's."""
    return (logits_BK.gather(1, target_B[:, None]) - logits_BK.gather(1, y_B[:, None])).squeeze(1)


def _need(logits_BK: Tensor, classes: int, name: str) -> None:
    if logits_BK.shape[1] < classes:
        raise ConfigError(
            f"loss '{name}' needs at least {classes} classes, the model has {logits_BK.shape[1]}: "
            "set loss to cross-entropy or margin"
        )
