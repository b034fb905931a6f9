"""TRL 1.16 as the oracle of the preference losses: loss and gradient of each kind on the same pairs and weights.

    .venv-bench/bin/python -m tests.bench.trl_losses

TRL's own trainers compute one padded batch; RaySafe's learners compute the same pairs packed and padded. The reference
is another policy than the trained one, so that no difference of log-probabilities is zero. TRL has no conservative
loss: its `aot` of a single pair is the same formula, for sorting one pair changes nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from raysafe.alignment.dpo import DPOJob, DPOLearner
from raysafe.alignment.losses import bradley_terry_loss
from raysafe.alignment.reference import _logprobs
from raysafe.models.language import save_policy
from raysafe.models.packing import Layout
from raysafe.models.presets import make_policy, train_tokenizer

PAIRS, BETA, SMOOTHING, LIMIT = 6, 0.3, 0.2, 1e-5
KINDS = {"sigmoid": "sigmoid", "conservative": "aot", "robust": "robust", "ipo": "ipo", "hinge": "hinge"}
LAYOUTS = {
    "packed": Layout(),
    "padded": Layout(share_prompt=False, pack=False, completion_logits=False),
}


def random_pairs(vocabulary: int) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = {name: [] for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    for _ in range(PAIRS):
        for column in rows.values():
            column.append(rng.integers(3, vocabulary, rng.integers(3, 12)).tolist())
    length = [sum(map(len, row)) for row in zip(*rows.values(), strict=True)]
    columns = {name: pa.array(column, pa.list_(pa.int32())) for name, column in rows.items()}
    return pa.table(columns | {"length": pa.array(length, pa.int32())})


def gradient(module: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


def own(job: DPOJob, rows: pa.Table, reference: str) -> tuple[float, Tensor]:
    """RaySafe's mean loss over the pairs, and its gradient."""
    logps = _logprobs(reference, job.layout, 4096, "float32", gpu=False)(rows)
    for name in logps.column_names:
        rows = rows.append_column(name, logps[name])
    learner = DPOLearner(job)
    module = learner.build().train()
    batch = learner.collate(rows)
    loss = learner.loss(module, batch)[0] / batch.weight
    loss.backward()
    return float(loss.detach()), gradient(module)


def theirs(kind: str, smoothing: float, policy: str, reference: str, rows: pa.Table) -> tuple[float, Tensor]:
    """TRL's mean loss over batches of one pair, and its gradient."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    class Prepared(DPOTrainer):
        """Takes rows that are token ids already."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    data = Dataset.from_list(rows.select(["prompt_ids", "chosen_ids", "rejected_ids"]).to_pylist())
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder, loss_type=kind, label_smoothing=smoothing, beta=BETA, max_length=None, use_cpu=True,
            bf16=False, gradient_checkpointing=False, report_to="none", disable_tqdm=True,
            per_device_train_batch_size=1,
        )  # fmt: skip
        trainer = Prepared(
            model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
            ref_model=AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32),
            args=config,
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(policy),
        )
        trainer.model.train()
        losses = [trainer.compute_loss(trainer.model, trainer.data_collator([row])) for row in data]
    loss = torch.stack(losses).mean()
    loss.backward()
    return float(loss.detach()), gradient(trainer.model)


def reward_losses(policy: str) -> tuple[float, float]:
    """Largest relative differences of TRL's RewardTrainer and bradley_terry_loss, with margin and centring."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    class Prepared(RewardTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

    rows = random_pairs(259).to_pylist()
    data = Dataset.from_list([{k: r[k] for k in ("chosen_ids", "rejected_ids")} | {"margin": 0.3} for r in rows])
    model = AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        config = RewardConfig(
            output_dir=folder, center_rewards_coefficient=0.05, max_length=None, use_cpu=True, bf16=False,
            gradient_checkpointing=False, report_to="none", disable_tqdm=True, per_device_train_batch_size=PAIRS,
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(policy)
        trainer = Prepared(model=model, args=config, train_dataset=data, processing_class=tokenizer)
        inputs = trainer.data_collator(list(data))
        loss = trainer.compute_loss(trainer.model, dict(inputs))
    loss.backward()
    expected, expected_gradient = float(loss.detach()), gradient(trainer.model)
    trainer.model.zero_grad()
    plain = {name: value for name, value in inputs.items() if name != "margin"}
    rewards_2B = trainer.model(**plain).logits.squeeze(-1)
    mean = bradley_terry_loss(rewards_2B[:PAIRS], rewards_2B[PAIRS:], margin_B=inputs["margin"], center=0.05).mean()
    mean.backward()
    return differences((float(mean.detach()), gradient(trainer.model)), (expected, expected_gradient))


def differences(found: tuple[float, Tensor], expected: tuple[float, Tensor]) -> tuple[float, float]:
    """Relative differences of loss and gradient."""
    loss = abs(found[0] - expected[0]) / abs(expected[0])
    return loss, float((found[1] - expected[1]).norm() / expected[1].norm())


def main() -> int:
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_tokenizer(["random tokens"], 259)
        for name, seed in (("policy", 1), ("reference", 2)):
            save_policy(make_policy("tiny", tokenizer, seed), tokenizer, f"{folder}/{name}")
        policy, reference = f"{folder}/policy", f"{folder}/reference"
        rows = random_pairs(len(tokenizer))
        for kind, peer in KINDS.items():
            smoothing = SMOOTHING if kind in ("conservative", "robust") else 0.0
            expected = theirs(peer, smoothing, policy, reference, rows)
            for layout_name, layout in LAYOUTS.items():
                job = DPOJob(model=policy, data="given", beta=BETA, kind=kind, label_smoothing=smoothing, layout=layout)  # type: ignore[arg-type]
                loss, grad = differences(own(job, rows, reference), expected)
                results[f"{kind}, {layout_name}"] = {"loss": loss, "gradient": grad}
        loss, grad = reward_losses(policy)
        results["Bradley-Terry with margin and centring"] = {"loss": loss, "gradient": grad}
    for name, result in results.items():
        print(f"{name:40} loss {result['loss']:.1e}  gradient {result['gradient']:.1e}", file=sys.stderr)
    print(json.dumps(results))
    return 0 if all(max(r.values()) <= LIMIT for r in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
