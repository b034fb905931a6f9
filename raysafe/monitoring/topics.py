"""What a text is about, as a vector of numbers: words hashed to buckets with signs (Weinberger et al. 2009).

The vectors of an endpoint's texts drift when its topics do: a detector of the kind `mmd` compares their distribution
with the calibration's. Nothing can be read out of them: a bucket holds thousands of words.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import xxhash
from numpy.typing import NDArray

BUCKETS = 64
_WORD = re.compile(r"[^\W\d_]{3,24}")
"""Letters only; shorter ones say little of a topic."""


def topic_vector(text: str, buckets: int = BUCKETS) -> NDArray[np.float64]:
    """The text's words in `buckets` signed sums, of length 1, (buckets,); zeros where it has no words.

    A word counts with the logarithm of one more than its occurrences, so that one that is repeated doesn't drown the
    others.
    """
    if buckets < 2:
        raise ValueError(f"a topic vector needs 2 buckets or more, got {buckets}")
    sums = np.zeros(buckets)
    for word, occurrences in Counter(_WORD.findall(text.lower())).items():
        digest = xxhash.xxh32_intdigest(word.encode())
        sums[(digest >> 1) % buckets] += np.log1p(occurrences) * (1 if digest & 1 else -1)
    length = float(np.sqrt(sums @ sums))
    return sums / length if length else sums
