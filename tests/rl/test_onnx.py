"""ONNX files act as the policies that they were made of: onnxruntime against torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from raysafe.errors import ModelError
from raysafe.models.mlp import Activation, DiscreteHead, GaussianHead, Mlp, MlpConfig
from raysafe.rl.onnx import check_onnx, export_onnx, random_observations, run_onnx
from raysafe.rl.policy import Policy
from tests.rl.test_policy import CARD, small

HEADS = [
    DiscreteHead(actions=5),
    DiscreteHead(actions=3, scores="values"),
    DiscreteHead(actions=4, masked=True),
    GaussianHead(low=(-2.0, 0.0), high=(2.0, 1.0), spread=True, scaled=True),
    GaussianHead(low=(None, -1.0), high=(0.5, None)),
]


def made(head: DiscreteHead | GaussianHead, activation: Activation = "tanh", seed: int = 0) -> Policy:
    """Random weights, and a normalisation far from none."""
    torch.manual_seed(seed)
    network = Mlp(MlpConfig(inputs=6, hidden=(16, 16), activation=activation, normalise=True, clip=2.0, head=head))
    network.observation.get_buffer("mean").copy_(torch.randn(6) * 50)
    network.observation.get_buffer("std").copy_(torch.rand(6) * 9 + 0.1)
    return Policy(network)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.kind}-{head.outputs}")
def test_every_head_acts_the_same_in_onnxruntime(head: DiscreteHead | GaussianHead, tmp_path: Path) -> None:
    policy = made(head)
    export_onnx(policy, tmp_path / "policy.onnx")
    obs_BD = random_observations(policy, 500)
    actions, outputs_BK = run_onnx(tmp_path / "policy.onnx", obs_BD)
    assert outputs_BK == pytest.approx(policy.outputs(obs_BD), abs=1e-5)
    wanted = policy.act(obs_BD).actions
    assert np.abs(actions - wanted).max() < 1e-5 and len(np.unique(wanted.round(3))) > 1


@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_is_the_same_function(activation: Activation, tmp_path: Path) -> None:
    policy = made(HEADS[0], activation)
    export_onnx(policy, tmp_path / "policy.onnx")
    obs_BD = random_observations(policy)
    assert run_onnx(tmp_path / "policy.onnx", obs_BD)[1] == pytest.approx(policy.outputs(obs_BD), abs=1e-5)


def test_a_file_of_another_policy_is_told_apart(tmp_path: Path) -> None:
    export_onnx(made(HEADS[0]), tmp_path / "policy.onnx")
    with pytest.raises(ModelError, match="doesn't act as the policy does"):
        check_onnx(made(HEADS[0], seed=1), tmp_path / "policy.onnx")


def test_a_file_without_the_normalisation_is_told_apart(tmp_path: Path) -> None:
    policy = made(HEADS[0])
    bare = Mlp(policy.network.config.model_copy(update={"normalise": False, "clip": None}))
    bare.load_state_dict({k: v for k, v in policy.network.state_dict().items() if k.startswith("layers")})
    export_onnx(Policy(bare), tmp_path / "policy.onnx")
    with pytest.raises(ModelError, match="doesn't act as the policy does"):
        check_onnx(policy, tmp_path / "policy.onnx")


def test_the_file_bears_the_card_and_is_the_same_each_time(tmp_path: Path) -> None:
    import onnx

    for name in ("a", "b"):
        export_onnx(small(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    props = {prop.key: prop.value for prop in onnx.load(tmp_path / "a").metadata_props}
    assert json.loads(props["policy"]) == CARD.model_dump(mode="json")
