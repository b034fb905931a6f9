"""Which pairs to ask about: those on which the members of a reward ensemble disagree most.

Two measures: the spread of the reward gap (Christiano et al. 2017, section 2.2.4), and what an answer would tell of
the members (BALD, Houlsby et al. 2011, equation 2), with preferences after Bradley and Terry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from raysafe.errors import ConfigError, DataError
from raysafe.feedback.items import Item
from raysafe.runtime.bar import Bar

Measure = Literal["spread", "bald"]
CHUNK_ITEMS = 64


def spread(rewards_a_MN: np.ndarray, rewards_b_MN: np.ndarray) -> np.ndarray:
    """Standard deviation over M members of r_a - r_b (unbiased), (N,)."""
    return (rewards_a_MN - rewards_b_MN).std(axis=0, ddof=1)


def bald(rewards_a_MN: np.ndarray, rewards_b_MN: np.ndarray) -> np.ndarray:
    """Mutual information, in nats, of the preference and the member: H(mean p) - mean H(p), (N,).

    p = sigmoid(r_a - r_b) of each member. Unlike the spread it is small where all members are sure.
    """
    from scipy.special import expit

    gaps_MN = rewards_a_MN - rewards_b_MN
    prefers_a_MN, prefers_b_MN = expit(gaps_MN), expit(-gaps_MN)
    of_mean_N = _entropy(prefers_a_MN.mean(axis=0), prefers_b_MN.mean(axis=0))
    # rounding may leave -1e-17
    return np.maximum(of_mean_N - _entropy(prefers_a_MN, prefers_b_MN).mean(axis=0), 0.0)


MEASURES: dict[Measure, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"spread": spread, "bald": bald}


def disagreement(items: Sequence[Item], measure: Measure, models: Sequence[str | Path] = ()) -> dict[str, float]:
    """How far the members disagree on each comparison, by the item's name.

    The rewards are those of `models` on the texts, or, without models, those that the items carry. Comparisons that
    have neither are left out; raises ConfigError where none is left.
    """
    rewards = _score(items, models) if models else {item.name: item.rewards for item in items if item.rewards}
    if not rewards:
        raise ConfigError(
            "order 'active' needs the rewards of an ensemble: give --reward-models (for answers and steps), or "
            "rewards_a and rewards_b in the items"
        )
    return {
        name: float(MEASURES[measure](np.array(a)[:, None], np.array(b)[:, None])[0])
        for name, (a, b) in rewards.items()
    }


def _score(items: Sequence[Item], models: Sequence[str | Path]) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """Each comparison of texts with the members' rewards of its two sides."""
    if len(models) < 2:
        raise ConfigError(f"disagreement needs two reward models or more, got {len(models)}: give --reward-models A B")
    from raysafe.models.ensemble import RewardEnsemble

    pairs = [item for item in items if item.compares and item.kind != "frames"]
    ensemble = RewardEnsemble(models)
    rewards: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    with Bar("scoring pairs", total=len(pairs), unit="pair") as bar:
        for start in range(0, len(pairs), CHUNK_ITEMS):
            some = pairs[start : start + CHUNK_ITEMS]
            prompts = [item.prompt for item in some for _ in item.sides]
            each_MN = ensemble.score(prompts, [side.text for item in some for side in item.sides]).each_MN
            if not np.isfinite(each_MN).all():
                bad = some[int(np.nonzero(~np.isfinite(each_MN))[1][0]) // 2].name
                raise DataError(f"a reward model gives item '{bad}' a reward that is not finite: leave out that model")
            for index, item in enumerate(some):
                rewards[item.name] = (each_MN[:, 2 * index].tolist(), each_MN[:, 2 * index + 1].tolist())
            bar.advance(len(some))
    return rewards


def _entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Of a coin with chances p and q = 1 - p, in nats; both are given, for 1 - p rounds a small one away."""
    from scipy.special import entr

    return entr(p) + entr(q)
