"""A model from nothing: what its tokenizer has seen, and what is in its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raysafe.alignment.scratch import ScratchJob
from raysafe.data.readers import read
from raysafe.data.split import split_by_prompt
from raysafe.errors import ConfigError
from raysafe.models.presets import Preset

SHAPE = Preset(layers=1, width=32, heads=2, key_value_heads=1, feedforward=64, context=128)


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Sentences that each hold a word of their own, often enough to become a token where it is seen."""
    rows = [{"text": f"{chr(97 + i // 8)}{chr(97 + i % 8)}qzword " * 30, "rating": i % 5} for i in range(40)]
    path = tmp_path / "ratings.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make(ratings: Path, **fields: object) -> ScratchJob:
    values = {
        "data": str(ratings),
        "kind": "ratings",
        "shape": SHAPE,
        "vocabulary": 2000,
        "storage": str(ratings.parent),
    }
    return ScratchJob(**(values | fields))


def test_the_tokenizer_sees_the_training_part_alone(ratings: Path) -> None:
    job = make(ratings, validation_fraction=0.2, test_fraction=0.3)
    tokenizer = AutoTokenizer.from_pretrained(job.run().folder.local_path("model"))
    parts = split_by_prompt(read(str(ratings), "ratings").table, {"train": 0.5, "validation": 0.2, "test": 0.3})
    length = {
        part: {len(tokenizer(f" {text.split()[0]}")["input_ids"]) for text in table["text"].to_pylist()}
        for part, table in parts.items()
    }
    assert length["train"] == {1}
    assert min(length["test"]) > 1 and min(length["validation"]) > 1


def test_the_model_has_the_shape_and_the_seed_draws_its_weights(ratings: Path) -> None:
    first, again, other = (
        AutoModelForCausalLM.from_pretrained(make(ratings, seed=seed).run().folder.local_path("model"))
        for seed in (0, 0, 1)
    )
    assert (first.config.num_hidden_layers, first.config.hidden_size) == (1, 32)
    weights = [model.model.layers[0].mlp.up_proj.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_run_knows_what_it_was_made_of(ratings: Path) -> None:
    run = make(ratings).run()
    assert run.status == "finished" and b">finished</span>" in run.folder.read("report.html")
    assert [(i["kind"], i["uri"]) for i in run.environment["inputs"]] == [("data", str(ratings))]


def test_an_impossible_shape_is_refused_with_its_numbers(ratings: Path) -> None:
    with pytest.raises(ConfigError, match=r"multiple of shape\.heads.*got 30, 4 and 4"):
        make(ratings, shape=SHAPE.model_copy(update={"width": 30, "heads": 4, "key_value_heads": 4}))
