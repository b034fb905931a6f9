"""A reward model on real human judgements: small, from scratch, on sentences that twenty people rated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysafe.alignment.reward_model import RewardModelJob
from raysafe.data.readers import read
from raysafe.data.split import split_by_prompt
from raysafe.evaluation.job import EvaluateJob
from raysafe.models.language import save_policy
from raysafe.models.presets import Preset, make_policy, train_tokenizer
from raysafe.runtime.run import Run

RATED = Path(os.environ.get("RAYSAFE_RATED_SENTENCES", "~/.cache/raysafe-test/rated-sentences")).expanduser()
SHAPE = Preset(layers=2, width=128, heads=4, key_value_heads=4, feedforward=344, context=1024)


def train(storage: Path) -> Run:
    """Split the sentences, make a tokenizer of the training ones, train on pairs of them."""
    fractions = {"train": 0.7, "validation": 0.1, "test": 0.2}
    texts = split_by_prompt(read(str(RATED), "ratings").table, fractions)["train"]["text"].to_pylist()
    tokenizer = train_tokenizer(texts, 4000)
    save_policy(make_policy(SHAPE, tokenizer, 0), tokenizer, storage / "start")
    return RewardModelJob(
        model=str(storage / "start"),
        data=str(RATED),
        min_gap=0.5,
        validation_fraction=0.1,
        test_fraction=0.2,
        storage=str(storage),
        too_long="drop",
        training={
            "epochs": 1,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "weight_decay": 0.01,
            "evaluate_every": 200,
            "monitor": "accuracy",
            "monitor_mode": "max",
        },
    ).run()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(not RATED.is_dir(), reason="the rated sentences are not in the user's cache")
def test_held_out_pairs_are_ranked_as_people_rank_them(ray_cluster: None, tmp_path: Path) -> None:
    run = train(tmp_path)
    examined = EvaluateJob(
        model=run.uri,
        suite="preference-accuracy",
        data=str(run.folder.local_path("held-out.jsonl")),
        storage=str(tmp_path),
        store=f"sqlite:///{tmp_path}/raysafe.db",
    ).run()
    accuracy = next(e for e in examined.evidence if e.metric == "accuracy")
    print(f"held-out pair accuracy {accuracy.value:.3f}, 95% interval {accuracy.interval}, n = {accuracy.n}")
    assert accuracy.value >= 0.70
