"""A policy as ONNX, for runtimes without torch: observations in, actions and the network's outputs out.

Normalisation, scaling and bounds are in the graph: who runs it needs nothing else. It acts deterministically. The graph
is written node by node, which takes milliseconds and leaves nothing of this machine in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raysafe.errors import ConfigError, ModelError
from raysafe.models.mlp import FORBIDDEN, Activation, DiscreteHead, GaussianHead
from raysafe.rl.policy import Policy, apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPSET, _IR = 20, 9
_ACTIVATIONS: dict[Activation, str] = {"relu": "Relu", "tanh": "Tanh", "gelu": "Gelu", "elu": "Elu"}
_CHECKS = 256
_TOLERANCE = 1e-4
"""Between outputs, relative to the largest: both sum in float32, in different orders."""
_MOST = float(np.finfo(np.float32).max)


def export_onnx(policy: Policy, path: str | Path) -> None:
    """Write `observation` (B, D) to `action` and `outputs` (B, K), then run it and compare.

    Raises ConfigError without the packages of the extra onnx, ModelError where its actions aren't the policy's.
    """
    onnx, _ = _packages()
    Path(path).write_bytes(_graph(onnx, policy).SerializeToString(deterministic=True))
    check_onnx(policy, path)


def check_onnx(policy: Policy, path: str | Path, observations_BD: NDArray[Any] | None = None) -> None:
    """Raise ModelError where the file's actions at these observations, random ones by default, aren't the policy's."""
    obs_BD = random_observations(policy) if observations_BD is None else np.asarray(observations_BD, dtype=np.float32)
    actions, outputs_BK = run_onnx(path, obs_BD)
    wanted_BK = policy.outputs(obs_BD)
    off, size = apart(outputs_BK, wanted_BK)
    limit = _TOLERANCE * max(1.0, size)
    wanted = policy.decide(wanted_BK).actions
    if isinstance(policy.head, GaussianHead):
        differ = bool(np.abs(actions - wanted).max() > limit * max(1.0, float(np.abs(wanted).max())))
    else:
        # two actions whose scores are that near are equally good: rounding decides
        best_B2 = np.sort(wanted_BK, axis=1)[:, -2:]
        clear_B = best_B2[:, 1] - best_B2[:, 0] > 2 * limit
        differ = bool((actions != wanted)[clear_B].any())
    if not off <= limit or differ:
        raise ModelError(f"{path} doesn't act as the policy does: its outputs are off by {off:.3g}")


