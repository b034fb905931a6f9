"""Certificates of smoothed classifiers hold against exact probabilities, at the confidence that they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm
from torch import Tensor

from raysafe.errors import ConfigError, ModelError
from raysafe.models.smoothed import SmoothedCertificate, SmoothedClassifier, lower_bound


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(x_N2: Tensor) -> Tensor:
    """Class 1 where 3 x + 4 y > 0: its boundary's distance is (3 x + 4 y) / 5."""
    margins_N = x_N2 @ torch.tensor([3.0, 4.0])
    return torch.stack([-margins_N, margins_N], dim=1)


@pytest.mark.parametrize(("hits", "samples"), [(0, 10), (1, 10), (7, 10), (999, 1000), (1000, 1000)])
def test_the_bound_is_scipys_exact_interval(hits: int, samples: int) -> None:
    expected = binomtest(hits, samples, alternative="greater").proportion_ci(0.99, method="exact").low
    assert lower_bound(hits, samples, 0.01) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.77, 0.99])
@pytest.mark.parametrize("samples", [10, 200])
def test_the_bound_lies_above_the_truth_with_probability_alpha_at_most(p: float, samples: int) -> None:
    wrong = sum(binom.pmf(hits, samples, p) for hits in range(samples + 1) if lower_bound(hits, samples, 0.05) > p)
    assert wrong <= 0.05


@pytest.mark.parametrize("distance", [0.2, 0.5, 1.0])
def test_a_linear_classifiers_radius_nears_the_distance_to_its_boundary(distance: float) -> None:
    x = distance * torch.tensor([0.6, 0.8])
    found = SmoothedClassifier(linear, 0.5).certify(x, generator=generator(), samples=100_000)
    assert found.label == 1 and found.p_low <= norm.cdf(distance / 0.5)
    # p nears 1 for distances of two sigma, where a bound says less
    assert distance * 0.93 < found.radius <= distance


def test_no_point_within_the_radius_has_another_label() -> None:
    """Class 1 on [-1, 1] and [3, 4]: the smoothed probability is exact by Phi, at every point of the ball."""

    def base(x_N1: Tensor) -> Tensor:
        inside = ((x_N1 > -1) & (x_N1 < 1)) | ((x_N1 > 3) & (x_N1 < 4))
        return torch.cat([~inside, inside], dim=1).float()

    def exact(x: np.ndarray) -> np.ndarray:
        ends = [(-1, 1), (3, 4)]
        return sum((norm.cdf((high - x) / 0.6) - norm.cdf((low - x) / 0.6) for low, high in ends), np.zeros_like(x))

    smoothed, certified = SmoothedClassifier(base, 0.6), 0
    for number, x in enumerate(np.linspace(-3, 6, 37)):
        found = smoothed.certify(torch.tensor([float(x)]), generator=generator(number), samples=2000)
        if found.label is not None:
            ball = exact(np.linspace(x - found.radius, x + found.radius, 201))
            assert ((ball > 0.5) == (found.label == 1)).all()
            certified += 1
    assert certified > 20


def test_the_samples_that_choose_the_label_do_not_bound_it() -> None:
    seen = 0

    def turncoat(x: Tensor) -> Tensor:
        nonlocal seen
        seen += len(x)
        return torch.tensor([[1.0, 0.0] if seen <= 100 else [0.0, 1.0]]).expand(len(x), 2)

    found = SmoothedClassifier(turncoat, 1.0, batch=100).certify(torch.zeros(2), generator=generator())
    assert found == SmoothedCertificate(None, 0.0, 0.0) and seen == 1100


def test_at_its_boundary_it_abstains_and_predicts_nothing() -> None:
    smoothed = SmoothedClassifier(linear, 0.5)
    assert smoothed.certify(torch.zeros(2), generator=generator()).label is None
    assert smoothed.predict(torch.zeros(2), generator=generator()) is None
    assert smoothed.predict(torch.ones(2), generator=generator()) == 1


def test_the_batch_changes_no_certificate() -> None:
    x = torch.tensor([0.2, 0.1])
    one, other = (SmoothedClassifier(linear, 0.5, batch=b).counts(x, 1000, generator()) for b in (1000, 64))
    assert one.sum() == other.sum() == 1000 and abs(one[1] - other[1]) < 60


def test_images_keep_their_shape() -> None:
    def bright(x_NCHW: Tensor) -> Tensor:
        assert x_NCHW.shape[1:] == (3, 4, 4)
        means_N = x_NCHW.flatten(1).mean(1)
        return torch.stack([-means_N, means_N], dim=1)

    assert SmoothedClassifier(bright, 0.25).certify(torch.ones(3, 4, 4), generator=generator()).label == 1


def test_what_is_no_classifier_is_refused() -> None:
    for scores in (torch.zeros(100, 1), torch.zeros(100), torch.full((100, 2), torch.nan)):
        with pytest.raises(ModelError):
            SmoothedClassifier(lambda x, s=scores: s[: len(x)], 1.0).certify(torch.zeros(2), generator=generator())


def test_settings_that_can_certify_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"9 samples can't certify anything at alpha 0.001, .* at least 10"):
        SmoothedClassifier(linear, 1.0).certify(torch.zeros(2), generator=generator(), samples=9)
    SmoothedClassifier(linear, 1.0).certify(torch.zeros(2), generator=generator(), samples=10)
    with pytest.raises(ConfigError, match="sigma must be above 0"):
        SmoothedClassifier(linear, 0.0)
