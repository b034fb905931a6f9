"""Maximum causal entropy inverse reinforcement learning (Ziebart et al. 2008, 2010), with linear rewards.

Of all policies whose expected features are those demonstrated, the one with the most (discounted, causal) entropy is
soft-optimal for some reward that is linear in the features; its weights minimise a dual. What is fitted and discounted
how is in demonstrations.py, the search in dual.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError
from raysafe.irl.demonstrations import Demonstrated, Objective, demonstrated, population
from raysafe.irl.dual import DualReport, DualSettings, minimise
from raysafe.irl.features import Array, Features
from raysafe.irl.reward import Reward
from raysafe.irl.soft import SoftPlan
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import check


class MaxEntSettings(DualSettings):
    """What is fitted, and how the weights are found."""

    objective: Objective = Field(
        default="likelihood",
        description="likelihood: of the actions, the transitions being known; features: their expectations as drawn.",
    )


class MaxEntIRL:
    """features: (S, F) or (S, A, F), or sparse (see Features). gamma below 1 without a horizon.

    `fit` once; `policy`, `occupancy` and `report` are then of what was found.
    """

    def __init__(
        self,
        mdp: TabularMDP,
        features_SF: Array,
        gamma: float,
        horizon: int | None = None,
        settings: MaxEntSettings | None = None,
    ) -> None:
        check(gamma, horizon)
        self.mdp, self.gamma, self.horizon = mdp, gamma, horizon
        self.features = Features(features_SF, mdp.states, mdp.actions)
        self.settings = settings or MaxEntSettings()
        self._plan: SoftPlan | None = None
        self._report: DualReport | None = None

    def fit(self, trajectories: Sequence[Trajectory]) -> Reward:
        """The reward of what was demonstrated; raises DataError for what can't have happened in the MDP."""
        shown = demonstrated(self.mdp, trajectories, self.gamma, self.horizon, self.settings.objective)
        return self._fit(shown)

    def fit_occupancy(self, visits_SA: Floats) -> Reward:
        """The reward of a whole population, given by its discounted visits from the MDP's initial states."""
        return self._fit(population(self.mdp, visits_SA, self.gamma, self.horizon))

    def policy(self) -> Floats:
        """Soft-optimal for the reward that was found: (S, A), or with a horizon (T, S, A)."""
        return self._found.policy

    def occupancy(self) -> Floats:
        """(S, A): discounted visits of that policy from the MDP's initial states."""
        return self._found.visits(self.mdp.initial_S if self.horizon is None else self.mdp.initial_S[None])

    @property
    def report(self) -> DualReport:
        """How the search ended."""
        if self._report is None:
            raise ConfigError("nothing has been fitted yet: call fit first")
        return self._report

    @property
    def _found(self) -> SoftPlan:
        if self._plan is None:
            raise ConfigError("nothing has been fitted yet: call fit first")
        return self._plan

    def _fit(self, shown: Demonstrated) -> Reward:
        weights_F, self._plan, self._report = minimise(
            self.mdp, self.features, self.gamma, self.horizon, shown, self.settings
        )
        return Reward.of_features(
            self.features, weights_F, learned_by="maximum entropy", gamma=self.gamma, horizon=self.horizon
        )
