"""Log-probabilities of answers under a fixed policy: computed once, in parallel, and kept in Arrow beside the rows."""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from raysafe.alignment.job import AlignmentJob, load_packable
from raysafe.alignment.logprobs import sequence_logprobs
from raysafe.alignment.pairs import pairs_batch
from raysafe.data.cache import TableCache, cache_key
from raysafe.models.language import model_digest
from raysafe.models.packing import Layout
from raysafe.runtime.batches import micro_batches
from raysafe.runtime.cluster import Needs
from raysafe.runtime.learner import Precision
from raysafe.runtime.parallel import autocast, compute_dtype
from raysafe.runtime.pool import TableFunction, parallel_map


def compute_logprobs(
    model: str,
    table: pa.Table,
    *,
    layout: Layout,
    micro_tokens: int = 4096,
    precision: Precision = "auto",
    needs: Needs | None = None,
    address: str | None = None,
    description: str = "log-probabilities",
) -> pa.Table:
    """Tokenised pairs with `logp_chosen` and `logp_rejected` (float64), summed over each answer's tokens."""
    needs = needs or Needs()
    make = partial(_logprobs, model, layout, micro_tokens, precision, gpu=needs.gpus > 0)
    columns = parallel_map(make, table, needs=needs, description=description, address=address)
    for name in columns.column_names:
        table = table.append_column(name, columns[name])
    return table


def with_reference_logprobs(job: AlignmentJob, reference: str, table: pa.Table, description: str) -> pa.Table:
    """The rows with the reference policy's log-probabilities, from the cache where they have been computed before."""
    if not table.num_rows:
        empty = pa.array([], pa.float64())
        return table.append_column("logp_chosen", empty).append_column("logp_rejected", empty)
    # packed or padded, the figures differ in rounding: the key tells them apart, so that runs repeat exactly
    key = cache_key(table, model_digest(reference), job.layout.to_yaml(), job.training.precision)
    return TableCache().get(
        key,
        lambda: compute_logprobs(
            reference,
            table,
            layout=job.layout,
            micro_tokens=job.training.micro_tokens,
            precision=job.training.precision,
            needs=job.training.needs,
            address=job.address,
            description=description,
        ),
    )


def _logprobs(model: str, layout: Layout, micro_tokens: int, precision: Precision, *, gpu: bool) -> TableFunction:
    device = torch.device("cuda" if gpu else "cpu")
    dtype = compute_dtype(precision, device)
    policy = cast(nn.Module, load_packable(model, layout))
    policy.to(device, torch.float64 if dtype == torch.float64 else torch.float32).eval()

    def score(rows: pa.Table) -> pa.Table:
        totals_B2 = np.zeros((rows.num_rows, 2))
        for group in micro_batches(rows["length"].to_pylist(), micro_tokens, padded=not layout.pack):
            batch = pairs_batch(rows.take(pa.array(group)), layout).to(device)
            with torch.no_grad(), autocast(dtype, device):
                logps_2B = sequence_logprobs(policy, batch)
            totals_B2[group] = logps_2B.double().cpu().numpy().reshape(-1, 2)
        return pa.table({"logp_chosen": totals_B2[:, 0], "logp_rejected": totals_B2[:, 1]})

    return score
