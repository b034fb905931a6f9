"""preference-accuracy: on held-out pairs, does the model prefer the chosen answer?

A policy's implicit reward is log p(answer) under it less that under its reference (Rafailov et al. 2023, eq. 5); a
reward model's is its score. Ties count one half. Two baselines that only look at length judge the same pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raysafe.errors import ConfigError
from raysafe.evaluation.suites import Figure, Findings
from raysafe.records.statistics import PairedTest, exact_binomial, paired_bootstrap, wilson_interval

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob


def examine(job: EvaluateJob) -> Findings:
    """Score both answers of every pair and compare with chance and with the length baselines."""
    from raysafe.data.readers import read
    from raysafe.evaluation.rewards import implicit_rewards, is_reward_model, pair_rewards
    from raysafe.models.language import model_digest

    dataset = read(job.data, "preferences", skip_bad_rows=job.skip_bad_rows, limit=job.limit)
    models = {}
    if is_reward_model(job.model):
        if job.reference is not None:
            raise ConfigError(f"reference has no effect: {job.model} is a reward model, leave it out")
        pairs = dataset.table
        chosen_B, rejected_B = pair_rewards(job, pairs)
    else:
        if job.reference is None:
            raise ConfigError(f"{job.model} is a policy: set reference to the model that it was trained from")
        models[job.reference] = model_digest(job.reference)
        pairs, chosen_B, rejected_B = implicit_rewards(job, dataset.table)
    scores_B = prefers(chosen_B, rejected_B)
    answers = list(zip(pairs["chosen"].to_pylist(), pairs["rejected"].to_pylist(), strict=True))
    lengths_B2 = np.array([[len(chosen), len(rejected)] for chosen, rejected in answers], dtype=np.int64)
    figures, summary = compare(scores_B, prefers(-lengths_B2[:, 0], -lengths_B2[:, 1]))
    summary["pairs left out"] = dataset.table.num_rows - pairs.num_rows
    rows = [
        {
            "prompt": prompt[-1]["content"] if prompt else "",
            "prefers chosen": score,
            "reward of chosen": round(float(chosen_reward), 6),
            "reward of rejected": round(float(rejected_reward), 6),
            "chosen": chosen,
            "rejected": rejected,
        }
        for prompt, score, chosen_reward, rejected_reward, (chosen, rejected) in zip(
            pairs["prompt"].to_pylist(), scores_B.tolist(), chosen_B, rejected_B, answers, strict=True
        )
    ]
    return Findings(figures, rows, summary, dataset.digest, models)


def prefers(chosen_B: np.ndarray, rejected_B: np.ndarray) -> np.ndarray:
    """1 where the chosen answer scores higher, 0 where the rejected one does, 0.5 where they tie; (B,)."""
    return 0.5 + 0.5 * np.sign(np.asarray(chosen_B, np.float64) - np.asarray(rejected_B, np.float64))


def compare(scores_B: np.ndarray, shorter_B: np.ndarray) -> tuple[list[Figure], dict[str, object]]:
    """Figures and tests of per-pair scores against chance and the two length baselines.

    scores_B, shorter_B: 1, 0.5 or 0 for each pair; the baseline that prefers the longer answer is 1 - shorter_B.
    """
    n = len(scores_B)
    accuracy = wilson_interval(float(scores_B.sum()), n)
    shorter, longer = wilson_interval(float(shorter_B.sum()), n), wilson_interval(float(n - shorter_B.sum()), n)
    over_shorter, over_longer = paired_bootstrap(scores_B, shorter_B), paired_bootstrap(scores_B, 1 - shorter_B)
    p_value = exact_binomial(float(scores_B.sum()), n)
    figures = [
        Figure("accuracy", accuracy.value, n, accuracy.interval),
        Figure("p_value", p_value, n, better="lower"),
        Figure("shorter_baseline", shorter.value, n, shorter.interval),
        Figure("longer_baseline", longer.value, n, longer.interval),
        Figure("over_shorter", over_shorter.difference, n, (over_shorter.low, over_shorter.high)),
        Figure("over_longer", over_longer.difference, n, (over_longer.low, over_longer.high)),
        Figure("tied", float(np.mean(scores_B == 0.5)), n, better="lower"),
    ]
    summary = {
        "p_value": {"value": p_value, "method": "exact binomial against 0.5, ties one half, rounded down"},
        "over_shorter": _described(over_shorter),
        "over_longer": _described(over_longer),
    }
    return figures, summary


def _described(test: PairedTest) -> dict[str, object]:
    return {"difference": test.difference, "p_value": test.p_value, "n": test.n, "method": test.method}
