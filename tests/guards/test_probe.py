"""A probe guard scores what its probe was trained to read, and refuses a probe of another model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysafe.errors import ModelError
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Exchange, Message, ToolCall
from raysafe.guards.policy import Policy
from raysafe.guards.probe import ProbeGuardConfig
from raysafe.models.activations import ActivationReader
from raysafe.models.language import load_tokenizer, model_digest, save_policy
from raysafe.models.presets import make_policy
from raysafe.models.probe import Controls, Probe, ProbeCard

PROVEN = Controls(
    held_out=1, held_out_low=1, shuffled_labels=0.6, random_direction=0.6, untrained=0.7, above_untrained=0.2,
    examples=40, groups=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tokenizer = load_tokenizer("preset:tiny")
    save_policy(make_policy("tiny", tokenizer), tokenizer, path)
    return path


def write_probe(folder: Path, path: Path, letter: str = "z", **changed: Any) -> Path:
    """A probe of the embeddings that fires where any token is the letter: its own row, which is nearly orthogonal
    to those of the others, scaled to length one."""
    reader = ActivationReader.load(folder)
    row_D = reader.policy.get_input_embeddings().weight[reader.chat.tokenizer(letter)["input_ids"][0]]
    row_D = row_D.detach().double().numpy()
    values = {
        "concept": "z", "model_digest": model_digest(folder), "architecture": "LlamaForCausalLM", "hidden_size": 64,
        "layers": 2, "layer": 0, "position": "max", "text": "prompt", "template": reader.chat.fingerprint,
        "bias": -0.75, "slope": 20.0, "offset": 0.0, "threshold": 0.5, "false_positives": 0.05, "controls": PROVEN,
    }  # fmt: skip
    card = ProbeCard(**(values | changed))
    weights_D = (row_D / (row_D @ row_D))[: card.hidden_size]
    Probe(card, weights_D, np.zeros(card.hidden_size), np.ones(card.hidden_size)).save(path)
    return path


def exchange(text: str, answer: str = "", *calls: ToolCall) -> Exchange:
    return Exchange("r", "k", "m", (Message("user", text),), output=answer, tool_calls=calls)


def test_a_planted_feature_of_the_request_stops_it(folder: Path, tmp_path: Path) -> None:
    path = write_probe(folder, tmp_path / "p")
    entry = {"kind": "probe", "probe": str(path), "model": str(folder), "action": "hold"}
    pipeline = Policy.parse({"guards": [entry]}, "p.yaml").build()
    assert pipeline.check_text("a zoo").action == "hold" and pipeline.check_text("a park").action == "allow"
    assert pipeline.check_text("a zoo").verdicts[0].score > 0.9 > pipeline.check_text("a park").verdicts[0].score
    assert not pipeline.at("output")


def test_a_probe_of_answers_reads_the_answer_and_not_its_request(folder: Path, tmp_path: Path) -> None:
    guard = ProbeGuardConfig(probe=write_probe(folder, tmp_path / "p", text="answer"), model=str(folder)).build()
    assert guard.stages == {"output"}
    assert guard.check(exchange("a zoo", "no"), "output").action == "allow"
    assert guard.check(exchange("no", "a zoo"), "output").action == "block"
    calls = (ToolCall("1", "t", '{"a": 1}'), ToolCall("2", "t", '{"z": 1}'))
    assert guard.check(exchange("no", "", *calls[:1]), "tool_call").action == "allow"
    assert guard.check(exchange("no", "", *calls), "tool_call").action == "block"


def test_the_policys_threshold_goes_before_the_probes(folder: Path, tmp_path: Path) -> None:
    guard = ProbeGuardConfig(probe=write_probe(folder, tmp_path / "p"), model=str(folder), threshold=0.999).build()
    assert guard.check(exchange("a zoo"), "input").action == "allow"


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        (
            {"model_digest": "ab" * 32},
            ["of the model abababababab (a LlamaForCausalLM of hidden size 64), but", " is "],
        ),
        ({"hidden_size": 32}, ["reads 2 blocks of hidden size 32, but", "has 2 of 64"]),
        ({"layers": 5}, ["reads 5 blocks of hidden size 64, but", "has 2 of 64"]),
        ({"template": "ab" * 32}, ["trained with the chat template abababababab, but chat_template 'auto'"]),
    ],
)
def test_a_probe_of_another_model_is_refused_and_both_are_named(
    folder: Path, tmp_path: Path, changed: dict[str, Any], parts: list[str]
) -> None:
    path = write_probe(folder, tmp_path / "p", **changed)
    with pytest.raises(ModelError) as caught:
        ProbeGuardConfig(probe=path, model=str(folder)).build()
    assert str(path) in str(caught.value) and str(folder) in str(caught.value)
    assert all(part in str(caught.value) for part in parts)


def test_a_probe_that_did_not_beat_its_controls_is_refused_unless_it_is_accepted(folder: Path, tmp_path: Path) -> None:
    path = write_probe(folder, tmp_path / "p", controls=PROVEN.model_copy(update={"above_untrained": -0.1}))
    with pytest.raises(ModelError, match=r"is not better than its controls: area 1\.000"):
        ProbeGuardConfig(probe=path, model=str(folder)).build()
    assert ProbeGuardConfig(probe=path, model=str(folder), accept_unproven=True).build().threshold == 0.5


def test_a_text_that_cannot_be_read_whole_closes(folder: Path, tmp_path: Path) -> None:
    guard = ProbeGuardConfig(probe=write_probe(folder, tmp_path / "p"), model=str(folder)).build()
    verdict = Entry(guard).check(exchange("a" * 5000), "input")
    assert verdict.action == "block" and verdict.error is not None and verdict.error.startswith("ModelError at")
