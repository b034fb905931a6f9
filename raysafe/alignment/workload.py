"""What is to run on which GPUs, as roles with their sizes; a placement for it, and what would make it fit otherwise.

The roles are those of roles.py, counted as they compute there; models/sizing.py has the formulas.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from raysafe.alignment.rewards import EnsembleOptions
from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.generate.vllm_engine import VLLMEngine
from raysafe.models.sizing import Compute, Shape, engine_memory, find_shape, frozen_memory, trained_memory
from raysafe.runtime.sizing import Memory, Placement, Role, Sharding, colocated, split

JobName = Literal["grpo", "ppo", "dpo", "sft", "serve"]
ONLINE = ("grpo", "ppo")
GROWTH = 1.5
"""The transformers engine's cache grows by half when it is full."""
VLLM_PREFILL = 8192
"""vLLM reads prompts in chunks of about so many tokens."""
MOST_GPUS, MOST_SAVINGS, SHOWN = 4096, 4, 4
_GPUS = re.compile(r"(?:(\d+)x)?(?:(\d+)x)?(\d+(?:\.\d+)?)(GB|GiB)", re.IGNORECASE)


class Gpus(NamedTuple):
    """Nodes, GPUs on each, and bytes of one."""

    nodes: int
    per_node: int
    gpu_bytes: float

    @property
    def count(self) -> int:
        return self.nodes * self.per_node


def read_gpus(text: str) -> Gpus:
    """`80GB`, `8x80GB`, or `2x8x80GB` for two nodes of eight; raises ConfigError."""
    match = _GPUS.fullmatch(text.replace(" ", ""))
    if match is None:
        raise ConfigError(f"--gpus must be as 80GB, 8x80GB, or 2x8x80GB for two nodes of eight, got '{text}'")
    first, second, size, unit = match.groups()
    nodes, per_node = (int(first), int(second)) if second else (1, int(first or 1))
    gpu_bytes = float(size) * (1e9 if unit.lower() == "gb" else 2**30)
    if nodes < 1 or per_node < 1 or gpu_bytes <= 0 or nodes * per_node > MOST_GPUS:
        raise ConfigError(f"--gpus must be 1 to {MOST_GPUS} GPUs with memory, got '{text}'")
    return Gpus(nodes, per_node, gpu_bytes)


class Workload(Config):
    """What is to run."""

    model: str
    job: JobName = "grpo"
    context: int = Field(default=2048, ge=1)
    batch: int = Field(default=128, ge=1)
    micro_tokens: int = Field(default=4096, ge=1)
    lora: int | None = Field(default=None, ge=1)
    checkpointing: bool = False
    precision: Literal["bf16", "fp32"] = "bf16"
    sharding: Literal["auto", "ddp", "fsdp"] = "auto"
    engine: Literal["transformers", "vllm"] = "transformers"
    placement: Literal["auto", "colocated", "split"] = "auto"
    reward: str | None = None
    """None for one of the policy's size, `none` where rules reward."""
    cpus: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.placement == "split" and self.job not in ONLINE:
            raise ValueError(f"{self.job} has no roles to part: placement split is for {' and '.join(ONLINE)}")
        if self.lora and self.job == "serve":
            raise ValueError("serve trains nothing: leave lora out")
        if self.engine == "vllm" and self.placement == "colocated" and self.job in ONLINE:
            raise ValueError("vLLM keeps its share of a GPU for itself: set placement to split")
        if self.engine == "vllm" and self.job not in ONLINE:
            raise ValueError(f"{self.job} doesn't use vLLM: set engine to transformers")
        return self

    @property
    def online(self) -> bool:
        return self.job in ONLINE

    @property
    def has_reward_model(self) -> bool:
        return (self.reward or "").lower() != "none"

    @property
    def compute(self) -> Compute:
        return "bfloat16" if self.precision == "bf16" else "float32"


@dataclass(frozen=True)
class Remedy:
    """A change of the workload or of the GPUs with which it fits."""

    text: str
    placement: Placement


def roles(work: Workload) -> list[Role]:
    """The roles of a job in the order in which they act; raises ModelError for a model that has no known shape."""
    shape = find_shape(work.model)
    # a row that is longer than the budget has a micro-batch of its own; a pair lies in one
    tokens = max(work.micro_tokens, work.context * (2 if work.job == "dpo" else 1))
    policy = _trained("policy", shape, work, tokens, lora_rank=work.lora)
    reference = _fixed("reference", frozen_memory(shape, tokens=tokens, compute=work.compute))
    if work.job == "serve":
        return [Role("replica", {None: partial(_engine, shape, work, work.compute)}, grows=True)]
    if work.job == "sft":
        return [policy]
    if work.job == "dpo":
        return [reference, policy]
    found = [Role("rollout", {None: partial(_rollout, shape, work)}, grows=True), reference]
    if work.has_reward_model:
        found.append(_fixed("reward", _reward(find_shape(work.reward) if work.reward else shape, work)))
    if work.job == "ppo":
        found.append(_trained("critic", shape, work, tokens, head="value"))
    return [*found, policy]


def _trained(name: str, shape: Shape, work: Workload, tokens: int, **more: Any) -> Role:
    shardings: tuple[Sharding, ...] = ("ddp", "fsdp") if work.sharding == "auto" else (work.sharding,)
    settings = {"tokens": tokens, "compute": work.compute, "checkpointing": work.checkpointing} | more
    return Role(name, {kind: partial(trained_memory, shape, sharding=kind, **settings) for kind in shardings}, True)


