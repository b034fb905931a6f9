"""Behavioural cloning: likelihoods against torch's own, planted policies recovered, controls that fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.behavioural_cloning import (
    ClonedPolicy,
    CloningLearner,
    clone_tabular,
    log_likelihoods,
    split,
    step_rows,
)
from raysafe.irl.settings import CloningSettings
from raysafe.rl.policy import BoxSpace, DiscreteSpace, PolicyCard, load_policy


def card(actions: BoxSpace | DiscreteSpace) -> PolicyCard:
    seen = BoxSpace(shape=(2,), low=(None,) * 2, high=(None,) * 2)
    kind = "categorical" if isinstance(actions, DiscreteSpace) else "gaussian"
    return PolicyCard(env="Planted-v0", algorithm="BC", observations=seen, actions=actions, distribution=kind)


def line(low: float | None = None, high: float | None = None) -> BoxSpace:
    return BoxSpace(shape=(1,), low=(low,), high=(high,))


def made(policy, count: int, *, seed: int, steps: int = 40) -> list[Trajectory]:
    """Trajectories of random observations, in which policy(obs_TD, rng) acts."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        obs = rng.normal(3.0, 2.0, size=(steps + 1, 2))
        found.append(Trajectory(obs_T1D=obs, actions_T=policy(obs[:-1], rng)))
    return found


