"""Learners of adversarial training: attacks stay in their ball, each method's own rules, and settings that fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from raysafe.data.labelled import Labelled
from raysafe.errors import ConfigError, DataError
from raysafe.models.classifier import head_of, load_classifier
from raysafe.models.mlp import ClassifierHead, MlpConfig, Smoothing
from raysafe.models.vision import VisionConfig
from raysafe.robustness.adversarial_training import (
    AdversarialLearner,
    FreeLearner,
    RobustLearner,
    collapsed,
    table,
)
from raysafe.robustness.averaging import Averaged
from raysafe.robustness.inner_attack import climb, random_start
from raysafe.robustness.job import AdversarialJob, learner_of, parts_of
from raysafe.robustness.settings import Defence, Schedule
from raysafe.robustness.weight_perturbation import forward_with, worst_weights

LINEAR = MlpConfig(inputs=3, head=ClassifierHead(labels=("a", "b")))
SMALL = VisionConfig(image=(1, 4, 4), stages=(3,), batch_norm=True, head=ClassifierHead(labels=("a", "b")))
VECTORS = Labelled(np.array([[0.2, 0.4, 0.6], [0.9, 0.1, 0.5]], np.float32), np.array([0, 1]), ("a", "b"))
IMAGES = Labelled(np.random.default_rng(0).random((6, 1, 4, 4), np.float32), np.array([0, 1] * 3), ("a", "b"))


def loss_of(y_B: torch.Tensor) -> Any:
    return lambda logits_BK: cross_entropy(logits_BK, y_B, reduction="sum")


def test_a_step_on_a_linear_network_goes_to_the_worst_corner() -> None:
    learner = RobustLearner(Defence(method="pgd", epsilon=0.05), LINEAR)
    network, batch = learner.build(), learner.collate(table(VECTORS))
    found = climb(network, batch.x, batch.x, loss_of(batch.y_B), norm="linf", epsilon=0.05, step=0.05, steps=1)
    weights_KD = next(network.parameters()).detach()
    away_KD = weights_KD.flip(0) - weights_KD  # from a to b, and from b to a
    torch.testing.assert_close(found, batch.x + 0.05 * away_KD[batch.y_B].sign())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_worst_inputs_lie_in_ball_and_box(norm: Any) -> None:
    for method in ("pgd", "trades", "mart", "fast"):
        learner = AdversarialLearner(Defence(method=method, epsilon=0.3, norm=norm), SMALL)
        network, batch = learner.build(), learner.collate(table(IMAGES))
        found = learner.worst(network, batch.x, batch.y_B)
        change_BD = (found - batch.x).flatten(1)
        size_B = change_BD.abs().amax(1) if norm == "linf" else change_BD.norm(dim=1)
        assert size_B.max() <= 0.3 + 1e-5
        assert size_B.min() > 0.01
        assert 0 <= found.min() <= found.max() <= 1


def test_the_attack_leaves_running_statistics_and_modes_as_they_were() -> None:
    learner = AdversarialLearner(Defence(method="pgd", epsilon=0.3), SMALL)
    network, batch = learner.build(), learner.collate(table(IMAGES))
    before = copy.deepcopy(network.state_dict())
    learner.worst(network.train(), batch.x, batch.y_B)
    assert all(part.training for part in network.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_random_starts_follow_torchs_generator() -> None:
    x = torch.full((2, 3), 0.5)
    starts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        starts.append(random_start(x, "linf", 0.1))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_gradients_come_from_the_worst_inputs_and_not_from_the_clean_ones() -> None:
    """Of pgd: those of the cross-entropy at the points of its attack."""
    learner = AdversarialLearner(Defence(method="pgd", epsilon=0.1), LINEAR)
    network, batch = learner.build(), learner.collate(table(VECTORS))
    torch.manual_seed(0)
    loss, _ = learner.loss(network, batch)
    torch.manual_seed(0)
    worst = learner.worst(network, batch.x, batch.y_B)
    torch.testing.assert_close(loss, cross_entropy(network(worst), batch.y_B, reduction="sum"))
    assert loss > cross_entropy(network(batch.x), batch.y_B, reduction="sum")


def test_worst_weights_are_one_step_of_each_tensors_share_up_the_loss() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, y_B = torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 1])
    loss = lambda forward: cross_entropy(forward(x), y_B)  # noqa: E731
    near = worst_weights(network, loss, 0.05)
    own = dict(network.named_parameters())
    assert set(near) == {"0.weight", "2.weight"}
    for name, weight in near.items():
        assert torch.isclose((weight - own[name]).norm(), 0.05 * own[name].norm())
    assert loss(forward_with(network, near)) > loss(network)


def test_gradients_at_worst_weights_reach_the_networks_own() -> None:
    network = nn.Linear(3, 2)
    x, y_B = torch.rand(5, 3), torch.tensor([0, 1, 0, 1, 1])
    near = worst_weights(network, lambda forward: cross_entropy(forward(x), y_B), 0.1)
    cross_entropy(forward_with(network, near)(x), y_B).backward()
    moved = copy.deepcopy(network)
    moved.load_state_dict({"weight": near["weight"].detach(), "bias": network.bias.detach()})
    cross_entropy(moved(x), y_B).backward()
    torch.testing.assert_close(network.weight.grad, moved.weight.grad)


def test_the_average_is_measured_and_kept_and_the_network_is_trained(tmp_path: Path) -> None:
    learner = RobustLearner(Defence(method="standard", epsilon=0.1, average=0.75), LINEAR)
    module, batch = learner.build(), learner.collate(table(VECTORS))
    assert isinstance(module, Averaged)
    (first,) = (p.detach().clone() for p in module.network.parameters() if p.ndim > 1)
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter.add_(1.0)
    learner.after_step(module, torch.optim.AdamW(module.parameters()))
    learner.save(module, tmp_path)
    saved = load_classifier(tmp_path)
    torch.testing.assert_close(saved.state_dict()["layers.0.weight"], first + 0.25)
    torch.testing.assert_close(saved(batch.x), module.eval()(batch.x))
    torch.testing.assert_close(module.train()(batch.x), module.network(batch.x))


def test_free_training_carries_its_perturbation_one_step_up_the_loss_at_a_time() -> None:
    learner = FreeLearner(Defence(method="free", epsilon=0.05, replays=3), LINEAR)
    network, batch = learner.build(), learner.collate(table(VECTORS))
    weights_KD = next(network.parameters()).detach()
    away_KD = weights_KD.flip(0) - weights_KD
    learner.before_step(0, 9)
    loss, _ = learner.loss(network, batch)
    torch.testing.assert_close(loss, cross_entropy(network(batch.x), batch.y_B, reduction="sum"))
    loss.backward()
    learner.after_step(network, torch.optim.AdamW(network.parameters()))
    learner.before_step(1, 9)
    loss, _ = learner.loss(network, batch)
    worst = batch.x + 0.05 * away_KD[batch.y_B].sign()
    torch.testing.assert_close(loss, cross_entropy(network(worst), batch.y_B, reduction="sum"))


def test_epsilon_may_grow_while_training_goes_on() -> None:
    defence = Defence(method="pgd", epsilon=0.2, schedule=Schedule(start=0.0, end=1.0))
    learner = AdversarialLearner(defence, SMALL)
    network, batch = learner.build(), learner.collate(table(IMAGES))
    sizes = []
    for step in (0, 5, 10):
        learner.before_step(step, 10)
        sizes.append(float((learner.worst(network, batch.x, batch.y_B) - batch.x).abs().max()))
    assert sizes == pytest.approx([0.0, 0.1, 0.2], abs=1e-6)


def test_only_a_fall_that_fgsm_does_not_see_is_a_collapse() -> None:
    assert collapsed(robust=0.05, fgsm=0.95, best=0.7, fall=0.2) is not None
    assert collapsed(robust=0.05, fgsm=0.10, best=0.7, fall=0.2) is None
    assert collapsed(robust=0.60, fgsm=0.95, best=0.7, fall=0.2) is None


def test_validation_is_the_same_each_time_and_whatever_the_batches() -> None:
    learner = RobustLearner(Defence(method="noise", sigma=0.25, epsilon=0.1), SMALL)
    module, rows = learner.build().eval(), table(IMAGES)
    whole = [learner.loss(module, learner.collate(rows))[1] for _ in range(2)]
    halves = [learner.loss(module, learner.collate(part))[1] for part in (rows.slice(0, 2), rows.slice(2))]
    for name, (hit, count) in whole[0].items():
        assert float(hit) == float(whole[1][name][0]) == sum(float(half[name][0]) for half in halves)
        assert count == 6


def job(**changes: Any) -> AdversarialJob:
    return AdversarialJob(**({"data": "digits", "method": "pgd", "epsilon": 0.1} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "noise"}, "noise needs sigma"),
        ({"sigma": 0.5}, "sigma has no effect with method pgd: leave it out"),
        ({"method": "ibp", "norm": "l2"}, "ibp bounds L-inf balls only"),
        (
            {"training": {"monitor": "noisy_accuracy"}},
            "'noisy_accuracy' is not measured here; choose one of auto, loss",
        ),
        ({"training": {"sharding": "fsdp"}}, "training.sharding must be ddp"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "leave no rows to train on"),
        ({"weight_perturbation": 0.01, "training": {"workers": 2}}, "weight_perturbation needs training.workers 1"),
        ({"model": "m", "network": {"blocks": 1}}, "network has no effect beside model"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        job(**changes)


def test_each_method_chooses_checkpoints_by_what_it_is_for() -> None:
    monitors = {
        method: job(method=method, **({"sigma": 0.25} if method == "noise" else {})).fitting.monitor
        for method in ("standard", "pgd", "noise", "ibp")
    }
    assert monitors == {
        "standard": "robust_accuracy",
        "pgd": "robust_accuracy",
        "noise": "noisy_accuracy",
        "ibp": "certified_accuracy",
    }


def test_a_network_is_shaped_by_its_data() -> None:
    images = learner_of(job(network={"normalise": True}), IMAGES).network
    assert isinstance(images, VisionConfig)
    assert (images.image, images.head.labels) == ((1, 4, 4), ("a", "b"))
    assert images.mean == pytest.approx([IMAGES.x.mean()])
    vectors = learner_of(job(network={"dense": [5]}), VECTORS).network
    assert isinstance(vectors, MlpConfig)
    assert (vectors.inputs, vectors.hidden) == (3, (5,))


def test_a_classifier_that_goes_on_in_noise_is_served_smoothed(tmp_path: Path) -> None:
    learner = learner_of(job(network={"dense": [5]}), VECTORS)
    before = learner.build()
    learner.save(before, tmp_path / "a")
    noisy = learner_of(job(model=str(tmp_path / "a"), method="noise", sigma=0.25), VECTORS)
    module = noisy.build()
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), module.parameters(), strict=True))
    noisy.save(module, tmp_path / "b")
    smoothing = [head_of(load_classifier(tmp_path / name)).smoothing for name in "ab"]
    assert smoothing == [None, Smoothing(sigma=0.25)]


def test_another_classes_model_is_refused(tmp_path: Path) -> None:
    learner = learner_of(job(), VECTORS)
    learner.save(learner.build(), tmp_path)
    other = Labelled(VECTORS.x, VECTORS.y, ("a", "c"))
    with pytest.raises(ConfigError, match=r"in the classes a, b; digits has \(3,\) in a, c"):
        learner_of(job(model=str(tmp_path)), other)


def test_features_out_of_the_box_and_settings_for_images_are_refused() -> None:
    wide = Labelled(VECTORS.x * 10, VECTORS.y, VECTORS.labels)
    with pytest.raises(DataError, match="features must lie between 0 and 1"):
        learner_of(job(), wide)
    with pytest.raises(ConfigError, match=r"network\.blocks is for images"):
        learner_of(job(network={"blocks": 2}), VECTORS)


def test_parts_share_no_example_and_leave_out_an_empty_one() -> None:
    many = Labelled(np.arange(40, dtype=np.float32)[:, None], np.array([0, 1] * 20), ("a", "b"))
    parts = parts_of(many, 0.25, 0.25, 0)
    assert [len(part) for part in parts.values()] == [20, 10, 10]
    assert len({*np.concatenate([part.x[:, 0] for part in parts.values()])}) == 40
    assert set(parts_of(many, 0.25, 0.0, 0)) == {"train", "validation"}
