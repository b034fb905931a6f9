"""Settings of alignment jobs that can't work are refused before Ray, a run or weights exist; metrics are declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import LlamaConfig

from raysafe.alignment import job as job_module
from raysafe.alignment.dpo import DPOJob, DPOLearner
from raysafe.alignment.job import AlignmentJob
from raysafe.alignment.reward_model import RewardLearner, RewardModelJob
from raysafe.alignment.scratch import ScratchJob
from raysafe.alignment.sft import SFTJob, SFTLearner
from raysafe.data.readers import read
from raysafe.data.tokenise import tokenise
from raysafe.errors import ConfigError, ModelError
from raysafe.models.language import check_vocabulary, context_length, load_tokenizer

CONTEXT = context_length("preset:tiny")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path / "cache"))


def job(kind: type[AlignmentJob] = DPOJob, **fields: Any) -> AlignmentJob:
    return kind(**({"model": "preset:tiny", "data": "rows.jsonl"} | fields))


def test_max_length_above_the_context_is_refused_before_a_run_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "preflight", lambda *_: pytest.fail("Ray was asked first"))
    with pytest.raises(ConfigError, match=rf"max_length {CONTEXT + 1} exceeds .* which is {CONTEXT} tokens"):
        job(max_length=CONTEXT + 1, storage=str(tmp_path / "runs")).run()
    assert not (tmp_path / "runs").exists()


def test_max_length_up_to_the_context_is_taken() -> None:
    job(max_length=CONTEXT).check_model()
    job(max_length=8).check_model()


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused_by_the_config_alone() -> None:
    tokenizer = load_tokenizer("preset:tiny")
    check_vocabulary(LlamaConfig(vocab_size=len(tokenizer)), tokenizer)
    with pytest.raises(ModelError, match=f"has {len(tokenizer)} tokens, the model {len(tokenizer) - 1}"):
        check_vocabulary(LlamaConfig(vocab_size=len(tokenizer) - 1), tokenizer)


def test_a_job_checks_the_tokenizer_before_a_run_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "load_config", lambda _: LlamaConfig(vocab_size=10))
    with pytest.raises(ModelError, match="don't belong together"):
        job(RewardModelJob, storage=str(tmp_path / "runs")).run()
    assert not (tmp_path / "runs").exists()


def test_parts_that_leave_nothing_to_train_on_are_refused_naming_both() -> None:
    shares = {"validation_fraction": 0.6, "test_fraction": 0.4}
    for make in (lambda: job(SFTJob, **shares), lambda: ScratchJob(data="d.jsonl", kind="ratings", **shares)):
        with pytest.raises(ConfigError, match=r"validation_fraction 0\.6 and test_fraction 0\.4 leave no rows"):
            make()


@pytest.mark.parametrize(("kind", "figure"), [(SFTJob, "accuracy"), (DPOJob, "gap"), (RewardModelJob, "margin")])
def test_a_monitor_that_is_not_measured_is_refused_with_those_that_are(kind: type[AlignmentJob], figure: str) -> None:
    with pytest.raises(ConfigError, match=f"training.monitor '{figure}' is not measured here; choose one of loss"):
        job(kind, training={"monitor": figure})


@pytest.mark.parametrize("kind", [SFTJob, DPOJob, RewardModelJob])
def test_every_figure_that_a_job_measures_may_be_monitored(kind: type[AlignmentJob]) -> None:
    for figure in ("loss", *job(kind).measures):
        assert job(kind, training={"monitor": figure}).training.monitor == figure


def test_learners_measure_what_they_declare_and_name_rows_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    path.write_text("{oops\n" + json.dumps(row) + "\n" + json.dumps(row | {"prompt": "d"}) + "\n")
    demonstrations = tmp_path / "demonstrations.jsonl"
    demonstrations.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    layout = {"pack": False, "share_prompt": False}
    pairs = read(str(path), "preferences", skip_bad_rows=True).table
    chat = job().chat_format()
    pair_rows = tokenise(pairs, "preferences", chat, longest=CONTEXT)
    for name in ("logp_chosen", "logp_rejected"):
        pair_rows = pair_rows.append_column(name, [[-1.0, -1.0]])
    completions = tokenise(read(str(demonstrations), "demonstrations").table, "demonstrations", chat, longest=CONTEXT)
    for learner, rows in (
        (SFTLearner(cast(SFTJob, job(SFTJob, layout=layout))), completions),
        (DPOLearner(cast(DPOJob, job(layout=layout))), pair_rows),
        (RewardLearner(cast(RewardModelJob, job(RewardModelJob, layout=layout)), seed=0), pair_rows),
    ):
        with torch.no_grad():
            _, metrics = learner.loss(learner.build(), learner.collate(rows))
        assert set(metrics) == set(learner.measures)
        if rows is pair_rows:
            assert learner.name_rows(rows, [1]) == f"{path}:3"