def _fixed(name: str, memory: Memory) -> Role:
    return Role(name, {None: lambda gpus: memory})


def _reward(shape: Shape, work: Workload) -> Memory:
    """Reward models score in float32, without autocast."""
    tokens = max(EnsembleOptions().batch_tokens, work.context)
    memory = frozen_memory(shape, tokens=tokens, compute="float32", head="value")
    return memory


def _rollout(shape: Shape, work: Workload, gpus: int) -> Memory:
    """The engine computes as the trainer does; a transformers engine leaves the GPU to other roles, vLLM doesn't."""
    memory = _engine(shape, work, work.compute, gpus)
    return memory if work.engine == "transformers" else memory.staying()


def _engine(shape: Shape, work: Workload, compute: Compute, gpus: int) -> Memory:
    """An engine's share of the batch; the transformers engine bounds what it writes at once."""
    rows = -(-work.batch // gpus)
    if work.engine == "vllm":
        rows = min(rows, inspect.signature(VLLMEngine.__init__).parameters["batch_rows"].default)
        prefill = min(VLLM_PREFILL, rows * work.context)
        return engine_memory(shape, rows=rows, context=work.context, compute=compute, prefill=prefill)
    bounds = inspect.signature(TransformersEngine.__init__).parameters
    rows = max(1, min(rows, bounds["batch_rows"].default, bounds["batch_tokens"].default // work.context))
    return engine_memory(shape, rows=rows, context=work.context, compute=compute, spare=GROWTH)


def propose(work: Workload, gpus: Gpus) -> Placement:
    """Colocated where that fits, or else split; where neither does, the colocated one with its problems."""
    found = roles(work)
    if work.placement == "split" or work.engine == "vllm":
        return split(found, gpus.count, gpus.gpu_bytes)
    together = colocated(found, gpus.count, gpus.gpu_bytes)
    if together.fits or work.placement == "colocated" or not work.online:
        return together
    apart = split(found, gpus.count, gpus.gpu_bytes)
    return apart if apart.fits else together


def remedies(work: Workload, gpus: Gpus) -> list[Remedy]:
    """Changes with which a workload fits: the fewest of them, SHOWN sets at most, and the fewest times more GPUs."""
    found: list[Remedy] = []
    changes = _savings(work)
    for count in range(1, MOST_SAVINGS + 1):
        for several in combinations(changes, count):
            placed = propose(_saving(work, several), gpus)
            if placed.fits:
                found.append(Remedy(" and ".join(text for text, _ in several), placed))
        if found:
            break
    found = found[:SHOWN]
    for factor in (2, 4, 8):
        more = gpus._replace(nodes=gpus.nodes * factor)
        if more.count <= MOST_GPUS and (placed := propose(work, more)).fits:
            found.append(Remedy(f"{more.count} such GPUs (--gpus {_text(more)})", placed))
            break
    return found


def smallest_gpu(work: Workload, gpus: Gpus) -> float:
    """Bytes of GPUs, as many as there are, that hold the workload with every saving at once; to a gigabyte."""
    saving = _saving(work, _savings(work))
    low, high = 0, 1
    while not propose(saving, gpus._replace(gpu_bytes=high * 1e9)).fits:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if propose(saving, gpus._replace(gpu_bytes=middle * 1e9)).fits else (middle, high)
    return high * 1e9


def _savings(work: Workload) -> list[tuple[str, dict[str, Any]]]:
    """What may be changed to save memory, the mildest first, with the changed fields."""
    found: list[tuple[str, dict[str, Any]]] = []
    training = work.job != "serve"
    if work.placement != "auto":
        found.append(("another placement (--placement auto)", {"placement": "auto"}))
    if training and work.sharding == "ddp":
        found.append(("shards instead of copies (--sharding fsdp)", {"sharding": "fsdp"}))
    if training and not work.checkpointing:
        found.append(("recomputed activations (--checkpointing)", {"checkpointing": True}))
    if training and work.micro_tokens > (fewer := max(work.context, 1024)):
        found.append((f"smaller micro-batches (--micro-tokens {fewer})", {"micro_tokens": fewer}))
    if (work.online or not training) and work.batch >= 8:
        found.append((f"fewer answers at once (--batch {work.batch // 4})", {"batch": work.batch // 4}))
    if work.online and work.engine == "transformers":
        found.append(("a paged cache, on GPUs of its own (--engine vllm)", {"engine": "vllm", "placement": "split"}))
    if training and not work.lora:
        found.append(("adapters instead of all weights (--lora 16)", {"lora": 16}))
    if work.context > 512:
        half = work.context // 2
        micro = min(work.micro_tokens, max(half, 1024))
        text = f"half the context (--context {half} --micro-tokens {micro})"
        found.append(
            (text if training else f"half the context (--context {half})", {"context": half, "micro_tokens": micro})
        )
    return found


def _saving(work: Workload, several: Iterable[tuple[str, dict[str, Any]]]) -> Workload:
    values = work.model_dump()
    for _, changed in several:
        micro = min(values["micro_tokens"], changed.get("micro_tokens", values["micro_tokens"]))
        values |= changed | {"micro_tokens": micro}
    return Workload.parse(values)


def _text(gpus: Gpus) -> str:
    size = f"{gpus.gpu_bytes / 1e9:g}GB" if gpus.gpu_bytes % 1e6 == 0 else f"{gpus.gpu_bytes / 2**30:g}GiB"
    return f"{gpus.nodes}x{gpus.per_node}x{size}"
