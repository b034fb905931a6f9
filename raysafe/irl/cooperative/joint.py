"""Reward and human model fitted jointly, as the most probable ones given what a human does and says.

What trajectories reveal and what preferences state needn't be one reward. Each has its weights, and a coherence term,
a normal prior on their difference, draws them together; the reward is their mean. Actions have probability
proportional to exp(rationality q*), preferences sigmoid(decisiveness (return - return)) (Jeon, Milli and Dragan 2020).

Only rationality times weights is in the likelihood, so that the scale of weights isn't identified by trajectories or
preferences alone, nor by both; their ratio is, by both. Results have weights of norm 1, and say what else of the
weights the data leave open: Fisher's information at the optimum has no curvature there, and only the prior decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from raysafe.config import Config
from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.bayes.likelihood import Likelihood, counts
from raysafe.irl.features import Array, Features
from raysafe.irl.reward import Reward
from raysafe.rl.mdp import Floats, TabularMDP

FLAT = 1e-6
"""Curvature below this share of the largest is none."""


@dataclass(frozen=True)
class Preference:
    """Two trajectories, and how far the first is preferred: 1, 0, or between where raters differ."""

    first: Trajectory
    second: Trajectory
    preferred: float = 1.0


class JointConfig(Config):
    """Priors of the joint fit."""

    coherence: float = Field(
        default=10.0, gt=0, description="Precision of the prior on revealed less stated weights: large makes them one."
    )
    scale: float = Field(default=1.0, gt=0, description="Standard deviation of the normal prior of mean weights.")
    rationality: float = Field(default=1.0, gt=0, description="Median of the prior of rationality and decisiveness.")
    rationality_spread: float = Field(
        default=2.0, gt=0, description="Standard deviation of the logarithms of rationality and decisiveness."
    )
    starts: int = Field(default=4, ge=1, description="Starts of the search: the posterior has several maxima.")
    seed: int = Field(default=0, ge=0, description="Seed of the starts.")


@dataclass(frozen=True, eq=False)
class Joint:
    """The most probable reward and human model; all weights have norm 1."""

    reward: Reward
    revealed_F: Floats
    """What trajectories show."""
    stated_F: Floats
    """What preferences say."""
    rationality: float | None
    """Of actions, for the revealed weights; None without trajectories."""
    decisiveness: float | None
    """Of preferences, for the stated weights; None without any."""
    log_posterior: float
    open_FN: Floats
    """Orthonormal directions of weights that the data leave open, none where N is 0; scale, which they always leave
    open, isn't among them."""

    @property
    def incoherence(self) -> float:
        """The angle between revealed and stated weights, in radians."""
        return float(np.arccos(np.clip(self.revealed_F @ self.stated_F, -1, 1)))


class JointIRL:
    """`fit` trajectories, preferences, or both."""

    def __init__(self, mdp: TabularMDP, features_SF: Array, gamma: float, config: JointConfig | None = None) -> None:
        self.mdp, self.gamma, self.config = mdp, gamma, config or JointConfig()
        self.features = Features(features_SF, mdp.states, mdp.actions)

    def fit(self, trajectories: Sequence[Trajectory] = (), preferences: Sequence[Preference] = ()) -> Joint:
        """Raises DataError where there are neither, or they don't fit the MDP."""
        if not trajectories and not preferences:
            raise DataError("there are neither trajectories nor preferences to fit: give some of either")
        evidence = Evidence(self, trajectories, preferences)
        rng, size = np.random.default_rng(self.config.seed), self.features.count
        searches = []
        for _ in range(self.config.starts):
            start_P = np.concatenate([np.tile(rng.normal(0, 0.5 * self.config.scale, size), 2), np.zeros(2)])
            searches.append(minimize(evidence.loss, start_P, jac=True, method="L-BFGS-B", options={"maxiter": 1000}))
        best = min(searches, key=lambda search: search.fun)
        revealed_F, stated_F = best.x[:size], best.x[size : 2 * size]
        mean_F = (revealed_F + stated_F) / 2
        norms = [float(np.linalg.norm(weights_F)) for weights_F in (mean_F, revealed_F, stated_F)]
        if min(norms) == 0:
            raise DataError("what was shown and said leaves every weight 0: it tells nothing of the reward")
        rationality, decisiveness = np.exp(best.x[2 * size :]) * norms[1:]
        return Joint(
            reward=Reward.of_features(self.features, mean_F / norms[0], learned_by="joint", gamma=self.gamma),
            revealed_F=revealed_F / norms[1],
            stated_F=stated_F / norms[2],
            rationality=float(rationality) if trajectories else None,
            decisiveness=float(decisiveness) if preferences else None,
            log_posterior=-float(best.fun),
            open_FN=_open(evidence.information(best.x), mean_F / norms[0]),
        )


