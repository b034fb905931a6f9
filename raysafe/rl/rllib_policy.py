"""From an RLlib module and its connectors to a Policy, checked against what was trained.

RLlib's default networks for PPO and DQN are stacks of linear layers, also where a DQN's are parted into advantages and
value (dueling): Q = V + A - mean A is linear, so that both streams fit into one stack. The running mean and deviation
of observations, which RLlib keeps in a connector, become the network's first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from raysafe.errors import ModelError
from raysafe.models.mlp import Activation, DiscreteHead, GaussianHead, Mlp, MlpConfig
from raysafe.rl.onnx import random_observations
from raysafe.rl.policy import BoxSpace, DiscreteSpace, Policy, PolicyCard, Space, apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
    nn.ELU: "elu",
}
_HARMLESS = {
    "AddObservationsFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AddStatesFromEpisodesToBatch",
    "AgentToModuleMapping",
    "BatchIndividualItems",
    "NumpyToTensor",
    "FlattenObservations",
}
"""Connectors of RLlib that change an observation's layout at most."""
_TOLERANCE = 1e-4
"""Between the trained network's outputs and those exported, relative to the largest: both sum in float32."""
_SMALL = 1e-8
"""RLlib's mean-std filter adds it to the deviation."""
Layer = tuple[torch.Tensor, torch.Tensor]


def policy_of(
    module: Any,
    pipeline: Any,
    observations: gym.Space[Any],
    actions: gym.Space[Any],
    card: dict[str, Any],
    *,
    scaled: bool = True,
) -> Policy:
    """The policy of an RLModule behind a pipeline of env-to-module connectors.

    scaled: whether RLlib's own -1 and 1 are the bounds of continuous actions (normalize_actions).
    """
    head = _head(module, actions, scaled)
    layers, activation = _layers(module, head)
    statistics = _statistics(pipeline, observations)
    config = MlpConfig(
        inputs=layers[0][0].shape[1],
        hidden=tuple(weight.shape[0] for weight, _ in layers[:-1]),
        activation=activation,
        normalise=statistics is not None,
        clip=None if statistics is None else statistics[2],
        head=head,
    )
    network = Mlp(config)
    state = {}
    for number, (weight, bias) in enumerate(layers):
        state |= {f"layers.{number}.weight": weight, f"layers.{number}.bias": bias}
    if statistics is not None:
        state |= {"observation.mean": statistics[0], "observation.std": statistics[1]}
    network.load_state_dict({name: tensor.detach().float().cpu() for name, tensor in state.items()})
    policy = Policy(network, _card(card, head, space_of(observations), space_of(actions)))
    _check_same(policy, module)
    return policy


def space_of(space: gym.Space[Any]) -> Space:
    """A space as the card tells it; raises ModelError for one that is neither a Box nor a Discrete from 0."""
    if isinstance(space, gym.spaces.Box):
        low, high = (_bounds(values) for values in (space.low, space.high))
        return BoxSpace(shape=tuple(space.shape), low=low, high=high)
    if isinstance(space, gym.spaces.Discrete) and space.start == 0:
        return DiscreteSpace(n=int(space.n))
    raise ModelError(f"a policy's spaces must be Box or Discrete from 0, got {space}: flatten it in the environment")


def _bounds(values: NDArray[Any]) -> tuple[float | None, ...]:
    # a float32's greatest number is how environments write that there is no bound
    most = float(np.finfo(np.float32).max)
    return tuple(float(value) if abs(float(value)) < most else None for value in values.ravel())


def _card(given: dict[str, Any], head: DiscreteHead | GaussianHead, observations: Space, actions: Space) -> PolicyCard:
    if isinstance(head, GaussianHead):
        distribution = "gaussian" if head.spread else "deterministic"
    else:
        distribution = "categorical" if head.scores == "logits" else "greedy"
    return PolicyCard.parse(
        {**given, "observations": observations, "actions": actions, "distribution": distribution}, "card"
    )


def _head(module: Any, actions: gym.Space[Any], scaled: bool) -> DiscreteHead | GaussianHead:
    space = space_of(actions)
    if isinstance(space, DiscreteSpace):
        scores = "logits" if hasattr(module, "pi") else "values"
        return DiscreteHead(actions=space.n, scores=scores, masked=getattr(module, "masks", False))
    bounded = None not in (*space.low, *space.high)
    return GaussianHead(low=space.low, high=space.high, spread=True, scaled=scaled and bounded)


def _layers(module: Any, head: DiscreteHead | GaussianHead) -> tuple[list[Layer], Activation]:
    """The module's linear layers in order, and the activation between them."""
    if hasattr(module, "pi"):
        encoder = getattr(module.encoder, "actor_encoder", None) or getattr(module.encoder, "encoder", None)
        hidden, found = _hidden(_net(encoder, "encoder"), "encoder")
        pi = module.pi
        inner, last, kinds = _stack(_net(pi, "pi"), "pi")
        if isinstance(getattr(pi, "log_std", None), nn.Parameter):
            # a deviation that doesn't depend on the observation: rows of zero weights
            last = torch.cat([last[0], torch.zeros_like(last[0])]), torch.cat([last[1], pi.log_std])
        return [*hidden, *inner, last], _one_activation(found | kinds)
    if hasattr(module, "af") and isinstance(head, DiscreteHead):
        if module.num_atoms > 1:
            raise ModelError("a distributional DQN can't be exported, for its values are no linear layer: num_atoms=1")
        hidden, found = _hidden(_net(module.encoder, "encoder"), "encoder")
        inner, last, kinds = _stack(_net(module.af, "af"), "af")
        if module.uses_dueling:
            beside, value, more = _stack(_net(module.vf, "vf"), "vf")
            inner, last = _dueling(inner, last, beside, value)
            kinds |= more
        return [*hidden, *inner, last], _one_activation(found | kinds)
    raise ModelError(f"a {type(module).__name__} can't be exported: RLlib's default modules of PPO and DQN can")


