"""Lower bounds on logit y minus each other logit: by intervals (IBP), by lines (CROWN), and by lines in interval boxes
(CROWN-IBP, Zhang et al. 2020).

All are differentiable by the model's parameters: `-margins` are logits in the worst case, whose cross-entropy certified
training lowers.

    entries = graph.entries(box(x, epsilon))           # graph = Graph(model), made once
    loss = cross_entropy(-interval_margins(entries, y), y)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from raysafe.errors import DataError
from raysafe.robustness.certify.activations import LeakyRelu
from raysafe.robustness.certify.affine import Convolution, Dense, Reshape, ScaleShift
from raysafe.robustness.certify.graph import Entry, Graph
from raysafe.robustness.certify.interval import Interval
from raysafe.robustness.certify.linear import lower_bounds
from raysafe.robustness.certify.operators import Identity, Nonlinear, Operator

_MOST_NUMBERS = 1 << 22
"""In the rows of one backward pass: what stays near the cache."""


def interval_margins(entries: Sequence[Entry], y_B: Tensor) -> Tensor:
    """(B, K), 0 at y: what the boxes behind the last nonlinear operators say, the layers after them merged."""
    stops = {number for number, entry in enumerate(entries) if isinstance(entry.operator, Nonlinear)}
    return lower_bounds(entries, len(entries) - 1, specification(entries[-1].output.lower, y_B), stops)


def linear_margins(entries: Sequence[Entry], y_B: Tensor) -> Tensor:
    """(B, K), 0 at y: the backward bound with lines by the entries' boxes.

    CROWN-IBP where the boxes are of interval arithmetic (`graph.entries`), CROWN where they are tightened.
    """
    return lower_bounds(entries, len(entries) - 1, specification(entries[-1].output.lower, y_B))


def tightened_entries(graph: Graph, inputs: Interval) -> list[Entry]:
    """Boxes that are the best of interval arithmetic and of backward bounds, in front of each nonlinear operator."""
    return graph.entries(inputs, _tighten)


def specification(like: Tensor, y_B: Tensor) -> Tensor:
    """Rows (B, K, K) of logit y minus logit k, for logits like these; raises DataError where they or labels aren't."""
    shape = like.shape
    if len(shape) != 2 or shape[1] < 2:
        raise DataError(f"a classifier's output must be logits (B, K) of two or more classes, found {tuple(shape)}")
    classes = shape[1]
    if y_B.shape != shape[:1] or y_B.is_floating_point() or not ((y_B >= 0) & (y_B < classes)).all():
        raise DataError(f"labels must be one whole number from 0 to {classes - 1} for each of {shape[0]} inputs")
    one_hot_KK = torch.eye(classes, dtype=like.dtype, device=like.device)
    return one_hot_KK[y_B].unsqueeze(1) - one_hot_KK


def _tighten(entries: list[Entry], number: int, operator: Operator) -> Interval:
    """The box of an entry that a nonlinear operator takes."""
    box = entries[number].output
    if _is_exact(entries, number):
        return box
    size = math.prod(box.shape[1:])
    open_BN = torch.ones(len(box.lower), size, dtype=torch.bool, device=box.lower.device)
    if isinstance(operator, LeakyRelu):
        # what keeps its sign is exact as it is; so for each input by itself, whatever else is in its batch
        open_BN = ((box.lower < 0) & (box.upper > 0)).flatten(1)
    chosen_R = open_BN.any(0).nonzero().squeeze(1)
    if not len(chosen_R):
        return box
    widest = max(math.prod(entry.output.shape[1:]) for entry in entries[: number + 1])
    count = max(1, _MOST_NUMBERS // (2 * len(box.lower) * widest))
    lower_BN, upper_BN = box.lower.flatten(1).clone(), box.upper.flatten(1).clone()
    for part_R in chosen_R.split(count):
        rows_RN = torch.zeros(len(part_R), size, dtype=box.lower.dtype, device=box.lower.device)
        rows_RN[torch.arange(len(part_R)), part_R] = 1.0
        rows = torch.cat([rows_RN, -rows_RN]).view(1, -1, *box.shape[1:])
        least_BR, less_BR = lower_bounds(entries, number, rows).chunk(2, dim=1)
        old_BR, top_BR, open_BR = lower_BN[:, part_R], upper_BN[:, part_R], open_BN[:, part_R]
        lower_BN[:, part_R] = torch.where(open_BR, torch.maximum(old_BR, least_BR), old_BR)
        upper_BN[:, part_R] = torch.where(open_BR, torch.minimum(top_BR, -less_BR), top_BR)
    return Interval(lower_BN.view(box.shape), upper_BN.view(box.shape))


def _is_exact(entries: list[Entry], number: int) -> bool:
    """Whether a backward bound has nothing to add to the box.

    So it is behind a nonlinear operator, whose own input was tightened, and behind one dense or convolutional layer of
    the input, whatever scales and shifts it.
    """
    layers, entry = 0, entries[number]
    if isinstance(entry.operator, Nonlinear):
        return True
    while entry.operator is not None:
        layers += isinstance(entry.operator, Dense | Convolution)
        if layers > 1 or not isinstance(entry.operator, Dense | Convolution | ScaleShift | Reshape | Identity):
            return False
        entry = entries[entry.inputs[0]]
    return True
