"""What maximum-entropy methods have in common: what they are fitted to, and the soft policy that they find."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError
from raysafe.irl.demonstrations import Demonstrated, Objective, demonstrated, population
from raysafe.irl.reward import Reward
from raysafe.irl.soft import SoftPlan
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import check

Report = TypeVar("Report")


class SoftMethod(ABC, Generic[Report]):
    """gamma below 1 without a horizon. `fit` once; `policy`, `occupancy` and `report` are then of what was found."""

    def __init__(self, mdp: TabularMDP, gamma: float, horizon: int | None, objective: Objective) -> None:
        check(gamma, horizon)
        self.mdp, self.gamma, self.horizon = mdp, gamma, horizon
        self.objective: Objective = objective
        self._found: tuple[SoftPlan, Report] | None = None

    @abstractmethod
    def _search(self, shown: Demonstrated) -> tuple[Reward, SoftPlan, Report]:
        """The reward, the soft plan for it, and how the search went."""

    def fit(self, trajectories: Sequence[Trajectory]) -> Reward:
        """The reward of what was demonstrated; raises DataError for what can't have happened in the MDP."""
        return self._fit(demonstrated(self.mdp, trajectories, self.gamma, self.horizon, self.objective))

    def fit_occupancy(self, visits_SA: Floats) -> Reward:
        """The reward of a whole population, given by its discounted visits from the MDP's initial states."""
        return self._fit(population(self.mdp, visits_SA, self.gamma, self.horizon))

    def policy(self) -> Floats:
        """Soft-optimal for the reward that was found: (S, A), or with a horizon (T, S, A)."""
        return self._fitted[0].policy

    def occupancy(self) -> Floats:
        """(S, A): discounted visits of that policy from the MDP's initial states."""
        return self._fitted[0].visits(self.mdp.initial_S if self.horizon is None else self.mdp.initial_S[None])

    @property
    def report(self) -> Report:
        """How the search ended."""
        return self._fitted[1]

    def _fit(self, shown: Demonstrated) -> Reward:
        reward, plan, report = self._search(shown)
        self._found = plan, report
        return reward

    @property
    def _fitted(self) -> tuple[SoftPlan, Report]:
        if self._found is None:
            raise ConfigError("nothing has been fitted yet: call fit first")
        return self._found
