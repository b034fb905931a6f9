"""A model's answers as pairs to compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raysafe.data.readers import read
from raysafe.errors import ConfigError
from raysafe.feedback import pairs
from raysafe.feedback.items import read_items
from raysafe.feedback.pairs import Answerer, PairsConfig, pairs_of, write_pairs
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


def test_each_prompt_gets_as_many_answers_as_asked_for_and_the_seed_repeats_them(tmp_path: Path) -> None:
    asked = config(tmp_path, n=3)
    prompts = read(asked.prompts, "prompts").table
    answers = Answerer(asked)(prompts)["answers"].to_pylist()
    assert [len(some) for some in answers] == [3, 3, 3] and len(set(answers[0])) > 1
    assert Answerer(asked)(prompts)["answers"].to_pylist() == answers


def test_answers_are_drawn_as_the_settings_say(tmp_path: Path) -> None:
    asked = config(tmp_path, n=3, temperature=0.5, seed=7, max_new_tokens=9)
    assert Answerer(asked).sampling == SamplingParams(max_tokens=9, temperature=0.5, seed=7, n=3)


def test_only_the_first_prompts_are_answered_where_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(make: Any, table: pa.Table, **settings: Any) -> pa.Table:
        return table.append_column("answers", pa.array([["x", "y"]] * table.num_rows))

    monkeypatch.setattr(pairs, "parallel_map", answer)
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
