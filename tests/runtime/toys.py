"""A small language-model learner for tests of the training loop; its loss is next-token cross-entropy."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.cloudpickle
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysafe.runtime.learner import Learner


@dataclass
class TextBatch:
    ids_BT: Tensor
    weight: float

    def to(self, device: torch.device) -> TextBatch:
        return TextBatch(self.ids_BT.to(device), self.weight)


class ToyLearner(Learner):
    """Rows of `tokens` of equal length; a row whose first token is `poison` gives a loss that is not a number."""

    padded = True

    def __init__(
        self, *, poison: int | None = None, die_once: str | None = None, die_at_call: int = 5, seconds: float = 0.0
    ) -> None:
        self.poison, self.die_once, self.die_at_call, self.seconds = poison, die_once, die_at_call, seconds
        self.calls = 0

    def build(self) -> nn.Module:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(11)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=32,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=32,
            )
        )

    def collate(self, rows: pa.Table) -> TextBatch:
        ids = np.stack([np.asarray(r, dtype=np.int64) for r in rows["tokens"].to_pylist()])
        return TextBatch(torch.from_numpy(ids), float(ids.shape[0] * (ids.shape[1] - 1)))

    def loss(self, module: nn.Module, batch: TextBatch) -> tuple[Tensor, dict[str, tuple[Tensor | float, float]]]:
        self.calls += 1
        time.sleep(self.seconds)
        if self.die_once and self.calls == self.die_at_call and not Path(self.die_once).exists():
            Path(self.die_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        logits_BTV = module(input_ids=batch.ids_BT, use_cache=False).logits[:, :-1]
        target_BT = batch.ids_BT[:, 1:]
        loss = F.cross_entropy(logits_BTV.flatten(0, 1), target_BT.flatten(), reduction="sum")
        if self.poison is not None and bool((batch.ids_BT[:, 0] == self.poison).any()):
            loss = loss * float("nan")
        right = (logits_BTV.argmax(-1) == target_BT).sum()
        return loss, {"accuracy": (right, batch.weight), "flat": (batch.weight, batch.weight)}

    def save(self, module: nn.Module, folder: Path) -> None:
        module.save_pretrained(folder)  # type: ignore[operator]


def counting_rows(rows: int, *, seed: int = 0, length: int = 8) -> pa.Table:
    """Rows that count upwards from a random start: learnable at once."""
    rng = np.random.default_rng(seed)
    tokens = [((start + np.arange(length)) % 31 + 1).tolist() for start in rng.integers(0, 31, rows)]
    return pa.table({"tokens": tokens, "length": pa.array([length] * rows, pa.int32())})


# workers don't see the tests folder: send the classes themselves
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
