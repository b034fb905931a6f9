"""Which item a rater sees next, and which of its sides first: pure functions of a seed and of what is done."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

Order = Literal["given", "random", "active"]
Which = Literal["a", "b"]


def first_side(seed: int, rater: str, item: str) -> Which:
    """The side that stands first: even chances, and the same again for the same rater and item."""
    return "a" if _uniform(seed, "first", rater, item) < 0.5 else "b"


def ranked(names: Sequence[str], order: Order, *, seed: int, disagreement: Mapping[str, float]) -> list[str]:
    """The items' names in the order in which they are wanted.

    Active: most disagreement first; items of which none is known come last, as given.
    """
    if order == "random":
        return sorted(names, key=lambda name: _uniform(seed, "random", name))
    if order == "active":
        return sorted(names, key=lambda name: -disagreement.get(name, -math.inf))
    return list(names)


def shared_by_all(names: Sequence[str], overlap: float, *, seed: int) -> set[str]:
    """The items that every rater judges: a share `overlap` of them, drawn at random, so that agreement is measured."""
    drawn = sorted(names, key=lambda name: _uniform(seed, "overlap", name))
    return set(drawn[: math.ceil(overlap * len(names))])


def left_for(
    names: Sequence[str], *, done: Collection[str], counts: Mapping[str, int], shared: Collection[str], wanted: int
) -> list[str]:
    """Items still to be judged by one rater, fewest judgements first and in the order of `names` among equals.

    done: what the rater has judged or skipped; counts: judgements by all, without skips; wanted: judgements that an
    item needs, the shared ones aside, which need one of each rater and so count as not judged.
    """
    left = [name for name in names if name not in done and (name in shared or counts.get(name, 0) < wanted)]
    return sorted(left, key=lambda name: 0 if name in shared else counts.get(name, 0))


def _uniform(seed: int, *words: str) -> float:
    """A number in [0, 1) that depends on seed and words alone."""
    text = "\0".join((str(seed), *words))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56
