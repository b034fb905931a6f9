"""P-values of several tests at once: Bonferroni, Holm (1979), and Westfall and Young's (1993) step-down maximum."""

from __future__ import annotations

from typing import Literal

import numpy as np

from raysafe.generalization.shift_statistics import Floats

Correction = Literal["bonferroni", "holm", "westfall-young"]


def bonferroni(p_D: Floats) -> Floats:
    """Adjusted p-values, valid however the tests depend on one another."""
    return np.minimum(1.0, len(p_D) * np.asarray(p_D, float))


def holm(p_D: Floats) -> Floats:
    """Adjusted p-values, as valid as Bonferroni's and never larger."""
    p_D = np.asarray(p_D, float)
    order_D = np.argsort(p_D, kind="stable")
    stepped_D = np.maximum.accumulate((len(p_D) - np.arange(len(p_D))) * p_D[order_D])
    adjusted_D = np.empty(len(p_D))
    adjusted_D[order_D] = np.minimum(1.0, stepped_D)
    return adjusted_D


def westfall_young(statistics_PD: Floats) -> Floats:
    """Adjusted p-values of D statistics from their permutations, whose first row is what was observed.

    The step-down maximum (algorithm 4.1 without resampling's centring): exact where all hypotheses hold, as it keeps
    how the features depend on one another, which Bonferroni and Holm don't.
    """
    order_D = np.argsort(-statistics_PD[0], kind="stable")
    # from the weakest feature to the strongest, the largest so far
    ordered_PD = statistics_PD[:, order_D[::-1]]
    largest_PD = np.maximum.accumulate(ordered_PD, axis=1)[:, ::-1]
    reached_D = (largest_PD >= statistics_PD[0, order_D]).mean(axis=0)
    adjusted_D = np.empty(len(order_D))
    adjusted_D[order_D] = np.maximum.accumulate(reached_D)
    return adjusted_D
