"""A temperature as part of a model: its last layer is divided by it, so that it is served and saved like any other."""

from __future__ import annotations

import torch
from torch import nn

from raysafe.generalization.representation import last_layer


@torch.no_grad()
def scale_logits(model: nn.Module, temperature: float) -> None:
    """From now on the model's logits are those that it gave, divided by `temperature` > 0; no prediction changes."""
    if not temperature > 0:
        raise ValueError(f"a temperature must be above 0, got {temperature}")
    layer = last_layer(model)
    for part in layer.parameters():
        part /= temperature
