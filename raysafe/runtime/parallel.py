"""One module on several ranks: wrapping (DDP, FSDP2), synchronisation, sums over ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from raysafe.errors import ConfigError
from raysafe.runtime.learner import OptimConfig, Precision, RateGroup


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; raises ConfigError where the hardware would crawl in it."""
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    if precision == "bfloat16" and device.type == "cpu" and not cpu_has_bfloat16():
        raise ConfigError(
            "precision bfloat16 is some 200 times slower than float32 on a CPU without AVX512-BF16 or AMX: "
            "set training.precision to float32"
        )
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[precision]


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast | nullcontext[None]:
    return torch.autocast(device.type, dtype=dtype) if dtype == torch.bfloat16 else nullcontext()


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated layers of a transformers model anywhere in the module."""
    names = {name for part in module.modules() for name in getattr(part, "_no_split_modules", None) or ()}
    return [part for part in module.modules() if type(part).__name__ in names]


def wrap(module: nn.Module, config: OptimConfig, device: torch.device) -> nn.Module:
    """Place the module on the device and let its gradients be averaged over the ranks."""
    if config.activation_checkpointing:
        for part in module.modules():
            if hasattr(part, "gradient_checkpointing_enable"):
                part.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
                break
    module.to(device=device, dtype=torch.float64 if config.precision == "float64" else torch.float32)
    if config.sharding == "fsdp":
        mesh = dist.device_mesh.init_device_mesh(device.type, (ranks(),))
        policy = MixedPrecisionPolicy()
        for block in blocks(module):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(module, mesh=mesh, mp_policy=policy)
        return module
    if ranks() == 1:
        return module
    # views: else every gradient is held twice
    return DistributedDataParallel(
        module, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )


def ranks() -> int:
    """Processes that train together; one where no process group was made."""
    return dist.get_world_size() if dist.is_initialized() else 1


def make_optimizer(module: nn.Module, config: OptimConfig, groups: Sequence[RateGroup] = ()) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in a group of its own for each of `groups` (see whole_groups)."""
    named = {name: p for name, p in unwrapped(module).named_parameters() if p.requires_grad}
    return torch.optim.AdamW(
        [
            {"params": [p for name, p in named.items() if name in group.names]}
            for group in groups or [RateGroup(frozenset(named))]
        ],
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )


def whole_groups(module: nn.Module, groups: Sequence[RateGroup]) -> list[RateGroup]:
    """The groups cut to the trainable parameters, and those that are in none as a last one; empty groups are left out.

    Raises ValueError for a parameter that is in two.
    """
    left = {name for name, p in unwrapped(module).named_parameters() if p.requires_grad}
    whole = []
    seen: set[str] = set()
    for group in groups:
        if twice := seen & group.names:
            raise ValueError(f"the parameter {min(twice)} is in two rate groups")
        seen |= group.names
        whole.append(replace(group, names=group.names & left))
    whole.append(RateGroup(frozenset(left - seen)))
    return [group for group in whole if group.names]


def set_rates(optimizer: torch.optim.Optimizer, groups: Sequence[RateGroup], rate: float) -> None:
    """Each group's learning rate, of the schedule's `rate`; groups: those that the optimiser was made with."""
    for settings, group in zip(optimizer.param_groups, groups, strict=True):
        settings["lr"] = rate * group.factor


def hold_back(optimizer: torch.optim.Optimizer, groups: Sequence[RateGroup], done: float) -> None:
    """Forget the gradients of groups that don't learn yet, at a share `done` of the steps."""
    for settings, group in zip(optimizer.param_groups, groups, strict=True):
        if done < group.start:
            for parameter in settings["params"]:
                parameter.grad = None


def unwrapped(module: nn.Module) -> nn.Module:
    return module.module if isinstance(module, DistributedDataParallel) else module


@contextmanager
def gradient_sync(module: nn.Module, enabled: bool) -> Iterator[None]:
    """Exchange gradients in this backward pass only where `enabled`: once per step, at its last micro-batch."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(enabled)
        yield
    elif isinstance(module, DistributedDataParallel) and not enabled:
        with module.no_sync():
            yield
    else:
        yield


def sum_over_ranks(values: list[float], device: torch.device) -> list[float]:
    """Element-wise sums, in float64."""
    if ranks() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


def clip(module: nn.Module, largest: float | None) -> float:
    """Scale gradients down to norm `largest`; returns the norm before."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    full: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # type: ignore[operator]
    if largest is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, full)
    return float(full)
