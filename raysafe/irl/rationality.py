"""How rational a demonstrator is: Boltzmann's beta, with its interval, given the reward or found together with it.

optimal: actions have probability proportional to exp(beta q*), q* being optimal action values (Ramachandran & Amir
2007). soft: the demonstrator is soft-optimal for beta times the reward, as in maximum entropy IRL. A beta means
something only beside a reward of known size: given rewards are taken as they are, found ones have weights of length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import chi2

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError, DataError, TrainingError
from raysafe.irl.behavioural_cloning import visits
from raysafe.irl.features import Features
from raysafe.irl.reward import Reward
from raysafe.irl.soft import likelihood_flows, log_likelihood, soft_plan
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import optimal

Model = Literal["optimal", "soft"]
LEAST, MOST = 1e-6, 1e6
"""Betas between which one is looked for; at the ends a demonstrator is as good as random, or never errs."""


@dataclass(frozen=True)
class Rationality:
    """beta, its 95% interval by profile likelihood, and the log-likelihood in nats; `random`: of uniform actions.

    An interval's end is 0 or infinity where the data can't tell the demonstrator from a random or a perfect one.
    """

    beta: float
    low: float
    high: float
    log_likelihood: float
    random: float


def infer_rationality(
    mdp: TabularMDP,
    rewards_SA: Floats,
    trajectories: Sequence[Trajectory],
    gamma: float,
    *,
    model: Model = "optimal",
    confidence: float = 0.95,
) -> Rationality:
    """beta by maximum likelihood, for a reward that is known. Discounted, without a horizon.

    Raises DataError for demonstrations that don't fit the problem, ConfigError for a reward that orders no actions.
    """
    counts_SA = _counts(mdp, trajectories)
    likelihood = _likelihood(mdp, rewards_SA, counts_SA, gamma, model)
    return _profile(likelihood, float(-counts_SA.sum() * np.log(mdp.actions)), confidence)


@dataclass(frozen=True)
class SharedReward:
    """One reward with weights of length 1, and each demonstrator's beta with its interval."""

    reward: Reward
    rationalities: list[Rationality]


def joint_rationality(
    mdp: TabularMDP,
    features: Features,
    demonstrators: Sequence[Sequence[Trajectory]],
    gamma: float,
    *,
    penalty: float = 1e-3,
    confidence: float = 0.95,
) -> SharedReward:
    """The reward that all demonstrators want, and how rational each is, under the model `soft`.

    Maximises the sum of log-likelihoods less penalty / 2 * |weights|^2 of each, over weights shared in direction.
    Intervals are profiles at the direction that was found. Raises TrainingError where the search doesn't settle.
    """
    if not demonstrators:
        raise DataError("there are no demonstrators: give at least one list of trajectories")
    counts = [_counts(mdp, each) for each in demonstrators]

    def objective(point: Floats) -> tuple[float, Floats]:
        value, gradient = joint_objective(mdp, features, counts, gamma, point, penalty)
        return -value, -gradient

    # the direction of the pooled demonstrators' reward, as if all were equally rational, is where to begin
    start = np.concatenate([np.full(features.count, 1e-2), np.zeros(len(counts))])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-13})
    if not np.isfinite(found.fun):
        raise TrainingError("the joint fit of reward and rationality doesn't settle: raise the penalty")
    weights_F = found.x[: features.count]
    length = float(np.linalg.norm(weights_F))
    if length < 1e-9:
        raise ConfigError("no feature tells what the demonstrators want: they look random under every reward")
    weights_F = weights_F / length
    reward = Reward.of_features(features, weights_F, learned_by="joint rationality", gamma=gamma)
    rationalities = []
    for counts_SA in counts:
        likelihood = _likelihood(mdp, reward.table_SA(), counts_SA, gamma, "soft")
        rationalities.append(_profile(likelihood, float(-counts_SA.sum() * np.log(mdp.actions)), confidence))
    return SharedReward(reward, rationalities)