class Evidence:
    """Less the log posterior of (revealed weights, stated weights, log rationality, log decisiveness)."""

    def __init__(self, job: JointIRL, trajectories: Sequence[Trajectory], preferences: Sequence[Preference]) -> None:
        size = job.features.count
        self.config, self.size, self._piece = job.config, size, None
        none_SA = np.zeros((job.mdp.states, job.mdp.actions))
        self.counts_SA = counts(trajectories, job.mdp) if trajectories else none_SA
        # the likelihood has rationality 1: what it is multiplied by goes into the weights, as q* is linear in scale
        self.likelihood = Likelihood(job.mdp, job.features, self.counts_SA, beta=1.0, gamma=job.gamma)
        self.preferred_M = np.array([one.preferred for one in preferences])
        if ((self.preferred_M < 0) | (self.preferred_M > 1)).any():
            raise DataError(f"preferred must be in [0, 1], got {self.preferred_M.min()} to {self.preferred_M.max()}")
        pairs = [(_visits(one.first, job), _visits(one.second, job)) for one in preferences]
        differences = [job.features.expected(first_SA - second_SA) for first_SA, second_SA in pairs]
        self.differences_MF = np.array(differences).reshape(-1, size)

    def loss(self, free_P: Floats) -> tuple[float, Floats]:
        """With its gradient."""
        size, config = self.size, self.config
        revealed_F, stated_F, logs_2 = free_P[:size], free_P[size : 2 * size], free_P[2 * size :]
        rationality, decisiveness = np.exp(logs_2)
        shown, slope_F, self._piece = self.likelihood.gradient_at(rationality * revealed_F, self._piece)
        margins_M = decisiveness * self.differences_MF @ stated_F
        said = float((self.preferred_M * margins_M + log_expit(-margins_M)).sum())
        missing_M = self.preferred_M - expit(margins_M)
        mean_F, apart_F, off_2 = (
            (revealed_F + stated_F) / 2,
            revealed_F - stated_F,
            logs_2 - np.log(config.rationality),
        )
        prior = -0.5 * (
            mean_F @ mean_F / config.scale**2
            + config.coherence * apart_F @ apart_F
            + off_2 @ off_2 / config.rationality_spread**2
        )
        pull_F = -mean_F / 2 / config.scale**2
        slope_P = np.concatenate(
            [
                rationality * slope_F + pull_F - config.coherence * apart_F,
                decisiveness * missing_M @ self.differences_MF + pull_F + config.coherence * apart_F,
                [rationality * revealed_F @ slope_F, missing_M @ margins_M] - off_2 / config.rationality_spread**2,
            ]
        )
        return -(shown + said + prior), -slope_P

    def information(self, free_P: Floats) -> Floats:
        """(F, F): Fisher's information of the data on weights that are revealed and stated alike."""
        size = self.size
        rationality, decisiveness = np.exp(free_P[2 * size :])
        mean_F = (free_P[:size] + free_P[size : 2 * size]) / 2
        piece, q_SA = self.likelihood.values.at(rationality * mean_F)
        policy_SA = np.exp(q_SA - q_SA.max(axis=1, keepdims=True))
        policy_SA /= policy_SA.sum(axis=1, keepdims=True)
        centred_FSA = piece.psi - (piece.psi * policy_SA).sum(axis=2, keepdims=True)
        weights_SA = self.counts_SA.sum(axis=1, keepdims=True) * policy_SA
        flat_FX = centred_FSA.reshape(size, -1)
        of_actions_FF = rationality**2 * flat_FX * weights_SA.ravel() @ flat_FX.T
        shares_M = expit(decisiveness * self.differences_MF @ mean_F)
        of_answers_FF = decisiveness**2 * (self.differences_MF.T * (shares_M * (1 - shares_M))) @ self.differences_MF
        return of_actions_FF + of_answers_FF


def _visits(trajectory: Trajectory, job: JointIRL) -> Floats:
    """(S, A): discounted visits."""
    # also checks that it is within the MDP
    counts([trajectory], job.mdp)
    assert trajectory.states_T1 is not None
    visits_SA = np.zeros((job.mdp.states, job.mdp.actions))
    steps_T = np.arange(len(trajectory))
    np.add.at(visits_SA, (trajectory.states_T1[:-1], trajectory.actions_T), job.gamma**steps_T)
    return visits_SA


def _open(information_FF: Floats, direction_F: Floats) -> Floats:
    """Directions without curvature, orthogonal to the weights themselves, whose length is a matter of scale."""
    project_FF = np.eye(len(direction_F)) - np.outer(direction_F, direction_F)
    curvatures_F, directions_FF = np.linalg.eigh(project_FF @ information_FF @ project_FF)
    flat_FN = directions_FF[:, curvatures_F <= FLAT * max(curvatures_F.max(), np.finfo(float).tiny)]
    # one of them is the direction of the weights
    left_FN = project_FF @ flat_FN
    vectors_FN, sizes_N, _ = np.linalg.svd(left_FN, full_matrices=False)
    return vectors_FN[:, sizes_N > 0.5]
