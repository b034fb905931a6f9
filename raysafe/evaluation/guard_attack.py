"""An adaptive attacker on guards: random search over compositions of transforms, so many tries a prompt.

It sees the score of each try and keeps the lowest. Nothing checks that a model would still understand the disguised
prompt, so the recall that is left is a lower bound on what such an attacker leaves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from raysafe.evaluation.guard_scores import Advance, Judged
from raysafe.guards.transforms import apply, compose


@dataclass(frozen=True)
class Attacked:
    """lowest_PT: each prompt's lowest score after each try; stopped_PT: whether the policy stopped all tries so far.

    best: the composition of each prompt's lowest score.
    """

    lowest_PT: np.ndarray
    stopped_PT: np.ndarray
    best: tuple[tuple[str, ...], ...]


def attack(
    judge: Callable[[str], Judged],
    prompts: Sequence[str],
    *,
    tries: int = 200,
    seed: int = 0,
    advance: Advance = lambda done: None,
) -> Attacked:
    """The first try is the prompt as it is. A prompt's tries depend on the seed and its text, not on the others."""
    lowest_PT = np.ones((len(prompts), tries))
    stopped_PT = np.ones((len(prompts), tries), dtype=bool)
    best: list[tuple[str, ...]] = []
    for number, prompt in enumerate(prompts):
        rng = random.Random(f"{seed} {prompt}")
        chosen: tuple[str, ...] = ()
        lowest, stopped = 2.0, True
        for attempt in range(tries):
            names = compose(rng) if attempt else ("plain",)
            judged = judge(apply(names, prompt, seed=rng.randrange(2**31)))
            if judged.score < lowest:
                lowest, chosen = judged.score, names
            stopped = stopped and judged.stopped
            lowest_PT[number, attempt], stopped_PT[number, attempt] = lowest, stopped
            if lowest == 0 and not stopped:
                # it can't get lower
                lowest_PT[number, attempt:], stopped_PT[number, attempt:] = 0, False
                break
        best.append(chosen)
        advance(1)
    return Attacked(lowest_PT, stopped_PT, tuple(best))
