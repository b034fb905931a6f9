"""Deep maximum-entropy inverse reinforcement learning (Wulfmeier et al. 2015): a network gives each state's reward.

The objective is that of maxent.py. Its gradient with respect to the rewards is the policy's visits less those
demonstrated (equation 11), which goes through the network by the chain rule. Where the network is one linear layer this
is the linear method, by another optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from raysafe.errors import DataError, TrainingError
from raysafe.irl.demonstrations import Demonstrated
from raysafe.irl.features import Features
from raysafe.irl.reward import Reward
from raysafe.irl.settings import DeepMaxEntSettings
from raysafe.irl.soft import SoftPlan, soft_plan
from raysafe.irl.soft_method import SoftMethod
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.runtime.bar import Bar


@dataclass(frozen=True)
class DeepReport:
    """objective: per trajectory, at the first and at the last step. gap: the largest difference between the visits of
    the policy and those demonstrated, at the last."""

    first_objective: float
    objective: float
    gap: float
    iterations: int

    def __str__(self) -> str:
        return (
            f"objective {self.first_objective:.6g} at first, {self.objective:.6g} after {self.iterations} iterations; "
            f"visits differ by {self.gap:.1e} at most"
        )


class DeepMaxEntIRL(SoftMethod[DeepReport]):
    """features: (S, F) or (S, A, F), dense; each is scaled to mean 0 and deviation 1 before the network sees it."""

    def __init__(
        self,
        mdp: TabularMDP,
        features_SF: Floats,
        gamma: float,
        horizon: int | None = None,
        settings: DeepMaxEntSettings | None = None,
    ) -> None:
        self.settings = settings or DeepMaxEntSettings()
        super().__init__(mdp, gamma, horizon, self.settings.objective)
        features = Features(features_SF, mdp.states, mdp.actions)
        if features.sparse:
            raise DataError("a network reads dense features: give an array, not a sparse one")
        rows = cast(Floats, features.rows)
        spread_F = rows.std(axis=0)
        self._of_actions = features.of_actions
        self._inputs = torch.from_numpy((rows - rows.mean(axis=0)) / np.where(spread_F > 0, spread_F, 1.0))

    def _search(self, shown: Demonstrated) -> tuple[Reward, SoftPlan, DeepReport]:
        settings, first = self.settings, 0.0
        plan: SoftPlan | None = None
        net = _network(self._inputs.shape[1], settings)
        optimiser = torch.optim.AdamW(net.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
        with Bar("deep maximum entropy", total=settings.iterations, unit="iteration") as bar:
            for iteration in range(settings.iterations + 1):
                rewards = self._rewards(net)
                rewards_SA = rewards.detach().numpy()
                if not np.isfinite(rewards_SA).all():
                    raise TrainingError(
                        f"the network's rewards aren't finite after {iteration} steps: lower learning_rate"
                    )
                plan = soft_plan(self.mdp, rewards_SA, self.gamma, self.horizon, plan)
                objective = float((shown.starts * plan.values).sum() - (shown.visits_SA * rewards_SA).sum())
                first = objective if iteration == 0 else first
                ahead_SA = plan.visits(shown.starts) - shown.visits_SA
                if iteration == settings.iterations:
                    break
                optimiser.zero_grad()
                rewards.backward(torch.from_numpy(ahead_SA))
                optimiser.step()
                schedule.step()
                bar.show(iteration + 1, f"objective {objective:.4g}")
        reward = Reward.of_table(
            rewards_SA.copy(), learned_by="deep maximum entropy", gamma=self.gamma, horizon=self.horizon
        )
        assert plan is not None
        return reward, plan, DeepReport(first, objective, float(np.abs(ahead_SA).max()), settings.iterations)

    def _rewards(self, net: nn.Module) -> Tensor:
        """(S, A)."""
        found: Tensor = net(self._inputs)
        shape = (self.mdp.states, self.mdp.actions)
        return found.reshape(shape) if self._of_actions else found.expand(shape)


def _network(inputs: int, settings: DeepMaxEntSettings) -> nn.Sequential:
    """Double precision, since planning is; tanh between layers, so that rewards are smooth in the weights."""
    sizes = (inputs, *settings.hidden, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after, dtype=torch.float64), nn.Tanh()]
    return nn.Sequential(*layers[:-1])
