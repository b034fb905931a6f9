"""Lagrangian PPO on RLlib's new API stack: a critic of costs beside that of rewards, and a price that follows them.

max over policies, min over prices >= 0 of E[return - price (cost - limit)] (Altman 1999; Ray, Achiam and Amodei 2019).
Advantages of reward and of cost are estimated apart and joined at the price of the moment, in the units of the reward,
before they are brought to deviation 1: so the price means what the multiplier of the exact solution means.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ENCODER_OUT
from ray.rllib.evaluation.postprocessing import Postprocessing

from raysafe.rl.advantages import gae
from raysafe.rl.costs import COST, EPISODE_COST
from raysafe.rl.multiplier import Multiplier, MultiplierSettings
from raysafe.rl.ppo_learner import PPOLearner
from raysafe.rl.ppo_module import HIDDEN_GAIN, VALUE_GAIN, PPOModule, orthogonal

COST_TARGETS = "cost_targets"
MULTIPLIER = "multiplier"


class CostCritic(PPOModule):
    """PPO's policy and critic, and one more network whose head tells the cost to come."""

    def setup(self) -> None:
        super().setup()
        self.cost_encoder = self.catalog.actor_critic_encoder_config.base_encoder_config.build(framework="torch")
        self.cost_head = self.catalog.build_vf_head(framework="torch")
        orthogonal(self.cost_encoder, HIDDEN_GAIN)
        orthogonal(self.cost_head, HIDDEN_GAIN, last=VALUE_GAIN)

    def get_non_inference_attributes(self) -> list[str]:
        return [*super().get_non_inference_attributes(), "cost_encoder", "cost_head"]

    def compute_costs(self, batch: dict[str, Any]) -> torch.Tensor:
        """(B,)."""
        return self.cost_head(self.cost_encoder(batch)[ENCODER_OUT]).squeeze(-1)


class LagrangianLearner(PPOLearner):
    """learner_config_dict["constraint"]: limit, gamma, lam, value_weight and multiplier, of ConstraintSettings."""

    multiplier: Multiplier
    episode_cost: float | None = None
    """Mean cost of the episodes that ended in the last batch in which some did."""

    def build(self) -> None:
        super().build()
        told = self.config.learner_config_dict["constraint"]
        self.multiplier = Multiplier.start(MultiplierSettings(**told["multiplier"]), told["limit"])
        if self._learner_connector is not None:
            self._learner_connector.append(CostAdvantages(self, told["gamma"], told["lam"]))

    def met(self, costs: list[float]) -> None:
        """Episodes that have ended, with their costs."""
        if costs:
            self.episode_cost = float(np.mean(costs))
            self.multiplier.update(self.episode_cost)

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> torch.Tensor:
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        module = cast(CostCritic, self.module[module_id].unwrapped())
        errors_B = (module.compute_costs(batch) - batch[COST_TARGETS]).square()
        return loss + self.config.learner_config_dict["constraint"]["value_weight"] * errors_B.mean()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_state(*args, **kwargs), MULTIPLIER: self.multiplier.state()}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        if MULTIPLIER in state:
            self.multiplier.set_state(state[MULTIPLIER])


class CostAdvantages(ConnectorV2):
    """Joins the advantage of cost to that of reward, and leaves the cost critic's targets in the batch.

    It comes after the batch was assembled: all steps of all episodes, one behind the other.
    """

    def __init__(self, learner: LagrangianLearner, gamma: float, lam: float) -> None:
        super().__init__()
        self.learner, self.gamma, self.lam = learner, gamma, lam

    def __call__(self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Any], **kwargs: Any) -> dict[str, Any]:
        module, found = rl_module[DEFAULT_MODULE_ID].unwrapped(), batch[DEFAULT_MODULE_ID]
        infos = [episode.get_infos(slice(0, len(episode) + 1)) for episode in episodes]
        self.learner.met([told[-1][EPISODE_COST] for told in infos if EPISODE_COST in told[-1]])
        ends = np.cumsum([len(episode) for episode in episodes])
        last_seen = torch.from_numpy(np.stack([episode.get_observations(-1) for episode in episodes]))
        with torch.no_grad():
            values_N, costs_N = module.compute_values(found), module.compute_costs(found)
            last_E = module.compute_costs({Columns.OBS: last_seen.to(costs_N.device)}).cpu().numpy()
        last_E[[episode.is_terminated for episode in episodes]] = 0.0
        expected_N = costs_N.cpu().numpy()
        next_N, last_N = np.append(expected_N[1:], 0.0).astype(np.float32), np.zeros(len(expected_N), dtype=bool)
        next_N[ends - 1], last_N[ends - 1] = last_E, True
        paid_N = np.array([info[COST] for told in infos for info in told[1:]], dtype=np.float32)
        dearer = gae(paid_N, expected_N, next_N, last_N, gamma=self.gamma, lam=self.lam)
        dearer_N = torch.from_numpy(dearer).to(costs_N.device)
        price = self.learner.multiplier.value
        joined_N = found[Postprocessing.VALUE_TARGETS] - values_N - price * dearer_N
        found[Postprocessing.ADVANTAGES] = (joined_N - joined_N.mean()) / max(1e-4, float(joined_N.std()))
        found[COST_TARGETS] = costs_N + dearer_N
        return batch
