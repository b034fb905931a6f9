"""Tokens a second on a GPU, beside plain PyTorch: `python -m tests.bench.gpu_speed`.

A Llama in SmolLM2-135M's shape with random weights, in bfloat16: training by fit() and by a bare loop over a padded
batch of the same tokens; answers of the engine and of transformers' own generate(), 64 at a time.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from raysafe.config import Job
from raysafe.models.attention import PACKED
from raysafe.models.logprobs import token_logprobs
from raysafe.models.packing import Layout, TokenBatch, lay_out
from raysafe.runtime.learner import FitConfig, Learner

VOCABULARY, LENGTH, ROWS, STEPS, WARM = 49152, 512, 64, 30, 10


def model(attention: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    # a worker that is handed this module by value imports nothing of it: packed attention must be known there too
    import raysafe.models.attention  # noqa: F401

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    config._attn_implementation = attention
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


@dataclass(frozen=True)
class Batch:
    tokens: TokenBatch

    @property
    def weight(self) -> float:
        return float(self.tokens.tokens)

    def to(self, device: torch.device) -> Batch:
        return Batch(self.tokens.to(device))


class Texts(Learner):
    """The likelihood of each token of a text after its first."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.padded = layout, not layout.pack

    def build(self) -> nn.Module:
        return model(PACKED if self.layout.pack else "sdpa")

    def collate(self, rows: pa.Table) -> Batch:
        texts = [np.asarray(ids, dtype=np.int64) for ids in rows["tokens"].to_pylist()]
        return Batch(lay_out([text[:1] for text in texts], [[text[1:]] for text in texts], self.layout))

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, tuple[Tensor | float, float]]]:
        return -token_logprobs(module, batch.tokens).sum(), {}

    def save(self, module: nn.Module, folder: Path) -> None:
        (folder / "README").write_text("not kept\n")


class SpeedJob(Job):
    job: ClassVar[str] = "speed"


def texts() -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCABULARY, (ROWS * STEPS, LENGTH))


def fitted(layout: Layout, micro_tokens: int) -> float:
    """Median tokens a second of fit()'s steps."""
    from raysafe.runtime.fit import fit
    from raysafe.runtime.run import Run

    table = pa.table({"tokens": list(texts()), "length": np.full(ROWS * STEPS, LENGTH)})
    config = FitConfig(batch_size=ROWS, micro_tokens=micro_tokens, gpus_per_worker=1, precision="bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(SpeedJob(storage=folder))
        fit(Texts(layout), run, config, train=table)
        return statistics.median(row["tokens_per_s"] for row in run.metrics[WARM:])


def bare(micro_tokens: int) -> float:
    """The same steps in plain PyTorch: one rectangle of tokens a forward pass, nothing logged."""
    module = model("sdpa").cuda().train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)
    data, rates = torch.from_numpy(texts()), []
    for step in range(STEPS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for ids_BT in data[step * ROWS : (step + 1) * ROWS].cuda().split(micro_tokens // LENGTH):
            with torch.autocast("cuda", dtype=torch.bfloat16):
                logits_BTV = module(input_ids=ids_BT, use_cache=False).logits[:, :-1]
            loss = nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten())
            (loss * ids_BT.shape[0] / ROWS).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        rates.append(ROWS * LENGTH / (time.perf_counter() - started))
    return statistics.median(rates[WARM:])


def written(new_tokens: int = 256) -> tuple[float, float]:
    """Tokens a second of the engine and of transformers' generate(), 64 prompts of 64 tokens."""
    from raysafe.models.generate.engine import SamplingParams
    from raysafe.models.generate.transformers_engine import TransformersEngine
    from raysafe.models.presets import byte_tokenizer

    policy = model("sdpa").to("cuda", torch.bfloat16).eval()
    prompts = np.random.default_rng(1).integers(0, VOCABULARY, (64, 64))
    engine = TransformersEngine(policy, byte_tokenizer())
    engine.stop_ids = frozenset()
    ids_BT, rates = torch.from_numpy(prompts).cuda(), ([], [])
    for _ in range(3):
        started = time.perf_counter()
        answers = engine.generate(prompts.tolist(), SamplingParams(max_tokens=new_tokens))
        rates[0].append(sum(len(a.tokens) for a in answers) / (time.perf_counter() - started))
        torch.cuda.synchronize()
        started = time.perf_counter()
        with torch.inference_mode():
            out = policy.generate(
                ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=new_tokens, do_sample=True, top_k=0
            )
        torch.cuda.synchronize()
        rates[1].append((out.numel() - ids_BT.numel()) / (time.perf_counter() - started))
    return max(rates[0]), max(rates[1])


def main(parts: list[str]) -> None:
    """parts: writing and training, or one of them."""
    print(torch.cuda.get_device_name(), torch.__version__)
    if "writing" in parts:
        ours, theirs = written()
        print(f"writing, 64 at a time: engine {ours:,.0f} tokens/s, transformers {theirs:,.0f}, {ours / theirs:.2f}")
    for micro_tokens in (16384,) if "training" in parts else ():
        plain = bare(micro_tokens)
        torch.cuda.empty_cache()
        for name, layout in (("packed", Layout()), ("padded", Layout(pack=False, share_prompt=False))):
            rate = fitted(layout, micro_tokens)
            print(
                f"training, {micro_tokens} tokens a pass, {name}: fit() {rate:,.0f} tokens/s, plain {plain:,.0f}, "
                f"{rate / plain:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or ["writing", "training"])
