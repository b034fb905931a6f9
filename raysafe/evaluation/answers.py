"""A model's answers to prompts, generated in Ray tasks; the same answers however many tasks share the prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob


@dataclass(frozen=True)
class Answerer:
    """A picklable function from a table of prompts to the same table with `answer`."""

    model: str
    max_new_tokens: int
    temperature: float
    micro_tokens: int
    chat_template: str | None
    seed: int

    def __call__(self, table: pa.Table) -> pa.Table:
        from raysafe.models.chat import encode
        from raysafe.models.generate.engine import SamplingParams
        from raysafe.models.generate.transformers_engine import TransformersEngine

        engine = TransformersEngine(self.model, chat_template=self.chat_template)
        prompts = [encode(engine.tokenizer, messages)[0] for messages in table["prompt"].to_pylist()]
        sampling = SamplingParams(max_tokens=self.max_new_tokens, temperature=self.temperature, seed=self.seed)
        answers = [generation.text for generation in engine.generate(prompts, sampling)]
        return table.append_column("answer", pa.array(answers, pa.string()))


def answer(job: EvaluateJob, model: str, prompts: pa.Table) -> list[str]:
    """One answer a prompt, in order."""
    from raysafe.runtime.pool import parallel_map

    work = Answerer(model, job.max_new_tokens, job.temperature, job.micro_tokens, job.chat_template, job.seed)
    table = parallel_map(
        work,
        prompts,
        shards=job.workers,
        cpus=job.cpus_per_worker,
        gpus=job.gpus_per_worker,
        description=f"answers of {model.rstrip('/').rsplit('/', 1)[-1]}",
    )
    return table["answer"].to_pylist()
