"""A key/value cache that is written in place.

transformers' dynamic cache joins each new column to all earlier ones, a copy of the whole cache for every token. Here
buffers grow by half when they are full, a row that ends gives its place to the last one, and columns that have become
padding alone are left out of the view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_SPARE_COLUMNS = 32


class GrowingLayer(DynamicLayer):
    """One layer's keys and values (B, G, S, D): views of buffers that have room to the right."""

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._start = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append columns. The first ones, a prompt's, are kept as they come."""
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        rows, _, held, _ = self.keys.shape
        total = held + key_states.shape[-2]
        if self._buffers is None or self._start + total > self._buffers[0].shape[-2]:
            self._move_to_buffers(None, total)
        start = self._start
        keys, values = self._buffers  # pyright: ignore[reportGeneralTypeIssues]
        keys[:rows, :, start + held : start + total] = key_states
        values[:rows, :, start + held : start + total] = value_states
        self.keys, self.values = keys[:rows, :, start : start + total], values[:rows, :, start : start + total]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row i becomes what row `indices[i]` was; a row may be taken several times."""
        self._move_to_buffers(indices, self.get_seq_length() + 1)

    def keep_rows(self, kept: int, holes_K: Tensor, movers_K: Tensor) -> None:
        """Keep the first `kept` rows, after putting the rows `movers_K` into the places `holes_K`."""
        if len(holes_K):
            self.keys[holes_K], self.values[holes_K] = self.keys[movers_K], self.values[movers_K]
        self.keys, self.values = self.keys[:kept], self.values[:kept]

    def drop_columns(self, count: int) -> None:
        """Leave out the first `count` columns."""
        self._start += count
        self.keys, self.values = self.keys[:, :, count:], self.values[:, :, count:]

    def _move_to_buffers(self, indices: Tensor | None, needed: int) -> None:
        rows, (_, heads, held, _) = len(self.keys if indices is None else indices), self.keys.shape
        room = needed + max(_SPARE_COLUMNS, needed // 2)
        buffers = []
        for view in (self.keys, self.values):
            buffer = view.new_empty(rows, heads, room, view.shape[-1])
            buffer[:, :, :held] = view if indices is None else view[indices]
            buffers.append(buffer)
        self._buffers, self._start = (buffers[0], buffers[1]), 0
        self.keys, self.values = (buffer[:, :, :held] for buffer in buffers)


class BatchCache(DynamicCache):
    """The cache of a batch whose rows end one by one. Layers that see only a window stay transformers' own."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config=config)
        self.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in self.layers]
        self.growing = [layer for layer in self.layers if isinstance(layer, GrowingLayer)]
        self.uniform = len(self.growing) == len(self.layers)
        """Whether each layer sees all columns, so that columns can be dropped."""

    def keep_rows(self, kept: int, holes_K: Tensor, movers_K: Tensor) -> None:
        """Keep the first `kept` rows, after putting the rows `movers_K` into the places `holes_K`."""
        order_B = torch.arange(kept, device=holes_K.device)
        order_B[holes_K] = movers_K
        for layer in self.layers:
            if isinstance(layer, GrowingLayer):
                layer.keep_rows(kept, holes_K, movers_K)
            else:
                layer.batch_select_indices(order_B)  # pyright: ignore[reportAttributeAccessIssue]

    def drop_columns(self, count: int) -> None:
        """Leave out the first `count` columns of each layer; only where the cache is `uniform`."""
        for layer in self.growing:
            layer.drop_columns(count)
