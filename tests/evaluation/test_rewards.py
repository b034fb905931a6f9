"""Implicit rewards are of the pairs that were scored, wherever these stand in their file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raysafe.alignment import reference
from raysafe.data.readers import read
from raysafe.errors import DataError
from raysafe.evaluation.job import EvaluateJob
from raysafe.evaluation.rewards import implicit_rewards
from raysafe.models.language import context_length


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    """Lines 2, 3 and 4 of a file, the third one longer than the context; lengths stand for log-probabilities."""
    monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path / "cache"))

    def with_logprobs(model: str, rows: pa.Table, **_: Any) -> pa.Table:
        for name in ("chosen", "rejected"):
            lengths = [float(len(ids)) for ids in rows[f"{name}_ids"].to_pylist()]
            rows = rows.append_column(f"logp_{name}", pa.array(lengths))
        return rows

    monkeypatch.setattr(reference, "with_logprobs", with_logprobs)
    prompts = ["first", "x" * context_length("preset:tiny"), "last"]
    lines = ["{oops", *(json.dumps({"prompt": p, "chosen": "yes", "rejected": "no"}) for p in prompts)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return read(str(tmp_path / "pairs.jsonl"), "preferences", skip_bad_rows=True).table


def job(**fields: Any) -> EvaluateJob:
    tiny = {"model": "preset:tiny", "reference": "preset:tiny", "data": "-", "suite": "preference-accuracy"}
    return EvaluateJob(**(tiny | fields))


def test_pairs_that_were_scored_are_found_by_their_lines(pairs: pa.Table) -> None:
    kept, chosen_B, rejected_B = implicit_rewards(job(too_long="drop"), pairs)
    assert [prompt[0]["content"] for prompt in kept["prompt"].to_pylist()] == ["first", "last"]
    assert len(chosen_B) == len(rejected_B) == 2


def test_a_pair_beyond_the_context_is_named_by_line_without_advice_that_evaluate_cannot_take(pairs: pa.Table) -> None:
    with pytest.raises(DataError, match=r"pairs\.jsonl:3 with") as raised:
        implicit_rewards(job(), pairs)
    assert "max_length" not in str(raised.value)
