"""What regularisation left of a network: zeros, dead inputs and outputs, and norms, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from raysafe.generalization.regularize import grouped, weights_of


@dataclass(frozen=True)
class LayerSparsity:
    """One layer's weight; an input or output is dead where all of its weights are exactly zero."""

    name: str
    weights: int
    zeros: int
    inputs: int
    dead_inputs: int
    outputs: int
    dead_outputs: int
    spectral_norm: float
    """The largest singular value, by a full decomposition."""

    @property
    def share(self) -> float:
        """Of weights that are exactly zero."""
        return self.zeros / self.weights


@torch.no_grad()
def sparsity(module: nn.Module) -> list[LayerSparsity]:
    """Every linear and convolutional layer, in order."""
    layers = []
    for name, weight in weights_of(module):
        into_GD, outof_GD = grouped(weight, "inputs"), grouped(weight, "outputs")
        layers.append(
            LayerSparsity(
                name=name,
                weights=weight.numel(),
                zeros=int((weight == 0).sum()),
                inputs=len(into_GD),
                dead_inputs=int((into_GD == 0).all(dim=1).sum()),
                outputs=len(outof_GD),
                dead_outputs=int((outof_GD == 0).all(dim=1).sum()),
                spectral_norm=float(torch.linalg.matrix_norm(weight.flatten(1).double(), ord=2)),
            )
        )
    return layers


def sparsity_table(layers: list[LayerSparsity]) -> list[list[object]]:
    """Rows for a report, headings first."""
    rows: list[list[object]] = [["layer", "weights", "zero", "dead inputs", "dead outputs", "spectral norm"]]
    for layer in layers:
        dead = (f"{layer.dead_inputs} of {layer.inputs}", f"{layer.dead_outputs} of {layer.outputs}")
        rows.append([layer.name, layer.weights, f"{layer.share:.1%}", *dead, layer.spectral_norm])
    return rows
