"""Preference pairs as token batches: chosen and rejected answers in turn, after a prompt that both share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from raysafe.alignment.job import Parts, record_inputs
from raysafe.alignment.prepare import encode_parts, ids
from raysafe.data.ratings import ratings_to_pairs
from raysafe.data.readers import read
from raysafe.data.split import split_by_prompt
from raysafe.models.packing import Layout, TokenBatch, lay_out
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.alignment.reward_model import RewardModelJob


def prepare_rated_pairs(job: RewardModelJob, run: Run, min_gap: float) -> Parts:
    """Tokenised pairs of rated texts: texts are split first and then paired, so that no text is in two parts."""
    dataset = read(job.data, "ratings", skip_bad_rows=job.skip_bad_rows, limit=job.limit)
    record_inputs(job, run, dataset.digest)
    pairs = {
        name: ratings_to_pairs(texts, min_gap=min_gap, pairs_per_text=job.pairs_per_text, seed=job.seed)
        for name, texts in split_by_prompt(dataset.table, job.fractions, seed=job.seed).items()
    }
    return encode_parts(job, run, dataset, pairs, "preferences")


def pairs_batch(rows: pa.Table, layout: Layout) -> TokenBatch:
    """2B completions: 0, 2, 4, … are chosen, 1, 3, 5, … rejected."""
    pairs = [[c, r] for c, r in zip(ids(rows["chosen_ids"]), ids(rows["rejected_ids"]), strict=True)]
    return lay_out(ids(rows["prompt_ids"]), pairs, layout)
