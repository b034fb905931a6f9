"""Writing a batch of answers token by token, with a key/value cache.

Prompts are padded on the left; a prompt with several answers is read once; rows leave the batch as they end, and with
them the columns that only they needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from raysafe.errors import ModelError
from raysafe.models.generate.cache import BatchCache
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.rows import Row
from raysafe.models.generate.sampling import draw, row_uniforms

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = TypeVar("Array", np.ndarray, Tensor)


class Decoding:
    """A batch of rows and their cache. `step` writes one token to each live row."""

    @torch.inference_mode()
    def __init__(
        self, model: PreTrainedModel, rows: list[Row], sampling: SamplingParams, stop_ids: frozenset[int]
    ) -> None:
        """Either all rows have a writer or none has."""
        self.model, self.live, self.sampling = model, list(rows), sampling
        self._device, self._cache = model.device, BatchCache(model.config)
        self._stop_ids = np.array(sorted(stop_ids), dtype=np.int64)
        self._limits_B = np.array([row.limit for row in rows])
        longest = int(self._limits_B.max())
        # a row keeps its column of these to the end; column_B says which it is for each live row
        self._column_B = np.arange(len(rows))
        self._tokens_TN = np.empty((longest, len(rows)), dtype=np.int64)
        self._logps_TN = np.empty((longest, len(rows)), dtype=np.float32)
        self._written = 0
        self._watched = rows[0].writer is not None
        self._uniforms_TN = _uniforms(rows, longest, sampling.seed) if sampling.temperature > 0 else None
        self._logits_BV: Tensor | None = self._read_prompts()

    def _read_prompts(self) -> Tensor:
        """Run each prompt through the model once, and give every row its prompt's part of the cache. Logits (B, V)."""
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(row.prompt for row in self.live))}
        lengths_P = np.array([len(prompt) for prompt in places])
        width, longest = int(lengths_P.max()), len(self._tokens_TN)
        ids_PT = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in places], device=self._device)
        mask_PT = torch.arange(width + longest)[None] >= torch.from_numpy(width - lengths_P)[:, None]
        # without padding no mask is needed, and attention takes a faster path
        self._mask_BT = mask_PT.long().to(self._device) if lengths_P.min() < width else None
        self._columns = width
        positions_PT = (mask_PT[:, :width].cumsum(-1) - 1).clamp_min(0).to(self._device)
        logits_PV = self._forward(ids_PT, positions_PT)
        owners = np.array([places[row.prompt] for row in self.live])
        owners_B = torch.from_numpy(owners).to(self._device)
        self._padding_B = (width - lengths_P)[owners]
        self._positions_B1 = positions_PT[owners_B, -1:]
        self._mask_BT = None if self._mask_BT is None else self._mask_BT[owners_B]
        self._cache.batch_select_indices(owners_B)
        return logits_PV[owners_B]

    @torch.inference_mode()
    def step(self) -> None:
        """Draw a token for each live row; rows that end leave the batch."""
        if self._logits_BV is None:
            self._columns += 1
            self._positions_B1 = self._positions_B1 + 1
            self._logits_BV = self._forward(self._last_B1, self._positions_B1)
        logits_BV, self._logits_BV = self._logits_BV.float(), None
        uniforms_B = None
        if self._uniforms_TN is not None:
            uniforms_B = torch.from_numpy(self._uniforms_TN[self._written, self._column_B])
        settings = self.sampling
        tokens_B, logps_B = draw(
            logits_BV, uniforms_B, temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p
        )
        self._last_B1 = tokens_B[:, None]
        tokens, logps = tokens_B.cpu().numpy(), logps_B.cpu().numpy()
        if not np.isfinite(logps).all():
            raise ModelError("the model's output is not finite: its weights are damaged or its precision is too low")
        self._tokens_TN[self._written, self._column_B] = tokens
        self._logps_TN[self._written, self._column_B] = logps
        self._written += 1
        over_B = self._judge(tokens)
        if over_B.any():
            self._hand_out(np.flatnonzero(over_B))
            self._leave(over_B)

    def close(self) -> None:
        """Hand to the rows that are still live what was written of them."""
        self._hand_out(np.arange(len(self.live)))

    def _judge(self, tokens_B: np.ndarray) -> np.ndarray:
        """Which live rows are over with these tokens, (B,); they know why."""
        stop_B = np.isin(tokens_B, self._stop_ids)
        over_B = stop_B | (self._limits_B == self._written)
        if self._watched:
            for place in np.flatnonzero(~stop_B):
                writer = self.live[place].writer
                assert writer is not None
                writer.write(int(tokens_B[place]))
                over_B[place] |= writer.stopped
        for place in np.flatnonzero(over_B):
            row = self.live[place]
            row.ended = bool(stop_B[place])
            row.finish = "stop" if row.ended or (row.writer is not None and row.writer.stopped) else "length"
        return over_B

    def _hand_out(self, places: np.ndarray) -> None:
        for place, column in zip(places, self._column_B[places], strict=True):
            self.live[place].tokens = self._tokens_TN[: self._written, column].tolist()
            self.live[place].logprobs = self._logps_TN[: self._written, column].tolist()

    def _leave(self, over_B: np.ndarray) -> None:
        """The last live rows take the places of those that are over."""
        kept = int((~over_B).sum())
        holes = np.flatnonzero(over_B[:kept])
        movers = kept + np.flatnonzero(~over_B[kept:])
        for hole, mover in zip(holes, movers, strict=True):
            self.live[hole] = self.live[mover]
        del self.live[kept:]
        if not kept:
            return
        self._column_B, self._limits_B, self._padding_B = (
            _keep(array, kept, holes, movers) for array in (self._column_B, self._limits_B, self._padding_B)
        )
        holes_K, movers_K = (torch.from_numpy(places).to(self._device) for places in (holes, movers))
        self._cache.keep_rows(kept, holes_K, movers_K)
        self._last_B1 = _keep(self._last_B1, kept, holes_K, movers_K)
        self._positions_B1 = _keep(self._positions_B1, kept, holes_K, movers_K)
        if self._mask_BT is not None:
            self._mask_BT = _keep(self._mask_BT, kept, holes_K, movers_K)
            self._drop_padding(int(self._padding_B.min()))

    def _drop_padding(self, shared: int) -> None:
        """Leave out the first columns, which are padding in every row that is left."""
        if not shared or not self._cache.uniform or self._mask_BT is None:
            return
        self._cache.drop_columns(shared)
        self._columns -= shared
        self._padding_B = self._padding_B - shared
        self._mask_BT = self._mask_BT[:, shared:] if self._padding_B.any() else None

    def _forward(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        """Logits after the last column, (B, V)."""
        out: Any = self.model(
            input_ids=ids_BT,
            position_ids=positions_BT,
            attention_mask=None if self._mask_BT is None else self._mask_BT[:, : self._columns],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]


def _uniforms(rows: list[Row], longest: int, seed: int) -> np.ndarray:
    """Each row's uniforms as a column, (T, N) float64; beyond a row's limit, nothing that is used."""
    uniforms_NT = np.zeros((len(rows), longest))
    for uniforms_T, row in zip(uniforms_NT, rows, strict=True):
        uniforms_T[: row.limit] = row_uniforms(
            row.prompt, row.limit, seed=seed, occurrence=row.occurrence, sample=row.sample
        )
    return np.ascontiguousarray(uniforms_NT.T)


def _keep(values_B: Array, kept: int, holes_K: Array, movers_K: Array) -> Array:
    """The first `kept` of values_B, after those at movers_K were put into holes_K. values_B is changed."""
    values_B[holes_K] = values_B[movers_K]
    return values_B[:kept]
