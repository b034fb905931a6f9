"""`raysafe plan --model 7B --gpus 8x80GB`: what each role of a training takes, where it goes, what will not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
import yaml

from raysafe.cli.output import print_json, print_table
from raysafe.runtime.sizing import Placement, gigabytes, usable

if TYPE_CHECKING:
    from raysafe.alignment.workload import Gpus, Workload

Arg = tyro.conf.arg
COLUMNS = ("weights", "gradients", "optimiser", "KV cache", "activations")
_WHERE = {"colocated": "all roles on every GPU, one at work at a time", "split": "each role on GPUs of its own"}
SPREAD = {"ddp": "copies (ddp)", "fsdp": "shards (fsdp)", None: "copies"}


def main(argv: list[str]) -> int:
    """Print the plan; exit code 1 where the workload doesn't fit."""
    return tyro.cli(plan, args=argv, prog="raysafe plan")


def plan(
    *,
    model: Annotated[str, Arg(help="1B, 7B, 8B or 70B (Llama's shapes), or a model folder, run, hub id or preset.")],
    gpus: Annotated[str, Arg(help="What there is: 80GB, 8x80GB, or 2x8x80GB for two nodes of eight.")],
    job: Annotated[
        Literal["grpo", "ppo", "dpo", "sft", "serve"], Arg(help="What is to run: it decides the roles.")
    ] = "grpo",
    context: Annotated[int, Arg(help="Longest prompt with its answer, in tokens.")] = 2048,
    batch: Annotated[int, Arg(help="Answers written at once, over all engines.")] = 128,
    micro_tokens: Annotated[int, Arg(help="Tokens of a micro-batch on one GPU, as training.micro_tokens.")] = 4096,
    lora: Annotated[int | None, Arg(help="Rank of the policy's low-rank adapters; all its weights by default.")] = None,
    checkpointing: Annotated[bool, Arg(help="Recompute activations, as training.activation_checkpointing.")] = False,
    precision: Annotated[
        Literal["bf16", "fp32"], Arg(help="Of matrix products: bfloat16 under autocast, or float32.")
    ] = "bf16",
    sharding: Annotated[
        Literal["auto", "ddp", "fsdp"],
        Arg(help="Copies (ddp) or shards (fsdp) of what is trained; copies if they fit."),
    ] = "auto",
    engine: Annotated[Literal["transformers", "vllm"], Arg(help="What writes the answers.")] = "transformers",
    placement: Annotated[
        Literal["auto", "colocated", "split"],
        Arg(help="All roles on each GPU, the idle ones in host memory, or GPUs for each role; auto: what fits."),
    ] = "auto",
    reward: Annotated[
        str | None, Arg(help="Reward model, as --model, or none where rules reward; one as --model by default.")
    ] = None,
    cpus: Annotated[int, Arg(help="CPUs for each GPU, in the settings that are printed.")] = 4,
    as_json: Annotated[bool, Arg(name="json", help="Print JSON instead of tables.")] = False,
) -> int:
    """What each role of a training or service takes on its GPUs, where the roles go, and what will not fit.

    All figures are formulas over the model's config. Nothing is loaded, and one model on one GPU has borne them out:
    take them for a start, and the first steps of a run for the truth. They count float32 weights (bfloat16 where a
    model is served), gradients, AdamW's two moments, what a micro-batch keeps for its backward pass with the bfloat16
    weights that autocast makes, and the key/value cache. 8% of a GPU is left to CUDA and fragmentation. GB are 10^9
    bytes.

    Exit code 1 where it won't fit; what would make it fit is printed.

    Example: raysafe plan --model 7B --gpus 8x80GB --job ppo --checkpointing
    """
    from raysafe.alignment.workload import Workload, propose, read_gpus, remedies, smallest_gpu

    there = read_gpus(gpus)
    values = {
        "model": model,
        "job": job,
        "context": context,
        "batch": batch,
        "micro_tokens": micro_tokens,
        "lora": lora,
        "checkpointing": checkpointing,
        "precision": precision,
        "sharding": sharding,
        "engine": engine,
        "placement": placement,
        "reward": reward,
        "cpus": cpus,
    }
    work = Workload.parse(values, "the command line")
    placed = propose(work, there)
    mended = [] if placed.fits else remedies(work, there)
    if as_json:
        print_json(_facts(work, there, placed) | {"remedies": [remedy.text for remedy in mended]})
        return 0 if placed.fits else 1
    _print(work, there, placed)
    for problem in placed.problems:
        print(f"won't fit: {problem}")
    for remedy in mended:
        print(f"would fit: {remedy.text}, {remedy.placement.kind}, {gigabytes(remedy.placement.peak)} on a GPU")
    if not placed.fits and not mended:
        needed = gigabytes(smallest_gpu(work, there))
        print(
            f"none of adapters, recomputed activations, shorter texts and more GPUs makes it fit: with all of them it "
            f"takes GPUs of {needed}, for engines, reference and reward model hold a whole copy on one GPU each"
        )
    return 0 if placed.fits else 1


