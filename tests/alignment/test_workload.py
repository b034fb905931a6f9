"""Roles of a job with their sizes, and what would make a job fit: checked by planning again with it."""

from __future__ import annotations

import pytest

from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.ppo import PPOJob
from raysafe.alignment.workload import Gpus, Workload, propose, read_gpus, remedies, roles, smallest_gpu
from raysafe.errors import ConfigError

EIGHT = Gpus(1, 8, 80e9)


def names(**fields: object) -> set[str]:
    return {role.name for role in roles(Workload.parse({"model": "1B"} | fields))}


def test_roles_are_those_of_the_jobs() -> None:
    common = {"model": "m", "data": "d", "rewards": ("check:exact",)}
    assert names(job="ppo") == set(PPOJob.parse(common).roles)
    assert names(job="grpo") == set(GRPOJob.parse(common).roles)
    assert names(job="grpo", reward="none") == names(job="grpo") - {"reward"}
    assert (names(job="dpo"), names(job="sft"), names(job="serve")) == (
        {"reference", "policy"},
        {"policy"},
        {"replica"},
    )


def test_a_reward_model_has_its_own_size() -> None:
    small, large = (
        {role.name: role for role in roles(Workload.parse({"model": "7B", "reward": reward}))}["reward"].choices[None](
            1
        )
        for reward in ("1B", "7B")
    )
    # the body's float32 weights and a head, by hand
    assert small.weights == 4 * (1_235_814_400 + 2048)
    assert large.weights == 4 * (6_738_415_616 - 32000 * 4096 + 4096)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80GB", Gpus(1, 1, 80e9)),
        ("8x80GB", Gpus(1, 8, 80e9)),
        ("2x8x80gb", Gpus(2, 8, 80e9)),
        ("4 x 24GiB", Gpus(1, 4, 24 * 2**30)),
    ],
)
def test_gpus_are_read_as_nodes_count_and_memory(text: str, found: Gpus) -> None:
    assert read_gpus(text) == found


@pytest.mark.parametrize("text", ["8", "x80GB", "0x80GB", "8x0GB", "8x80", "1x2x3x80GB", "9999x80GB"])
def test_gpus_that_are_none_are_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="--gpus must be"):
        read_gpus(text)


@pytest.mark.parametrize(
    "fields", [{"model": "7B"}, {"model": "7B", "job": "ppo", "placement": "split"}, {"model": "8B", "sharding": "ddp"}]
)
def test_every_remedy_fits(fields: dict[str, object]) -> None:
    work = Workload.parse(fields)
    assert not propose(work, EIGHT).fits
    found = remedies(work, EIGHT)
    assert found
    assert all(remedy.placement.fits and remedy.placement.peak <= 0.92 * 80e9 for remedy in found)


def test_the_smallest_gpu_that_holds_a_large_model_is_named() -> None:
    work = Workload.parse({"model": "70B"})
    assert remedies(work, EIGHT) == []
    needed = smallest_gpu(work, EIGHT)
    # more than the reference's float32 weights and their bfloat16 copies alone, less than twice that
    alone = 6 * 70_553_706_496 / 0.92
    assert 0.95 * alone < needed < 2 * alone


def test_a_model_that_trains_on_few_gpus_trains_on_more() -> None:
    work = Workload.parse({"model": "7B", "job": "sft", "checkpointing": True})
    fits = [propose(work, EIGHT._replace(per_node=count)).fits for count in range(1, 17)]
    assert fits == sorted(fits) and fits[-1] and not fits[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"job": "sft", "placement": "split"}, "sft has no roles to part"),
        ({"job": "serve", "lora": 8}, "serve trains nothing: leave lora out"),
        (
            {"engine": "vllm", "placement": "colocated"},
            "vLLM keeps its share of a GPU for itself",
        ),
        ({"context": 0}, "context: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_a_workload_that_makes_no_sense_is_one_sentence(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Workload.parse({"model": "1B"} | fields)


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
@pytest.mark.parametrize(("precision", "size"), [("bf16", 2), ("fp32", 4)])
def test_an_engine_is_counted_in_the_dtype_that_the_trainer_computes_in(engine: str, precision: str, size: int) -> None:
    work = Workload.parse({"model": "1B", "engine": engine, "precision": precision})
    (rollout,) = (role for role in roles(work) if role.name == "rollout")
    assert rollout.choices[None](8).weights == size * 1_235_814_400


def test_a_transformers_cache_has_room_to_grow_and_vllm_stays_where_it_is() -> None:
    fields = {"model": "1B", "batch": 8, "context": 512, "placement": "split"}
    ours, theirs = (
        next(role for role in roles(Workload.parse(fields | {"engine": engine})) if role.name == "rollout").choices[
            None
        ](1)
        for engine in ("transformers", "vllm")
    )
    # 16 layers, keys and values of 8 heads of 64, two bytes each
    assert theirs.kv_cache == 2 * 16 * 8 * 64 * 2 * 8 * 512
    assert ours.kv_cache == 1.5 * theirs.kv_cache
    assert (ours.moves, ours.idle) == (True, 0) and (theirs.moves, theirs.idle) == (False, theirs.weights)
