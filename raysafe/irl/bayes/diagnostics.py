"""Whether chains have met, and how many independent draws they are worth (Vehtari, Gelman, Simpson, Carpenter and
Buerkner 2021). Draws are (chains, draws)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from raysafe.errors import DataError
from raysafe.rl.mdp import Floats


@dataclass(frozen=True)
class Diagnosis:
    """Of one quantity."""

    mean: float
    sd: float
    low: float
    """5% quantile."""
    high: float
    """95% quantile."""
    r_hat: float
    """1 where chains agree; above 1.01 they need more draws."""
    ess_bulk: float
    ess_tail: float


def diagnose(draws_CN: Floats) -> Diagnosis:
    """Raises DataError for fewer than 4 draws a chain, or numbers that aren't finite."""
    if draws_CN.ndim != 2 or draws_CN.shape[1] < 4 or not np.isfinite(draws_CN).all():
        raise DataError(f"diagnostics need finite draws (chains, 4 or more), got shape {draws_CN.shape}")
    low, high = np.quantile(draws_CN, (0.05, 0.95))
    return Diagnosis(
        float(draws_CN.mean()),
        float(draws_CN.std()),
        float(low),
        float(high),
        r_hat(draws_CN),
        ess_bulk(draws_CN),
        ess_tail(draws_CN),
    )


def r_hat(draws_CN: Floats) -> float:
    """Rank-normalised split R-hat: the larger of the draws' own and of their distances from the median (section 4)."""
    halves_CN = split(draws_CN)
    folded_CN = np.abs(halves_CN - np.median(halves_CN))
    return max(_r_hat(normal_scores(halves_CN)), _r_hat(normal_scores(folded_CN)))


def ess_bulk(draws_CN: Floats) -> float:
    """Effective sample size for the middle of the distribution, of rank-normalised draws."""
    return effective_sample_size(normal_scores(split(draws_CN)))


def ess_tail(draws_CN: Floats) -> float:
    """The smaller effective sample size of the 5% and 95% quantiles."""
    quantiles = np.quantile(draws_CN, (0.05, 0.95))
    return min(effective_sample_size(split((draws_CN <= quantile).astype(float))) for quantile in quantiles)


def split(draws_CN: Floats) -> Floats:
    """Each chain as two, (2 C, N // 2); an odd draw in the middle is left out."""
    half = draws_CN.shape[1] // 2
    return np.concatenate([draws_CN[:, :half], draws_CN[:, -half:]])


def normal_scores(draws_CN: Floats) -> Floats:
    """Normal quantiles of the pooled ranks (equation 14)."""
    ranks_CN = rankdata(draws_CN, method="average").reshape(draws_CN.shape)
    return ndtri((ranks_CN - 0.375) / (draws_CN.size + 0.25))


def effective_sample_size(draws_CN: Floats) -> float:
    """Draws divided by the autocorrelation time, by Geyer's (1992) initial monotone sequence (section 3.2); draws that
    never change count as one each. At most N log10 N."""
    chains, count = draws_CN.shape
    covariances_CN = _autocovariances(draws_CN)
    variances_C = covariances_CN[:, 0] * count / (count - 1)
    within = variances_C.mean()
    pooled = within * (count - 1) / count
    if chains > 1:
        pooled += draws_CN.mean(axis=1).var(ddof=1)
    if pooled <= np.finfo(float).tiny:
        return float(draws_CN.size)
    correlations_N = 1 - (within - covariances_CN.mean(axis=0)) / pooled
    correlations_N[0] = 1.0
    pairs = correlations_N[: (count - 1) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    # of the pair that ends the sequence the first half counts once, where it is positive
    end = int(negative[0]) if negative.size else len(pairs) - 1
    time = -1 + 2 * np.minimum.accumulate(pairs[:end]).sum() + max(0.0, correlations_N[2 * end])
    return float(draws_CN.size / max(time, 1 / np.log10(draws_CN.size)))


def _r_hat(draws_CN: Floats) -> float:
    count = draws_CN.shape[1]
    within = draws_CN.var(axis=1, ddof=1).mean()
    between = draws_CN.mean(axis=1).var(ddof=1)
    if within == 0:
        return 1.0 if between == 0 else float("inf")
    return float(np.sqrt((count - 1) / count + between / within))


def _autocovariances(draws_CN: Floats) -> Floats:
    """(C, N), each divided by N, by fast Fourier transform."""
    count = draws_CN.shape[1]
    centred_CN = draws_CN - draws_CN.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred_CN, n=2 * count, axis=1)
    return np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, :count] / count
