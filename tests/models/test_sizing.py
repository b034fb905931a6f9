"""Sizes by formula against real modules, caches and optimisers, and against what torch's memory tracker counts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache, GPT2Config, LlamaConfig
from transformers.models.mistral import MistralConfig
from transformers.models.qwen2 import Qwen2Config
from transformers.models.qwen3 import Qwen3Config
from transformers.models.smollm3 import SmolLM3Config

from raysafe.errors import ModelError
from raysafe.models.attention import PACKED
from raysafe.models.language import load_config, load_policy
from raysafe.models.logprobs import token_logprobs
from raysafe.models.lora import LoraConfig, apply_lora
from raysafe.models.packing import Layout, TokenBatch, lay_out
from raysafe.models.sizing import (
    SIZES,
    Compute,
    Shape,
    cast_bytes,
    engine_memory,
    find_shape,
    frozen_memory,
    kv_cache_bytes,
    optimiser_bytes,
    saved_bytes,
    shape_of,
    trained_memory,
    working_bytes,
)
from tests.real_data import SMOLLM2, STORIES

TOLERANCE = 0.01
SMALL = {
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "head_dim": 16,
}


def count(config: Any, kind: Any = AutoModelForCausalLM) -> int:
    """Parameters of the real module, made without memory."""
    with torch.device("meta"):
        return sum(p.numel() for p in kind.from_config(config).parameters())


@pytest.mark.parametrize("preset", ["preset:tiny", "preset:small"])
def test_parameters_of_presets_are_exact(preset: str) -> None:
    assert find_shape(preset).parameters == sum(p.numel() for p in load_policy(preset).parameters())


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SMALL, tie_word_embeddings=False),
        LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
        MistralConfig(**SMALL),
        Qwen2Config(**{k: v for k, v in SMALL.items() if k != "head_dim"}),
        Qwen3Config(**SMALL, tie_word_embeddings=True),
        SmolLM3Config(**SMALL, pad_token_id=0),
    ],
    ids=["llama", "llama-biases", "mistral", "qwen2", "qwen3", "smollm3"],
)
def test_parameters_of_a_policy_and_of_a_scorer_are_exact_for_each_kind_of_model(config: Any) -> None:
    shape = shape_of(config, "m")
    assert shape.parameters == count(config)
    config.num_labels, config.pad_token_id = 1, 0
    assert shape.scorer_parameters == count(config, AutoModelForSequenceClassification)


@pytest.mark.parametrize(
    ("size", "published"),
    [("1B", 1_235_814_400), ("7B", 6_738_415_616), ("8B", 8_030_261_248), ("70B", 70_553_706_496)],
)
def test_a_bare_size_has_its_published_number_of_parameters_and_that_of_the_real_module(
    size: str, published: int
) -> None:
    shape = SIZES[size]
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.feedforward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
    )
    assert shape.parameters == published == count(config)


@pytest.mark.parametrize("folder", [STORIES, SMOLLM2], ids=lambda folder: folder.name)
def test_parameters_of_a_real_model_by_its_folder_are_exact(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        pytest.skip(f"{folder} is not here")
    assert find_shape(str(folder)).parameters == count(load_config(folder))


def test_adapters_are_counted_exactly() -> None:
    adapted = apply_lora(load_policy("preset:small"), LoraConfig(rank=8))
    assert find_shape("preset:small").adapter_parameters(8) == sum(
        p.numel() for p in adapted.parameters() if p.requires_grad
    )


def test_the_cache_has_the_bytes_of_a_real_one() -> None:
    policy = load_policy("preset:small", dtype=torch.bfloat16)
    cache = DynamicCache(config=policy.config)
    with torch.inference_mode():
        policy(torch.zeros(3, 7, dtype=torch.long), past_key_values=cache, use_cache=True)
    held = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
    assert kv_cache_bytes(find_shape("preset:small"), 3 * 7) == held
    assert engine_memory(find_shape("preset:small"), rows=3, context=7, compute="bfloat16").kv_cache == held


def test_the_optimiser_has_the_bytes_of_a_real_one() -> None:
    policy = load_policy("preset:tiny")
    optimiser = torch.optim.AdamW(policy.parameters())
    policy(torch.zeros(1, 4, dtype=torch.long)).logits.sum().backward()
    optimiser.step()
    moments = [v for state in optimiser.state.values() for k, v in state.items() if k != "step"]
    assert optimiser_bytes(find_shape("preset:tiny").parameters) == sum(m.nbytes for m in moments)


def batch(rows: int, length: int, vocabulary: int) -> TokenBatch:
    rng = np.random.default_rng(0)
    return lay_out(
        [rng.integers(0, vocabulary, 1) for _ in range(rows)],
        [[rng.integers(0, vocabulary, length - 1)] for _ in range(rows)],
        Layout(),
    )


def autocast(compute: Compute) -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16) if compute == "bfloat16" else nullcontext()


def policy_in_training(*, lora: int | None = None, checkpointing: bool = False) -> nn.Module:
    policy: Any = load_policy("preset:small", attention=PACKED)
    if lora:
        policy = apply_lora(policy, LoraConfig(rank=lora))
    if checkpointing:
        policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return policy.train()


def measured_saved(policy: nn.Module, tokens: TokenBatch, compute: Compute) -> int:
    """Bytes of the storages that a forward pass saves for backward, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(compute):
        token_logprobs(policy, tokens).sum()
    return sum(storage.nbytes() for storage in saved.values())


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", [64, 200])
def test_what_a_forward_pass_keeps_is_what_autograd_saves_within_1_percent(compute: Compute, length: int) -> None:
    shape, tokens = find_shape("preset:small"), batch(2, length, 259)
    formula = saved_bytes(shape, 2 * length, compute=compute) + cast_bytes(shape, compute)
    assert formula == pytest.approx(measured_saved(policy_in_training(), tokens, compute), rel=TOLERANCE)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_adapters_keep_less_than_the_formula_says_by_a_quarter_at_most(compute: Compute) -> None:
    shape = find_shape("preset:small")
    formula = saved_bytes(shape, 256, compute=compute) + cast_bytes(shape, compute)
    measured = measured_saved(policy_in_training(lora=8), batch(2, 128, 259), compute)
    assert 0.75 * formula < measured <= formula


