"""Preference pairs as token batches: chosen and rejected answers in turn, after a prompt that both share."""

from __future__ import annotations

import pyarrow as pa

from raysafe.alignment.prepare import ids
from raysafe.models.packing import Layout, TokenBatch, lay_out


def pairs_batch(rows: pa.Table, layout: Layout) -> TokenBatch:
    """2B completions: 0, 2, 4, … are chosen, 1, 3, 5, … rejected."""
    pairs = [[c, r] for c, r in zip(ids(rows["chosen_ids"]), ids(rows["rejected_ids"]), strict=True)]
    return lay_out(ids(rows["prompt_ids"]), pairs, layout)
