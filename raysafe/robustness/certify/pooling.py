"""Greatest of each window: bounds by the window's strongest entry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from raysafe.robustness.certify.interval import Interval, rounding
from raysafe.robustness.certify.operators import Nonlinear

Pair = tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """Lines of one entry a window: x[low] <= max <= slope * x[high] + offset, all (B, C, windows).

    The indices are into the flattened image.
    """

    low: Tensor
    high: Tensor
    slope: Tensor
    offset: Tensor


@dataclass(frozen=True)
class MaxPool(Nonlinear):
    """torch's max_pool2d without ceil_mode, on (B, C, H, W)."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def interval(self, *inputs: Interval) -> Interval:
        (x,) = inputs
        return Interval(self._value(x.lower), self._value(x.upper))

    def choose(self, x: Interval) -> Choice:
        """Above: with M the greatest upper end of the others, max <= max(x[high], M), which is a ReLU of x[high]."""
        index_PK = self._windows(x.shape[2:], x.lower.device)
        # what stands in the padding is never the greatest
        outside = x.lower.new_full((*x.shape[:2], 1), -torch.inf)
        lower, upper = (torch.cat([end.flatten(2), outside], 2)[:, :, index_PK] for end in (x.lower, x.upper))
        low = lower.argmax(-1)
        top_P2, at_P2 = upper.topk(min(2, upper.shape[-1]), dim=-1)
        high, most = at_P2[..., 0], top_P2[..., 0]
        second = top_P2[..., 1] if upper.shape[-1] > 1 else torch.full_like(most, -torch.inf)
        least = lower.gather(-1, high.unsqueeze(-1)).squeeze(-1)
        exact = second <= least
        # a window of which one end is certain to be the greatest, or one of no width
        width = torch.where(exact, torch.ones_like(most), most - least)
        slope = torch.where(exact, torch.ones_like(most), (most - torch.where(exact, most, second)) / width)
        offset = torch.where(exact, torch.zeros_like(most), torch.where(exact, most, second) - slope * least)
        slack = rounding(1, most.dtype) * (most.abs() + slope * least.abs())
        offset = torch.where(exact, offset, offset + slack)

        def entry(choice: Tensor) -> Tensor:
            return index_PK.expand(*choice.shape, -1).gather(-1, choice.unsqueeze(-1)).squeeze(-1)

        return Choice(entry(low), entry(high), slope, offset)

    def overlaps(self) -> int:
        """The most windows that an entry is in."""
        return math.prod(
            size if step > 1 else -(-size // stride)
            for size, stride, step in zip(self.kernel, self.stride, self.dilation, strict=True)
        )

    def _value(self, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, self.kernel, self.stride, self.padding, self.dilation)

    def _windows(self, size: torch.Size, device: torch.device) -> Tensor:
        """Flat indices (windows, entries) of each window's entries; height * width for one in the padding."""
        height, width = size
        numbers = torch.arange(height * width, dtype=torch.float64, device=device).view(1, 1, height, width)
        down, across = self.padding
        padded = functional.pad(numbers, (across, across, down, down), value=height * width)
        return functional.unfold(padded, self.kernel, self.dilation, 0, self.stride)[0].T.long()
