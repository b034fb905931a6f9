"""Does a prediction hold if nothing that matters changes? Other seeds of the training, and small changes of the input.

Seeds: predictive multiplicity (Marx et al. 2020): ambiguity and discrepancy; churn (Milani Fard et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Inputs = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Multiplicity:
    """How models that differ in their training's seed alone differ in what they predict; of the first of them."""

    churn: float
    """Mean over pairs of the share of cases that they label differently."""
    ambiguity: float
    """Share of cases that some other model labels otherwise than the first."""
    discrepancy: float
    """The largest share that one other model labels otherwise than the first."""
    chance: float
    """The churn of models with these accuracies whose errors had nothing to do with each other, at the least."""
    disputed_N: NDArray[np.bool_]
    """The cases of the ambiguity."""


def multiplicity(predicted_MN: Labels, y_N: Labels) -> Multiplicity:
    """Of M >= 2 models' labels of the same cases."""
    if len(predicted_MN) < 2:
        raise ValueError(f"models are compared with one another: give 2 or more, got {len(predicted_MN)}")
    pairs = [(a, b) for a in range(len(predicted_MN)) for b in range(a)]
    other_MN = predicted_MN[1:] != predicted_MN[0]
    accuracy_M = (predicted_MN == y_N).mean(axis=1)
    chance = np.mean([accuracy_M[a] * (1 - accuracy_M[b]) + accuracy_M[b] * (1 - accuracy_M[a]) for a, b in pairs])
    return Multiplicity(
        churn=float(np.mean([(predicted_MN[a] != predicted_MN[b]).mean() for a, b in pairs])),
        ambiguity=float(other_MN.any(axis=0).mean()),
        discrepancy=float(other_MN.mean(axis=1).max()),
        chance=float(chance),
        disputed_N=other_MN.any(axis=0),
    )


def image_changes(
    noise: float, brightness: float, pixels: int
) -> dict[str, Callable[[Inputs, np.random.Generator], Inputs]]:
    """Small changes of images in [0, 1] by what they do: none of them makes another picture for a person."""

    def within(x_NCHW: NDArray[np.floating]) -> Inputs:
        return np.clip(x_NCHW, 0, 1).astype(np.float32)

    def moved(down: int, right: int) -> Callable[[Inputs, np.random.Generator], Inputs]:
        return lambda x_NCHW, _: shifted(x_NCHW, down, right)

    return {
        f"noise {noise:g}": lambda x, rng: within(x + noise * rng.standard_normal(x.shape)),
        f"brighter by {brightness:g}": lambda x, _: within(x + brightness),
        f"darker by {brightness:g}": lambda x, _: within(x - brightness),
        f"contrast lower by {brightness:g}": lambda x, _: within((1 - brightness) * x),
        f"moved left by {pixels}": moved(0, -pixels),
        f"moved right by {pixels}": moved(0, pixels),
        f"moved up by {pixels}": moved(-pixels, 0),
        f"moved down by {pixels}": moved(pixels, 0),
    }


def feature_changes(
    noise: float, deviations_D: NDArray[np.floating]
) -> dict[str, Callable[[Inputs, np.random.Generator], Inputs]]:
    """Noise on each feature, in shares of its standard deviation."""

    def noisy(x_ND: Inputs, rng: np.random.Generator) -> Inputs:
        return (x_ND + noise * deviations_D * rng.standard_normal(x_ND.shape)).astype(np.float32)

    return {f"noise of {noise:g} standard deviations": noisy}


def shifted(x_NCHW: Inputs, down: int, right: int) -> Inputs:
    """Moved by whole pixels; what comes in is black."""
    height, width = x_NCHW.shape[2:]
    moved = np.zeros_like(x_NCHW)
    rows, columns = max(height - abs(down), 0), max(width - abs(right), 0)
    from_top, from_left = max(-down, 0), max(-right, 0)
    to_top, to_left = max(down, 0), max(right, 0)
    moved[:, :, to_top : to_top + rows, to_left : to_left + columns] = x_NCHW[
        :, :, from_top : from_top + rows, from_left : from_left + columns
    ]
    return moved
