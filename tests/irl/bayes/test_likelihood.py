"""The likelihood against planning done elsewhere, and its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import log_softmax

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.bayes.likelihood import Likelihood, counts
from raysafe.irl.bayes.priors import BetaPrior, LaplacePrior, NormalPrior, Prior, UniformPrior
from raysafe.irl.bayes.target import Target
from raysafe.irl.features import Features
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import optimal
from tests.examples import examples
from tests.irl.bayes.problems import ACTIONS, BETA, GAMMA, STATES, WEIGHTS, problem

PRIORS: list[Prior] = [NormalPrior(mean=0.2, scale=0.5), LaplacePrior(), UniformPrior(), BetaPrior(low=-2, high=1)]
few = settings(max_examples=examples(15))


def drawn(seed: int, horizon: int | None, terminal: bool = False) -> tuple[Likelihood, np.ndarray]:
    mdp, features = problem(seed)
    ends_S = np.arange(STATES) == 0 if terminal else None
    shape = (STATES, ACTIONS) if horizon is None else (horizon, STATES, ACTIONS)
    seen = np.random.default_rng(seed).integers(0, 4, shape).astype(float)
    seen[..., 0, :] = 0
    mdp = TabularMDP(mdp.transitions, mdp.initial_S, ends_S)
    likelihood = Likelihood(mdp, features, seen, beta=BETA, gamma=GAMMA, horizon=horizon)
    return likelihood, np.random.default_rng(seed + 1).normal(size=WEIGHTS)


@few
@given(st.integers(0, 1000), st.sampled_from([None, 4]), st.booleans())
def test_it_is_boltzmann_in_the_optimal_values(seed: int, horizon: int | None, terminal: bool) -> None:
    likelihood, weights_F = drawn(seed, horizon, terminal)
    values = likelihood.values
    q = optimal(values.mdp, values.features.rewards(weights_F), GAMMA, horizon).q
    assert values.at(weights_F)[1] == pytest.approx(q, abs=1e-9)
    expected = (likelihood._counts.reshape(q.shape) * log_softmax(BETA * q, axis=-1)).sum()
    assert likelihood.at(weights_F)[0] == pytest.approx(expected, abs=1e-8)


@few
@given(st.integers(0, 1000), st.sampled_from([None, 4]))
def test_its_gradient_is_that_of_finite_differences(seed: int, horizon: int | None) -> None:
    likelihood, weights_F = drawn(seed, horizon)
    _, slope_F, piece = likelihood.gradient_at(weights_F)
    steps_FF = 1e-6 * np.eye(WEIGHTS)
    differences_F = [(likelihood.at(weights_F + h)[0] - likelihood.at(weights_F - h)[0]) / 2e-6 for h in steps_FF]
    assert slope_F == pytest.approx(np.array(differences_F), rel=1e-5, abs=1e-5)
    # from a policy that was optimal elsewhere comes the same
    other = likelihood.at(-weights_F)[1]
    assert likelihood.gradient_at(weights_F, other)[1] == pytest.approx(slope_F, abs=1e-9)
    assert likelihood.values.at(weights_F, piece)[0] is piece


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.kind)
def test_the_gradient_in_unbounded_coordinates_is_that_of_finite_differences(prior: Prior) -> None:
    target = Target(drawn(3, None)[0], prior)
    free_F = np.array([0.3, -0.8])
    slope_F = target.free_gradient(free_F)[1]
    steps_FF = 1e-6 * np.eye(WEIGHTS)
    ahead, behind = ([target.free_gradient(free_F + sign * h)[0] for h in steps_FF] for sign in (1, -1))
    assert slope_F == pytest.approx((np.array(ahead) - behind) / 2e-6, rel=1e-5, abs=1e-5)
    assert target.free(target.weights(free_F)) == pytest.approx(free_F)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: prior.kind)
def test_a_prior_adds_up_to_one_and_draws_what_it_says(prior: Prior) -> None:
    low, high = prior.bounds or (-30.0, 30.0)
    # midpoints in the angle, which is fine near both ends, where a beta prior is steep
    angle = (np.arange(20_000) + 0.5) * np.pi / 20_000
    points = low + (high - low) * (1 - np.cos(angle)) / 2
    shares = np.exp(prior.log_density(points)) * (high - low) * np.sin(angle) / 2 * np.pi / 20_000
    draws = prior.draw(np.random.default_rng(0), (20_000,))
    assert shares.sum() == pytest.approx(1, abs=1e-3)
    assert draws.mean() == pytest.approx((shares * points).sum(), abs=0.05)
    assert draws.std() == pytest.approx(np.sqrt((shares * points**2).sum() - (shares * points).sum() ** 2), rel=0.05)


def test_sparse_and_dense_transitions_and_features_agree() -> None:
    likelihood, weights_F = drawn(5, None, terminal=True)
    mdp, features = likelihood.values.mdp, likelihood.values.features
    thin = TabularMDP(sparse.csr_array(mdp.rows), mdp.initial_S, mdp.terminal_S)
    thin_features = Features(sparse.csr_array(features.rows), STATES, ACTIONS)
    other = Likelihood(thin, thin_features, likelihood._counts, beta=BETA, gamma=GAMMA)
    assert other.gradient_at(weights_F)[1] == pytest.approx(likelihood.gradient_at(weights_F)[1], abs=1e-9)


def test_actions_are_counted_where_they_were_taken() -> None:
    mdp, _ = problem()
    trajectory = Trajectory(states_T1=np.array([0, 2, 0, 1]), actions_T=np.array([1, 0, 1]))
    found = counts([trajectory, trajectory], mdp)
    assert found[0, 1] == 4 and found[2, 0] == 2 and found.sum() == 6
    assert counts([trajectory], mdp, horizon=5)[1, 2, 0] == 1


@pytest.mark.parametrize(
    ("states", "actions", "says"),
    [([0, 9, 0], [0, 0], "trajectory 1 has state 9"), ([0, 1, 0], [0, 3], "and action 3")],
)
def test_trajectories_outside_the_mdp_are_refused(states: list[int], actions: list[int], says: str) -> None:
    trajectory = Trajectory(states_T1=np.array(states), actions_T=np.array(actions))
    with pytest.raises(DataError, match=says):
        counts([trajectory], problem()[0])
    with pytest.raises(DataError, match="more than the horizon of 1"):
        counts([Trajectory(states_T1=np.array([0, 1, 1]), actions_T=np.array([0, 0]))], problem()[0], horizon=1)
    with pytest.raises(DataError, match="no trajectories"):
        counts([], problem()[0])
