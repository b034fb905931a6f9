"""A key/value cache that is written in place.

transformers' dynamic cache joins each new column to all earlier ones, a copy of the whole cache for every token. Here
buffers grow by half when they are full, a row that ends gives its place to the last one, columns that have become
padding alone are left out of the view, and the rows of another batch can be added below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

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

    def join(self, other: GrowingLayer, own_shift: int, other_shift: int) -> None:
        """Add another layer's rows below, once both have so many empty columns more on the left that they are level."""
        rows, added = len(self.keys), len(other.keys)
        held = self.keys.shape[-2] + own_shift
        buffers = []
        for view, below in ((self.keys, other.keys), (self.values, other.values)):
            buffer = view.new_empty(rows + added, view.shape[1], _room(held + 1), view.shape[-1])
            # masked columns get no weight, but no weight times what isn't a number is no number either
            buffer[:rows, :, :own_shift] = 0
            buffer[:rows, :, own_shift:held] = view
            buffer[rows:, :, :other_shift] = 0
            buffer[rows:, :, other_shift:held] = below
            buffers.append(buffer)
        self._hold(buffers, held)

    def _move_to_buffers(self, indices: Tensor | None, needed: int) -> None:
        rows, (_, heads, held, _) = len(self.keys if indices is None else indices), self.keys.shape
        buffers = []
        for view in (self.keys, self.values):
            buffer = view.new_empty(rows, heads, _room(needed), view.shape[-1])
            buffer[:, :, :held] = view if indices is None else view[indices]
            buffers.append(buffer)
        self._hold(buffers, held)

    def _hold(self, buffers: list[Tensor], held: int) -> None:
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
        self.joinable = all(isinstance(layer, GrowingLayer | DynamicSlidingWindowLayer) for layer in self.layers)
        """Whether another batch's rows can be added: not where a layer keeps a state of another kind."""

    @property
    def column_bytes(self) -> int:
        """What one column of one row takes, once there is one."""
        layers = [layer for layer in self.layers if isinstance(layer, DynamicLayer) and layer.keys is not None]
        return sum(view[0, :, :1].nbytes for layer in layers for view in (layer.keys, layer.values) if view is not None)

    def join(self, other: BatchCache, own_shift: int, other_shift: int) -> None:
        """Add another cache's rows below, once both have so many empty columns more on the left that they are level.

        Only where both are `joinable`.
        """
        for layer, added in zip(self.layers, other.layers, strict=True):
            if isinstance(layer, GrowingLayer) and isinstance(added, GrowingLayer):
                layer.join(added, own_shift, other_shift)
            else:
                assert isinstance(layer, DynamicSlidingWindowLayer) and isinstance(added, DynamicSlidingWindowLayer)
                _join_windows(layer, added, own_shift, other_shift)

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


def _room(needed: int) -> int:
    return needed + max(_SPARE_COLUMNS, needed // 2)


def _join_windows(
    layer: DynamicSlidingWindowLayer, added: DynamicSlidingWindowLayer, own_shift: int, other_shift: int
) -> None:
    """`BatchCache.join` of a layer that keeps the last `sliding_window - 1` columns of all that it has seen."""
    seen = layer.cumulative_length + own_shift
    held = min(seen, layer.sliding_window - 1)
    keys, values = (
        torch.cat([F.pad(own, (0, 0, held - own.shape[-2], 0)), F.pad(below, (0, 0, held - below.shape[-2], 0))])
        for own, below in ((layer.keys, added.keys), (layer.values, added.values))
        if own is not None and below is not None
    )
    layer.keys, layer.values, layer.cumulative_length = keys, values, seen
