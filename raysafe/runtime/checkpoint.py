"""Training state on disk: safetensors for tensors, JSON for the rest, no pickle.

A checkpoint holds the trainable parameters, the optimiser's moments, every rank's random state, and what the loop adds:
its position (the step, which fixes the data position and the learning rate, and the best validation figure so far).
Tensors are whole, so a run may resume on another number of ranks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule

from raysafe.runtime.parallel import ranks, unwrapped

Module = TypeVar("Module", bound=nn.Module)

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_SPREAD = StateDictOptions(full_state_dict=True, ignore_frozen_params=True, strict=False)


@dataclass
class Position:
    """Where training stands."""

    step: int = 0
    best: float | None = None
    best_step: int | None = None
    evaluations_without_gain: int = 0
    given_up: bool = False
    """Whether the learner wanted no more steps."""
    tokens: int = 0


class Gathered(NamedTuple):
    """What a checkpoint holds of a module in training; tensors are whole, on the CPU."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    random_states: list[dict[str, Tensor]]
    """Of every rank."""


def gather(module: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> Gathered:
    """Every rank must call it; rank 0 gets the whole."""
    weights, moments, own = gather_weights(module), gather_optimizer(module, optimizer), random_state(device)
    states = [own] * ranks()
    if ranks() > 1:
        dist.all_gather_object(states, own)
    return Gathered(weights, moments, states)


def plain_module(module: nn.Module, build: Callable[[], Module], *, rank: int) -> Module | None:
    """The trained module as `build` makes it, unwrapped and whole; every rank must call it, rank 0 gets it.

    It is the one in training, not a copy, unless that is sharded.
    """
    if not isinstance(module, FSDPModule):
        return cast("Module", unwrapped(module)) if rank == 0 else None
    weights = gather_weights(module)
    if rank:
        return None
    plain = build()
    plain.load_state_dict(weights, strict=False)
    return plain


def gather_model(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, frozen ones too, by the unwrapped module's names; tied ones once.

    Every rank must call it; rank 0 gets whole tensors, where they are unless the module is sharded (then on the CPU).
    """
    if isinstance(module, FSDPModule):
        # these name a tied tensor once
        names = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
        whole = cast(dict[str, Tensor], get_model_state_dict(module, options=_WHOLE))
        return {name: tensor for name, tensor in whole.items() if name in names}
    seen: set[tuple[int, torch.Size]] = set()
    weights = {}
    for name, tensor in unwrapped(module).state_dict().items():
        # a tied tensor has several names and one place
        if (place := (tensor.data_ptr(), tensor.shape)) not in seen:
            seen.add(place)
            weights[name] = tensor
    return weights


def gather_weights(module: nn.Module) -> dict[str, Tensor]:
    """Full trainable parameters on the CPU; every rank must call it, rank 0 gets them."""
    return _contiguous(get_model_state_dict(module, options=_FULL))


def spread_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """The reverse of `gather_weights`; every rank must call it with the same tensors."""
    set_model_state_dict(module, dict[str, Any](weights), options=_SPREAD)


def gather_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Whole moments on the CPU, none before the first step; every rank must call it, rank 0 gets them."""
    if not optimizer.state:
        # torch would take a step to have some, which counts in the bias correction of the real first one
        return {"state": {}, "param_groups": []}
    return get_optimizer_state_dict(module, optimizer, options=_FULL)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """This rank's torch (and CUDA) generator states."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def write(folder: Path, gathered: Gathered, state: dict[str, Any]) -> None:
    """Write a checkpoint's files into an empty folder. state: what the loop needs back, as JSON can say it."""
    weights, optimizer, random_states = gathered
    save_file(weights, folder / "weights.safetensors")
    moments = {
        f"{name}|{key}": torch.as_tensor(value)
        for name, entry in optimizer["state"].items()
        for key, value in entry.items()
    }
    save_file(_contiguous(moments), folder / "optimizer.safetensors")
    save_file(
        {f"{rank}|{kind}": state for rank, states in enumerate(random_states) for kind, state in states.items()},
        folder / "random.safetensors",
    )
    (folder / "state.json").write_text(json.dumps({"groups": optimizer["param_groups"], **state}))


def read_weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "weights.safetensors")


def restore(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, *, rank: int, device: torch.device
) -> tuple[dict[str, Any], bool]:
    """Load a checkpoint into the module and optimiser.

    Returns what the loop had kept beside it, and whether this rank's random state was in it.
    """
    state = json.loads((folder / "state.json").read_text())
    spread_weights(module, read_weights(folder))
    entries: dict[str, Any] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        name, field = key.rsplit("|", 1)
        entries.setdefault(name, {})[field] = value
    if entries:
        moments = {"state": entries, "param_groups": state["groups"]}
        set_optimizer_state_dict(module, optimizer, moments, options=_SPREAD)
        # torch gives those that had none zeros, and counts a step that they never took
        for name, parameter in unwrapped(module).named_parameters():
            if name not in entries:
                optimizer.state.pop(parameter, None)
    else:
        optimizer.state.clear()
    states = load_file(folder / "random.safetensors")
    known = f"{rank}|cpu" in states
    if known:
        torch.set_rng_state(states[f"{rank}|cpu"])
        if device.type == "cuda" and f"{rank}|cuda" in states:
            torch.cuda.set_rng_state(states[f"{rank}|cuda"], device)
    return state, known


def seed_everything(seed: int, rank: int) -> None:
    """Seed torch, CUDA and numpy for one rank."""
    torch.manual_seed(seed * 1_000_003 + rank)
    np.random.seed((seed * 1_000_003 + rank) % 2**32)


def _contiguous(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Own, contiguous memory for each: safetensors refuses tensors that share storage (tied weights)."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
