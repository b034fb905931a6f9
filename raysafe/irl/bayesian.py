"""Bayesian inverse reinforcement learning (Ramachandran and Amir 2007): the posterior of reward weights given
demonstrations, by PolicyWalk, Hamiltonian Monte Carlo or a normal approximation.

The demonstrator takes actions with probability proportional to exp(beta q*), q* being optimal action values. Only
beta times the weights is in the likelihood, so that beta is a choice of units beside the prior's scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field

from raysafe.config import Config
from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError
from raysafe.irl.bayes.chains import Chains, run_chains
from raysafe.irl.bayes.diagnostics import Diagnosis, diagnose
from raysafe.irl.bayes.hamiltonian import Hamiltonian
from raysafe.irl.bayes.likelihood import Likelihood, counts
from raysafe.irl.bayes.policy_walk import PolicyWalk
from raysafe.irl.bayes.priors import NormalPrior, Prior
from raysafe.irl.bayes.target import Target
from raysafe.irl.bayes.variational import Variational, draw_normal, fit_normal
from raysafe.irl.features import Array, Features
from raysafe.irl.reward import Reward
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import occupancy, optimal
from raysafe.runtime.storage import Folder

LARGEST_R_HAT, LEAST_ESS = 1.01, 400
"""What Vehtari et al. (2021) ask of draws before they are relied on."""


class BayesianConfig(Config):
    """How the posterior is found."""

    beta: float = Field(default=1.0, gt=0, description="Rationality of the demonstrator: actions have exp(beta q*).")
    prior: Prior = Field(default=NormalPrior(), description="Of each weight, before any demonstration.")
    sampler: Annotated[PolicyWalk | Hamiltonian | Variational, Field(discriminator="kind")] = Field(
        default=Hamiltonian(), description="policy_walk, hamiltonian or variational, with its settings."
    )
    chains: int = Field(default=4, ge=1, description="Independent chains, whose agreement shows that they have met.")
    warmup: int = Field(default=1000, ge=0, description="Draws of each chain that tune it and aren't kept.")
    draws: int = Field(default=1000, ge=4, description="Draws of each chain that are kept.")
    workers: int = Field(default=1, ge=1, description="Chains drawn at a time: more than one are Ray tasks.")
    seed: int = Field(default=0, ge=0, description="Seed of every draw.")


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of reward weights, and how far to trust them."""

    chains: Chains
    names: tuple[str, ...]
    """What each weight is of."""
    effective: float | None = None
    """Of a normal approximation: how many independent draws its importance weights leave."""

    @property
    def draws_NF(self) -> Floats:
        """All chains' draws in one list."""
        return self.chains.draws_CNF.reshape(-1, len(self.names))

    @property
    def mean_F(self) -> Floats:
        return self.draws_NF.mean(axis=0)

    @cached_property
    def diagnoses(self) -> dict[str, Diagnosis]:
        """By weight."""
        return {name: diagnose(self.chains.draws_CNF[:, :, index]) for index, name in enumerate(self.names)}

    @property
    def doubts(self) -> list[str]:
        """A sentence for each reason not to rely on the draws yet; none where there is no such reason."""
        found = [
            f"{name}: R-hat {one.r_hat:.3f} is above {LARGEST_R_HAT}, the chains haven't met: draw longer chains"
            for name, one in self.diagnoses.items()
            if one.r_hat > LARGEST_R_HAT
        ]
        found += [
            f"{name}: worth {min(one.ess_bulk, one.ess_tail):.0f} independent draws, less than {LEAST_ESS}: draw more"
            for name, one in self.diagnoses.items()
            if min(one.ess_bulk, one.ess_tail) < LEAST_ESS
        ]
        if self.effective is not None and self.effective < LEAST_ESS:
            found.append(
                f"the normal approximation is poor: its importance weights leave {self.effective:.0f} independent "
                f"draws, less than {LEAST_ESS}: draw more, or use sampler hamiltonian"
            )
        return found


class BayesianIRL:
    """`fit` gives the mean reward, whose optimal policy has the least expected loss under the posterior (theorem 3)."""

    def __init__(
        self,
        mdp: TabularMDP,
        features_SF: Array,
        gamma: float,
        horizon: int | None = None,
        config: BayesianConfig | None = None,
    ) -> None:
        """features_SF: features of states, or of states and actions (see Features)."""
        self.mdp, self.gamma, self.horizon = mdp, gamma, horizon
        self.features = Features(features_SF, mdp.states, mdp.actions)
        self.config = config or BayesianConfig()
        self._posterior: Posterior | None = None

    @property
    def posterior(self) -> Posterior:
        """Raises ConfigError before `fit`."""
        if self._posterior is None:
            raise ConfigError("there is no posterior yet: call fit(trajectories) first")
        return self._posterior

    def target(self, trajectories: Sequence[Trajectory]) -> Target:
        """The posterior's density for these demonstrations."""
        seen = counts(trajectories, self.mdp, self.horizon)
        likelihood = Likelihood(
            self.mdp, self.features, seen, beta=self.config.beta, gamma=self.gamma, horizon=self.horizon
        )
        return Target(likelihood, self.config.prior)

    def fit(
        self, trajectories: Sequence[Trajectory], *, folder: Folder | None = None, address: str | None = None
    ) -> Reward:
        """The reward of mean weights. folder: where parts of chains are kept, and found again after an interruption.

        Raises DataError for trajectories that don't fit the MDP, TrainingError where an approximation fails.
        """
        target, config = self.target(trajectories), self.config
        names = tuple(f"weight {index}" for index in range(target.dimensions))
        if isinstance(config.sampler, Variational):
            rng = np.random.default_rng(config.seed)
            fitted = fit_normal(target, config.sampler, rng)
            drawn, effective = draw_normal(target, fitted, config.chains * config.draws, rng, config.sampler.resample)
            shape = (config.chains, config.draws)
            found = Chains(drawn.draws_NF.reshape(*shape, -1), drawn.densities_N.reshape(shape), np.ones(config.chains))
            self._posterior = Posterior(found, names, effective)
        else:
            found = run_chains(
                target,
                config.sampler,
                chains=config.chains,
                warmup=config.warmup,
                draws=config.draws,
                seed=config.seed,
                workers=config.workers,
                address=address,
                folder=folder,
            )
            self._posterior = Posterior(found, names)
        return self.reward()

    def reward(self) -> Reward:
        return Reward.of_features(
            self.features, self.posterior.mean_F, learned_by="bayesian", gamma=self.gamma, horizon=self.horizon
        )

    def policy(self) -> Floats:
        """(S, A), or (T, S, A) with a horizon: optimal for the mean reward."""
        return optimal(self.mdp, self.reward().table_SA(), self.gamma, self.horizon).policy

    def occupancy(self) -> Floats:
        """(S, A): discounted visits of that policy."""
        return occupancy(self.mdp, self.policy(), self.gamma, self.horizon)
