"""How surprising a text's letters are: a packaged table of character trigrams and known words, learned from real text.

Surprise is in bits a character, as a language model's perplexity is 2 to its power a token. The table is a byte for
each trigram of 64 symbols: 8 times its bits, from counts smoothed by the bigram's and the letter's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from raysafe.errors import ModelError
from raysafe.guards.features import folded, words

TABLE = "letters.safetensors"
SYMBOLS = 64
SCALE = 8.0
"""Units of the table in one bit."""
SHA256 = "f1834cfcb94da055a4c088fbcf0f1e9b754cff4418ccae0a9b8c61ed85ea5170"
_KNOWN_PUNCTUATION = "\n.,;:!?'\"()-/"


def _symbol(byte: int) -> int:
    """a-z are 1 to 26, A-Z 27 to 52 less z's, and the rest by kind; 0 is a space."""
    character = chr(byte)
    if character in " \t":
        return 0
    if "a" <= character <= "z":
        return byte - 96
    if "A" <= character <= "Z":
        return 27 + min(byte - 65, 20)
    if "0" <= character <= "9":
        return 48
    if character in _KNOWN_PUNCTUATION:
        return 49 + _KNOWN_PUNCTUATION.index(character)
    return 62 if byte < 128 else 63


_SYMBOL = np.array([_symbol(byte) for byte in range(256)], dtype=np.int64)
OTHER = SYMBOLS - 1
"""Bytes of letters that aren't English ones."""


def symbols(text: str) -> np.ndarray:
    """The symbol of each byte, with a space before the first."""
    raw = np.frombuffer(b" " + text.encode("utf-8", "replace"), dtype=np.uint8)
    return _SYMBOL[raw]


@dataclass(frozen=True)
class Letters:
    """costs: uint8 [64^3], SCALE times the bits of a trigram's last symbol; known: sorted uint32 hashes of words."""

    costs: np.ndarray
    known: np.ndarray

    def bits(self, text: str) -> np.ndarray:
        """Surprise of each symbol after the first two, in bits; empty for a text of one character."""
        at_N = symbols(text)
        if at_N.size < 3:
            return np.zeros(0)
        place_N = at_N[:-2] * SYMBOLS
        place_N += at_N[1:-1]
        place_N *= SYMBOLS
        place_N += at_N[2:]
        return self.costs.take(place_N) / SCALE

    def unknown(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Where each word of the folded text begins, and whether it is none of the known ones."""
        starts_W, words_W = words(folded(text))
        place_W = np.minimum(np.searchsorted(self.known, words_W), self.known.size - 1)
        return starts_W, self.known[place_W] != words_W

    def save(self) -> bytes:
        from safetensors.numpy import save

        return save({"costs": self.costs, "known": self.known})


def learn(texts: Iterable[str], fewest: int = 2, most_words: int = 30_000) -> Letters:
    """The table of these texts: interpolated trigrams, and the words that `fewest` texts or more hold."""
    trigrams = np.zeros(SYMBOLS**3)
    holding: dict[int, int] = {}
    for text in texts:
        at_N = symbols(text)
        if at_N.size >= 3:
            runs = (at_N[:-2] * SYMBOLS + at_N[1:-1]) * SYMBOLS + at_N[2:]
            trigrams += np.bincount(runs, minlength=SYMBOLS**3)
        for word in np.unique(words(folded(text))[1]).tolist():
            holding[word] = holding.get(word, 0) + 1
    counts = trigrams.reshape(SYMBOLS, SYMBOLS, SYMBOLS)
    pairs, singles = counts.sum(axis=0), counts.sum(axis=(0, 1))
    one = (singles + 0.5) / (singles + 0.5).sum()
    two = (pairs + 16 * one) / (pairs.sum(axis=1, keepdims=True) + 16)
    three = (counts + 8 * two[None]) / (counts.sum(axis=2, keepdims=True) + 8)
    costs = np.clip(np.round(-np.log2(three) * SCALE), 0, 255).astype(np.uint8).reshape(-1)
    common = sorted((word for word, count in holding.items() if count >= fewest), key=lambda word: -holding[word])
    return Letters(costs, np.sort(np.array(common[:most_words], dtype=np.uint32)))


@lru_cache(maxsize=1)
def packaged() -> Letters:
    """The table that comes with the package; raises ModelError where it was changed."""
    from safetensors.numpy import load

    raw = files("raysafe.guards").joinpath("data", TABLE).read_bytes()
    if hashlib.sha256(raw).hexdigest() != SHA256:
        raise ModelError(f"raysafe/guards/data/{TABLE} isn't the table of this version: install the package again")
    tensors = load(raw)
    return Letters(tensors["costs"], tensors["known"])
