"""PPO's networks, with first weights that are orthogonal and a policy that begins by choosing all actions as often.

Of what Andrychowicz et al. ("What Matters for On-Policy Deep Actor-Critic Methods?", 2021, section 3.2) compare, the
policy's last layer matters most: a hundredth of the others' size. RLlib's own layers begin as torch's do.
"""

from __future__ import annotations

from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from torch import nn

HIDDEN_GAIN, POLICY_GAIN, VALUE_GAIN = 2**0.5, 0.01, 1.0


class PPOModule(DefaultPPOTorchRLModule):
    """RLlib's policy and critic."""

    def setup(self) -> None:
        super().setup()
        orthogonal(self.encoder, HIDDEN_GAIN)
        orthogonal(self.pi, HIDDEN_GAIN, last=POLICY_GAIN)
        orthogonal(self.vf, HIDDEN_GAIN, last=VALUE_GAIN)


def orthogonal(network: nn.Module, gain: float, last: float | None = None) -> None:
    """Orthogonal weights times a gain, the last layer's times one of its own, and biases of 0."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, last if last is not None and layer is layers[-1] else gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
