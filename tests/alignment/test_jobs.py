"""SFT, reward models and DPO as jobs: what can be learned is learned on held-out prompts, what can't be is not."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from raysafe.alignment.dpo import DPOJob
from raysafe.alignment.reward_model import RewardModelJob
from raysafe.alignment.sft import SFTJob
from raysafe.data.readers import read
from raysafe.models.ensemble import RewardEnsemble
from raysafe.runtime.run import Run

pytestmark = pytest.mark.ray
ROWS = 240
TRAINING = {"epochs": 3, "batch_size": 16, "learning_rate": 3e-3, "micro_tokens": 8192}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSAFE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write_pairs(path: Path, *, labels: str) -> str:
    """Polite answers are chosen over rude ones; with random labels nothing can be learned."""
    draw = random.Random(5)
    rows = []
    for i in range(ROWS):
        answers = [f"please take {draw.randint(10, 99)}", f"go away {draw.randint(10, 99)}"]
        if labels == "random" and draw.random() < 0.5:
            answers.reverse()
        rows.append({"prompt": f"number {i}", "chosen": answers[0], "rejected": answers[1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def last(run: Run, figure: str) -> float:
    return next(row[figure] for row in reversed(run.metrics) if figure in row)


@pytest.mark.parametrize("labels", ["true", "random"])
def test_dpo_learns_held_out_preferences_but_not_random_ones(ray_cluster: None, tmp_path: Path, labels: str) -> None:
    job = DPOJob(
        model="preset:tiny",
        data=write_pairs(tmp_path / "pairs.jsonl", labels=labels),
        storage=str(tmp_path),
        validation_fraction=0.3,
        training=TRAINING,
    )
    run = job.run()
    first = next(row for row in run.metrics)
    assert first["loss"] == pytest.approx(0.693147, abs=1e-4)
    accuracy = last(run, "validation/accuracy")
    assert accuracy > 0.95 if labels == "true" else 0.3 < accuracy < 0.7
    assert run.status == "finished"
    assert {i["kind"] for i in run.environment["inputs"]} == {"data", "model"}
    policy = AutoModelForCausalLM.from_pretrained(run.folder.local_path("model"))
    ids = AutoTokenizer.from_pretrained(run.folder.local_path("model"))("number", return_tensors="pt").input_ids
    assert torch.isfinite(policy(ids).logits).all()


def test_an_ensemble_of_reward_models_ranks_held_out_answers_and_disagrees_on_strange_ones(
    ray_cluster: None, tmp_path: Path
) -> None:
    run = RewardModelJob(
        model="preset:tiny",
        data=write_pairs(tmp_path / "pairs.jsonl", labels="true"),
        storage=str(tmp_path),
        test_fraction=0.2,
        center=0.01,
        members=2,
        training=TRAINING,
    ).run()
    folder = run.folder.local_path("model")
    ensemble = RewardEnsemble([folder, folder / "ensemble" / "1"])
    held_out = read(str(run.folder.local_path("held-out.jsonl")), "preferences").table
    assert held_out.num_rows > 20
    prompts = held_out["prompt"].to_pylist()
    chosen, rejected = (ensemble.score(prompts, held_out[side].to_pylist()) for side in ("chosen", "rejected"))
    assert (chosen.mean_N > rejected.mean_N).mean() > 0.95
    assert not (chosen.each_MN[0] == chosen.each_MN[1]).any()
    strange = ensemble.score(prompts, ["zzzz qqqq"] * len(prompts))
    assert strange.disagreement_N.mean() > 0
    AutoModelForSequenceClassification.from_pretrained(folder)


def test_sft_lowers_the_held_out_loss_and_the_model_carries_its_template(ray_cluster: None, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {i}", "completion": f"I say {i}, and {i} again."} for i in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    run = SFTJob(
        model="preset:tiny",
        data=str(tmp_path / "rows.jsonl"),
        storage=str(tmp_path),
        lora={"rank": 8},
        training=TRAINING | {"evaluate_every": 5},
    ).run()
    held_out = [row["validation/loss"] for row in run.metrics if "validation/loss" in row]
    # a model that knows nothing pays log(259) for each of the byte tokenizer's tokens
    assert held_out[-1] < held_out[0] < math.log(259)
    assert held_out[-1] < math.log(259) - 0.5
    tokenizer = AutoTokenizer.from_pretrained(run.folder.local_path("model"))
    assert "<|im_start|>user" in tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False)
    assert not list(run.folder.local_path("model").glob("adapter*"))
