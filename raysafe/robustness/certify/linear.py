"""Backward linear bounds (CROWN, Zhang et al. 2018): a lower bound on linear functions of an activation.

The rows of a specification are carried from the activation back to the input; at each nonlinear operator what is
positive takes the line below it and what is negative the line above it, and at the input the box gives the least value.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import torch
from torch import Tensor

from raysafe.robustness.certify.graph import Entry
from raysafe.robustness.certify.interval import Interval, rounding
from raysafe.robustness.certify.operators import Add, Affine, Elementwise, Lines
from raysafe.robustness.certify.pooling import MaxPool


def lower_bounds(entries: Sequence[Entry], number: int, rows: Tensor, stops: Container[int] = ()) -> Tensor:
    """Lower bounds (B, R) of the rows' products with entry `number`, for every input of the box.

    rows: (B, R, …), or (1, R, …) for the same of each input. stops: entries at which their own boxes are used instead
    of going further back.
    """
    pending = {number: rows}
    total_BR = -_dot(rows.abs(), _spread(error_of(entries, number, stops), entries[number].output))
    for index in range(number, -1, -1):
        if index not in pending:
            continue
        rows, entry = pending.pop(index), entries[index]
        if entry.operator is None or index in stops:
            total_BR = total_BR + _least(rows, entry.output)
            continue
        offset_BR, backward = _step(entries, entry, rows, stops)
        total_BR = total_BR + offset_BR
        for source, found in zip(entry.inputs, backward, strict=True):
            pending[source] = pending[source] + found if source in pending else found
    return total_BR


def error_of(entries: Sequence[Entry], number: int, stops: Container[int] = ()) -> Tensor:
    """By how much (B,) rounding may move an entry since the last nonlinear operator, stop or input."""
    entry = entries[number]
    boxes = [entries[source].output for source in entry.inputs]
    if number not in stops and isinstance(entry.operator, Affine):
        return entry.operator.error(boxes[0], error_of(entries, entry.inputs[0], stops))
    if number not in stops and isinstance(entry.operator, Add):
        inner_B = error_of(entries, entry.inputs[0], stops) + error_of(entries, entry.inputs[1], stops)
        return entry.operator.error(*boxes, inner_B=inner_B)
    return entry.output.lower.new_zeros(len(entry.output.lower))


def _step(
    entries: Sequence[Entry], entry: Entry, rows: Tensor, stops: Container[int]
) -> tuple[Tensor | float, list[Tensor]]:
    """Rows of an entry as offsets and rows of what it was made of."""
    source, operator = entry.inputs[0], entry.operator
    box = entries[source].output
    if isinstance(operator, Affine):
        batches, count = rows.shape[:2]
        flat_N = rows.reshape(batches * count, *rows.shape[2:])
        offset_N = operator.offset(flat_N)
        offset_BR = offset_N.view(batches, count) if isinstance(offset_N, Tensor) else offset_N
        return offset_BR, [operator.transpose(flat_N, box.shape[1:]).view(batches, count, *box.shape[1:])]
    if isinstance(operator, Add):
        return 0.0, [rows, rows if operator.sign > 0 else -rows]
    error_B = error_of(entries, source, stops)
    if isinstance(operator, Elementwise):
        offset_BR, found = _relax(rows, _widened(operator.lines(box), box, error_B))
        return offset_BR, [found]
    assert isinstance(operator, MaxPool)
    return _relax_pool(rows, operator, box, error_B)


def _relax(rows: Tensor, lines: Lines) -> tuple[Tensor, Tensor]:
    positive = rows.clamp(min=0)
    offset_BR = _dot(rows, lines.upper_offset) + _dot(positive, lines.lower_offset - lines.upper_offset)
    difference = (lines.lower_slope - lines.upper_slope).unsqueeze(1)
    return offset_BR, torch.addcmul(rows * lines.upper_slope.unsqueeze(1), positive, difference)


def _relax_pool(rows: Tensor, pool: MaxPool, box: Interval, error_B: Tensor) -> tuple[Tensor, list[Tensor]]:
    choice = pool.choose(box)
    rows = rows.flatten(3)
    ones, zeros = torch.ones_like(choice.slope), torch.zeros_like(choice.slope)
    strongest = box.magnitude.flatten(2)
    weakest = Interval(strongest.gather(2, choice.low).neg(), strongest.gather(2, choice.high))
    lines = _widened(Lines(ones, zeros, choice.slope, choice.offset), weakest, error_B)
    positive, negative = rows.clamp(min=0), rows.clamp(max=0)
    offset_BR = _dot(positive, lines.lower_offset) + _dot(negative, lines.upper_offset)
    batches, count, channels, windows = len(box.lower), rows.shape[1], rows.shape[2], rows.shape[3]
    height, width = box.shape[2:]
    full = (batches, count, channels, windows)
    found = rows.new_zeros(batches, count, channels, height * width)
    found = found.scatter_add(3, choice.low.unsqueeze(1).expand(full), positive.expand(full))
    above = negative * lines.upper_slope.unsqueeze(1)
    found = found.scatter_add(3, choice.high.unsqueeze(1).expand(full), above)
    return offset_BR, [found.view(batches, count, channels, height, width)]


def _widened(lines: Lines, box: Interval, error_B: Tensor) -> Lines:
    """Lines that hold where the operator's input is off by the error, and where their own products are rounded."""
    error = error_B.view(-1, *[1] * (lines.lower_slope.ndim - 1))
    share = rounding(lines.lower_slope[0].numel(), lines.lower_slope.dtype)
    slopes = lines.lower_slope.abs() + lines.upper_slope.abs()
    slack = rounding(4, slopes.dtype) * slopes * box.magnitude
    slack = slack + share * (lines.lower_offset.abs() + lines.upper_offset.abs())
    return Lines(
        lines.lower_slope,
        lines.lower_offset - lines.lower_slope.abs() * error - slack,
        lines.upper_slope,
        lines.upper_offset + lines.upper_slope.abs() * error + slack,
    )


def _least(rows: Tensor, box: Interval) -> Tensor:
    """The least products (B, R) of the rows with a point of the box."""
    share = rounding(rows[0, 0].numel(), rows.dtype)
    return _dot(rows, box.centre) - _dot(rows.abs(), box.radius + share * box.magnitude)


def _dot(rows: Tensor, values: Tensor) -> Tensor:
    """Products (B, R) of rows (B or 1, R, …) with values (B, …)."""
    return (rows.flatten(2) @ values.flatten(1).unsqueeze(2)).squeeze(2)


def _spread(values_B: Tensor, like: Interval) -> Tensor:
    return values_B.view(-1, *[1] * (like.lower.ndim - 1)).expand(like.shape)
