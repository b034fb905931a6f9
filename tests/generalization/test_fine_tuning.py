"""What each method of fine-tuning trains and what it leaves alone, on both kinds of classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysafe.data.labelled import Labelled
from raysafe.errors import ModelError
from raysafe.generalization.fine_tuning import FineTuning, Held, Start, table
from raysafe.generalization.layers import (
    discriminative_groups,
    for_labels,
    gradual_groups,
    layer_parameters,
    shape_for,
    with_labels,
)
from raysafe.generalization.transfer_settings import TransferFit, TransferSettings
from raysafe.models.lora_config import LoraConfig
from tests.generalization.here import LABELS, blobs, exported, fitted, mlp, saved, vision

FIT = TransferFit(epochs=1, batch_size=32, learning_rate=0.01)


def learner(method: str, folder: str, **settings: Any) -> FineTuning:
    chosen = TransferSettings.parse({"method": method, "model": folder, "data": "digits", **settings})
    network = blobs(4) if "mlp" in folder else images(4)
    return FineTuning(chosen, Start(shape_for(folder, network), LABELS, folder, 0))


def images(rows: int, seed: int = 0) -> Labelled:
    rng = np.random.default_rng(seed)
    return Labelled(rng.uniform(size=(rows, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, rows), LABELS)


@pytest.fixture(params=["mlp", "vision"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return saved(mlp() if request.param == "mlp" else vision(), tmp_path / request.param)


def changed(folder: str, method: str, **settings: Any) -> set[str]:
    """Names of the tensors, statistics of batch normalisation too, that training has moved."""
    tuned = learner(method, folder, **settings)
    before = tuned.start.network().state_dict()
    rows = table(blobs(96) if "mlp" in folder else images(96))
    after = exported(tuned, fitted(tuned, rows, FIT)).state_dict()
    assert list(after) == list(before)
    counters = {name for name in after if name.endswith("num_batches_tracked")}
    return {name for name in after if not torch.equal(after[name], before[name])} - counters


def head(folder: str) -> set[str]:
    return {"layers.2.weight", "layers.2.bias"} if "mlp" in folder else {"logits.weight", "logits.bias"}


def test_full_moves_every_layer(start: str) -> None:
    parameters = dict(learner("full", start).start.network().named_parameters())
    assert changed(start, "full") >= set(parameters) - {"stage1.conv.bias", "stage2.conv.bias"}


def test_frozen_moves_the_last_layer_alone_and_no_statistics(start: str) -> None:
    assert changed(start, "frozen") == head(start)


def test_lora_leaves_a_plain_model_whose_biases_and_statistics_below_the_head_are_the_old_ones(start: str) -> None:
    moved = changed(start, "lora", lora={"rank": 2})
    weights = {name for name in moved if name.endswith(".weight") and "norm" not in name}
    assert moved == weights | head(start)
    assert len(weights) == (3 if "mlp" in start else 4)


def test_lora_changes_each_weight_by_no_more_than_its_rank(tmp_path: Path) -> None:
    folder = saved(mlp(), tmp_path / "mlp")
    tuned = learner("lora", folder, lora={"rank": 2})
    after = exported(tuned, fitted(tuned, table(blobs(96)), FIT)).state_dict()
    difference = after["layers.1.weight"] - mlp().state_dict()["layers.1.weight"]
    assert torch.linalg.matrix_rank(difference, atol=1e-5) == 2


def test_what_lora_leaves_is_what_it_trained(start: str) -> None:
    tuned = learner("lora", start, lora={"rank": 2, "targets": ["1" if "mlp" in start else "conv"]})
    rows = table(blobs(96) if "mlp" in start else images(96))
    module = fitted(tuned, rows, FIT)
    x = tuned.collate(rows).x
    torch.testing.assert_close(exported(tuned, module)(x), module(x), rtol=1e-4, atol=1e-5)


def test_lora_on_a_layer_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    folder = saved(mlp(), tmp_path / "mlp")
    with pytest.raises(ModelError, match=r"no layer q_proj .* among 0, 1"):
        learner("lora", folder, lora=LoraConfig(targets=("q_proj",)).model_dump()).build()


def test_discriminative_rates_fall_by_the_decay_from_the_head_down() -> None:
    groups = discriminative_groups(vision(), 0.5)
    assert [group.factor for group in groups] == [1, 0.5, 0.25, 0.125]
    assert groups[0].names == {"logits.weight", "logits.bias"}
    assert frozenset.union(*(group.names for group in groups)) == set(dict(vision().named_parameters()))


def test_gradual_unfreezing_starts_the_head_first_and_the_first_layer_last() -> None:
    groups = gradual_groups(vision(), 0.6)
    assert [group.start for group in groups] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert [sorted(group.names)[0].split(".")[0] for group in groups] == ["logits", "dense1", "stage2", "stage1"]


def test_gradual_moves_only_what_has_started(tmp_path: Path) -> None:
    folder = saved(mlp(), tmp_path / "mlp")
    # 96 rows are 3 steps: at shares 0, 1/3 and 2/3 of them, layers from 0, 0.475 and 0.95 on
    assert changed(folder, "gradual", gradual={"unfrozen_at": 0.95}) == {
        "layers.1.weight", "layers.1.bias", *head(folder)
    }  # fmt: skip


def test_groups_name_the_parameters_of_the_module_in_training(start: str) -> None:
    for method in ("gradual", "discriminative"):
        tuned = learner(method, start)
        module = tuned.build()
        named = frozenset.union(*(group.names for group in tuned.rate_groups(module)))
        assert named == set(dict(module.named_parameters()))


def test_other_classes_get_a_new_head_on_the_same_body() -> None:
    network = mlp()
    made = with_labels(network, ("x", "y"), seed=0)
    assert made.config == for_labels(network.config, ("x", "y"))
    for (name, old), new in zip(network.state_dict().items(), made.state_dict().values(), strict=True):
        assert torch.equal(old, new) != name.startswith("layers.2."), name


def test_the_same_classes_keep_their_head() -> None:
    network = vision()
    assert with_labels(network, LABELS, seed=0) is network


def test_held_statistics_stay_in_eval_mode_when_the_module_is_put_in_training() -> None:
    network = vision()
    Held(network, [network.get_submodule("stage1")]).train()
    assert not network.get_submodule("stage1.conv_norm").training
    assert network.get_submodule("stage2.conv_norm").training


def test_every_layer_is_in_the_list_of_layers_once() -> None:
    for network in (mlp(), vision()):
        names = [name for layer in layer_parameters(network) for name in layer]
        assert sorted(names) == sorted(dict(network.named_parameters()))
