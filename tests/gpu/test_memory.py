"""What `raysafe plan` says a model takes, against what CUDA's allocator counts, for a Llama of 1.2 billion weights."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from raysafe.alignment.workload import GROWTH
from raysafe.models.attention import PACKED
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.logprobs import token_logprobs
from raysafe.models.packing import Layout, TokenBatch, lay_out
from raysafe.models.presets import byte_tokenizer
from raysafe.models.sizing import SIZES, Compute, engine_memory, frozen_memory, trained_memory
from raysafe.runtime import parallel
from raysafe.runtime.learner import OptimConfig

CUDA = torch.device("cuda")
SHAPE = SIZES["1B"]


@pytest.fixture(autouse=True)
def empty_gpu() -> Iterator[None]:
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] < 70e9:
        pytest.skip("needs 70 GB of free GPU memory")
    yield
    gc.collect()
    torch.cuda.empty_cache()


def policy(attention: str = PACKED, dtype: torch.dtype = torch.float32) -> Any:
    """Random weights in the shape."""
    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.width,
        intermediate_size=SHAPE.feedforward,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.kv_heads,
        head_dim=SHAPE.head_dim,
        max_position_embeddings=4096,
        tie_word_embeddings=SHAPE.tied,
        eos_token_id=None,
    )
    config._attn_implementation = attention
    with CUDA:
        return LlamaForCausalLM(config).to(dtype)


def tokens(rows: int, length: int) -> TokenBatch:
    """Packed rows, all of them but the first token predicted."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, SHAPE.vocabulary, 1) for _ in range(rows)]
    return lay_out(prompts, [[rng.integers(0, SHAPE.vocabulary, length - 1)] for _ in range(rows)], Layout()).to(CUDA)


def told(what: str, measured: float, formula: float) -> None:
    print(f"MEMORY {what}: measured {measured / 1e9:.2f} GB, formula {formula / 1e9:.2f} GB, {measured / formula:.3f}")


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("compute", ["bfloat16", "float32"])
def test_training_takes_what_the_formulas_say_within_a_tenth(compute: Compute, checkpointing: bool) -> None:
    batch, start = tokens(8, 512), torch.cuda.memory_allocated()
    config = OptimConfig(precision=compute, activation_checkpointing=checkpointing)
    module = parallel.wrap(policy().train(), config, CUDA)
    optimizer = parallel.make_optimizer(module, config)
    memory = trained_memory(SHAPE, 1, sharding="ddp", tokens=4096, compute=compute, checkpointing=checkpointing)
    weights = torch.cuda.memory_allocated() - start
    told(f"weights {compute} {checkpointing}", weights, memory.weights)

    def micro_batch() -> None:
        with parallel.autocast(parallel.compute_dtype(compute, CUDA), CUDA):
            loss = -token_logprobs(module, batch).mean()
        loss.backward()

    micro_batch()
    gradients = torch.cuda.memory_allocated() - start - weights
    told(f"gradients {compute} {checkpointing}", gradients, memory.gradients)
    optimizer.step()
    moments = torch.cuda.memory_allocated() - start - weights - gradients
    told(f"optimiser {compute} {checkpointing}", moments, memory.optimiser)
    optimizer.zero_grad(set_to_none=True)
    micro_batch()
    torch.cuda.reset_peak_memory_stats()
    micro_batch()
    peak = torch.cuda.max_memory_allocated() - start
    told(f"activations {compute} {checkpointing}", peak - weights - gradients - moments, memory.activations)
    torch.cuda.reset_peak_memory_stats()
    parallel.clip(module, 1.0)
    optimizer.step()
    stepping = torch.cuda.max_memory_allocated() - start
    told(f"step {compute} {checkpointing}", stepping - weights - gradients - moments, memory.gradients)
    told(f"whole {compute} {checkpointing}", max(peak, stepping), memory.total)
    told(f"reserved {compute} {checkpointing}", torch.cuda.max_memory_reserved(), memory.total)
    assert weights == pytest.approx(memory.weights, rel=0.01)
    assert gradients == pytest.approx(memory.gradients, rel=0.02)
    assert moments == pytest.approx(memory.optimiser, rel=0.01)
    assert max(peak, stepping) == pytest.approx(memory.total, rel=0.1)


@pytest.mark.parametrize("compute", ["bfloat16", "float32"])
def test_a_frozen_model_takes_what_the_formulas_say_within_15_percent(compute: Compute) -> None:
    batch, start = tokens(8, 512), torch.cuda.memory_allocated()
    module = policy().eval()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad(), parallel.autocast(parallel.compute_dtype(compute, CUDA), CUDA):
        token_logprobs(module, batch)
    peak, formula = torch.cuda.max_memory_allocated() - start, frozen_memory(SHAPE, tokens=4096, compute=compute).total
    told(f"frozen {compute}", peak, formula)
    assert peak == pytest.approx(formula, rel=0.15)


def test_an_engine_takes_no_more_than_the_formulas_say_and_more_than_half_of_it() -> None:
    start = torch.cuda.memory_allocated()
    engine = TransformersEngine(policy("sdpa", torch.bfloat16), byte_tokenizer())
    engine.stop_ids = frozenset()
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, SHAPE.vocabulary, 256).tolist() for _ in range(128)]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    engine.generate(prompts, SamplingParams(max_tokens=256, temperature=1.0))
    peak = torch.cuda.max_memory_allocated() - start
    memory = engine_memory(SHAPE, rows=128, context=512, compute="bfloat16", spare=GROWTH)
    told("engine", peak, memory.total)
    assert 0.5 * memory.total < peak <= 1.02 * memory.total
