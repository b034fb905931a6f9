"""Log-probabilities of answers under a fixed policy: computed once, in parallel, and kept in Arrow beside the rows."""

from __future__ import annotations

from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from raysafe.alignment.job import load_packable
from raysafe.alignment.pairs import pairs_batch
from raysafe.data.cache import TableCache, cache_key
from raysafe.models.language import model_digest
from raysafe.models.logprobs import sequence_logprobs
from raysafe.models.packing import Layout
from raysafe.runtime.batches import micro_batches
from raysafe.runtime.cluster import Needs
from raysafe.runtime.learner import Precision
from raysafe.runtime.parallel import autocast, compute_dtype
from raysafe.runtime.pool import TableFunction, parallel_map


def with_logprobs(
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
    """Tokenised pairs with `logp_chosen` and `logp_rejected` (float64), summed over each answer's tokens.

    What was computed before, by these weights for these rows, comes from the cache; the rest goes there as it is done.
    """
    needs = needs or Needs()
    if not table.num_rows:
        columns = pa.table({name: pa.array([], pa.float64()) for name in ("logp_chosen", "logp_rejected")})
    else:
        make = partial(_logprobs, model, layout, micro_tokens, precision, gpu=needs.gpus > 0)
        # packed or padded, the figures differ in rounding: the key tells them apart, so that runs repeat exactly
        keeper = _Keeper(model_digest(model), layout.to_yaml(), precision)
        columns = parallel_map(make, table, needs=needs, description=description, address=address, keeper=keeper)
    for name in columns.column_names:
        table = table.append_column(name, columns[name])
    return table


class _Keeper:
    """The cache of one policy's log-probabilities."""

    def __init__(self, *key: str) -> None:
        self._key, self._cache = key, TableCache()

    def find(self, chunk: pa.Table) -> pa.Table | None:
        return self._cache.find(cache_key(chunk, *self._key))

    def keep(self, chunk: pa.Table, result: pa.Table) -> None:
        self._cache.keep(cache_key(chunk, *self._key), result)


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
