"""Networks on images: the same after saving and loading, refused where a folder isn't what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from raysafe.errors import ConfigError, ModelError
from raysafe.models.classifier import input_shape, labels_of, load_classifier
from raysafe.models.mlp import ClassifierHead, DiscreteHead, Mlp, MlpConfig, save_mlp
from raysafe.models.vision import Vision, VisionConfig, cnn, save_vision

HEAD = ClassifierHead(labels=("a", "b", "c"))
SMALL = VisionConfig(
    image=(2, 6, 5), stages=(3,), blocks=1, batch_norm=True, mean=(0.5, 0.1), std=(2.0, 1.0), head=HEAD
)


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 3), st.integers(4, 9), st.integers(4, 9)),
    st.lists(st.integers(1, 4), min_size=1, max_size=2),
    st.integers(0, 2),
    st.sampled_from(["max", "average", "stride"]),
    st.booleans(),
)
def test_any_shape_gives_one_logit_a_class(
    image: tuple[int, int, int], stages: list[int], blocks: int, pooling: Any, batch_norm: bool
) -> None:
    config = VisionConfig(
        image=image, stages=tuple(stages), blocks=blocks, pooling=pooling, batch_norm=batch_norm, dense=(5,), head=HEAD
    )
    model = Vision(config).eval()
    assert model(torch.rand(2, *image)).shape == (2, 3)
    weights = [p for p in model.parameters() if p.ndim > 1]
    assert sum(p.numel() for p in weights) == config.parameters


def test_a_residual_block_adds_its_input() -> None:
    block = Vision(VisionConfig(image=(1, 4, 4), stages=(2,), blocks=1, head=HEAD)).stage1.block1  # type: ignore[union-attr]
    assert isinstance(block, nn.Module)
    x_BCHW = torch.rand(1, 2, 4, 4)
    torch.testing.assert_close(block(x_BCHW) - x_BCHW, block.body(x_BCHW))  # type: ignore[operator]


def test_inputs_are_normalised_inside() -> None:
    model, plain = Vision(SMALL).eval(), Vision(SMALL.model_copy(update={"mean": None, "std": None})).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "normalise" not in k}, strict=False)
    x_BCHW = torch.rand(2, 2, 6, 5)
    mean, std = torch.tensor(SMALL.mean).view(1, 2, 1, 1), torch.tensor(SMALL.std).view(1, 2, 1, 1)
    torch.testing.assert_close(model(x_BCHW), plain((x_BCHW - mean) / std))


def test_a_saved_network_is_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    model, x_BCHW = Vision(SMALL), torch.rand(4, 2, 6, 5)
    model(x_BCHW)  # running statistics that aren't those of a new network
    save_vision(model, tmp_path)
    loaded = load_classifier(tmp_path)
    assert not loaded.training
    assert (labels_of(loaded), input_shape(loaded)) == (("a", "b", "c"), (2, 6, 5))
    torch.testing.assert_close(loaded(x_BCHW), model.eval()(x_BCHW), rtol=0, atol=0)


def test_a_classifier_of_vectors_is_loaded_the_same_way(tmp_path: Path) -> None:
    model = Mlp(MlpConfig(inputs=4, hidden=(3,), head=HEAD))
    save_mlp(model, tmp_path)
    loaded = load_classifier(tmp_path)
    assert (labels_of(loaded), input_shape(loaded)) == (("a", "b", "c"), (4,))
    torch.testing.assert_close(loaded(torch.ones(1, 4)), model(torch.ones(1, 4)))


def test_a_policy_is_no_classifier(tmp_path: Path) -> None:
    save_mlp(Mlp(MlpConfig(inputs=4, head=DiscreteHead(actions=2))), tmp_path)
    with pytest.raises(ModelError, match="its head is of the kind 'discrete'"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logits.bias", torch.tensor([0.0, float("nan"), 0.0]), "logits.bias holds values that are not finite"),
        ("logits.bias", torch.zeros(2), r"logits.bias must be float32 of shape \(3,\)"),
        ("extra", torch.zeros(2), "holds, against its config, the tensor extra"),
        ("normalise.std", torch.ones(2, 1, 1), "normalise.std isn't the std that its config states"),
        ("stage1.conv_norm.running_var", -torch.ones(3), "a variance below 0"),
    ],
)
def test_a_folder_that_is_not_what_it_says_is_refused(
    tmp_path: Path, name: str, value: torch.Tensor, message: str
) -> None:
    save_vision(Vision(SMALL), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, name: value}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": (4,) * 4}, "4 stages halve an image of 8 x 8 below one pixel: take at most 3"),
        ({"mean": (0.1, 0.2)}, "mean needs a finite number for each of the image's 1 channels"),
        ({"dense": (4096,) * 16, "stages": (4096,)}, "this format is for small models"),
    ],
)
def test_impossible_shapes_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VisionConfig(**{"image": (1, 8, 8), "stages": (4,), "head": HEAD} | fields)


@pytest.mark.parametrize("size", [8, 28])
def test_the_small_network_takes_digits_of_both_sizes(size: int) -> None:
    labels = tuple("0123456789")
    assert Vision(cnn((1, size, size), labels)).eval()(torch.rand(1, 1, size, size)).shape == (1, 10)
