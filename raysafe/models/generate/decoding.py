"""Writing a batch of answers token by token, with a key/value cache.

Prompts are padded on the left; a prompt with several answers is read once; rows leave the batch as they end, and with
them the columns that only they needed; rows of another batch can join, each with its own limit and way of drawing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from raysafe.errors import ModelError
from raysafe.models.generate.cache import BatchCache
from raysafe.models.generate.rows import Row
from raysafe.models.generate.sampling import draw, row_uniforms

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = TypeVar("Array", np.ndarray, Tensor)


class Decoding:
    """A batch of rows and their cache. `read` takes in the prompts, `step` writes one token to each live row."""

    def __init__(self, model: PreTrainedModel, rows: list[Row], stop_ids: frozenset[int]) -> None:
        self.model, self.live = model, list(rows)
        self._device, self._cache = model.device, BatchCache(model.config)
        self._stop_ids = np.array(sorted(stop_ids), dtype=np.int64)
        # a row keeps its column of these until another batch joins; column_B says which it is for each live row.
        # began_B and ends_B: the step before which a live row was empty, and the one after which it is full
        self._column_B, self._began_B = np.arange(len(rows)), np.zeros(len(rows), dtype=np.int64)
        self._ends_B = np.array([row.limit for row in rows])
        longest = int(self._ends_B.max())
        self._tokens_TN = np.empty((longest, len(rows)), dtype=np.int64)
        self._logps_TN = np.empty((longest, len(rows)), dtype=np.float32)
        self._uniforms_TN = _uniforms(rows, longest)
        self._written = 0
        self._logits_BV: Tensor | None = None
        self._regroup()
        self._lay_out_prompts()

    @property
    def columns(self) -> int:
        """Of the cache, padding included."""
        return self._columns

    @property
    def column_bytes(self) -> int:
        """What one column of one row takes, once prompts were read."""
        return self._cache.column_bytes

    @property
    def joinable(self) -> bool:
        """Whether it may join or be joined: its model's cache allows it, and it has a token of each row."""
        return self._cache.joinable and not self.unread and self._written > 0

    @property
    def unread(self) -> int:
        """Columns of the prompts that are still to be read."""
        return self._width - self._columns if self._prompts is not None else 0

    def _lay_out_prompts(self) -> None:
        """The prompts as a batch, each once, (P, T); `owners_B` says which is a row's."""
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(row.prompt for row in self.live))}
        lengths_P = np.array([len(prompt) for prompt in places])
        self._width, self._columns = int(lengths_P.max()), 0
        ids_PT = torch.tensor([[0] * (self._width - len(prompt)) + list(prompt) for prompt in places])
        padding_P = self._width - lengths_P
        positions_PT = (torch.arange(self._width)[None] - torch.from_numpy(padding_P)[:, None]).clamp_min(0)
        self._prompts: tuple[Tensor, Tensor] | None = ids_PT.to(self._device), positions_PT.to(self._device)
        self._owners_B = np.array([places[row.prompt] for row in self.live])
        self._padding_B = padding_P[self._owners_B]
        self._mask_BT = self._make_mask(padding_P, self._width)

    def _make_mask(self, padding_B: np.ndarray, columns: int) -> Tensor | None:
        """(B, columns); without padding no mask is needed, and attention takes a faster path."""
        if not padding_B.any():
            return None
        return (torch.arange(columns)[None] >= torch.from_numpy(padding_B)[:, None]).long().to(self._device)

    @torch.inference_mode()
    def read(self, columns: int) -> None:
        """Run the next so many columns of the prompts through the model."""
        assert self._prompts is not None
        ids_PT, positions_PT = self._prompts
        start, end = self._columns, min(self._columns + columns, self._width)
        self._columns = end
        logits_PV = self._forward(ids_PT[:, start:end], positions_PT[:, start:end])
        if end < self._width:
            return
        owners_B = torch.from_numpy(self._owners_B).to(self._device)
        self._cache.batch_select_indices(owners_B)
        self._logits_BV, self._positions_B1 = logits_PV[owners_B], positions_PT[owners_B, -1:]
        self._mask_BT = self._make_mask(self._padding_B, self._width + int(self._ends_B.max()))
        self._prompts = None

    @torch.inference_mode()
    def step(self) -> None:
        """Draw a token for each live row, after reading what is unread; rows that end leave the batch."""
        if self.unread:
            self.read(self.unread)
        if self._logits_BV is None:
            self._columns += 1
            self._positions_B1 = self._positions_B1 + 1
            self._logits_BV = self._forward(self._last_B1, self._positions_B1)
        tokens_B, logps_B = self._draw(self._logits_BV.float())
        self._logits_BV, self._last_B1 = None, tokens_B[:, None]
        tokens, logps = tokens_B.cpu().numpy(), logps_B.cpu().numpy()
        if not np.isfinite(logps).all():
            raise ModelError("the model's output is not finite: its weights are damaged or its precision is too low")
        self._tokens_TN[self._written, self._column_B] = tokens
        self._logps_TN[self._written, self._column_B] = logps
        self._written += 1
        self._leave(self._judge(tokens))

    @torch.inference_mode()
    def join(self, other: Decoding) -> None:
        """Take over another batch's live rows. Both must be `joinable`."""
        columns = max(self._columns, other._columns)
        shifts = columns - self._columns, columns - other._columns
        self._cache.join(other._cache, *shifts)
        self._columns = columns
        self._join_records(other)
        self.live += other.live
        self._regroup()
        self._last_B1 = torch.cat([self._last_B1, other._last_B1])
        self._positions_B1 = torch.cat([self._positions_B1, other._positions_B1])
        self._padding_B = np.concatenate([self._padding_B + shifts[0], other._padding_B + shifts[1]])
        self._mask_BT = self._make_mask(self._padding_B, columns + int(self._ends_B.max()) - self._written)
        self._drop_padding(int(self._padding_B.min()))

    def drop(self, rows: Collection[Row]) -> None:
        """Let these rows leave with what was written of them; only once the prompts were read."""
        self._leave(np.array([row in rows for row in self.live], dtype=bool))

    def close(self) -> None:
        """Hand to the rows that are still live what was written of them."""
        self._hand_out(np.arange(len(self.live)))

    def _draw(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities, (B,): rows that are drawn alike are drawn together."""
        uniforms_B = torch.from_numpy(self._uniforms_TN[self._written, self._column_B])
        if len(self._groups) == 1:
            ((temperature, top_k, top_p),) = self._groups
            return draw(logits_BV, uniforms_B, temperature=temperature, top_k=top_k, top_p=top_p)
        tokens_B = torch.empty(len(logits_BV), dtype=torch.long, device=self._device)
        logps_B = logits_BV.new_empty(len(logits_BV))
        for (temperature, top_k, top_p), places in self._groups.items():
            places_G = torch.tensor(places)
            there_G = places_G.to(self._device)
            tokens_B[there_G], logps_B[there_G] = draw(
                logits_BV[there_G], uniforms_B[places_G], temperature=temperature, top_k=top_k, top_p=top_p
            )
        return tokens_B, logps_B

    def _regroup(self) -> None:
        self._watched = any(row.writer is not None for row in self.live)
        self._groups: dict[tuple[float, int, float], list[int]] = {}
        for place, row in enumerate(self.live):
            settings = row.sampling.temperature, row.sampling.top_k, row.sampling.top_p
            self._groups.setdefault(settings, []).append(place)

    def _judge(self, tokens_B: np.ndarray) -> np.ndarray:
        """Which live rows are over with these tokens, (B,); they know why."""
        stop_B = np.isin(tokens_B, self._stop_ids)
        over_B = stop_B | (self._ends_B == self._written)
        if self._watched:
            for place in np.flatnonzero(~stop_B):
                if (writer := self.live[place].writer) is not None:
                    writer.write(int(tokens_B[place]))
                    over_B[place] |= writer.stopped
        for place in np.flatnonzero(over_B):
            row = self.live[place]
            row.ended = bool(stop_B[place])
            row.finish = "stop" if row.ended or (row.writer is not None and row.writer.stopped) else "length"
        return over_B

    def _hand_out(self, places: np.ndarray) -> None:
        for place in places:
            written = slice(self._began_B[place], self._written), self._column_B[place]
            self.live[place].tokens = self._tokens_TN[written].tolist()
            self.live[place].logprobs = self._logps_TN[written].tolist()

    @torch.inference_mode()
    def _leave(self, over_B: np.ndarray) -> None:
        """Rows that are over go with what they hold; the last live rows take their places."""
        if not over_B.any():
            return
        self._hand_out(np.flatnonzero(over_B))
        kept = int((~over_B).sum())
        holes = np.flatnonzero(over_B[:kept])
        movers = kept + np.flatnonzero(~over_B[kept:])
        for hole, mover in zip(holes, movers, strict=True):
            self.live[hole] = self.live[mover]
        del self.live[kept:]
        if not kept:
            return
        self._regroup()
        self._column_B, self._began_B, self._ends_B, self._padding_B = (
            _keep(array, kept, holes, movers)
            for array in (self._column_B, self._began_B, self._ends_B, self._padding_B)
        )
        holes_K, movers_K = (torch.from_numpy(places).to(self._device) for places in (holes, movers))
        self._cache.keep_rows(kept, holes_K, movers_K)
        self._positions_B1 = _keep(self._positions_B1, kept, holes_K, movers_K)
        if self._written:
            self._last_B1 = _keep(self._last_B1, kept, holes_K, movers_K)
        if self._logits_BV is not None:
            self._logits_BV = _keep(self._logits_BV, kept, holes_K, movers_K)
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

    def _join_records(self, other: Decoding) -> None:
        """What was written of the live rows of both, level at the last step: nothing of rows that have left."""
        parts = (self, other)
        written = max(int((part._written - part._began_B).max()) for part in parts)
        shifts = [written - part._written for part in parts]
        longest = max(int(part._ends_B.max()) + shift for part, shift in zip(parts, shifts, strict=True))
        rows = sum(len(part.live) for part in parts)
        tokens_TN, logps_TN = np.empty((longest, rows), dtype=np.int64), np.empty((longest, rows), dtype=np.float32)
        uniforms_TN, first = np.zeros((longest, rows)), 0
        for part, shift in zip(parts, shifts, strict=True):
            columns = slice(first, first + len(part.live))
            began, ends = int(part._began_B.min()), int(part._ends_B.max())
            tokens_TN[began + shift : written, columns] = part._tokens_TN[began : part._written, part._column_B]
            logps_TN[began + shift : written, columns] = part._logps_TN[began : part._written, part._column_B]
            uniforms_TN[began + shift : ends + shift, columns] = part._uniforms_TN[began:ends, part._column_B]
            first = columns.stop
        self._tokens_TN, self._logps_TN, self._uniforms_TN = tokens_TN, logps_TN, uniforms_TN
        self._began_B = np.concatenate([part._began_B + shift for part, shift in zip(parts, shifts, strict=True)])
        self._ends_B = np.concatenate([part._ends_B + shift for part, shift in zip(parts, shifts, strict=True)])
        self._column_B, self._written = np.arange(rows), written

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


def _uniforms(rows: list[Row], longest: int) -> np.ndarray:
    """Each row's uniforms as a column, (T, N) float64; beyond a row's limit, nothing that is used."""
    uniforms_NT = np.zeros((len(rows), longest))
    for uniforms_T, row in zip(uniforms_NT, rows, strict=True):
        if row.sampling.temperature > 0:
            uniforms_T[: row.limit] = row_uniforms(
                row.prompt, row.limit, seed=row.sampling.seed, occurrence=row.occurrence, sample=row.sample
            )
    return np.ascontiguousarray(uniforms_NT.T)


def _keep(values_B: Array, kept: int, holes_K: Array, movers_K: Array) -> Array:
    """The first `kept` of values_B, after those at movers_K were put into holes_K. values_B is changed."""
    values_B[holes_K] = values_B[movers_K]
    return values_B[:kept]
