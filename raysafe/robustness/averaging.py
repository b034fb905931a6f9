"""A running average of a network's weights beside it: what is measured and kept (Izmailov et al. 2018; EMA)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call


class Averaged(nn.Module):
    """The network in training mode; the exponential moving average of its weights in eval mode.

    The averages are buffers, so that checkpoints carry them.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network, self.decay = network, decay
        self.names = list(network.state_dict())
        for place, tensor in enumerate(network.state_dict().values()):
            self.register_buffer(f"average{place}", tensor.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) if self.training else functional_call(self.network, self._averages(), (x,))

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights of now into the average."""
        now = self.network.state_dict()
        for name, average in self._averages().items():
            if average.is_floating_point():
                average.lerp_(now[name], 1 - self.decay)
            else:
                average.copy_(now[name])

    def averaged(self) -> nn.Module:
        """A network of its own with the averaged weights."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self._averages())
        return network

    def _averages(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"average{place}") for place, name in enumerate(self.names)}
