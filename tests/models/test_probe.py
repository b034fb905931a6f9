"""A probe's file holds all that its numbers mean; whatever is wrong with it is refused when it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from raysafe.errors import ConfigError, ModelError, RaySafeError
from raysafe.models.probe import Controls, Position, Probe, ProbeCard, load_probe

CONTROLS = Controls(
    held_out=0.9, held_out_low=0.8, shuffled_labels=0.6, random_direction=0.6, untrained=0.7, above_untrained=0.1,
    examples=40, groups=4,
)  # fmt: skip


def card(**changed: Any) -> ProbeCard:
    values = {
        "concept": "harm", "model_digest": "0" * 64, "architecture": "LlamaForCausalLM", "hidden_size": 2, "layers": 3,
        "layer": 1, "position": "last", "text": "prompt", "template": "1" * 64, "bias": 0.5, "slope": 2.0,
        "offset": -1.0, "threshold": 0.5, "false_positives": 0.05, "controls": CONTROLS,
    }  # fmt: skip
    return ProbeCard(**(values | changed))


def probe(**changed: Any) -> Probe:
    return Probe(card(**changed), np.array([1.0, -2.0]), np.array([1.0, 1.0]), np.array([2.0, 0.5]))


@pytest.mark.parametrize(("position", "logit"), [("last", -1.5), ("mean", -0.25), ("max", 1.0)])
def test_a_texts_logit_worked_by_hand(position: Position, logit: float) -> None:
    # (x - mean) / scale of the tokens: (1, 0.25), (0, 1)
    states_TD = np.array([[3.0, 1.125], [1.0, 1.5]])
    built = probe(position=position)
    assert built.logit(states_TD) == pytest.approx(logit)
    assert built.probability(states_TD) == pytest.approx(1 / (1 + np.exp(-(2 * logit - 1))))


def test_a_saved_probe_is_the_same_when_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "p.safetensors"
    probe().save(path)
    loaded = load_probe(path)
    assert loaded.card == card()
    for name in ("weights_D", "mean_D", "scale_D"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(probe(), name))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"layer": 4}, "layer 4 is beyond the model's 3 blocks"),
        ({"threshold": 1.0}, "threshold: Input should be less than 1"),
        ({"slope": 0.0}, "slope: Input should be greater than 0"),
        ({"bias": float("nan")}, "bias: Input should be a finite number"),
        ({"format": "raysafe-probe-2"}, "format: Input should be 'raysafe-probe-1'"),
        ({"model_digest": "abc"}, "model_digest: String should match pattern"),
        ({"hidden_size": 3}, "a probe's weights must be 3 finite numbers"),
    ],
)
def test_a_card_that_cannot_be_is_refused(changed: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    values = json.loads(card().model_dump_json()) | changed
    arrays = {"weights": np.zeros(2), "mean": np.zeros(2), "scale": np.ones(2)}
    save_file(arrays, tmp_path / "p", {"probe": json.dumps(values)})
    with pytest.raises((ConfigError, ModelError)) as caught:
        load_probe(tmp_path / "p")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("name", "values"), [("weights", [np.nan, 0.0]), ("scale", [0.0, 1.0]), ("mean", [1.0])])
def test_arrays_that_cannot_be_are_refused(name: str, values: list[float], tmp_path: Path) -> None:
    arrays = {"weights": np.zeros(2), "mean": np.zeros(2), "scale": np.ones(2)} | {name: np.array(values)}
    save_file(arrays, tmp_path / "p", {"probe": card().model_dump_json()})
    with pytest.raises(ModelError, match=f"a probe's {name} must be"):
        load_probe(tmp_path / "p")


@pytest.mark.parametrize("metadata", [None, {"probe": "{"}, {"probe": "[]"}, {"other": "1"}])
def test_a_file_that_is_no_probe_is_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({"weights": np.zeros(2), "mean": np.zeros(2), "scale": np.ones(2)}, tmp_path / "p", metadata)
    with pytest.raises(ModelError):
        load_probe(tmp_path / "p")


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04pickle", b"\xff" * 100])
def test_no_file_and_no_safetensors_are_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "p").write_bytes(content)
    with pytest.raises(RaySafeError):
        load_probe(tmp_path / "p")


@pytest.mark.parametrize(
    "worse", [{"held_out_low": 0.6}, {"shuffled_labels": 0.85}, {"random_direction": 0.81}, {"above_untrained": 0.0}]
)
def test_controls_are_beaten_only_where_each_is(worse: dict[str, float]) -> None:
    assert CONTROLS.beaten and not Controls(**(CONTROLS.model_dump() | worse)).beaten
