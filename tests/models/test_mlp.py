"""Small networks: worked by hand, the same after saving and loading, refused where a folder isn't what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from raysafe.errors import ConfigError, ModelError
from raysafe.models.mlp import ClassifierHead, DiscreteHead, GaussianHead, Mlp, MlpConfig, load_mlp, save_mlp

CONFIG = MlpConfig(inputs=2, hidden=(3,), normalise=True, head=DiscreteHead(actions=2))


def fill(model: Mlp, **tensors: Any) -> Mlp:
    model.load_state_dict({name.replace("_", "."): torch.tensor(values) for name, values in tensors.items()})
    return model


def test_outputs_are_those_worked_by_hand() -> None:
    model = fill(
        Mlp(MlpConfig(inputs=2, hidden=(2,), activation="relu", normalise=True, head=DiscreteHead(actions=2))),
        layers_0_weight=[[1.0, 2.0], [-1.0, 0.0]],
        layers_0_bias=[0.5, 0.0],
        layers_1_weight=[[2.0, 1.0], [0.0, -1.0]],
        layers_1_bias=[0.0, 1.0],
        observation_mean=[1.0, 2.0],
        observation_std=[2.0, 4.0],
    )
    # (3, 10) is (1, 2) normalised; hidden (5.5, -1) becomes (5.5, 0)
    torch.testing.assert_close(model(torch.tensor([[3.0, 10.0]])), torch.tensor([[11.0, 1.0]]))


def test_a_gaussian_mean_stays_within_its_bounds() -> None:
    model = fill(
        Mlp(MlpConfig(inputs=1, head=GaussianHead(low=(-1.0, None), high=(1.0, 2.0)))),
        layers_0_weight=[[10.0], [10.0]],
        layers_0_bias=[0.0, 0.0],
    )
    torch.testing.assert_close(model(torch.tensor([[1.0], [-1.0]])), torch.tensor([[1.0, 2.0], [-1.0, -10.0]]))


HEADS = st.sampled_from(
    [ClassifierHead(labels=("a", "b", "c")), DiscreteHead(actions=4), GaussianHead(low=(None,), high=(0.5,))]
)


@given(
    st.integers(1, 5),
    st.lists(st.integers(1, 6), max_size=3),
    st.sampled_from(["relu", "tanh", "silu", "gelu", "elu"]),
    st.booleans(),
    HEADS,
)
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: int,
    hidden: list[int],
    activation: Any,
    normalise: bool,
    head: Any,
) -> None:
    config = MlpConfig(inputs=inputs, hidden=tuple(hidden), activation=activation, normalise=normalise, head=head)
    model, folder = Mlp(config), tmp_path_factory.mktemp("mlp")
    save_mlp(model, folder)
    loaded, inputs_BD = load_mlp(folder), torch.randn(7, inputs)
    assert loaded.config == config and not loaded.training
    assert torch.equal(loaded(inputs_BD), model(inputs_BD))
    json.loads((folder / "config.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layers.0.bias"), "lacks the tensor layers.0.bias"),
        (lambda t: t.update(more=torch.zeros(1)), "holds, against its config, the tensor more"),
        (lambda t: t.update({"layers.0.bias": torch.zeros(4)}), r"layers.0.bias must be float32 of shape \(3,\)"),
        (lambda t: t.update({"layers.0.bias": torch.zeros(3).double()}), "found float64"),
        (lambda t: t["layers.1.bias"].fill_(float("nan")), "values that are not finite"),
        (lambda t: t["observation.std"].fill_(0), "observation.std must be at least"),
    ],
)
def test_weights_that_are_not_as_the_config_says_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    save_mlp(Mlp(CONFIG), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_mlp(tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = Mlp(CONFIG)
    with torch.no_grad():
        model.layers[0].get_parameter("weight").fill_(torch.inf)
    with pytest.raises(ModelError, match="not finite"):
        save_mlp(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 100])
def test_a_file_that_is_no_safetensors_is_refused(content: bytes, tmp_path: Path) -> None:
    save_mlp(Mlp(CONFIG), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"can't read .*model\.safetensors"):
        load_mlp(tmp_path)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"model_type": "llama"}, ModelError, "model_type must be raysafe-mlp"),
        ({"surprise": 1}, ConfigError, "unknown field 'surprise'"),
        ({"inputs": 0}, ConfigError, "inputs"),
        ({"activation": "eval"}, ConfigError, "activation"),
        ({"inputs": 1 << 20, "hidden": [1 << 20]}, ConfigError, "this format is for small models"),
        ({"head": {"kind": "classifier", "labels": ["a", "a"]}}, ConfigError, "labels must differ"),
        ({"head": {"kind": "gaussian", "low": [1.0], "high": [0.0]}}, ConfigError, "low below high"),
        ({"head": {"kind": "gaussian", "low": [0.0], "high": []}}, ConfigError, "high"),
    ],
)
def test_a_config_that_is_impossible_is_refused(
    values: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    save_mlp(Mlp(CONFIG), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(error, match=message):
        load_mlp(tmp_path)
