"""Comparisons as a few arrays, for checkpoints: thousands of small ones would cost more than what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysafe.data.comparisons import Comparison
from raysafe.data.trajectories import Trajectory

_UNKNOWN = np.nan


def packed(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Arrays end to end, with the steps of each side; rewards that aren't known are nan."""
    if not comparisons:
        return {"steps": np.zeros(0, dtype=np.int64)}
    sides = [side for found in comparisons for side in (found.a, found.b)]
    return {
        "steps": np.array([len(side) for side in sides]),
        "obs": np.concatenate([side.obs_T1D for side in sides if side.obs_T1D is not None]),
        "actions": np.concatenate([side.actions_T for side in sides]),
        "rewards": np.concatenate(
            [np.full(len(side), _UNKNOWN) if side.rewards_T is None else side.rewards_T for side in sides]
        ),
        "terminated": np.array([side.terminated for side in sides]),
        "preferences": np.array([found.preference for found in comparisons]),
        "raters": [found.rater for found in comparisons],
    }


def unpacked(state: dict[str, Any]) -> list[Comparison]:
    """The reverse of `packed`."""
    steps_N = np.asarray(state["steps"])
    if not len(steps_N):
        return []
    ends_N = np.cumsum(steps_N)
    sides = []
    for number, (end, steps) in enumerate(zip(ends_N.tolist(), steps_N.tolist(), strict=True)):
        rewards_T: NDArray[np.float64] = np.asarray(state["rewards"])[end - steps : end]
        # each side has one observation more than steps
        last = end + number + 1
        sides.append(
            Trajectory(
                actions_T=np.asarray(state["actions"])[end - steps : end],
                obs_T1D=np.asarray(state["obs"])[last - steps - 1 : last],
                rewards_T=None if np.isnan(rewards_T).any() else rewards_T,
                terminated=bool(np.asarray(state["terminated"])[number]),
            )
        )
    preferences = np.asarray(state["preferences"]).tolist()
    return [
        Comparison(a, b, preference, rater)
        for a, b, preference, rater in zip(sides[0::2], sides[1::2], preferences, state["raters"], strict=True)
    ]
