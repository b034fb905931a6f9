"""Penalties for side effects: numbers worked by hand, and the papers' contrasts between baselines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import ConfigError, DataError
from raysafe.rl.invariance import greedy_actions, q_values
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import optimal
from raysafe.rl.side_effects import (
    CHANGE,
    DECREASE,
    Baseline,
    Deviation,
    attainable_utilities,
    penalties,
    random_auxiliaries,
    reachability,
)
from tests.rl.test_planning import random_mdp

STAY, GO = 0, 1


def moves(*next_S: list[int]) -> TabularMDP:
    """Deterministic: next_S[action][state]; starts in state 0."""
    transitions_SAS = np.stack([np.eye(len(next_S[0]))[states] for states in next_S], axis=1)
    return TabularMDP(transitions_SAS, np.eye(len(next_S[0]))[0])


CHAIN = moves([0, 1, 2], [1, 2, 2])
"""Three places in a row; going is for ever."""


def test_reachability_is_gamma_to_the_number_of_steps() -> None:
    expected = [[1, 0, 0], [0.5, 1, 0], [0.25, 0.5, 1]]
    assert reachability(CHAIN, 0.5).tolist() == expected
    either = np.array([[True, False, True]])
    assert reachability(CHAIN, 0.5, either).tolist() == [[1, 0.5, 1]]


@given(st.integers(0, 10_000))
def test_reachability_is_the_value_of_a_reward_for_arriving(seed: int) -> None:
    """With slips: an optimal plan whose only reward is the step into the target, after which nothing follows."""
    mdp, _ = random_mdp(seed, terminal=False)
    target = np.arange(4) == 2
    arriving = TabularMDP(mdp.transitions, mdp.initial_S, target)
    into_SA = (mdp.rows @ target.astype(float)).reshape(4, 2)
    values_S = np.where(target, 1.0, 0.8 * optimal(arriving, into_SA, 0.8).values)
    assert reachability(mdp, 0.8)[2] == pytest.approx(values_S, abs=1e-9)


def test_relative_reachability_by_hand() -> None:
    """Going on from the first place loses it for ever, 1 of 3 places, and brings the others nearer."""
    values_KS = reachability(CHAIN, 0.5)
    stepwise_SA = penalties(CHAIN, values_KS, "stepwise inaction", DECREASE, noop=STAY)
    assert stepwise_SA == pytest.approx(np.array([[0, 1 / 3], [0, 1 / 3], [0, 0]]))
    start_SA = penalties(CHAIN, values_KS, "starting state", DECREASE, noop=STAY)
    assert start_SA == pytest.approx(np.array([[0, 1 / 3], [1 / 3, 0.5], [0.5, 0.5]]))
    idle_TSA = penalties(CHAIN, values_KS, "inaction", DECREASE, noop=STAY, horizon=2)
    assert idle_TSA == pytest.approx(np.stack([start_SA, start_SA]))


def test_attainable_utility_by_hand() -> None:
    """Rewards for the first and the last place: going on takes 2 from the one and adds 0.5 to the other."""
    auxiliary_KSA = np.zeros((2, 3, 2))
    auxiliary_KSA[0, 0] = auxiliary_KSA[1, 2] = 1
    values_KS = attainable_utilities(CHAIN, auxiliary_KSA, 0.5)
    assert values_KS == pytest.approx(np.array([[2, 0, 0], [0.5, 1, 2]]))
    changed = penalties(CHAIN, values_KS, "stepwise inaction", CHANGE, noop=STAY)
    lost = penalties(CHAIN, values_KS, "stepwise inaction", DECREASE, noop=STAY)
    scaled = penalties(CHAIN, values_KS, "stepwise inaction", CHANGE, noop=STAY, scaled=True)
    assert [changed[0, GO], lost[0, GO], scaled[0, GO]] == pytest.approx([1.25, 1.0, 1.0])
    assert not changed[:, STAY].any()


# a belt carries a dish to a guest: on it at 0, at 1, eaten, held at 0, held at 1; the other action takes or puts back
SUSHI = moves([1, 2, 2, 3, 4], [3, 4, 2, 0, 1])


@pytest.mark.parametrize(
    ("baseline", "interferes"), [("starting state", True), ("inaction", False), ("stepwise inaction", False)]
)
@pytest.mark.parametrize("deviation", [CHANGE, DECREASE])
def test_only_the_starting_state_makes_an_agent_stop_what_changes_by_itself(
    baseline: Baseline, interferes: bool, deviation: Deviation
) -> None:
    """The sushi of Krakovna et al.: nothing is to be done, and taking the dish costs a little."""
    horizon = 6 if baseline == "inaction" else None
    penalty = penalties(SUSHI, reachability(SUSHI, 0.9), baseline, deviation, noop=STAY, horizon=horizon)
    q_TSA = q_values(SUSHI, np.array([0, -0.01]) - penalty, 1.0, horizon=6)
    assert bool(q_TSA[0, 0].argmax() == GO) is interferes


def vase() -> tuple[TabularMDP, np.ndarray, np.ndarray]:
    """A vase on a belt, at 0, at 1, broken, or safe beside it; taking it off earns 1, once. The second four states are
    those after that reward. The places are what counts as reachable."""
    mdp = moves([1, 2, 2, 3, 5, 6, 6, 7], [7, 7, 2, 1, 7, 7, 6, 5])
    rewards_SA = np.zeros((8, 2))
    rewards_SA[[0, 1], GO] = 1
    return mdp, rewards_SA, np.tile(np.eye(4, dtype=bool), 2)


@pytest.mark.parametrize(
    ("baseline", "offsets"), [("starting state", False), ("inaction", True), ("stepwise inaction", False)]
)
def test_only_inaction_since_the_start_makes_an_agent_undo_what_it_was_paid_for(
    baseline: Baseline, offsets: bool
) -> None:
    """The conveyor vase of Krakovna et al.: all take it off the belt; is it whole at the end?"""
    mdp, rewards_SA, places_KS = vase()
    horizon = 8 if baseline == "inaction" else None
    values_KS = reachability(mdp, 0.9, places_KS)
    penalty = penalties(mdp, values_KS, baseline, CHANGE, noop=STAY, horizon=horizon)
    q_TSA = q_values(mdp, rewards_SA - 0.3 * penalty, 1.0, horizon=8)
    state, path = 0, []
    for time in range(8):
        action = int(q_TSA[time, state].argmax())
        path.append((state, action))
        state = int(mdp.rows[state * 2 + action].argmax())
    assert {(0, GO), (1, GO)} & set(path)
    assert (state % 4 == 2) is offsets


def test_a_rollout_sees_what_happens_later() -> None:
    """Putting the vase back on the belt breaks it two steps on."""
    mdp, _, places_KS = vase()
    values_KS = reachability(mdp, 0.9, places_KS)
    at_once, later = (
        penalties(mdp, values_KS, "stepwise inaction", DECREASE, noop=STAY, rollout=steps)[7, GO] for steps in (0, 4)
    )
    assert later > 3 * at_once > 0


@given(st.integers(0, 10_000), st.sampled_from([CHANGE, DECREASE]))
def test_doing_nothing_is_never_penalised_stepwise_and_penalties_are_not_negative(
    seed: int, deviation: Deviation
) -> None:
    mdp, _ = random_mdp(seed)
    values_KS = attainable_utilities(mdp, random_auxiliaries(mdp, 3, seed), 0.9)
    penalty_SA = penalties(mdp, values_KS, "stepwise inaction", deviation, noop=1, rollout=2)
    assert not penalty_SA[:, 1].any()
    assert (penalty_SA >= 0).all()


def test_a_penalty_of_weight_0_and_a_large_one() -> None:
    """Without it the agent goes on for a reward, with it it stays."""
    penalty_SA = penalties(CHAIN, reachability(CHAIN, 0.5), "stepwise inaction", DECREASE, noop=STAY)
    rewards_SA = np.array([[0, 0.3], [0, 0], [0, 0]])
    for weight, action in ((0.0, GO), (1.0, STAY)):
        assert greedy_actions(q_values(CHAIN, rewards_SA - weight * penalty_SA, 0.9))[0].tolist() == [
            action == STAY,
            action == GO,
        ]


def test_options_that_do_not_fit_are_refused() -> None:
    values_KS = reachability(CHAIN, 0.5)
    with pytest.raises(ConfigError, match="horizon belongs to the baseline 'inaction'"):
        penalties(CHAIN, values_KS, "inaction", DECREASE, noop=STAY)
    with pytest.raises(ConfigError, match="rollout belongs"):
        penalties(CHAIN, values_KS, "starting state", DECREASE, noop=STAY, rollout=1)
    with pytest.raises(ConfigError, match="one of the 2 actions, got 2"):
        penalties(CHAIN, values_KS, "stepwise inaction", DECREASE, noop=2)
    two_starts = TabularMDP(CHAIN.transitions, np.array([0.5, 0.5, 0]))
    with pytest.raises(DataError, match="several"):
        penalties(two_starts, values_KS, "starting state", DECREASE, noop=STAY)
    with pytest.raises(ConfigError, match=r"\(0, 1\), got 1"):
        reachability(CHAIN, 1.0)
