"""A model's answers as pairs to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raysafe.errors import ConfigError
from raysafe.feedback import pairs
from raysafe.feedback.items import read_items
from raysafe.feedback.pairs import PairsConfig, pairs_of, write_pairs
from raysafe.models.generate.engine import SamplingParams


def config(tmp_path: Path, **fields) -> PairsConfig:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(3)))
    values = {
        "model": "preset:tiny",
        "prompts": str(prompts),
        "to": str(tmp_path / "pairs.jsonl"),
        "max_new_tokens": 12,
    }
    return PairsConfig(**(values | fields))


def test_every_two_different_answers_are_a_pair() -> None:
    assert pairs_of(["x", "y", "x ", "", "z"]) == [("x", "y"), ("x", "z"), ("y", "z")]
    assert pairs_of(["x", "x"]) == pairs_of([""]) == []


def test_answers_are_drawn_as_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(tmp_path, n=3, temperature=0.5, seed=7, max_new_tokens=9)
    seen: list[Any] = []

    def answer(model: str, prompts: pa.Table, sampling: SamplingParams, **settings: Any) -> list[list[str]]:
        seen.append((model, sampling))
        return [["x", "y", "z"]] * prompts.num_rows

    monkeypatch.setattr(pairs, "answer_prompts", answer)
    assert write_pairs(asked).pairs == 9
    assert seen == [("preset:tiny", SamplingParams(max_tokens=9, temperature=0.5, seed=7, n=3))]


def test_only_the_first_prompts_are_answered_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(model: str, prompts: pa.Table, sampling: SamplingParams, **settings: Any) -> list[list[str]]:
        return [["x", "y"]] * prompts.num_rows

    monkeypatch.setattr(pairs, "answer_prompts", answer)
    assert write_pairs(config(tmp_path, limit=2)).pairs == 2
    assert len(Path(tmp_path, "pairs.jsonl").read_text().splitlines()) == 2


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    asked = config(tmp_path)
    Path(asked.to).write_text("judged already")
    with pytest.raises(ConfigError, match="is there already"):
        write_pairs(asked)
    assert Path(asked.to).read_text() == "judged already"


@pytest.mark.ray
def test_the_pairs_are_items_for_raters(tmp_path: Path, ray_cluster: None) -> None:
    asked = config(tmp_path, n=3)
    written = write_pairs(asked)
    items = read_items(asked.to)
    assert len(items) == written.pairs > 0 and all(item.compares and item.prompt for item in items)
