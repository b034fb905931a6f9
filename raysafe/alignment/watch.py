"""Over-optimisation, watched: how far the policy went, what variety is left, and whether reward and gold part.

A proxy reward that is optimised long enough stops meaning what it stood for (Gao et al. 2023). Every validation answers
the same prompts, so its figures compare with those of the starting model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from raysafe.alignment.experience import Samples
from raysafe.config import Config

SURE = 2.0
"""Standard errors that make a fall of the gold score certain enough to warn of."""


class WatchConfig(Config):
    """When a run has gone too far. A broken limit ends it, and the best checkpoint within the limits is kept."""

    max_kl: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Most KL to the reference, in nats a token."
    )
    min_distinct: float | None = Field(
        default=None, gt=0, le=1, description="Least distinct-2, as a share of the starting model's."
    )
    max_perplexity: float | None = Field(
        default=None, gt=1, allow_inf_nan=False, description="Most perplexity under the reference, in starting ones."
    )
    patience: int | None = Field(
        default=None, ge=1, description="Stop after this many validations without a better figure."
    )
    stop_on_parting: bool = Field(
        default=False, description="Stop where the reward rises while the gold score falls, instead of warning."
    )

    def broken(self, now: dict[str, float], start: dict[str, float]) -> list[str]:
        """A sentence for each limit that the figures of a validation break; start: those before the first step."""
        sentences = []
        if self.max_kl is not None and now["kl"] > self.max_kl:
            sentences.append(f"KL is {now['kl']:.3f} nats a token, watch.max_kl is {self.max_kl:g}")
        for name, figure, limit, sign in (
            ("min_distinct", "distinct_2", self.min_distinct, 1),
            ("max_perplexity", "perplexity", self.max_perplexity, -1),
        ):
            if limit is not None and sign * (now[figure] - limit * start[figure]) < 0:
                share = now[figure] / start[figure]
                sentences.append(f"{figure} is {share:.2f} times the starting model's, watch.{name} is {limit:g}")
        return sentences


def distinct(answers: Sequence[Sequence[int]], n: int) -> float:
    """Different n-grams as a share of all n-grams, within answers (Li et al. 2016); 0 where there are none."""
    grams = [tuple(answer[i : i + n]) for answer in answers for i in range(len(answer) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def sample_figures(samples: Samples) -> dict[str, float]:
    """What a batch of scored answers looks like: scores, KL in nats a token, entropy, perplexity, variety, length."""
    lengths_C = samples.lengths_C
    answers = [answer.tolist() for answer in samples.answers]
    reference_N, rollout_N = samples.tokens["ref_logps"], samples.rollout_logps_N
    figures = {name: float(score_C.mean()) for name, score_C in samples.scores.items()}
    figures["reward_std"] = float(samples.scores["reward"].std())
    return figures | {
        "kl": float((rollout_N - reference_N).mean()),
        # of tokens that were drawn, -log p is an unbiased estimate
        "entropy": float(-rollout_N.mean()),
        "perplexity": math.exp(min(50.0, -float(reference_N.mean()))),
        "distinct_1": distinct(answers, 1),
        "distinct_2": distinct(answers, 2),
        "length": float(lengths_C.mean()),
        "complete": float(samples.complete_C.mean()),
    }


def parting(history: Sequence[dict[str, float]]) -> str | None:
    """A sentence where the reward went on rising after the gold score had its best, from which it has surely fallen.

    history: validations in order, with reward, gold and gold_error, the standard error of its mean.
    """
    if len(history) < 2 or "gold" not in history[-1]:
        return None
    now, best = history[-1], max(history, key=lambda figures: figures["gold"])
    fall = best["gold"] - now["gold"]
    if now["reward"] > best["reward"] and fall > SURE * math.hypot(best["gold_error"], now["gold_error"]):
        return (
            f"the reward rose from {best['reward']:.3g} to {now['reward']:.3g} since step {best['step']:.0f} while the "
            f"gold score fell from {best['gold']:.3g} to {now['gold']:.3g}: the policy exploits the reward; raise "
            "kl_coefficient, or train a reward model on such answers"
        )
    return None


def standard_error(values_C: np.ndarray) -> float:
    """Of a mean; 0 for a single value."""
    return float(values_C.std(ddof=1) / math.sqrt(len(values_C))) if len(values_C) > 1 else 0.0


def rows_of(samples: Samples, prompts: Sequence[Any], most: int) -> list[dict[str, Any]]:
    """The first answers of a validation as rows to read."""
    return [
        {
            "prompt": prompts[int(group)][-1]["content"],
            "answer": text,
            **{name: round(float(score_C[place]), 4) for name, score_C in samples.scores.items()},
        }
        for place, (group, text) in enumerate(zip(samples.group_C[:most], samples.texts[:most], strict=True))
    ]
