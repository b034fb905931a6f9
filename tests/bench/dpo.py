"""DPO's speed: fit() against a plain PyTorch loop, and against TRL's DPOTrainer on real pairs. Prints ratios.

    .venv/bin/python -m tests.bench.dpo plain
    .venv-bench/bin/python -m tests.bench.dpo trl    (`make bench` sets up this environment, with TRL 1.16)

Both sides run in this process tree, one after the other, with the same weights, rows, order and thread count; start-up
is counted on neither side. Quiet machine only.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import pyarrow as pa
import torch
import tyro

from raysafe.alignment.dpo import DPOJob, DPOLearner
from raysafe.alignment.losses import dpo_loss
from raysafe.alignment.reference import with_logprobs
from raysafe.data.readers import read
from raysafe.data.tokenise import tokenise
from raysafe.models.chat import ChatFormat
from raysafe.models.language import load_policy, save_policy
from raysafe.models.packing import Layout
from raysafe.models.presets import PRESETS, make_policy, train_tokenizer
from raysafe.runtime.batches import epoch_order
from raysafe.runtime.cluster import Needs
from raysafe.runtime.fit import fit
from raysafe.runtime.learner import FitConfig
from raysafe.runtime.run import Run
from tests.real_data import HH_RLHF

BATCH, LEARNING_RATE, BETA, WARM_UP = 16, 1e-4, 0.1, 3


def settings(threads: int, steps: int, micro_tokens: int) -> FitConfig:
    return FitConfig(
        max_steps=steps,
        batch_size=BATCH,
        micro_tokens=micro_tokens,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        warmup_fraction=0.0,
        clip_norm=1.0,
        betas=(0.9, 0.999),
        precision="float32",
        cpus_per_worker=threads,
    )


def run_raysafe(model: str, rows: pa.Table, config: FitConfig, folder: str, layout: Layout) -> dict[str, Any]:
    """Losses and pairs per second of fit(), and seconds that the reference pass took per pair."""
    job = DPOJob(model=model, data="given", storage=folder, beta=BETA, training=config, layout=layout)
    needs = Needs(workers=1, cpus=config.cpus_per_worker)
    os.environ["RAYSAFE_CACHE"] = f"{folder}/cache"  # the reference pass is timed, not read from an earlier run
    started = time.perf_counter()
    with_logprobs(model, rows.slice(0, 1), layout=layout, needs=needs)
    start_up_s = time.perf_counter() - started
    started = time.perf_counter()
    rows = with_logprobs(model, rows, layout=layout, micro_tokens=config.micro_tokens, needs=needs)
    reference_s = (time.perf_counter() - started - start_up_s) / rows.num_rows
    run = Run.create(job)
    fit(DPOLearner(job), run, config, train=rows, seed=0)
    seconds = [BATCH / row["rows_per_s"] for row in run.metrics[WARM_UP:]]
    losses = [row["loss"] for row in run.metrics]
    return {"losses": losses, "pairs_per_s": BATCH / float(np.mean(seconds)), "reference_s_per_pair": reference_s}


def random_pairs(pairs: int, prompt: int, answer: int, vocabulary: int) -> pa.Table:
    """Pairs of equal lengths: nothing to pack, and prompts too short to share to much effect."""
    rng = np.random.default_rng(0)
    draw = lambda n: [rng.integers(3, vocabulary, n).tolist() for _ in range(pairs)]  # noqa: E731
    columns = {"prompt_ids": draw(prompt), "chosen_ids": draw(answer), "rejected_ids": draw(answer)}
    length = pa.array([prompt + 2 * answer] * pairs, pa.int32())
    return pa.table({n: pa.array(c, pa.list_(pa.int32())) for n, c in columns.items()} | {"length": length})


def run_plain(model: str, rows: pa.Table, threads: int, steps: int) -> dict[str, Any]:
    """What one writes by hand: padded batches, stored reference log-probabilities, AdamW, clipping."""
    torch.set_num_threads(threads)
    policy, reference = load_policy(model).train(), load_policy(model)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)
    table = rows.take(pa.array(epoch_order(rows.num_rows, seed=0, epoch=0))).to_pylist()

    def logps(module: Any, batch: list[dict[str, Any]]) -> torch.Tensor:
        ids = torch.tensor([r["prompt_ids"] + r[k] for k in ("chosen_ids", "rejected_ids") for r in batch])
        start = len(batch[0]["prompt_ids"])
        logits = module(input_ids=ids, use_cache=False).logits[:, start - 1 : -1]
        return logits.log_softmax(-1).gather(-1, ids[:, start:, None]).squeeze(-1).sum(-1)

    batches = [table[i * BATCH : (i + 1) * BATCH] for i in range(steps)]
    with torch.no_grad():
        stored = [logps(reference, batch) for batch in batches]
    losses, seconds = [], []
    for batch, ref_2B in zip(batches, stored, strict=True):
        started = time.perf_counter()
        policy_2B = logps(policy, batch)
        loss = dpo_loss(policy_2B[:BATCH], policy_2B[BATCH:], ref_2B[:BATCH], ref_2B[BATCH:], beta=BETA)[0].mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    return {"losses": losses, "pairs_per_s": BATCH / float(np.mean(seconds[WARM_UP:]))}


def run_trl(model: str, rows: pa.Table, threads: int, steps: int, folder: str) -> dict[str, Any]:
    """TRL's DPOTrainer on the same token ids in the same order, its defaults otherwise."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    torch.set_num_threads(threads)
    ordered = rows.take(pa.array(epoch_order(rows.num_rows, seed=0, epoch=0)))
    losses: list[float] = []
    seconds: list[float] = []

    class Prepared(DPOTrainer):
        """Takes rows that are token ids already, in the order in which they stand."""

        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            seconds.append(time.perf_counter() - self.started)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                losses.append(logs["loss"])

    config = DPOConfig(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        max_steps=steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        beta=BETA,
        max_length=None,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Prepared(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=config,
        train_dataset=Dataset.from_list(ordered.select(["prompt_ids", "chosen_ids", "rejected_ids"]).to_pylist()),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Clock()],
    )
    trainer.train()
    return {"losses": losses, "pairs_per_s": BATCH / float(np.mean(seconds[WARM_UP:]))}