def left_of_line(obs_TD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (obs_TD[:, 0] > obs_TD[:, 1]).astype(np.int64)


def linear(obs_TD: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mean = obs_TD @ np.array([[0.5], [-0.25]]) + 0.1
    return mean + 0.2 * rng.normal(size=mean.shape)


def trained(learner: CloningLearner, trajectories: list[Trajectory], steps: int = 80) -> ClonedPolicy:
    """By full batches, without fit()."""
    torch.manual_seed(0)
    module = learner.build()
    assert isinstance(module, ClonedPolicy)
    batch = learner.collate(step_rows(trajectories))
    optimiser = torch.optim.Adam(module.parameters(), lr=0.03)
    for _ in range(steps):
        optimiser.zero_grad()
        (learner.loss(module, batch)[0] / batch.weight).backward()
        optimiser.step()
    return module


def figures(learner: CloningLearner, module: ClonedPolicy, trajectories: list[Trajectory]) -> dict[str, float]:
    with torch.no_grad():
        _, sums = learner.loss(module, learner.collate(step_rows(trajectories)))
    return {name: float(total) / count for name, (total, count) in sums.items()}


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 5), width=st.integers(2, 4))
def test_likelihoods_are_those_of_torchs_distributions(seed: int, rows: int, width: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    outputs, spread = torch.randn(2, rows, width, generator=draw)
    numbers = torch.randint(0, width, (rows,), generator=draw)
    vectors = torch.randn(rows, width, generator=draw)
    categorical = torch.distributions.Categorical(logits=outputs).log_prob(numbers)
    gaussian = torch.distributions.Normal(outputs, spread.exp()).log_prob(vectors).sum(dim=1)
    torch.testing.assert_close(log_likelihoods(outputs, numbers), categorical)
    found = log_likelihoods(torch.cat([outputs, spread], dim=1), vectors)
    torch.testing.assert_close(found, gaussian, rtol=1e-4, atol=1e-4)


def test_a_planted_discrete_policy_is_cloned_and_shuffled_actions_are_not() -> None:
    expert, held_out = made(left_of_line, 20, seed=0), made(left_of_line, 5, seed=1)
    rng = np.random.default_rng(2)
    shuffled = [Trajectory(obs_T1D=t.obs_T1D, actions_T=rng.permutation(t.actions_T)) for t in expert]
    learner = CloningLearner(CloningSettings(hidden=(16,)), card(DiscreteSpace(n=2)), step_rows(expert))
    assert figures(learner, trained(learner, expert), held_out)["accuracy"] > 0.97
    assert figures(learner, trained(learner, shuffled), held_out)["accuracy"] < 0.75


def test_a_planted_gaussian_policy_reaches_its_own_likelihood() -> None:
    expert, held_out = made(linear, 20, seed=0), made(linear, 5, seed=1)
    learner = CloningLearner(CloningSettings(hidden=()), card(line()), step_rows(expert))
    found = figures(learner, trained(learner, expert, 200), held_out)
    # of the truth: -log(0.2) - log(2 pi e) / 2 in the mean
    assert found["log_likelihood"] == pytest.approx(-np.log(0.2) - 0.5 * np.log(2 * np.pi * np.e), abs=0.1)
    assert found["squared_error"] == pytest.approx(0.04, rel=0.2)


def test_a_cloned_policy_is_saved_as_one_that_can_be_served(tmp_path: Path) -> None:
    expert = made(linear, 3, seed=0)
    learner = CloningLearner(CloningSettings(hidden=(4,)), card(line(-1.0, 0.5)), step_rows(expert))
    module = trained(learner, expert, 20)
    learner.save(module, tmp_path)
    obs, served = np.array(expert[0].obs_T1D), load_policy(tmp_path)
    mean = module(torch.from_numpy(obs)).detach().numpy()[:, :1]
    np.testing.assert_allclose(served.act(obs).actions, mean.clip(-1.0, 0.5), rtol=1e-6)
    assert served.draws and served.card == learner.card


def test_rows_are_steps_without_the_last_observation() -> None:
    trajectories = made(left_of_line, 3, seed=0, steps=4)
    learner = CloningLearner(CloningSettings(), card(DiscreteSpace(n=2)), step_rows(trajectories))
    batch = learner.collate(step_rows(trajectories).slice(5, 2))
    assert trajectories[1].obs_T1D is not None
    assert batch.obs_BD.tolist() == trajectories[1].obs_T1D[1:3].tolist()
    assert batch.actions_B.tolist() == trajectories[1].actions_T[1:3].tolist()


@given(count=st.integers(2, 30), held_out=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_a_split_shares_no_trajectory_and_leaves_none_out(count: int, held_out: float, seed: int) -> None:
    trajectories = made(left_of_line, count, seed=0, steps=1)
    train, rest = split(trajectories, held_out, seed)
    assert train and rest
    assert {*map(id, train)} | {*map(id, rest)} == {*map(id, trajectories)}
    assert len(train) + len(rest) == count


def test_a_tabular_clone_is_the_posterior_mean_under_the_best_pseudo_count() -> None:
    rng = np.random.default_rng(0)
    policy_SA = rng.dirichlet(np.ones(3), size=4)

    def walk(steps: int) -> Trajectory:
        states = rng.integers(0, 4, steps + 1)
        return Trajectory(states_T1=states, actions_T=np.array([rng.choice(3, p=policy_SA[s]) for s in states[:-1]]))

    found = clone_tabular([walk(4000)], 4, 3, [walk(1000)])
    assert np.abs(found.policy_SA - policy_SA).max() < 0.05
    entropy = float(-(policy_SA * np.log(policy_SA)).sum(axis=1).mean())
    assert found.log_likelihood == pytest.approx(-entropy, abs=0.05)
    # by hand: 3 + 1 of 4 + 2 pseudo-counts
    few = clone_tabular([Trajectory(states_T1=[0, 0, 0, 0, 0], actions_T=[1, 1, 0, 1])], 2, 2)
    assert few.policy_SA.tolist() == [[2 / 6, 4 / 6], [0.5, 0.5]]


@given(seed=st.integers(0, 2**31))
def test_a_tabular_clone_is_a_policy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trajectory = Trajectory(states_T1=rng.integers(0, 5, 9), actions_T=rng.integers(0, 3, 8))
    policy_SA = clone_tabular([trajectory], 5, 3, [trajectory]).policy_SA
    assert (policy_SA > 0).all()
    np.testing.assert_allclose(policy_SA.sum(axis=1), 1.0)


def test_what_cannot_be_cloned_is_one_sentence() -> None:
    tabular = Trajectory(states_T1=[0, 7], actions_T=[1])
    with pytest.raises(DataError, match="has state 7 and action 1; the problem has 5 states and 2 actions"):
        clone_tabular([tabular], 5, 2)
    with pytest.raises(DataError, match="needs observations"):
        step_rows([tabular])
    with pytest.raises(DataError, match="one trajectory can't be split"):
        split([tabular], 0.1, 0)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (DiscreteSpace(n=2), "the demonstrations have action 2, Planted-v0 has 2, counted from 0"),
        (line(), "the demonstrations' actions are numbers, those of Planted-v0 vectors"),
    ],
)
def test_demonstrations_of_another_environment_are_refused(actions: BoxSpace | DiscreteSpace, message: str) -> None:
    rows = step_rows(made(lambda obs, rng: np.full(len(obs), 2), 1, seed=0))
    with pytest.raises(DataError, match=message):
        CloningLearner(CloningSettings(), card(actions), rows)
    wide = Trajectory(obs_T1D=np.zeros((3, 5)), actions_T=[0, 1])
    with pytest.raises(DataError, match="has 5 numbers, one of Planted-v0 2: name the environment"):
        CloningLearner(CloningSettings(), card(DiscreteSpace(n=2)), step_rows([wide]))
