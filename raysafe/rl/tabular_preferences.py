"""A reward table learned from comparisons in a tabular problem: Bradley and Terry's model, linear in visits, exactly.

The posterior under a Gaussian prior is log-concave: Newton's method finds its mode, and Laplace's approximation there
says what is still unknown. Questions are those that tell most, each chosen as if the ones before it were answered
(the greedy D-optimal design). What is compared comes from the best policy so far, softened so that it keeps exploring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import linalg
from scipy.special import expit

from raysafe.config import Config
from raysafe.data.comparisons import Comparison
from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError, TrainingError
from raysafe.rl.fragments import random_pairs
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import optimal

Ask = Callable[[Sequence[tuple[Trajectory, Trajectory]], np.random.Generator], list[Comparison]]
_MOST_STEPS = 100


class TabularPreferenceConfig(Config):
    """How a reward table is learned."""

    per: Literal["state", "state-action"] = Field(default="state", description="What has a reward of its own.")
    precision: float = Field(default=0.1, gt=0, description="Of the Gaussian prior on each entry, whose mean is 0.")
    comparisons: int = Field(default=500, ge=1, description="Comparisons asked for in all.")
    rounds: int = Field(default=10, ge=1, description="Rounds of questions, with a plan after each.")
    fragment_length: int = Field(default=10, ge=1, description="Steps of a fragment.")
    candidates: int = Field(default=10, ge=1, description="Random pairs looked at, for each that is asked about.")
    explore: float = Field(default=0.3, ge=0, le=1, description="Share of random actions in what is compared.")


@dataclass(frozen=True)
class RewardPosterior:
    """Mode and covariance (Laplace) of a reward's entries: (D,) and (D, D)."""

    mode_D: Floats
    covariance_DD: Floats


def fit_preferences(differences_ND: Floats, preferences_N: Floats, precision: float) -> RewardPosterior:
    """Newton's method on sum of cross-entropies of sigmoid(differences @ rewards) + precision/2 |rewards|^2.

    differences_ND: visits of a less those of b. Raises TrainingError where it doesn't converge, which it does.
    """
    rewards_D = np.zeros(differences_ND.shape[1])
    for _ in range(_MOST_STEPS):
        chance_N = expit(differences_ND @ rewards_D)
        gradient_D = differences_ND.T @ (chance_N - preferences_N) + precision * rewards_D
        hessian_DD = _hessian(differences_ND, chance_N, precision)
        step_D = linalg.solve(hessian_DD, gradient_D, assume_a="pos")
        decrement = float(gradient_D @ step_D)
        if decrement < 1e-16 * max(1.0, len(preferences_N)):
            return RewardPosterior(rewards_D, linalg.inv(hessian_DD))
        # damped as Nesterov and Nemirovskii do: a full step may overshoot where answers are nearly certain
        rewards_D = rewards_D - step_D / (1 + np.sqrt(decrement) if decrement > 0.25 else 1.0)
    raise TrainingError("the reward table didn't converge: raise precision")


def informative(posterior: RewardPosterior, differences_ND: Floats, count: int) -> list[int]:
    """The questions that shrink the posterior most, in order, each chosen after the ones before it."""
    covariance_DD = posterior.covariance_DD.copy()
    chance_N = expit(differences_ND @ posterior.mode_D)
    weights_N = chance_N * (1 - chance_N)
    taken: list[int] = []
    for _ in range(min(count, len(differences_ND))):
        gain_N = weights_N * np.einsum("nd,de,ne->n", differences_ND, covariance_DD, differences_ND, optimize=True)
        gain_N[taken] = -1.0
        best = int(gain_N.argmax())
        taken.append(best)
        pulled_D = covariance_DD @ differences_ND[best]
        covariance_DD -= weights_N[best] * np.outer(pulled_D, pulled_D) / (1 + gain_N[best])
    return taken


def visits(trajectory: Trajectory, shape: tuple[int, int], per: Literal["state", "state-action"]) -> Floats:
    """(D,): how often each state, or each state with each action, is stepped from; raises DataError without states."""
    if trajectory.states_T1 is None:
        raise DataError("a fragment has no states: a reward table needs their numbers")
    counts_SA = np.zeros(shape)
    np.add.at(counts_SA, (trajectory.states_T1[:-1], trajectory.actions_T), 1.0)
    return counts_SA.sum(axis=1) if per == "state" else counts_SA.ravel()