Json = Annotated[Path | None, tyro.conf.arg(name="json", help="Write the figures to this file.")]


def plain(*, steps: int = 20, threads: int = 2, json_file: Json = None) -> None:
    """fit() against the plain loop on equal-length random pairs: at least 0.95 of its pairs per second."""
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/model"
        tokenizer = train_tokenizer(["random tokens"], 259)
        save_policy(make_policy(PRESETS["small"], tokenizer, 0), tokenizer, model)
        rows = random_pairs(steps * BATCH, 32, 96, len(tokenizer))
        other = run_plain(model, rows, threads, steps)
        own = run_raysafe(model, rows, settings(threads, steps, 8192), folder, Layout())
        again = run_plain(model, rows, threads, steps)
    best = max(other["pairs_per_s"], again["pairs_per_s"])
    report(
        {
            "steps": steps,
            "loss_difference": difference(own, other),
            "plain_pairs_per_s": best,
            "own_pairs_per_s": own["pairs_per_s"],
            "ratio": own["pairs_per_s"] / best,
        },
        json_file,
    )


def trl(
    *,
    data: Annotated[Path, tyro.conf.arg(help="hh-rlhf pairs")] = HH_RLHF,
    steps: int = 12,
    threads: int = 2,
    json_file: Json = None,
) -> None:
    """fit() against TRL's DPOTrainer on real pairs: a 4-layer, 256-wide Llama, batch 16, float32."""
    found = read(str(data), "preferences", skip_bad_rows=True)
    texts = [m["content"] for prompt in found.table["prompt"].to_pylist() for m in prompt]
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/model"
        tokenizer = train_tokenizer(texts + found.table["chosen"].to_pylist(), 8192)
        save_policy(make_policy(PRESETS["small"], tokenizer, 0), tokenizer, model)
        rows = tokenise(found.table, "preferences", ChatFormat(tokenizer), longest=PRESETS["small"].context)
        rows = rows.take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)[: steps * BATCH]))
        own = run_raysafe(model, rows, settings(threads, steps, 8192), folder, Layout())
        other = run_trl(model, rows, threads, steps, folder)
    whole = 1 / (1 / own["pairs_per_s"] + own["reference_s_per_pair"])
    report(
        {
            "steps": steps,
            "loss_difference": difference(own, other),
            "trl_pairs_per_s": other["pairs_per_s"],
            "own_pairs_per_s": own["pairs_per_s"],
            "own_pairs_per_s_with_reference_pass": whole,
            "ratio_of_loops": own["pairs_per_s"] / other["pairs_per_s"],
            "ratio": whole / other["pairs_per_s"],
        },
        json_file,
    )


def report(figures: dict[str, float], json_file: Path | None) -> None:
    for name, value in figures.items():
        print(f"{name:38} {value:.4g}")
    print(f"{'load average of the last minute':38} {os.getloadavg()[0]:.1f}")
    if json_file:
        json_file.write_text(json.dumps(figures))


def difference(own: dict[str, Any], other: dict[str, Any]) -> float:
    return float(np.abs(np.array(own["losses"]) - np.array(other["losses"][: len(own["losses"])])).max())


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"plain": plain, "trl": trl})
