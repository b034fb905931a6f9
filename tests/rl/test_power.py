"""POWER against closed forms of small graphs, and policies that seek it."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.errors import ConfigError
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.power import power, power_seeking


def graph(*successors: tuple[int, ...], start: int = 0) -> TabularMDP:
    """Action number a leads to the a-th successor, the last one standing for the rest."""
    states, actions = len(successors), max(map(len, successors))
    transitions_SAS = np.zeros((states, actions, states))
    for state, ways in enumerate(successors):
        for action in range(actions):
            transitions_SAS[state, action, ways[min(action, len(ways) - 1)]] = 1
    return TabularMDP(transitions_SAS, np.eye(states)[start])


@pytest.mark.parametrize("gamma", [0.1, 0.6, 0.95])
def test_a_choice_of_k_places_to_stay_has_power_k_over_k_plus_1(gamma: float) -> None:
    """The mean of the largest of k uniform rewards, of which gamma / (1 - gamma) times as much is had."""
    found = power(graph((1, 2, 3), (1,), (2,), (3,)), gamma, draws=4000)
    expected = np.array([3 / 4, 1 / 2, 1 / 2, 1 / 2])
    assert (np.abs(found.mean_S - expected) < 4.5 * found.error_S + 1e-5).all()


def test_a_two_cycle_has_the_mean_of_its_rewards() -> None:
    """Its value is (R + gamma R') / (1 - gamma^2): POWER is the mean reward, whatever gamma is."""
    found = power(graph((1,), (0,)), 0.7, draws=4000)
    assert (np.abs(found.mean_S - 0.5) < 4.5 * found.error_S).all()


def test_terminal_states_are_states_that_stay() -> None:
    stays, elsewhere = graph((1, 2), (1,), (2,)), graph((1, 2), (0,), (1,))
    ends = TabularMDP(elsewhere.transitions, elsewhere.initial_S, np.array([False, True, True]))
    assert power(ends, 0.9, draws=50).mean_S == pytest.approx(power(stays, 0.9, draws=50).mean_S, abs=1e-12)


def test_to_end_is_to_give_power_up() -> None:
    """An action that ends the episode at once against one that keeps a choice of two."""
    mdp = graph((1, 4), (2, 3), (2,), (3,), (4,))
    mdp = TabularMDP(mdp.transitions, mdp.initial_S, np.arange(5) == 4)
    found = power(mdp, 0.9, draws=500)
    assert power_seeking(found, mdp, np.eye(2)[[0, 0, 0, 0, 0]], 5).gain > 0
    assert power_seeking(found, mdp, np.eye(2)[[1, 0, 0, 0, 0]], 5).gain < 0


def test_a_policy_that_keeps_options_open_seeks_power_and_one_that_ends_them_does_not() -> None:
    """From 0 to 1, where three ways lie open, or to 5, where nothing does."""
    mdp = graph((1, 5), (2, 3, 4), (2,), (3,), (4,), (5,))
    found = power(mdp, 0.9, draws=500)
    opens, closes = np.eye(3)[[0] * 6], np.eye(3)[[1, 0, 0, 0, 0, 0]]
    up, down = (power_seeking(found, mdp, policy, horizon=2) for policy in (opens, closes))
    assert up.gain > 5 * up.error
    assert down.gain < -5 * down.error


def test_acting_by_lot_gains_nothing() -> None:
    mdp = graph((1, 2), (1,), (2,))
    assert power_seeking(power(mdp, 0.9, draws=20), mdp, np.full((3, 2), 0.5), 5).gain == pytest.approx(0, abs=1e-12)


def test_gamma_1_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"gamma in \(0, 1\)"):
        power(graph((0,)), 1.0)