def peak_of(parts: list[nn.Module | torch.optim.Optimizer], work: Callable[[], None]) -> int:
    """The most bytes that live at once, by torch's own tracker."""
    tracker = MemTracker()
    tracker.track_external(*parts)
    with tracker:
        work()
    return tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("length", [64, pytest.param(512, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_the_peak_of_a_training_step_is_within_5_percent_of_what_torch_counts(
    compute: Compute, checkpointing: bool, length: int
) -> None:
    shape, tokens = find_shape("preset:small"), batch(2, length, 259)
    policy = policy_in_training(checkpointing=checkpointing)
    optimiser = torch.optim.AdamW(policy.parameters(), foreach=False)

    def micro_batch() -> None:
        with autocast(compute):
            loss = -token_logprobs(policy, tokens).sum()
        loss.backward()

    def end_of_step() -> None:
        micro_batch()
        optimiser.step()

    # the moments are there from the second step on, and gradients from its first micro-batch
    micro_batch()
    optimiser.step()
    measured = peak_of([policy, optimiser], end_of_step)
    memory = trained_memory(shape, 1, sharding="ddp", tokens=2 * length, compute=compute, checkpointing=checkpointing)
    work = working_bytes(shape, 2 * length, compute=compute, checkpointing=checkpointing)
    assert memory.total - memory.activations + work == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_the_peak_of_a_frozen_model_is_within_15_percent_of_what_torch_counts(compute: Compute) -> None:
    tokens = batch(2, 512, 259)
    policy = policy_in_training()

    def score() -> None:
        with torch.no_grad(), autocast(compute):
            token_logprobs(policy, tokens)

    formula = frozen_memory(find_shape("preset:small"), tokens=1024, compute=compute).total
    assert formula == pytest.approx(peak_of([policy], score), rel=0.15)


def test_sharding_divides_weights_and_moments_and_copies_do_not() -> None:
    def of(gpus: int, sharding: Any) -> Any:
        return trained_memory(SIZES["7B"], gpus, sharding=sharding, tokens=4096, compute="bfloat16")

    one, copies, shards = of(1, "ddp"), of(8, "ddp"), of(8, "fsdp")
    assert (copies.weights, copies.optimiser) == (one.weights, one.optimiser)
    assert (shards.weights, shards.optimiser) == (one.weights / 8, one.optimiser / 8)
    # 4 bytes a parameter: weights, gradients, DDP's buckets and each of two moments, by hand
    assert one.weights + one.gradients + one.optimiser == 16 * 6_738_415_616
    assert copies.gradients == 8 * 6_738_415_616


@given(
    tokens=st.integers(1, 10**6),
    more=st.integers(1, 10**6),
    checkpointing=st.booleans(),
    size=st.sampled_from([*SIZES]),
)
def test_more_tokens_never_take_less_and_checkpointing_never_more(
    tokens: int, more: int, checkpointing: bool, size: str
) -> None:
    def work(count: int, spare: bool) -> int:
        return working_bytes(SIZES[size], count, compute="bfloat16", checkpointing=spare)

    assert work(tokens, checkpointing) < work(tokens + more, checkpointing)
    assert work(tokens, True) <= work(tokens, False)


@pytest.mark.parametrize(
    ("model", "message"),
    [("13B", "no shape is known for the size 13B: give one of 1B, 7B, 8B, 70B"), ("no/such/folder", "no model folder")],
)
def test_a_model_without_a_shape_is_one_sentence(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find_shape(model)


def test_an_architecture_that_the_formulas_do_not_describe_is_refused() -> None:
    with pytest.raises(ModelError, match="gpt2, whose size the formulas don't describe: they are for llama, mistral"):
        shape_of(GPT2Config(), "m")


def test_a_shape_is_what_the_config_says() -> None:
    shape = find_shape("preset:small")
    assert shape == Shape("preset:small", 4, 256, 4, 2, 64, 688, 259, tied=True)
