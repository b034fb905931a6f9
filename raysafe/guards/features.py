"""Hashed n-grams of characters and words, vectorised over bytes: the features of the linear text guard.

Text is folded first (case, look-alike letters, invisible characters), so that a disguise changes few features. Each
feature has the position where it begins, so that one pass gives the sums of any windows. Work is linear in the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from raysafe.guards.unicode import IGNORED, fold

BITS = 17
"""Features are hashed to 2^BITS buckets."""
ORDERS = (3, 4, 5)
"""Lengths of the character n-grams, in bytes of the folded text."""
LONGEST_WORD = 24
_PRIME = np.uint32(0x01000193)
_MIX = np.uint32(0x9E3779B1)
_HALF, _UNUSED = np.uint32(15), np.uint32(32 - BITS)
_SALTS = {order: np.uint32(0x85EBCA6B * order & 0xFFFFFFFF) for order in (*ORDERS, 1, 2)}
_POWERS = np.array([pow(0x01000193, k, 1 << 32) for k in range(LONGEST_WORD + 1)], dtype=np.uint32)
_SPACE = ord(" ")
_ASCII = bytes(_SPACE if byte < 33 or byte == 127 else byte + 32 if 65 <= byte <= 90 else byte for byte in range(256))
_IN_WORD = np.zeros(256, dtype=bool)
_IN_WORD[[*range(48, 58), *range(97, 123), *range(128, 256)]] = True


class _Folded(dict[int, str]):
    """Characters to what they read as; filled as they turn up."""

    def __missing__(self, codepoint: int) -> str:
        character = chr(codepoint)
        symbols = character.lower() if codepoint < 128 else fold(character).replace(IGNORED, "").lower()
        if len(self) < 20_000:
            self[codepoint] = symbols
        return symbols


_FOLDED = _Folded()


def latin(text: str) -> str:
    """The text with letters that look like Latin ones replaced by them, and without what can't be seen."""
    return text if text.isascii() else text.translate(_FOLDED)


@lru_cache(maxsize=8)
def folded(text: str) -> np.ndarray:
    """uint8 bytes of the text in lower case, without what can't be seen, with one space for each run of white space.

    Read-only: several guards fold one text, so the last ones are kept.
    """
    encoded = latin(text).encode("utf-8", "replace").translate(_ASCII)
    bytes_N = np.frombuffer(b" " + encoded + b" ", dtype=np.uint8)
    space_N = bytes_N == _SPACE
    if not (space_N[1:] & space_N[:-1]).any():
        return bytes_N
    keep_N = np.ones(bytes_N.size, dtype=bool)
    np.logical_not(space_N[1:] & space_N[:-1], out=keep_N[1:])
    kept_N = bytes_N[keep_N]
    kept_N.flags.writeable = False
    return kept_N


def hashed(bytes_N: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (positions, buckets): character n-grams of each order, then words, then pairs of neighbouring words."""
    wide_N = bytes_N.astype(np.uint32)
    rolling_N, reached = wide_N, 1
    for order in ORDERS:
        while reached < order:
            rolling_N = rolling_N[:-1] * _PRIME + wide_N[reached:]
            reached += 1
        if rolling_N.size:
            yield np.arange(rolling_N.size), _bucket(rolling_N, order)
    starts_W, words_W = words(bytes_N)
    if words_W.size:
        yield starts_W, _bucket(words_W, 1)
    if words_W.size > 1:
        yield starts_W[:-1], _bucket(words_W[:-1] * _MIX + words_W[1:], 2)


def words(bytes_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the words of a folded text begin, and the uint32 hash of each; bytes after a word's 24th count alike."""
    inside_N = _IN_WORD[bytes_N]
    begins_N = inside_N.copy()
    np.greater(inside_N[1:], inside_N[:-1], out=begins_N[1:])
    starts_W = begins_N.nonzero()[0]
    if starts_W.size == 0:
        return starts_W, np.zeros(0, dtype=np.uint32)
    at_N = np.arange(bytes_N.size)
    place_N = np.minimum(at_N - np.maximum.accumulate(at_N * begins_N), LONGEST_WORD)
    terms_N = bytes_N.astype(np.uint32)
    terms_N *= _POWERS.take(place_N)
    terms_N *= inside_N
    return starts_W, np.add.reduceat(terms_N, starts_W, dtype=np.uint32)


def _bucket(values: np.ndarray, kind: int) -> np.ndarray:
    mixed = values ^ _SALTS[kind]
    mixed *= _MIX
    mixed ^= mixed >> _HALF
    mixed *= _MIX
    mixed >>= _UNUSED
    return mixed


def windows(length: int, size: int) -> list[tuple[int, int]]:
    """Overlapping spans of `size` positions, half a size apart, the last ending where the text does."""
    if length <= size:
        return [(0, length)]
    starts = [*range(0, length - size, size // 2), length - size]
    return [(start, start + size) for start in starts]
