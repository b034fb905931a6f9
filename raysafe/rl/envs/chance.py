"""Chance as a function of a key and a counter (SplitMix64: Steele, Lea & Flood 2014), in [0, 1).

The n-th draw of an episode doesn't depend on how the first n - 1 were made: one copy of an environment or a thousand
stepped at once, or an episode in the middle of a run played again, all get the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = (1 << 64) - 1


def uniform(key: int, draw: int) -> float:
    """The draw of that number, from 0, of the sequence that belongs to a key in [0, 2^64)."""
    mixed = (key + (draw + 1) * GOLDEN) & MASK
    mixed = ((mixed ^ (mixed >> 30)) * FIRST) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * SECOND) & MASK
    return ((mixed ^ (mixed >> 31)) >> 11) * 2.0**-53


def uniforms(keys_N: NDArray[np.uint64], draws_N: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The same for N keys, bit for bit."""
    mixed = keys_N + (draws_N + np.uint64(1)) * np.uint64(GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(SECOND)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def key_of(generator: np.random.Generator) -> int:
    """The key of a copy's chance, from the generator that gymnasium seeds."""
    return int(generator.integers(1 << 63))


def fresh_seed() -> int:
    """A seed for who gave none, so that the episode can still be played again."""
    return int(np.random.SeedSequence().generate_state(1)[0]) >> 1