def run_onnx(path: str | Path, observations_BD: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(actions, outputs) of an ONNX policy, on one CPU thread."""
    _, runtime = _packages()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    actions, outputs_BK = session.run(["action", "outputs"], {"observation": observations_BD.astype(np.float32)})
    return actions, outputs_BK


def random_observations(policy: Policy, count: int = _CHECKS) -> NDArray[np.float32]:
    """(B, D): around the mean that the policy normalises by, twice as wide as its deviation."""
    network, draw = policy.network, np.random.default_rng(0)
    obs_BD = draw.normal(scale=2.0, size=(count, network.config.inputs))
    if network.config.normalise:
        mean_D, std_D = (network.observation.get_buffer(name).cpu().numpy() for name in ("mean", "std"))
        obs_BD = obs_BD * std_D + mean_D
    if isinstance(policy.head, DiscreteHead) and policy.head.masked:
        mask_BA = draw.random((count, policy.head.actions)) < 0.5
        mask_BA[np.arange(count), draw.integers(policy.head.actions, size=count)] = True
        obs_BD[:, -policy.head.actions :] = mask_BA
    return obs_BD.astype(np.float32)


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"ONNX needs the package {error.name}: pip install 'raysafe[onnx]'") from None
    return onnx, onnxruntime


class _Graph:
    """Nodes in order; each `add` continues from the last value."""

    def __init__(self, onnx: Any) -> None:
        self.onnx, self.nodes, self.weights, self.last = onnx, [], [], "observation"

    def add(self, kind: str, *more: str, to: str | None = None, **attributes: Any) -> str:
        before, self.last = self.last, to or f"value_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, [before, *more], [self.last], **attributes))
        return self.last

    def constant(self, name: str, values: Any) -> str:
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def ints(self, name: str, values: list[int]) -> str:
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(values, dtype=np.int64), name))
        return name


def _graph(onnx: Any, policy: Policy) -> Any:
    network, head, graph = policy.network, policy.head, _Graph(onnx)
    config = network.config
    if config.normalise:
        buffer: Callable[[str], Any] = network.observation.get_buffer
        graph.add("Sub", graph.constant("observation.mean", buffer("mean").cpu().numpy()))
        graph.add("Div", graph.constant("observation.std", buffer("std").cpu().numpy()))
    if config.clip is not None:
        graph.add("Clip", graph.constant("clip.low", -config.clip), graph.constant("clip.high", config.clip))
    masked = isinstance(head, DiscreteHead) and head.masked
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    for number in range(len(network.layers)):
        names = (f"layers.{number}.weight", f"layers.{number}.bias")
        final = number == len(network.layers) - 1
        parts = [graph.constant(name, weights[name]) for name in names]
        graph.add("Gemm", *parts, transB=1, to="outputs" if final and not masked else None)
        if not final and config.activation == "silu":
            # opset 20 has no node of its own for it
            value = graph.last
            graph.add("Sigmoid")
            graph.add("Mul", value)
        elif not final:
            graph.add(_ACTIVATIONS[config.activation])
    if isinstance(head, DiscreteHead) and head.masked:
        _masked(graph, head, config.inputs)
    if isinstance(head, GaussianHead):
        _continuous(graph, head)
        kind, shape = onnx.TensorProto.FLOAT, ["batch", len(head.low)]
    else:
        graph.add("ArgMax", axis=1, keepdims=0, to="action")
        kind, shape = onnx.TensorProto.INT64, ["batch"]
    of = onnx.helper.make_tensor_value_info
    inputs = [of("observation", onnx.TensorProto.FLOAT, ["batch", config.inputs])]
    outputs = [of("action", kind, shape), of("outputs", onnx.TensorProto.FLOAT, ["batch", head.outputs])]
    whole = onnx.helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.weights)
    model = onnx.helper.make_model(
        whole, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=_IR, producer_name="raysafe"
    )
    if policy.card is not None:
        onnx.helper.set_model_props(model, {"policy": json.dumps(policy.card.model_dump(mode="json"))})
    onnx.checker.check_model(model, full_check=True)
    return model


def _masked(graph: _Graph, head: DiscreteHead, inputs: int) -> None:
    """Where the observation's last numbers are above 0.5 the scores, else FORBIDDEN."""
    scores, graph.last = graph.last, "observation"
    ends = graph.ints("mask.from", [inputs - head.actions]), graph.ints("mask.to", [inputs])
    graph.add("Slice", *ends, graph.ints("mask.axis", [1]))
    graph.add("Greater", graph.constant("mask.half", 0.5))
    graph.add("Where", scores, graph.constant("mask.forbidden", FORBIDDEN), to="outputs")


def _continuous(graph: _Graph, head: GaussianHead) -> None:
    """low + (x + 1)(high - low) / 2 where it is scaled, then within the bounds."""
    parts = len(head.low)
    low_K = [-_MOST if bound is None else bound for bound in head.low]
    high_K = [_MOST if bound is None else bound for bound in head.high]
    if head.spread:
        graph.add("Slice", graph.ints("from", [0]), graph.ints("to", [parts]), graph.ints("axis", [1]))
    if head.scaled:
        halves_K = [(high - low) / 2 for low, high in zip(low_K, high_K, strict=True)]
        middles_K = [low + half for low, half in zip(low_K, halves_K, strict=True)]
        graph.add("Mul", graph.constant("action.half", halves_K))
        graph.add("Add", graph.constant("action.middle", middles_K))
    assert all(map(math.isfinite, (*low_K, *high_K)))
    graph.add("Max", graph.constant("action.low", low_K))
    graph.add("Min", graph.constant("action.high", high_K), to="action")