def _dueling(inner: list[Layer], advantage: Layer, beside: list[Layer], value: Layer) -> tuple[list[Layer], Layer]:
    """Two streams on one input as one stack: block-diagonal layers, and V + A - mean A as the last one."""
    if len(inner) != len(beside):
        raise ModelError("the streams of advantages and values have different numbers of layers: give both the same")
    joined: list[Layer] = []
    for number, ((weight, bias), (weight_v, bias_v)) in enumerate(zip(inner, beside, strict=True)):
        weights = torch.cat([weight, weight_v]) if number == 0 else torch.block_diag(weight, weight_v)
        joined.append((weights, torch.cat([bias, bias_v])))
    actions = advantage[0].shape[0]
    centre_AA = torch.eye(actions) - 1.0 / actions
    weights_A, weights_V = centre_AA @ advantage[0], value[0].expand(actions, -1)
    weights = torch.cat([weights_A, weights_V], dim=1) if inner else weights_A + weights_V
    return joined, (weights, centre_AA @ advantage[1] + value[1])


def _net(part: Any, name: str) -> nn.Sequential:
    found = getattr(getattr(part, "net", None), "mlp", None)
    if not isinstance(found, nn.Sequential):
        raise ModelError(
            f"the module's {name} is a {type(part).__name__}, and only stacks of linear layers can be exported: set "
            "fcnet_hiddens, without convolutions or a recurrent layer"
        )
    return found


def _hidden(net: nn.Sequential, name: str) -> tuple[list[Layer], set[Activation]]:
    """Linear layers that each have an activation behind them."""
    layers: list[Layer] = []
    kinds: set[Activation] = set()
    for place, part in enumerate(net):
        if isinstance(part, nn.Linear) and (place + 1 < len(net)) and type(net[place + 1]) in _ACTIVATIONS:
            bias = torch.zeros(part.out_features) if part.bias is None else part.bias
            layers.append((part.weight.detach().cpu(), bias.detach().cpu()))
            kinds.add(_ACTIVATIONS[type(net[place + 1])])
        elif type(part) not in _ACTIVATIONS:
            raise ModelError(
                f"the module's {name} has a {type(part).__name__} that can't be exported: linear layers can, with one "
                f"of {', '.join(sorted(set(_ACTIVATIONS.values())))} behind each"
            )
    return layers, kinds


def _stack(net: nn.Sequential, name: str) -> tuple[list[Layer], Layer, set[Activation]]:
    """The hidden layers of a head, and its last one, which has no activation."""
    parts = list(net)
    last = parts[-1] if parts else None
    if not isinstance(last, nn.Linear):
        raise ModelError(f"the module's {name} must end in a linear layer, and ends in a {type(last).__name__}")
    layers, kinds = _hidden(nn.Sequential(*parts[:-1]), name)
    bias = torch.zeros(last.out_features) if last.bias is None else last.bias
    return layers, (last.weight.detach().cpu(), bias.detach().cpu()), kinds


def _one_activation(found: set[Activation]) -> Activation:
    if len(found) > 1:
        raise ModelError(f"the network has several activations, {', '.join(sorted(found))}: give all layers the same")
    return next(iter(found)) if found else "tanh"


def _statistics(pipeline: Any, observations: gym.Space[Any]) -> tuple[torch.Tensor, torch.Tensor, float | None] | None:
    """Mean, deviation and limit of the running normalisation, None where there is none."""
    found = None
    for connector in pipeline.connectors:
        name = type(connector).__name__
        if name == "MeanStdFilter":
            found = connector
        elif name not in _HARMLESS:
            raise ModelError(
                f"the connector {name} changes observations in a way that an exported policy can't: do it in the "
                "environment"
            )
    if found is None or isinstance(observations, gym.spaces.Discrete):
        return None
    state = found.get_state()
    if None not in state:
        raise ModelError("observations of several agents are normalised apart: a policy of one can't be exported")
    kept, stats = state[None], found._filters[None].running_stats
    mean_D, std_D = np.ravel(stats.mean), np.ravel(stats.std)
    mean_D = mean_D if kept["de_mean_to_zero"] else np.zeros_like(mean_D)
    std_D = std_D + _SMALL if kept["de_std_to_one"] else np.ones_like(std_D)
    clip = kept["clip_by_value"]
    return torch.from_numpy(mean_D), torch.from_numpy(std_D), None if clip is None else float(clip)


def _check_same(policy: Policy, module: Any) -> None:
    """Raise ModelError where the stack's outputs aren't the module's own, behind the same normalisation."""
    network, obs_BD = policy.network, random_observations(policy)
    ready_BD = torch.from_numpy(obs_BD)
    if network.config.normalise:
        mean_D, std_D = (network.observation.get_buffer(name) for name in ("mean", "std"))
        ready_BD = (ready_BD - mean_D) / std_D
    if network.config.clip is not None:
        ready_BD = ready_BD.clamp(-network.config.clip, network.config.clip)
    with torch.inference_mode():
        device = next(module.parameters()).device
        if hasattr(module, "pi"):
            wanted_BK = module._forward({"obs": ready_BD.to(device)})["action_dist_inputs"].cpu().numpy()
        else:
            wanted_BK = module.compute_q_values({"obs": ready_BD.to(device)})["qf_preds"].cpu().numpy()
    found_BK = policy.outputs(obs_BD)
    off, size = apart(found_BK, wanted_BK)
    if not off <= _TOLERANCE * max(1.0, size):
        raise ModelError(
            f"the exported network's outputs differ from the trained one's by {off:.3g}: it isn't exported"
        )
