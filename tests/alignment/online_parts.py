"""Experience with uneven lengths, and the same updates from it in one process or on several.

    python -m tests.alignment.online_parts FOLDER

runs every case on two and on four processes of a gloo group and leaves what came out in FOLDER/2.pt and FOLDER/4.pt.
"""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from raysafe.alignment import trainer as trainer_module
from raysafe.alignment.experience import Samples, minibatches
from raysafe.alignment.grpo import GRPOJob
from raysafe.alignment.online import OnlineJob
from raysafe.alignment.ppo import PPOJob
from raysafe.alignment.trainer import OnlineTrainer
from raysafe.models.language import save_policy
from raysafe.models.presets import byte_tokenizer

WORLDS = (2, 4)
PLACE = {"model": "preset:tiny"}
"""What is trained. Llama's norms round to float32 in any precision: exact comparisons need the policy of make_exact."""
VOCABULARY = 259
LOSS = {"entropy_coefficient": 0.01, "importance_cap": 2.0, "dual_clip": 3.0}
TRAINING = {
    "learning_rate": 1e-3, "precision": "float64", "micro_tokens": 40, "schedule": "constant",
    "warmup_fraction": 0.0, "weight_decay": 0.1,
}  # fmt: skip


def make_exact(folder: Path) -> None:
    """Write a tiny policy that computes in float64 all through, with tied embeddings."""
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.2, eos_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        save_policy(GPTNeoXForCausalLM(config), byte_tokenizer(), folder)


def make_samples(groups: int = 5, each: int = 3, *, seed: int = 0, longest: int = 12) -> Samples:
    """Answers of 1 to `longest` random tokens, with figures near those of an untrained policy."""
    rng = np.random.default_rng(seed)
    count = groups * each
    answers = [rng.integers(3, VOCABULARY, rng.integers(1, longest + 1)).astype(np.int32) for _ in range(count)]
    total = sum(map(len, answers))
    level = -np.log(VOCABULARY)
    samples = Samples(
        prompts=[rng.integers(3, VOCABULARY, rng.integers(1, 10)).tolist() for _ in range(groups)],
        group_C=np.repeat(np.arange(groups), each),
        answers=answers,
        texts=[f"answer {i}" for i in range(count)],
        complete_C=rng.random(count) > 0.3,
        rollout_logps_N=level + 0.3 * rng.standard_normal(total),
        version=0,
    )
    for name in ("old_logps", "ref_logps"):
        samples.tokens[name] = level + 0.3 * rng.standard_normal(total)
    for name in ("advantages", "values", "returns"):
        samples.tokens[name] = rng.standard_normal(total)
    samples.scores["reward"] = rng.standard_normal(count)
    return samples


@dataclass(frozen=True)
class Case:
    """One way to train."""

    name: str
    role: str = "policy"
    training: dict[str, Any] | None = None
    fields: dict[str, Any] | None = None
    answers: tuple[int, int] = (5, 3)
    epochs: int = 2
    minibatches: int = 2

    @property
    def job(self) -> OnlineJob:
        kind: Any = PPOJob if self.role == "critic" else GRPOJob
        fields = PLACE | {"loss": LOSS, "max_tokens": 12} | (self.fields or {})
        training = TRAINING | (self.training or {})
        return kind(data="prompts.jsonl", rewards=("check:exact",), training=training, **fields)

    def trainer(self, rank: int = 0) -> OnlineTrainer:
        job = self.job
        return OnlineTrainer(job.learners()[self.role], job.optim(self.role), seed=job.seed, rank=rank)

    def experience(self, seed: int = 0) -> tuple[pa.Table, list[np.ndarray]]:
        """Rows and the parts of each optimiser step."""
        rows = self.job.experience(make_samples(*self.answers, seed=seed), 0.05, old=True)
        parts = [part for epoch in range(self.epochs) for part in minibatches(rows, self.minibatches, seed=(0, epoch))]
        return rows, parts


LORA = {"lora": {"rank": 4, "targets": ("query_key_value", "dense_h_to_4h")}}
OVERLONG = {"mask_overlong": True}
CASES = [
    Case("token"),
    Case("sequence", fields={"average": "sequence"} | OVERLONG),
    Case("constant", fields={"average": "constant"} | OVERLONG),
    Case("fsdp", training={"sharding": "fsdp"}, fields=OVERLONG),
    Case("lora", fields=LORA),
    Case("lora fsdp", training={"sharding": "fsdp"}, fields=LORA),
    Case("padded", fields={"layout": {"pack": False, "share_prompt": False, "completion_logits": False}}),
    Case("one answer", answers=(1, 1)),
    Case("one answer fsdp", answers=(1, 1), training={"sharding": "fsdp"}),
    Case("critic", role="critic"),
    Case("critic fsdp", role="critic", training={"sharding": "fsdp", "activation_checkpointing": True}),
    Case("float32", training={"precision": "float32"}, epochs=1, minibatches=1),
]


def alone(case: Case) -> Case:
    """The case as one process computes it, which has nothing to shard."""
    training = {name: value for name, value in (case.training or {}).items() if name != "sharding"}
    return Case(case.name, case.role, training, case.fields, case.answers, case.epochs, case.minibatches)


def weights_of(trainer: OnlineTrainer) -> dict[str, Tensor]:
    """What the trainer would publish."""
    published: Any = trainer.publish(1)
    return {} if published is None else {name: tensor.clone() for name, tensor in published.items()}


def updated(case: Case, rank: int = 0, export: tuple[str, str] | None = None) -> dict[str, Any]:
    """Weights and figures after the case's updates; export: where to leave the model."""
    trainer = case.trainer(rank)
    rows, parts = case.experience()
    places, values = trainer.figures(rows)
    figures = trainer.update(rows, parts, step=0, total_steps=len(parts))
    if export is not None:
        trainer.export(*export)
    return {"weights": weights_of(trainer), "figures": figures, "places": places, "values": values}


def resumed(case: Case, folder: Path, rank: int, ranks: int) -> dict[str, Any]:
    """Weights after a second update from the checkpoint of another number of ranks, and a checkpoint of them."""
    trainer = case.trainer(rank)
    state = trainer.restore(str(folder), "alone")
    trainer.update(*case.experience(seed=1), step=4, total_steps=8)
    trainer.save(str(folder), f"of-{ranks}-{case.name}", {"answers": 30})
    return {"weights": weights_of(trainer), "state": state}


RESUMED = [Case("ddp"), Case("fsdp", training={"sharding": "fsdp"})]


def keep(weights: dict[str, Tensor], version: int) -> Any:
    """In the place of publishing: there is no object store here."""
    return weights


def work(rank: int, ranks: int, folder: str) -> None:
    trainer_module.publish = keep
    torch.set_num_threads(1)
    PLACE["model"] = f"{folder}/model"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store-{ranks}", rank=rank, world_size=ranks)
    found = {case.name: updated(case, rank, (folder, f"{ranks} {case.name}")) for case in CASES}
    again = {case.name: resumed(case, Path(folder), rank, ranks) for case in RESUMED}
    shares: list[Any] = [None] * ranks
    dist.all_gather_object(shares, {name: (result["places"], result["values"]) for name, result in found.items()})
    if rank == 0:
        torch.save({"updated": found, "resumed": again, "shares": shares}, f"{folder}/{ranks}.pt")
    dist.destroy_process_group()


def main(folder: str) -> int:
    context = multiprocessing.get_context("fork")
    codes = []
    for ranks in WORLDS:
        processes = [context.Process(target=work, args=(rank, ranks, folder)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes += [process.exitcode for process in processes]
    return 0 if not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
