"""Maximum causal entropy inverse reinforcement learning (Ziebart et al. 2008, 2010), with linear rewards.

Of all policies whose expected features are those demonstrated, the one with the most (discounted, causal) entropy is
soft-optimal for some reward that is linear in the features; its weights minimise a dual. What is fitted and discounted
how is in demonstrations.py, the search in dual.py.
"""

from __future__ import annotations

from pydantic import Field

from raysafe.irl.demonstrations import Demonstrated, Objective
from raysafe.irl.dual import DualReport, DualSettings, minimise
from raysafe.irl.features import Array, Features
from raysafe.irl.reward import Reward
from raysafe.irl.soft import SoftPlan
from raysafe.irl.soft_method import SoftMethod
from raysafe.rl.mdp import TabularMDP


class MaxEntSettings(DualSettings):
    """What is fitted, and how the weights are found."""

    objective: Objective = Field(
        default="likelihood",
        description="likelihood: of the actions, the transitions being known; features: their expectations as drawn.",
    )


class MaxEntIRL(SoftMethod[DualReport]):
    """features: (S, F) or (S, A, F), or sparse (see Features)."""

    def __init__(
        self,
        mdp: TabularMDP,
        features_SF: Array,
        gamma: float,
        horizon: int | None = None,
        settings: MaxEntSettings | None = None,
    ) -> None:
        self.settings = settings or MaxEntSettings()
        super().__init__(mdp, gamma, horizon, self.settings.objective)
        self.features = Features(features_SF, mdp.states, mdp.actions)

    def _search(self, shown: Demonstrated) -> tuple[Reward, SoftPlan, DualReport]:
        weights_F, plan, report = minimise(self.mdp, self.features, self.gamma, self.horizon, shown, self.settings)
        reward = Reward.of_features(
            self.features, weights_F, learned_by="maximum entropy", gamma=self.gamma, horizon=self.horizon
        )
        return reward, plan, report
