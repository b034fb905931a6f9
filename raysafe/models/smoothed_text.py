"""Certified text classification by random masking of words (Zeng et al. 2021; Levine and Feizi 2020 for the bound).

The base classifier sees a text with all but k of its h words masked; the smoothed one is its majority vote over which k
are kept. Whoever replaces d words changes only votes that keep one of them: a share of 1 - C(h-d, k) / C(h, k). So a
label with probability p keeps its majority where p - that share > 1/2. The certificate is for replaced words: it says
nothing of words that are added or taken away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np

from raysafe.errors import ConfigError, ModelError
from raysafe.models.smoothed import check_samples, lower_bound

MASK = "[MASK]"
Votes = Callable[[Sequence[str]], np.ndarray]
"""Texts to the class of each, whole numbers (N,)."""
_WORDS = re.compile(r"\S+")


@dataclass(frozen=True)
class TextCertificate:
    """`label` None: abstained. `words`: how many of the text's words may be replaced without changing the label."""

    label: int | None
    words: int
    p_low: float
    of: int
    """Words of the text."""


class MaskedVote:
    """The smoothed classifier: `votes` on texts that keep a share `keep` of their words."""

    def __init__(self, votes: Votes, *, keep: float = 0.3, mask: str = MASK, batch: int = 64) -> None:
        if not 0 < keep < 1 or batch < 1:
            raise ConfigError(f"keep must lie between 0 and 1 and batch be at least 1, got {keep:g} and {batch}")
        self.votes, self.keep, self.mask, self.batch = votes, keep, mask, batch

    def certify(
        self, text: str, *, rng: np.random.Generator, selection: int = 50, samples: int = 500, alpha: float = 0.01
    ) -> TextCertificate:
        """Wrong with probability at most alpha over the draws, whose state a text's author must not know."""
        check_samples(selection, samples, alpha)
        words = _WORDS.findall(text)
        first_N = self._cast(words, selection, rng)
        label = int(np.bincount(first_N).argmax())
        p_low = lower_bound(int((self._cast(words, samples, rng) == label).sum()), samples, alpha)
        if p_low <= 0.5:
            return TextCertificate(None, 0, p_low, len(words))
        certified = certified_words(p_low, len(words), kept_words(len(words), self.keep))
        return TextCertificate(label, certified, p_low, len(words))

    def _cast(self, words: list[str], samples: int, rng: np.random.Generator) -> np.ndarray:
        found = []
        for start in range(0, samples, self.batch):
            texts = [self.masked(words, rng) for _ in range(min(self.batch, samples - start))]
            votes_N = np.asarray(self.votes(texts))
            if votes_N.shape != (len(texts),) or votes_N.dtype.kind not in "iu" or (votes_N < 0).any():
                raise ModelError(
                    f"a base classifier must give each text the number of a class, from 0; for {len(texts)} texts it "
                    f"gave {votes_N.dtype} of shape {votes_N.shape}"
                )
            found.append(votes_N)
        return np.concatenate(found)

    def masked(self, words: list[str], rng: np.random.Generator) -> str:
        """The text with all but the kept words masked; a mask stands for each of them."""
        if not words:
            return ""
        kept_N = np.zeros(len(words), dtype=bool)
        kept_N[rng.choice(len(words), kept_words(len(words), self.keep), replace=False)] = True
        return " ".join(word if kept else self.mask for word, kept in zip(words, kept_N, strict=True))


def kept_words(words: int, keep: float) -> int:
    """How many words of a text are kept: at least one."""
    return min(words, max(1, round(keep * words)))


def certified_words(p_low: float, words: int, kept: int) -> int:
    """The most words that may be replaced: the largest d with p_low - changed_share > 1/2 (0 where p_low <= 1/2).

    In fractions, without rounding; d stays below ln 2 * words / kept, so that no text makes this slow.
    """
    replaced, spare = 0, Fraction(p_low) - Fraction(1, 2)
    for replaced, share in enumerate(_changed_shares(words, kept), start=1):
        if spare <= share:
            return replaced - 1
    return replaced


def changed_share(words: int, kept: int, replaced: int) -> Fraction:
    """The probability that a kept word is one of those replaced: 1 - C(h - d, k) / C(h, k)."""
    return next(islice(_changed_shares(words, kept), replaced - 1, None)) if replaced else Fraction(0)


def _changed_shares(words: int, kept: int) -> Iterator[Fraction]:
    """Of 1, 2, … replaced words: the ratio of the binomials gains the factor (h - k - i) / (h - i)."""
    unchanged = Fraction(1)
    for index in range(words):
        unchanged *= Fraction(max(0, words - kept - index), words - index)
        yield 1 - unchanged
