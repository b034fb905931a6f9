"""Lipschitz bounds in the Euclidean norm, of the whole space or of the points near an input, and margins by them.

The product of the operators' norms (Szegedy et al. 2014), each an upper bound (spectral.py); the last layer's rows of
two classes are subtracted first. Near an input, dense layers leave out what is certainly inactive there (Huang et al.
2021), by the slopes that each activation can have in its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raysafe.errors import ModelError
from raysafe.robustness.certify.affine import Dense, Reshape
from raysafe.robustness.certify.graph import Entry
from raysafe.robustness.certify.operators import Add, Affine, Elementwise, Identity
from raysafe.robustness.certify.pooling import MaxPool
from raysafe.robustness.certify.spectral import operator_norm, spectral_norm


@dataclass(frozen=True)
class _Reach:
    """An entry's Lipschitz bound (B,) before its activations' own slopes (B, …), which a dense layer can absorb."""

    bound_B: Tensor
    slopes: Tensor | None = None

    def whole(self) -> Tensor:
        return self.bound_B if self.slopes is None else self.bound_B * self.slopes.flatten(1).amax(1)


def margin_lipschitz(entries: Sequence[Entry], y_B: Tensor, *, local: bool) -> Tensor:
    """Upper bounds (B, K) on the Lipschitz constants of logit y minus logit k; 0 at y.

    local: of the points whose activations lie in the entries' boxes; else of all points, whatever the boxes.
    """
    reaches: list[_Reach] = []
    batch = len(entries[0].output.lower)
    last = len(entries) - 1
    while isinstance(entries[last].operator, Identity):
        last = entries[last].inputs[0]
    for entry in entries[:last]:
        reaches.append(_reach(entries, entry, reaches, batch, local))
    final = entries[last]
    if isinstance(final.operator, Dense):
        weight_KD = final.operator.weight.double()
        difference_BKD = weight_KD[y_B].unsqueeze(1) - weight_KD
        before = reaches[final.inputs[0]]
        if before.slopes is not None:
            difference_BKD = difference_BKD * before.slopes.double().unsqueeze(1)
        return before.bound_B.unsqueeze(1) * difference_BKD.norm(dim=2) * (1 + 1e-9)
    bound_B = _reach(entries, final, reaches, batch, local).whole()
    classes = final.output.shape[1]
    other_BK = 1.0 - torch.eye(classes, dtype=torch.float64, device=y_B.device)[y_B]
    return 2.0**0.5 * bound_B.unsqueeze(1) * other_BK * (1 + 1e-9)


def _reach(entries: Sequence[Entry], entry: Entry, reaches: Sequence[_Reach], batch: int, local: bool) -> _Reach:
    operator = entry.operator
    if operator is None:
        return _Reach(torch.ones(batch, dtype=torch.float64, device=entry.output.lower.device))
    before, box = reaches[entry.inputs[0]], entries[entry.inputs[0]].output
    if isinstance(operator, Add):
        return _Reach(before.whole() + reaches[entry.inputs[1]].whole())
    if isinstance(operator, Elementwise):
        if not local:
            return _Reach(before.whole() * operator.steepest())
        return _Reach(before.whole(), operator.slopes(box))
    if isinstance(operator, MaxPool):
        return _Reach(before.whole() * operator.overlaps() ** 0.5)
    if isinstance(operator, Reshape) and before.slopes is not None:
        return _Reach(before.bound_B, operator.apply(before.slopes))
    if isinstance(operator, Dense) and before.slopes is not None and before.slopes.ndim == 2:
        return _Reach(before.bound_B * spectral_norm(operator.weight.double() * before.slopes.double().unsqueeze(1)))
    if isinstance(operator, Affine):
        return _Reach(before.whole() * operator_norm(operator, box.shape[1:]))
    raise ModelError(f"{type(operator).__name__} has no Lipschitz bound")
