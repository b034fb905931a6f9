"""A model's answers to a suite's prompts, one each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from raysafe.models.generate.answers import answer_prompts
from raysafe.models.generate.engine import SamplingParams

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob


def answer(job: EvaluateJob, model: str, prompts: pa.Table) -> list[str]:
    """One answer a prompt, in order. prompts: rows with `prompt` as chat messages."""
    sampling = SamplingParams(max_tokens=job.max_new_tokens, temperature=job.temperature, seed=job.seed)
    name = model.rstrip("/").rsplit("/", 1)[-1]
    answers = answer_prompts(
        model,
        prompts,
        sampling,
        needs=job.needs,
        description=f"answers of {name}",
        chat_template=job.chat_template,
        address=job.address,
    )
    return [texts[0] for texts in answers]
