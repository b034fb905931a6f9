"""Randomised smoothing (Cohen, Rosenfeld and Kolter 2019): a classifier's majority vote under Gaussian noise.

With probability 1 - alpha over the noise, the certified label is the smoothed classifier's for every input within the
radius in the Euclidean norm: sigma * Phi^-1(p), p a lower bound on the label's probability (their algorithm CERTIFY).
For images, embeddings, or any vector that a base classifier takes; certificates of texts are in smoothed_text.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import beta, binomtest, norm
from torch import Tensor

from raysafe.errors import ConfigError, ModelError

Classifier = Callable[[Tensor], Tensor]
"""Inputs (N, …) to one score a class, (N, K), such as a torch module in eval mode."""


@dataclass(frozen=True)
class SmoothedCertificate:
    """`label` None: abstained. `radius`: of the ball in which the label holds, 0 where it abstained."""

    label: int | None
    radius: float
    p_low: float
    """Lower confidence bound on the probability of the label that the selection found likeliest."""


class SmoothedClassifier:
    """The base classifier under noise of standard deviation `sigma`, in the units of the input."""

    def __init__(self, base: Classifier, sigma: float, *, batch: int = 256, device: str = "cpu") -> None:
        if not sigma > 0 or batch < 1:
            raise ConfigError(f"sigma must be above 0 and batch at least 1, got {sigma:g} and {batch}")
        self.base, self.sigma, self.batch, self.device = base, sigma, batch, torch.device(device)

    def certify(
        self, x: Tensor, *, generator: torch.Generator, selection: int = 100, samples: int = 1000, alpha: float = 0.001
    ) -> SmoothedCertificate:
        """Of one input, without a batch axis. The samples that choose the label have no part in its bound.

        generator: on the classifier's device; an input's author must not know its state.
        """
        check_samples(selection, samples, alpha)
        label = int(self.counts(x, selection, generator).argmax())
        hits = int(self.counts(x, samples, generator)[label])
        p_low = lower_bound(hits, samples, alpha)
        if p_low <= 0.5:
            return SmoothedCertificate(None, 0.0, p_low)
        return SmoothedCertificate(label, self.sigma * float(norm.ppf(p_low)), p_low)

    def predict(self, x: Tensor, *, generator: torch.Generator, samples: int = 100, alpha: float = 0.001) -> int | None:
        """The smoothed label, wrong with probability at most alpha, or None (their algorithm PREDICT).

        The two commonest labels are compared by a two-sided binomial test (Hung and Fithian 2019).
        """
        check_samples(samples, samples, alpha)
        counts_K = self.counts(x, samples, generator)
        first, second = np.argsort(counts_K, kind="stable")[::-1][:2]
        test = binomtest(int(counts_K[first]), int(counts_K[first] + counts_K[second]), 0.5)
        return int(first) if test.pvalue <= alpha else None

    @torch.inference_mode()
    def counts(self, x: Tensor, samples: int, generator: torch.Generator) -> np.ndarray:
        """How often each class wins under noise, (K,)."""
        x = x.to(self.device)
        counts_K = np.zeros(0, dtype=np.int64)
        for start in range(0, samples, self.batch):
            size = min(self.batch, samples - start)
            noise = torch.randn((size, *x.shape), generator=generator, device=self.device, dtype=x.dtype)
            scores_NK = self.base(x + self.sigma * noise)
            if scores_NK.ndim != 2 or scores_NK.shape[0] != size or scores_NK.shape[1] < 2:
                raise ModelError(
                    f"a base classifier must give each input a score for each of two or more classes, (N, K); for "
                    f"{size} inputs it gave shape {tuple(scores_NK.shape)}"
                )
            if not torch.isfinite(scores_NK).all():
                raise ModelError("the base classifier's scores are not finite: lower sigma or mend the model")
            won_K = np.bincount(scores_NK.argmax(dim=1).cpu().numpy(), minlength=scores_NK.shape[1])
            counts_K = won_K if start == 0 else counts_K + won_K
        return counts_K


def lower_bound(hits: int, samples: int, alpha: float) -> float:
    """One-sided lower 1 - alpha confidence bound on a binomial probability (Clopper and Pearson 1934)."""
    return float(beta.ppf(alpha, hits, samples - hits + 1)) if hits else 0.0


def check_samples(selection: int, samples: int, alpha: float) -> None:
    """Raise ConfigError for numbers that no certificate can come of."""
    if selection < 1 or samples < 1 or not 0 < alpha < 1:
        raise ConfigError(
            f"selection and samples must be at least 1 and alpha between 0 and 1, got {selection}, {samples}, {alpha:g}"
        )
    if lower_bound(samples, samples, alpha) <= 0.5:
        raise ConfigError(
            f"{samples} samples can't certify anything at alpha {alpha:g}, whatever they say: take at least "
            f"{int(np.log(alpha) / np.log(0.5)) + 1}"
        )
