"""The statistics that suites and comparisons state: intervals for proportions and means, exact and paired tests.

Thin functions over scipy, so that every figure in a report names the same method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A value with its two-sided confidence interval."""

    value: float
    low: float
    high: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        return (self.low, self.high)


@dataclass(frozen=True)
class PairedTest:
    """Two systems on the same cases: `difference` is the mean of first minus second."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int
    method: str


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval (1927) of a proportion. `successes` may hold halves, for ties counted as one half."""
    from scipy.stats import norm

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = float(norm.ppf(0.5 + confidence / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # the ends are exact where rounding would leave 1e-18
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == n else min(1.0, float(centre + half))
    return Estimate(share, low, high, n)


def difference_interval(first: tuple[float, int], second: tuple[float, int], confidence: float = 0.95) -> Estimate:
    """First minus second proportion, each (successes, n), with Newcombe's hybrid score interval (1998, method 10).

    n counts both samples. Made for small ones: it never leaves -1 to 1, nor shrinks to a point at 0 or 1.
    """
    a, b = wilson_interval(*first, confidence), wilson_interval(*second, confidence)
    difference = a.value - b.value
    low = difference - float(np.hypot(a.value - a.low, b.high - b.value))
    high = difference + float(np.hypot(a.high - a.value, b.value - b.low))
    return Estimate(difference, low, high, a.n + b.n)


def exact_binomial(successes: float, n: int, chance: float = 0.5, alternative: str = "greater") -> float:
    """p-value of the exact binomial test. A half success is rounded down, which never helps the claim."""
    from scipy.stats import binomtest

    return float(binomtest(int(np.floor(successes)), n, chance, alternative=alternative).pvalue)


def mean_interval(values: Values, confidence: float = 0.95) -> Estimate:
    """Mean of independent values (such as seeds) with Student's t interval; needs two values or more."""
    from scipy.stats import t

    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2:
        raise ValueError(f"an interval of a mean needs 2 values or more, got {sample.size}")
    mean, error = float(sample.mean()), float(sample.std(ddof=1) / np.sqrt(sample.size))
    half = float(t.ppf(0.5 + confidence / 2, sample.size - 1)) * error
    return Estimate(mean, mean - half, mean + half, int(sample.size))


def paired_t(first: Values, second: Values, confidence: float = 0.95) -> PairedTest:
    """Student's paired t test: is the mean of first minus second zero? Two-sided."""
    from scipy.stats import t

    a, b = _paired(first, second)
    estimate = mean_interval(a - b, confidence)
    error = float((a - b).std(ddof=1) / np.sqrt(a.size))
    if error == 0:
        p_value = 1.0 if estimate.value == 0 else 0.0
    else:
        p_value = float(2 * t.sf(abs(estimate.value) / error, a.size - 1))
    return PairedTest(estimate.value, estimate.low, estimate.high, p_value, int(a.size), "paired t")


def welch(first: Values, second: Values, confidence: float = 0.95) -> PairedTest:
    """Welch's t test of two independent samples: do their means differ? Two-sided; n counts both samples."""
    from scipy.stats import ttest_ind

    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    difference = float(a.mean() - b.mean())
    if a.std() == 0 and b.std() == 0:
        return PairedTest(difference, difference, difference, float(difference == 0), a.size + b.size, "Welch's t")
    found: Any = ttest_ind(a, b, equal_var=False)
    low, high = found.confidence_interval(confidence)
    return PairedTest(difference, float(low), float(high), float(found.pvalue), a.size + b.size, "Welch's t")


def paired_bootstrap(
    first: Values, second: Values, *, samples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> PairedTest:
    """Efron's percentile bootstrap over the pairs; the two-sided p-value is read off the same resamples.

    first, second: one score a case, in the same order.
    """
    a, b = _paired(first, second)
    difference = a - b
    rng = np.random.default_rng(seed)
    block = max(1, 2_000_000 // difference.size)
    sizes = [min(block, samples - start) for start in range(0, samples, block)]
    means = np.concatenate(
        [difference[rng.integers(0, difference.size, (size, difference.size))].mean(axis=1) for size in sizes]
    )
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    tail = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p_value = min(1.0, 2 * (tail + 1) / (samples + 1))
    return PairedTest(float(difference.mean()), float(low), float(high), p_value, int(a.size), "paired bootstrap")


def mcnemar(first: Values, second: Values, confidence: float = 0.95) -> PairedTest:
    """McNemar's exact test: do two systems, right or wrong on the same cases, differ? Two-sided; Wald interval."""
    from scipy.stats import binomtest, norm

    a, b = _paired(first, second)
    only_first, only_second = int(np.sum((a > 0) & (b == 0))), int(np.sum((a == 0) & (b > 0)))
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    n = int(a.size)
    difference = (only_first - only_second) / n
    half = float(norm.ppf(0.5 + confidence / 2)) * np.sqrt(max(discordant / n - difference**2, 0.0) / n)
    return PairedTest(difference, float(difference - half), float(difference + half), p_value, n, "McNemar exact")


def _paired(first: Values, second: Values) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"a paired test needs two equally long, non-empty lists, got {a.size} and {b.size}")
    return a, b
