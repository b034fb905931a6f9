"""R-hat and effective sample sizes against series of known autocorrelation, and against ArviZ 0.8's figures."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.errors import DataError
from raysafe.irl.bayes.diagnostics import diagnose, effective_sample_size, ess_bulk, ess_tail, r_hat


def autoregressive(correlation: float, chains: int, draws: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """(chains, draws) of a stationary normal series; draws of such are worth (1 - c) / (1 + c) of independent ones."""
    noise_CN = (rng or np.random.default_rng(7)).normal(size=(chains, draws))
    series_CN = noise_CN.copy()
    series_CN[:, 0] /= np.sqrt(1 - correlation**2)
    for moment in range(1, draws):
        series_CN[:, moment] += correlation * series_CN[:, moment - 1]
    return series_CN


@pytest.mark.parametrize("correlation", [-0.3, 0.0, 0.5, 0.9])
def test_the_effective_sample_size_of_a_known_series(correlation: float) -> None:
    series_CN = autoregressive(correlation, 4, 5000)
    known = series_CN.size * (1 - correlation) / (1 + correlation)
    assert effective_sample_size(series_CN) == pytest.approx(known, rel=0.15)
    assert ess_bulk(series_CN) == pytest.approx(known, rel=0.15)


def test_figures_are_those_of_arviz() -> None:
    """ArviZ 0.8 (arviz_stats.base.array_stats) on the same series, which come one after the other from one seed."""
    rng = np.random.default_rng(7)
    series = [
        autoregressive(0.6, 4, 500, rng),
        autoregressive(-0.3, 4, 501, rng),
        np.exp(autoregressive(0.9, 2, 400, rng)),
        autoregressive(0.5, 4, 300, rng) + np.arange(4)[:, None] * 0.5,
    ]
    expected = [
        (1.0065582280691132, 425.00043715652487, 1049.1176852495753),
        (1.001974557182233, 4221.571541232975, 2022.5706915009898),
        (1.0883227083245406, 21.80970330906236, 71.33604306260811),
        (1.120562183665564, 23.96784747369428, 399.5872648857136),
    ]
    for one, (expected_r_hat, bulk, tail) in zip(series, expected, strict=True):
        assert (r_hat(one), ess_bulk(one), ess_tail(one)) == pytest.approx((expected_r_hat, bulk, tail), rel=1e-9)


def test_chains_that_differ_in_place_or_in_width_have_not_met() -> None:
    series_CN = autoregressive(0.0, 4, 500)
    assert r_hat(series_CN) < 1.01
    assert r_hat(series_CN + np.arange(4)[:, None]) > 1.1
    assert r_hat(series_CN * np.array([1, 1, 1, 3])[:, None]) > 1.05
    assert r_hat(np.arange(4.0)[:, None] * np.ones(10)) == np.inf


def test_a_diagnosis_has_mean_spread_and_quantiles() -> None:
    found = diagnose(2 + autoregressive(0.0, 4, 5000))
    assert (found.mean, found.sd) == pytest.approx((2, 1), abs=0.03)
    assert (found.low, found.high) == pytest.approx((2 - 1.645, 2 + 1.645), abs=0.05)
    with pytest.raises(DataError, match="4 or more"):
        diagnose(np.zeros((2, 3)))
