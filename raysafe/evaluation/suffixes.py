"""suffixes: how often a suffix that gradients find makes a language model begin its answer as the attacker wants.

Three attackers, on the same prompts (greedy coordinate gradient, Zou et al. 2023): one on the model alone; the same
suffixes where a policy's guards stand before the model; and one who searches through those guards.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raysafe.errors import DataError
from raysafe.evaluation.suites import Figure, Findings
from raysafe.records.statistics import wilson_interval

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob
    from raysafe.robustness.attacks.language.settings import GCGSettings
    from raysafe.robustness.attacks.language.suffix_problem import Guard

FOUND = ("text", "loss", "success", "queries")


class Attacker:
    """Appends what was found to rows with `prompt` (text); holds the loaded model."""

    def __init__(self, model: str, chat_template: str, settings: GCGSettings, policy: str | None, gpus: float) -> None:
        from raysafe.models.chat import ChatFormat
        from raysafe.models.language import load_policy, load_tokenizer

        self.chat = ChatFormat(load_tokenizer(model), chat_template)
        loaded: Any = load_policy(model).eval().requires_grad_(False)
        self.model = loaded.to("cuda" if gpus else "cpu")
        self.settings, self.guard = settings, None if policy is None else guard_of(policy)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = [self._attack(prompt) for prompt in table["prompt"].to_pylist()]
        return pa.Table.from_pylist([{"prompt": prompt} | row for prompt, row in rows])

    def _attack(self, prompt: str) -> tuple[str, dict[str, Any]]:
        alone = self._search(prompt, None)
        row = {name: getattr(alone, name) for name in FOUND}
        if self.guard is not None:
            adapted = self._search(prompt, self.guard)
            row |= {"guarded": alone.success and self.guard(alone.text)}
            row |= {f"adaptive_{name}": getattr(adapted, name) for name in FOUND}
        return prompt, row

    def _search(self, prompt: str, guard: Guard | None) -> Any:
        from raysafe.robustness.attacks.language.greedy_coordinate_gradient import greedy_coordinate_gradient
        from raysafe.robustness.attacks.language.suffix_problem import SuffixProblem

        settings = self.settings
        problem = SuffixProblem(self.model, self.chat, prompt, settings.target, length=settings.length)
        return greedy_coordinate_gradient(problem, settings, guard)


def guard_of(policy: str) -> Guard:
    """Whether a policy's guards of texts let a user's message through."""
    from raysafe.evaluation.guard_scores import Examiner
    from raysafe.guards.policy import load_policy

    examiner = Examiner(load_policy(policy))
    return lambda text: not examiner.judge(text).stopped


def examine(job: EvaluateJob) -> Findings:
    """A row a prompt; raises DataError where none has one user's message alone."""
    from raysafe.data.readers import read
    from raysafe.runtime.pool import parallel_map

    dataset = read(job.data, "prompts", skip_bad_rows=job.skip_bad_rows, limit=job.limit)
    table = pa.table({"prompt": single_messages(dataset.table["prompt"].to_pylist(), job.data)})
    if job.policy is not None:
        # a policy that can't be built is told before anything starts
        guard_of(job.policy)
    make = partial(Attacker, job.model, job.chat_template, job.gcg, job.policy, job.needs.gpus)
    found = parallel_map(make, table, needs=job.needs, description="suffixes", address=job.address)
    rows = found.to_pylist()
    return Findings(figures(rows), rows, {"target": job.gcg.target}, dataset.digest)


def single_messages(prompts: Sequence[Sequence[dict[str, str]]], source: str) -> list[str]:
    """The texts; raises DataError at the first prompt that is a longer conversation."""
    for row, prompt in enumerate(prompts, start=1):
        if [turn["role"] for turn in prompt] != ["user"]:
            raise DataError(f"{source}, row {row}: a single message of a user is attacked, this has {len(prompt)}")
    return [prompt[0]["content"] for prompt in prompts]


def figures(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """Rates with Wilson's intervals."""
    columns = {"attack_success_rate": "success", "guarded_success_rate": "guarded"}
    columns["adaptive_success_rate"] = "adaptive_success"
    return [
        Figure(metric, estimate.value, estimate.n, estimate.interval, better="lower")
        for metric, column in columns.items()
        if column in rows[0]
        for estimate in [wilson_interval(sum(bool(row[column]) for row in rows), len(rows))]
    ]
