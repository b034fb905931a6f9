"""Tabular problems: gridworlds and files of arrays are the same to a learner, and what doesn't fit is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError, DataError
from raysafe.irl.demonstrators import demonstrate
from raysafe.irl.problem import gridworld, problem_of, read_problem
from raysafe.rl.planning import occupancy, optimal
from tests.irl.problems import random_mdp

MDP = random_mdp(0, states=6)
WHOLE: dict[str, Any] = {
    "transitions": np.asarray(MDP.transitions),
    "initial": MDP.initial_S,
    "terminal": MDP.ends_S,
    "features": np.arange(12.0).reshape(6, 2),
    "rewards": np.arange(18.0).reshape(6, 3),
    "columns": np.array(3),
}


def test_npz_and_safetensors_dense_and_sparse_are_one_problem(tmp_path: Path) -> None:
    rows = sparse.csr_array(MDP.rows)
    flat = {f"transitions.{part}": getattr(rows, part) for part in ("data", "indices", "indptr")}
    thin = {name: array for name, array in (WHOLE | flat).items() if name != "transitions"}
    np.savez(tmp_path / "a.npz", **WHOLE)
    np.savez(tmp_path / "b.npz", **thin)
    save_file({name: np.ascontiguousarray(array) for name, array in WHOLE.items()}, tmp_path / "c.safetensors")
    for name in ("a.npz", "b.npz", "c.safetensors"):
        found = read_problem(str(tmp_path / name))
        np.testing.assert_array_equal(sparse.csr_array(found.mdp.rows).toarray(), rows.toarray())
        np.testing.assert_array_equal(found.mdp.ends_S, MDP.ends_S)
        assert found.features.count == 2 and found.rewards_SA is not None
        assert found.cells_S2 is not None and found.cells_S2.tolist()[4] == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial": None}, "lacks the array initial"),
        ({"transitions": None}, "lacks the array transitions.data"),
        ({"transitions": np.ones((6, 3, 6))}, "must be probabilities that add up to 1"),
        ({"features": np.ones((5, 2))}, "features must be"),
        ({"rewards": np.full((6, 3), np.nan)}, "rewards must be finite"),
        ({"columns": np.array(0)}, "columns must be from 1 to 6"),
        ({"reward": np.zeros(6)}, "holds the array 'reward', which has no meaning here"),
        ({"initial": np.array([None] * 6)}, "save plain numbers, not Python objects"),
    ],
)
def test_a_file_that_does_not_fit_together_is_one_sentence(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **{name: array for name, array in (WHOLE | change).items() if array is not None})
    with pytest.raises(DataError, match=message):
        read_problem(str(tmp_path / "a.npz"))


def test_a_missing_file_and_a_strange_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_problem(str(tmp_path / "none.npz"))
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="is not a safetensors file"):
        read_problem(str(tmp_path / "a.safetensors"))
    with pytest.raises(DataError, match="can't tell the format"):
        read_problem(str(tmp_path / "a.csv"))
    with pytest.raises(ConfigError, match="has no table of transitions"):
        problem_of("CartPole-v1", {}, None)
    with pytest.raises(ConfigError, match="give either env"):
        problem_of(None, {}, None)


def test_what_a_gridworld_shows_is_turned_into_its_states() -> None:
    problem = gridworld("raysafe/SideEffects-v0", {})
    assert problem.rewards_SA is not None and problem.obs_SD is not None
    plan = optimal(problem.mdp, problem.rewards_SA, 0.95)
    [given] = demonstrate(problem.mdp, plan.policy, 1, steps=30)
    assert given.states_T1 is not None
    seen = Trajectory(obs_T1D=problem.obs_SD[given.states_T1], actions_T=given.actions_T)
    [found] = problem.numbered([seen])
    assert found.states_T1 is not None
    np.testing.assert_array_equal(found.states_T1, given.states_T1)
    strange = Trajectory(obs_T1D=np.full_like(seen.obs_T1D, 7.0), actions_T=given.actions_T)
    with pytest.raises(DataError, match="sees at step 0 what no state"):
        problem.numbered([strange])
    with pytest.raises(DataError, match="demonstration 1 has states up to 999999"):
        problem.numbered([Trajectory(states_T1=[0, 999_999], actions_T=[0])])


def test_a_grid_shows_the_mean_of_the_states_in_each_cell(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **WHOLE)
    grid_HW = read_problem(str(tmp_path / "a.npz")).on_grid(np.arange(6.0))
    assert grid_HW is not None and grid_HW.tolist() == [[0, 1, 2], [3, 4, 5]]
    shown = gridworld("raysafe/SideEffects-v0", {}).on_grid(np.ones(gridworld("raysafe/SideEffects-v0", {}).mdp.states))
    assert shown is not None and np.nanmax(shown) == np.nanmin(shown) == 1.0 and np.isnan(shown).any()


def test_demonstrations_visit_what_the_policy_visits() -> None:
    policy_SA = np.random.default_rng(1).dirichlet(np.ones(3), 6)
    shown = demonstrate(MDP, policy_SA, 1500, steps=8, seed=3, rewards_SA=WHOLE["rewards"])
    counts_SA = np.zeros((6, 3))
    for one in shown:
        assert one.states_T1 is not None and one.rewards_T is not None
        assert not MDP.ends_S[one.states_T1[:-1]].any()
        assert one.terminated == bool(MDP.ends_S[one.states_T1[-1]])
        assert one.rewards_T.tolist() == WHOLE["rewards"][one.states_T1[:-1], one.actions_T].tolist()
        np.add.at(counts_SA, (one.states_T1[:-1], one.actions_T), 1)
    starts_S = np.where(MDP.ends_S, 0.0, MDP.initial_S)
    expected_SA = occupancy(MDP, policy_SA, 1.0, 8) / starts_S.sum()
    np.testing.assert_allclose(counts_SA / len(shown), expected_SA, atol=0.08)
