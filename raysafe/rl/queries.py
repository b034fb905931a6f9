"""Which fragments to ask about: pairs on which the reward ensemble disagrees most, spread over what was seen.

Disagreement as in feedback/active.py (Christiano et al. 2017, section 2.2.4; BALD, Houlsby et al. 2011). The most
uncertain pairs are often nearly the same question; among them those far from each other are taken (Bıyık and Sadigh
2018, greedy selection).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raysafe.data.trajectories import Trajectory
from raysafe.feedback.active import MEASURES
from raysafe.rl.fragments import random_pairs
from raysafe.rl.learned_reward import QueryConfig
from raysafe.rl.preference_model import PreferenceModel

Pair = tuple[Trajectory, Trajectory]


def choose(
    config: QueryConfig,
    fragments: Sequence[Trajectory],
    count: int,
    model: PreferenceModel | None,
    draw: np.random.Generator,
) -> list[Pair]:
    """Up to `count` pairs; random ones as long as there is no model."""
    if config.choice == "random" or model is None:
        return random_pairs(fragments, count, draw)
    pairs = random_pairs(fragments, count * config.candidates, draw)
    if len(pairs) <= count:
        return pairs
    returns_MN = model.returns([side for pair in pairs for side in pair])
    uncertainty_N = MEASURES[config.choice](returns_MN[:, 0::2], returns_MN[:, 1::2])
    first = np.argsort(-uncertainty_N, kind="stable")
    if not config.diverse:
        return [pairs[i] for i in first[:count]]
    some = first[: 2 * count]
    looks_ND = np.stack([_look(model, *pairs[i]) for i in some])
    return [pairs[some[i]] for i in spread_out(looks_ND, count)]


def spread_out(points_ND: NDArray[np.floating], count: int) -> list[int]:
    """Greedy k-centre: the first point, then each time the one farthest from those taken (Gonzalez 1985)."""
    taken = [0]
    nearest_N = np.linalg.norm(points_ND - points_ND[0], axis=1)
    while len(taken) < min(count, len(points_ND)):
        nearest_N[taken] = -1.0
        taken.append(int(nearest_N.argmax()))
        nearest_N = np.minimum(nearest_N, np.linalg.norm(points_ND - points_ND[taken[-1]], axis=1))
    return taken


def _look(model: PreferenceModel, a: Trajectory, b: Trajectory) -> NDArray[np.floating]:
    """The difference of the sides' mean steps, normalised, without a sign: the same question either way round."""
    return np.abs(model.normalised(a).mean(axis=0) - model.normalised(b).mean(axis=0))
