"""Labelled examples as the rows that fit() deals out, rows as tensors again, and a part of them as a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysafe.data.labelled import Labelled

if TYPE_CHECKING:
    from torch import Tensor


def input_column(x: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Inputs (N, …) as a column of vectors."""
    return pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), int(x[0].size))


def inputs_of(rows: pa.Table, name: str, shape: Sequence[int]) -> Tensor:
    """(B, …): a column of `input_column`, each input in `shape` again; a copy."""
    import torch

    values = rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return torch.from_numpy(values.reshape(-1, *shape).copy())


def numbers_of(rows: pa.Table, name: str) -> Tensor:
    """(B,): a column of numbers; a copy."""
    import torch

    return torch.from_numpy(rows[name].to_numpy().copy())


def as_npz(labelled: Labelled) -> bytes:
    """x, y and labels as an npz file, which load_labelled reads."""
    out = io.BytesIO()
    np.savez_compressed(out, x=labelled.x, y=labelled.y, labels=np.array(labelled.labels))
    return out.getvalue()
