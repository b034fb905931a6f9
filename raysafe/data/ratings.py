"""Preference pairs from rated texts: two texts whose ratings differ enough, the higher rated one chosen."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from raysafe.data.places import like
from raysafe.data.schema import SCHEMAS
from raysafe.errors import ConfigError, DataError


def ratings_to_pairs(table: pa.Table, *, min_gap: float, pairs_per_text: int, seed: int = 0) -> pa.Table:
    """Preferences with an empty prompt. Split the texts first: a text must not be in two parts.

    Each text is offered `pairs_per_text` random partners, and is offered to as many, so that it is in twice as many
    pairs at most; those that differ by `min_gap` stay. Pairs are distinct; `margin` is the ratings' gap. There is at
    least one pair where the highest and the lowest rating differ enough; else raises DataError. `row` names the longer
    text, which is the one that a message about length means.
    """
    if not min_gap > 0 or pairs_per_text < 1:
        raise ConfigError(f"min_gap must be above 0 and pairs_per_text 1 or more, got {min_gap} and {pairs_per_text}")
    ratings_N = table["rating"].to_numpy()
    texts = table["text"].to_pylist()
    rng = np.random.default_rng(seed)
    seen: set[tuple[int, int]] = set()
    for _ in range(pairs_per_text):
        for a, b in enumerate(rng.permutation(len(texts)).tolist()):
            if abs(ratings_N[a] - ratings_N[b]) >= min_gap and texts[a] != texts[b]:
                seen.add((a, b) if ratings_N[a] > ratings_N[b] else (b, a))
    if len(texts) and not seen:
        # few texts may draw no partner that differs enough, where there is one
        low, high = int(ratings_N.argmin()), int(ratings_N.argmax())
        if ratings_N[high] - ratings_N[low] >= min_gap and texts[high] != texts[low]:
            seen.add((high, low))
    if len(texts) and not seen:
        raise DataError(f"no two of {len(texts)} texts differ by {min_gap} in rating: lower min_gap")
    places = table["row"].to_pylist() if "row" in table.column_names else range(1, len(texts) + 1)
    rows = [
        {
            "prompt": [],
            "chosen": texts[a],
            "rejected": texts[b],
            "margin": ratings_N[a] - ratings_N[b],
            "row": places[max(a, b, key=lambda i: len(texts[i]))],
        }
        for a, b in sorted(seen)
    ]
    return like(pa.Table.from_pylist(rows, schema=SCHEMAS["preferences"].arrow), table)