def joint_objective(
    mdp: TabularMDP, features: Features, counts: Sequence[Floats], gamma: float, point: Floats, penalty: float
) -> tuple[float, Floats]:
    """The penalised log-likelihood and its gradient at weights (F,) followed by the demonstrators' log betas (K,).

    With flows (visits, starts) of the counts, d / d rewards = beta * (visits - visits of the soft plan from starts).
    """
    weights_F, logs_K = point[: features.count], point[features.count :]
    rewards_SA = features.rewards(weights_F)
    value, gradient_F, gradient_K = 0.0, np.zeros(features.count), np.zeros(len(counts))
    for number, counts_SA in enumerate(counts):
        beta = float(np.exp(logs_K[number]))
        plan = soft_plan(mdp, beta * rewards_SA, gamma)
        taken_SA, starts_S = likelihood_flows(mdp, counts_SA, gamma)
        surplus_F = features.expected(taken_SA - plan.visits(starts_S)) - penalty * beta * weights_F
        value += log_likelihood(plan, counts_SA) - 0.5 * penalty * beta**2 * float(weights_F @ weights_F)
        gradient_F += beta * surplus_F
        gradient_K[number] = beta * float(weights_F @ surplus_F)
    return value, np.concatenate([gradient_F, gradient_K])


def boltzmann_policy(
    mdp: TabularMDP, rewards_SA: Floats, gamma: float, beta: float, model: Model = "optimal"
) -> Floats:
    """(S, A): what a demonstrator of this rationality does."""
    if model == "soft":
        return soft_plan(mdp, beta * rewards_SA, gamma).policy
    return np.exp(_log_softmax(beta * optimal(mdp, rewards_SA, gamma).q))


def _log_softmax(logits_SA: Floats) -> Floats:
    above_SA = logits_SA - logits_SA.max(axis=1, keepdims=True)
    return above_SA - np.log(np.exp(above_SA).sum(axis=1, keepdims=True))


def _likelihood(
    mdp: TabularMDP, rewards_SA: Floats, counts_SA: Floats, gamma: float, model: Model
) -> Callable[[float], float]:
    """The log-likelihood as a function of beta."""
    q_SA = rewards_SA if model == "soft" else optimal(mdp, rewards_SA, gamma).q
    spread = np.ptp(rewards_SA) if model == "soft" else np.ptp(q_SA[~mdp.ends_S], axis=1).max(initial=0.0)
    if spread <= 1e-12 * max(1.0, np.abs(q_SA).max()):
        raise ConfigError("the reward makes no action better than another, so that it can't tell how rational one is")

    def soft(beta: float) -> float:
        return log_likelihood(soft_plan(mdp, beta * rewards_SA, gamma), counts_SA)

    def of_optimal_values(beta: float) -> float:
        return float((counts_SA * _log_softmax(beta * q_SA)).sum())

    return soft if model == "soft" else of_optimal_values


def _profile(likelihood: Callable[[float], float], random: float, confidence: float) -> Rationality:
    """The best beta, and those whose log-likelihood lies within chi^2 / 2 of the best (Wilks 1938)."""
    grid = np.logspace(np.log10(LEAST), np.log10(MOST), 61)
    known: list[tuple[float, float]] = []
    for beta in grid:
        try:
            known.append((float(beta), likelihood(float(beta))))
        except TrainingError:
            # so rational that the soft plan has no digits left: the search ends below
            break
    place = int(np.argmax([value for _, value in known]))
    low, high = known[max(place - 1, 0)][0], known[min(place + 1, len(known) - 1)][0]
    found = minimize_scalar(
        lambda log: -likelihood(float(np.exp(log))), bounds=(np.log(low), np.log(high)), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    beta, best = float(np.exp(found.x)), float(-found.fun)
    if random >= best:
        beta, best = 0.0, random
    floor = best - 0.5 * float(chi2.ppf(confidence, 1))

    def above(log: float) -> float:
        return likelihood(float(np.exp(log))) - floor

    under = [b for b, value in known if b < beta and value < floor]
    over = [b for b, value in known if b > beta and value < floor]
    start = np.log(max(beta, LEAST))
    lowest = _crossing(above, np.log(under[-1]), start) if under else 0.0
    highest = _crossing(above, start, np.log(over[0])) if over else float("inf")
    return Rationality(beta, lowest, highest, best, random)


def _crossing(above: Callable[[float], float], low: float, high: float) -> float:
    """The beta between two logarithms of one at which `above` is 0."""
    found: float = brentq(above, low, high)  # type: ignore[assignment] - full_output is not asked for
    return float(np.exp(found))


def _counts(mdp: TabularMDP, trajectories: Sequence[Trajectory]) -> Floats:
    """(S, A) of what was chosen where a choice mattered; raises DataError without any."""
    counts_SA = visits(trajectories, mdp.states, mdp.actions)
    counts_SA[mdp.ends_S] = 0.0
    if not counts_SA.sum():
        raise DataError("the demonstrations have no step outside of terminal states")
    return counts_SA
