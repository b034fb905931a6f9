"""Adversarial suffixes, such as greedy coordinate gradient writes (Zou et al. 2023), by how unlike text they are.

The worst window of 80 characters counts: its surprise in bits a character under a table of character trigrams, and the
share of words in it that no text held. It is the windowed perplexity filter of Jain et al. (2023) with letters in
place of a model's tokens: far cheaper, and blinder. It knows English; scripts other than Latin are not judged.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field
from scipy.special import expit

from raysafe.guards.letters import OTHER, Letters, packaged, symbols
from raysafe.guards.scored import ScoredConfig, ScoredGuard
from raysafe.guards.settings import NOTHING, Resources

WINDOW, WORDS = 80, 12
FEWEST = 20
"""Shorter texts are not judged: a name or a number has no statistics."""
BITS_SCALE = 5.0
FOREIGN_SHARE = 0.3
SLOPE, CENTRE = 6.8, 1.5
"""Score = sigmoid(SLOPE (oddity - CENTRE)): 0.83 for the oddest 2 in 1,000 of the benign prompts that it was set on."""


class GibberishConfig(ScoredConfig):
    """`kind: gibberish` of a policy."""

    kind: Literal["gibberish"] = "gibberish"
    name: str = Field(default="gibberish", min_length=1)
    threshold: float = Field(default=0.9, gt=0, le=1, description="Score from which the guard acts.")

    def build(self, resources: Resources = NOTHING) -> GibberishGuard:
        return GibberishGuard(self)


class GibberishGuard(ScoredGuard):
    """Scores the oddest passage of a text."""

    def __init__(self, config: GibberishConfig) -> None:
        super().__init__(config, config.threshold, "a passage reads as no text")
        self._letters = packaged()

    def score(self, text: str) -> float:
        return float(expit(SLOPE * (oddity(self._letters, text) - CENTRE)))


def oddity(letters: Letters, text: str) -> float:
    """Bits a character / 5 in the most surprising window, plus the share of unknown words in the one with most."""
    return surprise(letters, text) / BITS_SCALE + unknown_share(letters, text)


def surprise(letters: Letters, text: str) -> float:
    """Mean bits a character of the most surprising window; 0 for a text too short or in another script."""
    bits_N = letters.bits(text)
    if bits_N.size < FEWEST:
        return 0.0
    means_W = _means(bits_N, WINDOW)
    foreign_W = _means((symbols(text)[2:] == OTHER).astype(np.float64), WINDOW)
    return float(np.where(foreign_W > FOREIGN_SHARE, 0.0, means_W).max())


def unknown_share(letters: Letters, text: str) -> float:
    """Unknown words among 12 neighbouring ones, at most; a text with fewer counts as filled up with known ones."""
    starts_W, unknown_W = letters.unknown(text)
    if starts_W.size == 0 or _foreign(text):
        return 0.0
    size = min(WORDS, unknown_W.size)
    return float(_means(unknown_W.astype(np.float64), size, step=1).max()) * size / WORDS


def _foreign(text: str) -> bool:
    return float((symbols(text) == OTHER).mean()) > FOREIGN_SHARE


def _means(values_N: np.ndarray, size: int, step: int | None = None) -> np.ndarray:
    """Means of the windows of `size` values, a quarter of it or `step` apart, the last at the end."""
    size = min(size, values_N.size)
    sums_N = np.concatenate(([0.0], values_N.cumsum()))
    starts_W = np.append(np.arange(0, values_N.size - size, step or max(1, size // 4)), values_N.size - size)
    return (sums_N[starts_W + size] - sums_N[starts_W]) / size
