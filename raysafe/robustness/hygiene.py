"""Whether an evaluation of robustness can be believed: the signs of gradient masking (Carlini et al. 2019).

A model whose gradients say nothing looks robust to attacks that follow them. It is told by attacks that should be
stronger and find less, by a huge ball that breaks nothing, and by losses without any slope.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import binomtest

from raysafe.robustness.evaluate import RobustnessSettings

P_VALUE = 0.01
"""How unlikely chance must make a stronger attack's falling behind; there are several comparisons."""
MOST_LEFT, MOST_FLAT = 0.05, 0.05
"""Shares that may stay right in a huge ball, and that may lie where the loss has no slope."""


@dataclass(frozen=True)
class Check:
    """One sign, what was found, and whether it is a warning."""

    name: str
    found: str
    warning: bool


def checks(columns: Mapping[str, Any], settings: RobustnessSettings) -> list[Check]:
    """Every sign, from the columns of evaluate.measure; none where no sample was checked."""
    chosen_N = np.asarray(columns["checked"], dtype=bool)
    if not chosen_N.any():
        return []
    wrong_N = (np.asarray(columns["predicted"]) != np.asarray(columns["label"]))[chosen_N]
    broken = {
        name.partition("/")[2]: np.asarray(values, dtype=bool)[chosen_N]
        for name, values in columns.items()
        if name.startswith("check/")
    }
    strong = f"at {settings.epsilon:g}"
    found = [
        Check(
            "an attack within epsilon 0 changes nothing",
            f"accuracy {_right(broken['zero'])} there, {_right(wrong_N)} without an attack",
            bool((broken["zero"] != wrong_N).any()),
        ),
        Check(
            "a huge epsilon leaves nothing right",
            f"accuracy {_right(broken['large'])}, at most {MOST_LEFT:.0%} is expected",
            float((~broken["large"]).mean()) > MOST_LEFT,
        ),
        Check(
            "the loss has a slope at every sample",
            f"none at {broken['flat'].mean():.1%} of the samples",
            float(broken["flat"].mean()) > MOST_FLAT,
        ),
        _stronger("many steps break more than one", broken[strong], broken["one_step"]),
        _stronger("more steps break no less", broken["more_steps"], broken[strong]),
        _stronger("following the gradient breaks more than random points", broken[strong], broken["noise"]),
    ]
    if "transfer" in broken:
        found.append(
            _stronger("the model's own gradient breaks more than the other model's", broken[strong], broken["transfer"])
        )
    radii = settings.curve
    for smaller, larger in pairwise(radii):
        name = f"epsilon {larger:g} breaks no less than {smaller:g}"
        found.append(_stronger(name, broken[f"at {larger:g}"], broken[f"at {smaller:g}"]))
    return found


def _stronger(name: str, stronger_N: np.ndarray, weaker_N: np.ndarray) -> Check:
    """A warning where the weaker one breaks more than the stronger, beyond chance (one-sided sign test of McNemar)."""
    only_weaker, only_stronger = int((weaker_N & ~stronger_N).sum()), int((stronger_N & ~weaker_N).sum())
    apart = only_weaker + only_stronger
    p_value = float(binomtest(only_weaker, apart, 0.5, alternative="greater").pvalue) if apart else 1.0
    text = f"accuracy {_right(stronger_N)} against {_right(weaker_N)}"
    if only_weaker:
        text += f"; {only_weaker} broken by the weaker one alone (p = {p_value:.2g})"
    return Check(name, text, p_value < P_VALUE)


def _right(broken_N: np.ndarray) -> str:
    return f"{(~broken_N).mean():.1%}"
