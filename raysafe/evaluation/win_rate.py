"""win-rate: the model and another model answer the same prompts, and a judge says whose answer is better.

Every pair is judged in both orders; where the verdict depends on the order it is a tie, and is counted as inconsistent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raysafe.evaluation.functions import Comparison, Messages, checked_preference
from raysafe.evaluation.suites import Figure, Findings
from raysafe.records.statistics import exact_binomial, wilson_interval
from raysafe.runtime.functions import is_function, load_function

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob

Judge = Callable[[Sequence[Messages], Sequence[str], Sequence[str]], list[float]]
"""(prompts, first answers, second answers) -> 1, 0.5 or 0 for each pair."""


def examine(job: EvaluateJob) -> Findings:
    """Answer, judge twice, count."""
    from raysafe.data.readers import read
    from raysafe.evaluation.answers import answer
    from raysafe.models.language import model_digest

    assert job.reference is not None and job.judge is not None  # EvaluateJob checked both
    dataset = read(job.data, "prompts", skip_bad_rows=job.skip_bad_rows, limit=job.limit)
    prompts = dataset.table["prompt"].to_pylist()
    models = {job.reference: model_digest(job.reference)}
    if is_function(job.judge):
        judge = function_judge(load_function(job.judge, "judge"), job.judge)
    else:
        models[job.judge] = model_digest(job.judge)
        judge = reward_judge(job)
    ours, theirs = answer(job, job.model, dataset.table), answer(job, job.reference, dataset.table)
    scores, consistent = swap_consistent(judge, prompts, ours, theirs)
    rows = [
        {"prompt": prompt[-1]["content"], "score": score, "answer": our, "other answer": other}
        for prompt, score, our, other in zip(prompts, scores, ours, theirs, strict=True)
    ]
    summary = {
        "wins": scores.count(1.0),
        "ties": scores.count(0.5),
        "losses": scores.count(0.0),
        "inconsistent": consistent.count(False),
        "equal answers": sum(our == other for our, other in zip(ours, theirs, strict=True)),
    }
    return Findings(figures(scores, consistent), rows, summary, dataset.digest, models)


def function_judge(compare: Comparison, name: str) -> Judge:
    """Judge pair by pair with a user's function; above 0.5 wins, below loses."""

    def judge(prompts: Sequence[Messages], first: Sequence[str], second: Sequence[str]) -> list[float]:
        values = [checked_preference(compare(*pair), name) for pair in zip(prompts, first, second, strict=True)]
        return [0.5 + 0.5 * float(np.sign(value - 0.5)) for value in values]

    return judge


def reward_judge(job: EvaluateJob) -> Judge:
    """Judge by a reward model's scores; equal scores tie. An answer is scored once, whatever its place."""
    known: dict[tuple[str, str], float] = {}

    def judge(prompts: Sequence[Messages], first: Sequence[str], second: Sequence[str]) -> list[float]:
        from raysafe.evaluation.rewards import rewards

        assert job.judge is not None
        cases = [*zip(prompts, first, strict=True), *zip(prompts, second, strict=True)]
        keys = [(json.dumps(prompt), answer) for prompt, answer in cases]
        new = {key: case for key, case in zip(keys, cases, strict=True) if key not in known}
        if new:
            table = pa.table({"prompt": [p for p, _ in new.values()], "completion": [a for _, a in new.values()]})
            known.update(zip(new, rewards(job, job.judge, table).tolist(), strict=True))
        scores_2B = np.array([known[key] for key in keys])
        return (0.5 + 0.5 * np.sign(scores_2B[: len(prompts)] - scores_2B[len(prompts) :])).tolist()

    return judge


def swap_consistent(
    judge: Judge, prompts: Sequence[Messages], ours: Sequence[str], theirs: Sequence[str]
) -> tuple[list[float], list[bool]]:
    """(score of ours: 1, 0.5 or 0; whether both orders agreed) for each pair."""
    forward = judge(prompts, ours, theirs)
    backward = [1.0 - value for value in judge(prompts, theirs, ours)]
    consistent = [a == b for a, b in zip(forward, backward, strict=True)]
    return [a if agreed else 0.5 for a, agreed in zip(forward, consistent, strict=True)], consistent


def figures(scores: Sequence[float], consistent: Sequence[bool]) -> list[Figure]:
    """Win rate (ties one half), its exact binomial p-value against 0.5, share of order-dependent verdicts."""
    n = len(scores)
    rate = wilson_interval(sum(scores), n)
    swayed = wilson_interval(sum(not agreed for agreed in consistent), n)
    return [
        Figure("win_rate", rate.value, n, rate.interval),
        Figure("p_value", exact_binomial(sum(scores), n), n, better="lower"),
        Figure("inconsistent_rate", swayed.value, n, swayed.interval, better="lower"),
    ]
