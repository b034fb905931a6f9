"""Maximum-entropy inverse reinforcement learning: planted rewards, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError, DataError
from raysafe.irl.demonstrations import Objective, demonstrated
from raysafe.irl.dual import DualSettings, _Dual
from raysafe.irl.features import Array, Features
from raysafe.irl.maxent import MaxEntIRL, MaxEntSettings
from raysafe.irl.soft import log_likelihood, soft_plan
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import evaluate, occupancy, optimal
from tests.irl.problems import grid, random_mdp, sparse_of, walks

SEEDS = st.integers(0, 10_000)
GOAL_AND_TRAP = np.eye(64)[:, [63, 27]]
EACH_STATE = sparse.csr_array(sparse.eye_array(64))


@settings(max_examples=8)
@given(SEEDS, st.sampled_from([None, 6]), st.sampled_from(["likelihood", "features"]), st.booleans())
def test_the_gradient_is_that_of_finite_differences(
    seed: int, horizon: int | None, objective: Objective, of_actions: bool
) -> None:
    mdp = random_mdp(seed)
    draw = np.random.default_rng(seed)
    features = Features(draw.normal(size=(5, 3, 4) if of_actions else (5, 4)), 5, 3)
    shown = demonstrated(mdp, walks(mdp, np.full((5, 3), 1 / 3), 6, 3, seed), 0.9, horizon, objective)
    dual = _Dual(mdp, features, 0.9, horizon, shown, DualSettings())
    weights_F = draw.normal(size=4)
    plan = dual.plan(weights_F)
    slopes_F, turns_FF = np.zeros(4), np.zeros((4, 4))
    for place, unit_F in enumerate(1e-5 * np.eye(4)):
        ahead, behind = (dual.plan(weights_F + sign * unit_F) for sign in (1, -1))
        slopes_F[place] = (dual.value(weights_F + unit_F, ahead) - dual.value(weights_F - unit_F, behind)) / 2e-5
        turns_FF[place] = (dual.gradient(weights_F + unit_F, ahead) - dual.gradient(weights_F - unit_F, behind)) / 2e-5
        assert dual.curvature(plan, np.eye(4)[place]) == pytest.approx(turns_FF[place], abs=1e-5)
    assert dual.gradient(weights_F, plan) == pytest.approx(slopes_F, abs=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 0.99])
@pytest.mark.parametrize("start", [None, 0])
@pytest.mark.parametrize("horizon", [None, 12])
def test_a_population_gives_its_policy_back(gamma: float, start: int | None, horizon: int | None) -> None:
    """From a corner, with gamma 0.5, the state that is visited least counts 5e-9."""
    mdp = grid(8, start=start)
    demonstrator = soft_plan(mdp, random_rewards(), gamma, horizon).policy
    irl = MaxEntIRL(mdp, EACH_STATE, gamma, horizon)
    reward = irl.fit_occupancy(occupancy(mdp, demonstrator, gamma, horizon))
    error = np.abs(irl.policy() - demonstrator)
    assert irl.report.converged
    # with a horizon of 12 a walk from a corner never reaches the other one, and time runs out on the way
    assert (error if horizon is None or start is None else error[0, 0]).max() <= 1e-5
    assert irl.occupancy() == pytest.approx(occupancy(mdp, demonstrator, gamma, horizon), abs=1e-6)
    assert soft_plan(mdp, reward.table_SA(), gamma, horizon).policy == pytest.approx(irl.policy(), abs=1e-9)


def random_rewards() -> np.ndarray:
    """(64, 4), of states."""
    return np.random.default_rng(0).normal(size=(64, 1)) * np.ones(4)


def test_a_wrong_discount_shows() -> None:
    """The control: with another gamma than the demonstrator's two features don't give the policy back."""
    mdp, rewards_SA = goal_and_trap(None)
    demonstrator = soft_plan(mdp, 5 * rewards_SA, 0.9).policy
    errors = {}
    for gamma in (0.9, 0.7):
        irl = MaxEntIRL(mdp, GOAL_AND_TRAP, gamma)
        irl.fit_occupancy(occupancy(mdp, demonstrator, gamma))
        errors[gamma] = np.abs(irl.policy() - demonstrator).max()
    assert errors[0.9] <= 1e-5 and errors[0.7] > 0.05
    with pytest.raises(DataError, match="no occupancy for gamma"):
        irl.fit_occupancy(occupancy(mdp, demonstrator, 0.9))


def goal_and_trap(start: int | None) -> tuple[TabularMDP, np.ndarray]:
    rewards_S = np.zeros(64)
    rewards_S[63], rewards_S[27] = 1.0, -1.0
    return grid(8, slip=0.3, start=start), rewards_S[:, None] * np.ones(4)


@pytest.mark.parametrize("start", [0, pytest.param(None, marks=pytest.mark.slow)])
def test_eight_demonstrations_of_goal_and_trap_are_enough(start: int | None) -> None:
    """A feature for each state; 8 walks of 32 steps by the optimal policy; the loss as a share of optimal - random."""
    mdp, rewards_SA = goal_and_trap(start)
    best = optimal(mdp, rewards_SA, 0.9)
    random = float(mdp.initial_S @ evaluate(mdp, np.full((64, 4), 0.25), rewards_SA, 0.9))
    lost = []
    for seed in range(5):
        reward = MaxEntIRL(mdp, EACH_STATE, 0.9).fit(walks(mdp, best.policy, 32, 8, seed))
        learned_SA = optimal(mdp, reward.table_SA(), 0.9).policy
        value = float(mdp.initial_S @ evaluate(mdp, learned_SA, rewards_SA, 0.9))
        lost.append((float(mdp.initial_S @ best.values) - value) / (float(mdp.initial_S @ best.values) - random))
    assert np.mean(lost) <= 0.03


def test_no_other_weights_make_the_demonstrations_likelier() -> None:
    mdp, rewards_SA = goal_and_trap(None)
    trajectories = walks(mdp, soft_plan(mdp, 5 * rewards_SA, 0.9).policy, 40, 20, 0)
    counts_SA = demonstrated(mdp, trajectories, 0.9).visits_SA
    irl = MaxEntIRL(mdp, GOAL_AND_TRAP, 0.9, settings=MaxEntSettings(l2=0))
    weights_F = irl.fit(trajectories).weights_F

    def likelihood(weights_F: np.ndarray) -> float:
        return log_likelihood(soft_plan(mdp, Features(GOAL_AND_TRAP, 64, 4).rewards(weights_F), 0.9), counts_SA)

    assert weights_F is not None and weights_F[0] == pytest.approx(5, abs=1) and weights_F[1] < -2
    for way_F in np.random.default_rng(0).normal(size=(20, 2)):
        assert likelihood(weights_F + 0.1 * way_F) < likelihood(weights_F)


@pytest.mark.parametrize("objective", ["likelihood", "features"])
def test_a_recording_that_stops_early_isnt_read_as_an_end(objective: Objective) -> None:
    """Five steps each, of which few see the goal; its worth is found by both objectives, and that the trap is bad."""
    mdp, rewards_SA = goal_and_trap(None)
    trajectories = walks(mdp, soft_plan(mdp, 5 * rewards_SA, 0.9).policy, 5, 200, 1)
    irl = MaxEntIRL(mdp, GOAL_AND_TRAP, 0.9, settings=MaxEntSettings(objective=objective))
    found = irl.fit(trajectories).weights_F
    assert found is not None and found[0] == pytest.approx(5, abs=1) and found[1] < -2


def test_a_prior_keeps_weights_small_and_is_reported() -> None:
    mdp, rewards_SA = goal_and_trap(None)
    trajectories = walks(mdp, optimal(mdp, rewards_SA, 0.9).policy, 32, 8, 0)
    sizes = []
    for l2 in (0.1, 10.0):
        irl = MaxEntIRL(mdp, EACH_STATE, 0.9, settings=MaxEntSettings(l2=l2))
        sizes.append(np.abs(irl.fit(trajectories).table_SA()).max())
        assert irl.report.converged and str(irl.report).startswith("converged; features differ by")
    assert sizes[1] < sizes[0] / 2


@settings(max_examples=5)
@given(SEEDS, st.sampled_from([None, 6]))
def test_dense_and_sparse_transitions_and_features_agree(seed: int, horizon: int | None) -> None:
    mdp = random_mdp(seed)
    trajectories = walks(mdp, np.full((5, 3), 1 / 3), 6, 5, seed)
    kinds: list[tuple[TabularMDP, Array]] = [(mdp, np.eye(5)), (sparse_of(mdp), sparse.csr_array(np.eye(5)))]
    dense, thin = (MaxEntIRL(found, array, 0.9, horizon).fit(trajectories).table_SA() for found, array in kinds)
    assert thin == pytest.approx(dense, abs=1e-5)


def test_what_cant_have_happened_is_refused() -> None:
    ends_S = np.arange(64) == 63
    mdp = TabularMDP(grid(8).transitions, grid(8).initial_S, ends_S)
    irl = MaxEntIRL(mdp, EACH_STATE, 0.9, horizon=4)
    cases = [
        ([0, 9], [0], False, "from state 0 to 9 by action 0 at step 0, which has probability 0"),
        ([0, 64], [0], False, "state 64 and action 0 as its highest, where the MDP has 64 states"),
        ([62, 63, 62], [1, 1], False, "goes on after step 1 in state 63, which is terminal"),
        ([0, 1], [1], True, "ended in state 1, which isn't terminal"),
        ([0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0], False, "5 steps, more than the horizon of 4"),
    ]
    good = Trajectory(states_T1=np.array([0, 1]), actions_T=np.array([1]))
    for states, actions, terminated, message in cases:
        bad = Trajectory(states_T1=np.array(states), actions_T=np.array(actions), terminated=terminated)
        with pytest.raises(DataError, match=f"trajectory 2 .*{message}"):
            irl.fit([good, bad])
    with pytest.raises(DataError, match="no trajectories"):
        irl.fit([])
    with pytest.raises(ConfigError, match="call fit first"):
        irl.policy()
