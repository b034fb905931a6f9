"""Which pairs to ask about: the measures against hand-worked values, and what asking about them teaches."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from raysafe.errors import ConfigError, DataError
from raysafe.feedback.active import bald, disagreement, spread
from raysafe.feedback.items import Item, parse_item
from tests.feedback.conftest import pair

GAPS_MN = arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(1, 4)), elements=st.floats(-30, 30))


def test_the_spread_is_the_unbiased_deviation_of_the_gap() -> None:
    # gaps 1, 2, 6 around 3: squares 4 + 1 + 9 over 2
    rewards_a_MN, rewards_b_MN = np.array([[4.0], [5.0], [7.0]]), np.array([[3.0], [3.0], [1.0]])
    assert spread(rewards_a_MN, rewards_b_MN) == pytest.approx([7**0.5])


def test_bald_comes_out_by_hand() -> None:
    # chances 3/4 and 1/4: H(1/2) - H(1/4) = log 2 - (2 log 2 - 3/4 log 3)
    gaps_MN = np.array([[log(3)], [-log(3)]])
    assert bald(gaps_MN, np.zeros((2, 1))) == pytest.approx([0.75 * log(3) - log(2)])


def test_bald_of_members_that_are_sure_of_opposites_is_one_bit_and_of_equal_ones_nothing() -> None:
    gaps_MN = np.array([[800.0, 800.0, 0.3], [-800.0, 800.0, 0.3]])
    assert bald(gaps_MN, np.zeros((2, 3))) == pytest.approx([log(2), 0, 0], abs=1e-12)


def test_bald_passes_over_what_all_members_are_sure_of_though_their_gaps_differ() -> None:
    gaps_MN = np.array([[8.0, 1.0], [20.0, -1.0]])
    assert spread(gaps_MN, np.zeros((2, 2))).argmax() == 0
    assert bald(gaps_MN, np.zeros((2, 2))).argmax() == 1


@given(GAPS_MN)
def test_bald_is_the_mean_divergence_of_the_members_from_their_mean(gaps_MN: np.ndarray) -> None:
    p_MN, q_MN = expit(gaps_MN), expit(-gaps_MN)
    divergence_MN = p_MN * np.log(p_MN / p_MN.mean(0)) + q_MN * np.log(q_MN / q_MN.mean(0))
    assert bald(gaps_MN, np.zeros_like(gaps_MN)) == pytest.approx(divergence_MN.mean(0), abs=1e-9)


@given(GAPS_MN)
def test_which_side_is_called_a_makes_no_difference(gaps_MN: np.ndarray) -> None:
    none_MN = np.zeros_like(gaps_MN)
    for measure in (bald, spread):
        assert measure(gaps_MN, none_MN) == pytest.approx(measure(none_MN, gaps_MN), abs=1e-12)


def items(*rewards: tuple[list[float], list[float]] | None) -> list[Item]:
    fields = [{"rewards_a": r[0], "rewards_b": r[1]} if r else {} for r in rewards]
    return [parse_item(pair(index, **more), Path()) for index, more in enumerate(fields)]


def test_items_carry_rewards_of_their_own() -> None:
    found = disagreement(items(([1, 1], [0, 0]), ([3, 0], [0, 3]), None), "spread")
    assert found == pytest.approx({"q0": 0, "q1": 18**0.5})


def test_without_rewards_there_is_no_active_order() -> None:
    with pytest.raises(ConfigError, match="give --reward-models"):
        disagreement(items(None, None), "bald")


def test_one_model_disagrees_with_nobody() -> None:
    with pytest.raises(ConfigError, match="two reward models or more, got 1"):
        disagreement(items(None), "bald", ["only"])


def test_reward_models_score_the_texts_themselves(tmp_path: Path) -> None:
    from raysafe.models.ensemble import RewardEnsemble
    from raysafe.models.heads import RewardModel, save_reward_model
    from raysafe.models.language import load_tokenizer

    folders = [tmp_path / name for name in ("one", "two", "three")]
    for seed, folder in enumerate(folders):
        save_reward_model(RewardModel.from_policy("preset:tiny", seed=seed), load_tokenizer("preset:tiny"), folder)
    asked = items(None, None)
    found = disagreement(asked, "spread", folders)
    ensemble = RewardEnsemble(folders)
    for item in asked:
        a_M, b_M = (ensemble.score([item.prompt], [side.text]).each_MN[:, 0] for side in item.sides)
        assert found[item.name] == pytest.approx(np.std(a_M - b_M, ddof=1), rel=1e-4) and found[item.name] > 0


def test_a_reward_that_is_not_finite_names_the_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysafe.models import ensemble

    class Broken:
        def __init__(self, models: object) -> None: ...

        def score(self, prompts: list, texts: list) -> ensemble.Scores:
            each_MN = np.ones((2, len(texts)))
            each_MN[1, 3] = np.nan
            return ensemble.Scores(each_MN[0], each_MN[0], each_MN)

    monkeypatch.setattr(ensemble, "RewardEnsemble", Broken)
    with pytest.raises(DataError, match="'q1' a reward that is not finite"):
        disagreement(items(None, None), "bald", ["one", "two"])


D, M, ROUNDS, ASKED, SCALE = 8, 8, 15, 4, 2.0
Choose = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def fit(gaps_ND: np.ndarray, prefers_a_N: np.ndarray, anchors_MD: np.ndarray) -> np.ndarray:
    """Linear rewards (M, D) of logistic regressions, each drawn to an anchor of its own: an ensemble that is as unsure
    as its prior where it has no data (Pearce et al. 2020)."""
    members = []
    for anchor_D in anchors_MD:
        w_D = np.zeros(D)
        for _ in range(10):
            p_N = expit(gaps_ND @ w_D)
            slope_D = gaps_ND.T @ (p_N - prefers_a_N) + (w_D - anchor_D) / SCALE**2
            w_D = w_D - np.linalg.solve((gaps_ND.T * (p_N * (1 - p_N))) @ gaps_ND + np.eye(D) / SCALE**2, slope_D)
        members.append(w_D)
    return np.array(members)


def accuracy(choose: Choose, seed: int) -> float:
    """Share of unseen pairs that the ensemble orders as the hidden reward does, after ROUNDS x ASKED judgements.

    Nine pairs in ten differ in two features only, as most pairs of answers are alike in most respects.
    """
    rng = np.random.default_rng(seed)
    hidden_D = SCALE * rng.standard_normal(D)
    pool_ND = rng.standard_normal((400, D))
    pool_ND[rng.random(400) < 0.9, 2:] = 0
    said_N = (rng.random(400) < expit(pool_ND @ hidden_D)).astype(float)
    anchors_MD = SCALE * rng.standard_normal((M, D))
    asked = list(rng.permutation(400)[:ASKED])
    for _ in range(ROUNDS):
        members_MD = fit(pool_ND[asked], said_N[asked], anchors_MD)
        wanted_N = choose(members_MD @ pool_ND.T, rng)
        wanted_N[asked] = -np.inf
        asked += list(np.argsort(-wanted_N)[:ASKED])
    unseen_ND = rng.standard_normal((1000, D))
    found_D = fit(pool_ND[asked], said_N[asked], anchors_MD).mean(axis=0)
    return float(np.mean((unseen_ND @ found_D > 0) == (unseen_ND @ hidden_D > 0)))


def at_random(gaps_MN: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.random(gaps_MN.shape[1])


def by(measure: Callable[[np.ndarray, np.ndarray], np.ndarray], sign: float) -> Choose:
    return lambda gaps_MN, rng: sign * measure(gaps_MN, np.zeros_like(gaps_MN))


SEEDS = range(10)


@pytest.fixture(scope="module")
def random_S() -> np.ndarray:
    return np.array([accuracy(at_random, seed) for seed in SEEDS])


@pytest.mark.parametrize("measure", [bald, spread])
def test_asking_where_members_disagree_teaches_more_than_asking_at_random(measure, random_S: np.ndarray) -> None:
    gain_S = np.array([accuracy(by(measure, 1.0), seed) for seed in SEEDS]) - random_S
    assert gain_S.mean() > 3 * gain_S.std(ddof=1) / len(SEEDS) ** 0.5 and gain_S.mean() > 0.05


def test_asking_where_members_agree_teaches_less(random_S: np.ndarray) -> None:
    assert np.mean([accuracy(by(bald, -1.0), seed) for seed in SEEDS]) < random_S.mean()