def _print(work: Workload, there: Gpus, placed: Placement) -> None:
    from raysafe.models.sizing import find_shape

    shape = find_shape(work.model)
    heads = f"{shape.heads} heads, {shape.kv_heads} of keys and values"
    print(
        f"{work.job} of {shape.name}: {shape.parameters / 1e9:.3g}e9 parameters, {shape.layers} layers of width "
        f"{shape.width}, {heads}, feed-forward {shape.feedforward}, {shape.vocabulary} tokens"
    )
    rows: list[tuple[object, ...]] = []
    for seat in placed.seats:
        memory = seat.memory
        parts = (memory.weights, memory.gradients, memory.optimiser, memory.kv_cache, memory.activations)
        idle = memory.idle if work.online and placed.kind == "colocated" else 0
        sums = (memory.total, memory.total * seat.gpus, idle)
        figures = ("" if part == 0 else gigabytes(part) for part in (*parts, *sums))
        rows.append((seat.role, seat.gpus, SPREAD[seat.sharding], *figures))
    print_table(("role", "GPUs", "spread", *COLUMNS, "on each GPU", "on all", "left when idle"), rows)
    if not placed.fits:
        return
    peak = f"at most {gigabytes(placed.peak)} of {gigabytes(usable(there.gpu_bytes))} on a GPU"
    print(f"{placed.kind}, {_WHERE[placed.kind]}: {peak}" if work.online else f"it fits, {peak}")
    if placed.host and work.online:
        print(
            f"idle roles wait in host memory: {gigabytes(placed.host)} for each GPU, "
            f"{gigabytes(placed.host * there.per_node)} on a node"
        )
    found = settings(work, there, placed)
    if work.job == "serve":
        print("\nraysafe serve … " + " ".join(f"--{name} {value}" for name, value in found.items()))
    else:
        print("\n" + yaml.safe_dump(found, sort_keys=False, default_flow_style=None).strip())


def settings(work: Workload, there: Gpus, placed: Placement) -> dict[str, Any]:
    """The fields of the job's YAML that follow from the plan."""
    if work.job == "serve":
        return {"replicas": there.count, "cpus": work.cpus, "gpus": 1}
    sharding = next(seat.sharding for seat in placed.seats if seat.sharding)
    training: dict[str, Any] = {"sharding": sharding, "micro_tokens": work.micro_tokens}
    training |= {"activation_checkpointing": True} if work.checkpointing else {}
    found: dict[str, Any] = {}
    if work.online:
        one: dict[str, int] = {"cpus": work.cpus, "gpus": 1}
        pools = {seat.role: {"workers": seat.gpus} | one for seat in placed.seats}
        if placed.kind == "colocated":
            nodes = {"nodes": there.nodes} if there.nodes > 1 else {}
            pools = {"all": {"workers": there.count} | one | nodes}
        else:
            if not work.has_reward_model:
                # rules reward without a GPU, in a process of their own
                pools["reward"] = {"workers": 1, "cpus": work.cpus, "gpus": 0}
            # the trained roles may be spread differently: shards everywhere hold what copies hold, and less
            kinds = {seat.sharding for seat in placed.seats if seat.sharding}
            training["sharding"] = "fsdp" if "fsdp" in kinds else sharding
        found = {"placement": placed.kind, "pools": pools}
    else:
        training |= {"workers": there.count, "cpus_per_worker": work.cpus, "gpus_per_worker": 1}
    return found | {"training": training} | ({"lora": {"rank": work.lora}} if work.lora else {})


def _facts(work: Workload, there: Gpus, placed: Placement) -> dict[str, Any]:
    from raysafe.models.sizing import find_shape

    shape = find_shape(work.model)
    return {
        "workload": work.model_dump(),
        "gpus": there._asdict() | {"usable_bytes": usable(there.gpu_bytes)},
        "shape": {"name": shape.name, "parameters": shape.parameters},
        "measured": False,
        "fits": placed.fits,
        "placement": placed.kind,
        "peak_bytes": placed.peak,
        "host_bytes_per_gpu": placed.host,
        "roles": [
            {"role": seat.role, "gpus": seat.gpus, "sharding": seat.sharding, "bytes_per_gpu": seat.memory._asdict()}
            for seat in placed.seats
        ],
        "problems": list(placed.problems),
        "settings": settings(work, there, placed) if placed.fits else None,
    }
