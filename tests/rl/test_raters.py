"""Synthetic raters answer as their formula says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.rl.raters import SyntheticRater


def fragment(*rewards: float) -> Trajectory:
    steps = len(rewards)
    places_T1 = np.zeros(steps + 1, dtype=np.int64)
    return Trajectory(actions_T=places_T1[:-1], states_T1=places_T1, rewards_T=np.array(rewards, dtype=np.float64))


def test_a_rational_rater_prefers_the_higher_return() -> None:
    pairs = [(fragment(1, 1), fragment(3, 0)), (fragment(2, 2), fragment(0, 3))]
    found = SyntheticRater().compare(pairs, np.random.default_rng(0))
    assert [one.preference for one in found] == [0.0, 1.0]


@pytest.mark.parametrize("beta", [0.3, 2.0])
@pytest.mark.parametrize("slips", [0.0, 0.2])
def test_boltzmanns_rule_and_slips(beta: float, slips: float) -> None:
    rater = SyntheticRater(rationality=beta, error_rate=slips)
    answers_N = rater.prefer(np.full(40_000, 1.0), np.zeros(40_000), np.random.default_rng(1))
    chance = (1 - slips) * expit(beta) + slips * expit(-beta)
    assert answers_N.mean() == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 40_000))


def test_what_looks_equal_is_a_tie() -> None:
    answers_N = SyntheticRater(tie_within=0.5).prefer(
        np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.4, 2.0]), np.random.default_rng(0)
    )
    assert answers_N.tolist() == [0.5, 1.0, 0.0]


def test_a_fading_memory_weighs_the_last_step_most() -> None:
    """0.5^2 * 4 + 0.5 * 0 + 1 = 2 against 0 + 0 + 3, by hand."""
    rater = SyntheticRater(discount=0.5)
    assert rater.return_of(fragment(4, 0, 1)) == 2.0
    assert rater.compare([(fragment(4, 0, 1), fragment(0, 0, 3))], np.random.default_rng(0))[0].preference == 0.0


def test_fragments_without_rewards_need_people() -> None:
    blind = Trajectory(actions_T=np.array([0]), states_T1=np.array([0, 0]))
    with pytest.raises(DataError, match="ask people"):
        SyntheticRater().compare([(blind, blind)], np.random.default_rng(0))
