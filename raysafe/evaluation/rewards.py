"""Rewards of answers: a reward model's scores, or a policy's implicit ones, computed by Ray actors."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysafe.errors import ModelError
from raysafe.runtime.pool import parallel_map

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob


_ANSWERS = ("chosen", "rejected")


class Scorer:
    """Appends the column `reward` to a table with `prompt` and `completion`; holds one loaded reward model."""

    def __init__(self, model: str, chat_template: str, batch_tokens: int, gpus: float) -> None:
        from raysafe.models.ensemble import RewardEnsemble

        device = "cuda" if gpus else "cpu"
        self.ensemble = RewardEnsemble([model], chat_template=chat_template, device=device, batch_tokens=batch_tokens)

    def __call__(self, table: pa.Table) -> pa.Table:
        scores = self.ensemble.score(table["prompt"].to_pylist(), table["completion"].to_pylist())
        return table.append_column("reward", pa.array(scores.mean_N, pa.float64()))


def rewards(job: EvaluateJob, model: str, table: pa.Table) -> np.ndarray:
    """A reward model's scores of the rows of `table` (`prompt`, `completion`), (N,)."""
    make = partial(Scorer, model, job.chat_template, job.micro_tokens, job.gpus_per_worker)
    scored = parallel_map(make, table, needs=job.needs, description="rewards", address=job.address)
    return scored["reward"].to_numpy()


def pair_rewards(job: EvaluateJob, pairs: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """A reward model's scores of chosen and rejected answers, (B,) each."""
    parts = [pairs.select(["prompt", column]).rename_columns(["prompt", "completion"]) for column in _ANSWERS]
    scores_2B = rewards(job, job.model, pa.concat_tables(parts))
    return scores_2B[: pairs.num_rows], scores_2B[pairs.num_rows :]


def implicit_rewards(job: EvaluateJob, pairs: pa.Table) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """log p(answer) under the model less that under its reference, for chosen and rejected answers, (B,) each.

    Also the pairs that were scored: those that exceed the context are missing where job.too_long says so.
    """
    from raysafe.alignment.prepare import with_cost
    from raysafe.alignment.reference import with_logprobs
    from raysafe.data.tokenise import tokenise
    from raysafe.models.chat import ChatFormat
    from raysafe.models.language import context_length, load_tokenizer

    assert job.reference is not None
    chat, other = (ChatFormat(load_tokenizer(model), job.chat_template) for model in (job.model, job.reference))
    if chat.fingerprint != other.fingerprint:
        raise ModelError(
            f"{job.model} and its reference {job.reference} have different tokenizers or chat templates: "
            "set reference to the model that it was trained from"
        )
    rows = tokenise(
        pairs, "preferences", chat, longest=context_length(job.model), too_long=job.too_long, longest_is_context=True
    )
    rows = with_cost(rows, share_prompt=job.layout.share_prompt)
    logps_2B2 = []
    for model, name in ((job.model, "model"), (job.reference, "reference")):
        scored = with_logprobs(
            model,
            rows,
            layout=job.layout,
            micro_tokens=job.micro_tokens,
            needs=job.needs,
            address=job.address,
            description=f"log-probabilities ({name})",
        )
        logps_2B2.append([scored["logp_chosen"].to_numpy(), scored["logp_rejected"].to_numpy()])
    chosen_B, rejected_B = np.asarray(logps_2B2[0]) - np.asarray(logps_2B2[1])
    kept = pc.index_in(rows["row"], value_set=pairs["row"].combine_chunks())  # type: ignore[attr-defined]
    return pairs.take(kept), chosen_B, rejected_B


def is_reward_model(model: str) -> bool:
    """Whether the model folder holds a reward model rather than a policy."""
    from raysafe.models.heads import is_reward_config
    from raysafe.models.language import load_config

    return is_reward_config(load_config(model))
