"""What a classifier makes of inputs: its logits, and the features that its last layer reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from raysafe.errors import ModelError
from raysafe.generalization.shift_statistics import Floats

BATCH = 512


@dataclass(frozen=True)
class Represented:
    """N inputs, in their order."""

    features_ND: Floats
    logits_NK: Floats

    def __len__(self) -> int:
        return len(self.logits_NK)

    def take(self, rows_N: NDArray[Any]) -> Represented:
        return Represented(self.features_ND[rows_N], self.logits_NK[rows_N])

    @property
    def probabilities_NK(self) -> Floats:
        return softmax(self.logits_NK, axis=1)


def last_layer(model: nn.Module) -> nn.Linear:
    """The linear layer that makes the logits; raises ModelError where there is none."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise ModelError(f"a {type(model).__name__} has no linear layer that could make its logits")
    return layers[-1]


@torch.inference_mode()
def represent(model: nn.Module, x: NDArray[np.float32], *, batch: int = BATCH) -> Represented:
    """Features and logits of inputs (N, …), in eval mode; the mode found is restored.

    Raises ModelError where the last linear layer's outputs aren't the model's, or aren't finite.
    """
    layer = last_layer(model)
    device = next(model.parameters()).device
    read: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    training = model.training
    model.eval()
    features, logits = [], []
    try:
        for start in range(0, len(x), batch):
            read.clear()
            logits_BK = model(torch.from_numpy(np.ascontiguousarray(x[start : start + batch])).to(device))
            if len(read) != 1 or not torch.equal(layer(read[0]), logits_BK):
                raise ModelError(
                    f"the logits of a {type(model).__name__} are not the outputs of its last linear layer: "
                    "features can't be read from it"
                )
            features.append(read[0].double().cpu().numpy())
            logits.append(logits_BK.double().cpu().numpy())
    finally:
        handle.remove()
        model.train(training)
    found = Represented(np.concatenate(features), np.concatenate(logits))
    if not np.isfinite(found.logits_NK).all():
        raise ModelError("the model's logits are not finite on these inputs: mend the model, or scale the inputs")
    return found