def learn_table(
    mdp: TabularMDP, ask: Ask, config: TabularPreferenceConfig, *, gamma: float, seed: int = 0
) -> tuple[Floats, list[Comparison]]:
    """The learned reward (S, A), which is known up to a constant and a scale, and what was asked.

    ask: compares pairs of fragments, which carry states and actions alone.
    """
    draw = np.random.default_rng(seed)
    shape = (mdp.states, mdp.actions)
    entries = mdp.states if config.per == "state" else mdp.states * mdp.actions
    posterior = fit_preferences(np.zeros((0, entries)), np.zeros(0), config.precision)
    comparisons: list[Comparison] = []
    policy_SA = np.full(shape, 1 / mdp.actions)
    ends = np.linspace(0, config.comparisons, config.rounds + 1).round().astype(int)
    for wanted in np.diff(ends).tolist():
        fragments = [
            walk(mdp, policy_SA, config.fragment_length, draw) for _ in range(max(2, config.candidates * wanted // 4))
        ]
        pairs = random_pairs(fragments, config.candidates * wanted, draw)
        chosen = informative(posterior, _differences(pairs, shape, config), wanted)
        comparisons += ask([pairs[i] for i in chosen], draw)
        asked = [(found.a, found.b) for found in comparisons]
        preferences_N = np.array([found.preference for found in comparisons])
        posterior = fit_preferences(_differences(asked, shape, config), preferences_N, config.precision)
        best_SA = optimal(mdp, table_of(posterior, shape, config), gamma).policy
        policy_SA = (1 - config.explore) * best_SA + config.explore / mdp.actions
    return table_of(posterior, shape, config), comparisons


def table_of(posterior: RewardPosterior, shape: tuple[int, int], config: TabularPreferenceConfig) -> Floats:
    """The posterior's mode as rewards (S, A)."""
    if config.per == "state":
        return np.repeat(posterior.mode_D[:, None], shape[1], axis=1)
    return posterior.mode_D.reshape(shape)


def walk(mdp: TabularMDP, policy_SA: Floats, steps: int, draw: np.random.Generator) -> Trajectory:
    """A fragment of up to `steps`, from anywhere that doesn't end the episode."""
    going = np.flatnonzero(~mdp.ends_S)
    states, actions = [int(draw.choice(going))], []
    while len(actions) < steps and not mdp.ends_S[states[-1]]:
        actions.append(int(draw.choice(mdp.actions, p=policy_SA[states[-1]])))
        states.append(int(draw.choice(mdp.states, p=_row(mdp, states[-1], actions[-1]))))
    return Trajectory(states_T1=np.array(states), actions_T=np.array(actions), terminated=bool(mdp.ends_S[states[-1]]))


def with_rewards(trajectory: Trajectory, rewards_SA: Floats) -> Trajectory:
    """The same steps with what a table pays for them: for raters that know it."""
    assert trajectory.states_T1 is not None
    return Trajectory(
        states_T1=trajectory.states_T1,
        actions_T=trajectory.actions_T,
        rewards_T=rewards_SA[trajectory.states_T1[:-1], trajectory.actions_T],
        terminated=trajectory.terminated,
    )


def _differences(
    pairs: Sequence[tuple[Trajectory, Trajectory]], shape: tuple[int, int], config: TabularPreferenceConfig
) -> Floats:
    return np.stack([visits(a, shape, config.per) - visits(b, shape, config.per) for a, b in pairs])


def _row(mdp: TabularMDP, state: int, action: int) -> Floats:
    row = mdp.rows[[state * mdp.actions + action]]
    return np.asarray(row if isinstance(row, np.ndarray) else row.toarray()).ravel()


def _hessian(differences_ND: Floats, chance_N: Floats, precision: float) -> Floats:
    weighted_ND = differences_ND * (chance_N * (1 - chance_N))[:, None]
    return differences_ND.T @ weighted_ND + precision * np.eye(differences_ND.shape[1])
