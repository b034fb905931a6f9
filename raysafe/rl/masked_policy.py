"""A policy that draws from allowed actions alone, and tells what it would have done.

The last places of the observation are the mask: 1 for an action that is allowed, 0 for one that isn't. While exploring,
an action is drawn from the unmasked policy first, and where it is forbidden another one from the masked: so what is
done has exactly the masked distribution, and what was intended is known.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from ray.rllib.core.columns import Columns

from raysafe.models.mlp import FORBIDDEN
from raysafe.rl.lagrangian import CostCritic
from raysafe.rl.ppo_module import PPOModule

INTENDED = "intended_actions"


class MaskedPolicy(PPOModule):
    """PPO's policy and critic; both see the mask as well."""

    masks = True
    """Read where it is exported."""

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        out = super()._forward(batch, **kwargs)
        return {**out, Columns.ACTION_DIST_INPUTS: masked(out[Columns.ACTION_DIST_INPUTS], batch[Columns.OBS])}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        out = super()._forward_train(batch, **kwargs)
        return {**out, Columns.ACTION_DIST_INPUTS: masked(out[Columns.ACTION_DIST_INPUTS], batch[Columns.OBS])}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        out = super()._forward(batch, **kwargs)
        wanted_BA = out[Columns.ACTION_DIST_INPUTS]
        allowed_BA = masked(wanted_BA, batch[Columns.OBS])
        kind = self.get_exploration_action_dist_cls()
        intended_B = cast(torch.Tensor, kind.from_logits(wanted_BA).sample())
        instead_B = cast(torch.Tensor, kind.from_logits(allowed_BA).sample())
        free_B = mask_of(batch[Columns.OBS], wanted_BA.shape[-1]).gather(1, intended_B[:, None])[:, 0] > 0.5
        actions_B = torch.where(free_B, intended_B, instead_B)
        return {
            **out,
            Columns.ACTION_DIST_INPUTS: allowed_BA,
            Columns.ACTIONS: actions_B,
            Columns.ACTION_LOGP: kind.from_logits(allowed_BA).logp(actions_B),
            INTENDED: intended_B,
        }


class MaskedCostCritic(MaskedPolicy, CostCritic):
    """The same with a critic of costs."""


def mask_of(obs_BD: torch.Tensor, actions: int) -> torch.Tensor:
    """(B, A)."""
    return obs_BD[:, -actions:]


def masked(logits_BA: torch.Tensor, obs_BD: torch.Tensor) -> torch.Tensor:
    """Logits in which a forbidden action has no probability."""
    return torch.where(mask_of(obs_BD, logits_BA.shape[-1]) > 0.5, logits_BA, FORBIDDEN)
