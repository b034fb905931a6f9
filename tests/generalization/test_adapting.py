"""Learners of domain adaptation: what they see, what they leave, and that they help where the control doesn't."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from raysafe.data.labelled import Labelled
from raysafe.generalization.accuracy import right
from raysafe.generalization.adapting import Adapting, TwoDomains, pair_table
from raysafe.generalization.fine_tuning import Start
from raysafe.generalization.transfer_settings import TransferFit, TransferSettings
from tests.generalization.here import LABELS, blobs, exported, fitted, mlp

FIT = TransferFit(epochs=12, batch_size=64, learning_rate=0.01)


def adapting(method: str, **settings: Any) -> Adapting:
    chosen = TransferSettings.parse({"method": method, "data": "digits", "source": "mnist", **settings})
    return Adapting(chosen, Start(mlp().config, LABELS, None, 0))


def moved(rows: int, seed: int) -> Labelled:
    """The blobs, moved where the source has nothing but noise: a network that never saw it has weights there too."""
    return blobs(rows, shift=6.0, seed=seed)


def target_accuracy(method: str, **settings: Any) -> float:
    learner = adapting(method, **settings)
    rows = pair_table(blobs(600), moved(600, seed=1).x, seed=0)
    return float(right(exported(learner, fitted(learner, rows, FIT)), moved(600, seed=2)).mean())


def test_adaptation_beats_the_source_alone_on_the_targets_held_out_rows() -> None:
    alone = target_accuracy("source")
    for method in ("coral", "mmd", "dann"):
        assert target_accuracy(method) > alone + 0.1, method


def test_rows_hold_no_labels_of_the_target_and_each_domain_goes_round() -> None:
    source, target = blobs(10), blobs(4, seed=1)
    rows = pair_table(source, target.x, seed=0)
    assert rows.column_names == ["x", "y", "target", "length"]
    assert rows.num_rows == 10
    batch = adapting("mmd").collate(rows)
    found, counts = np.unique(batch.target.numpy(), axis=0, return_counts=True)
    assert len(found) == 4 and set(counts) == {2, 3}
    order = np.lexsort(batch.x.numpy().T)
    assert np.array_equal(batch.x.numpy()[order], source.x[np.lexsort(source.x.T)])


def test_the_control_never_reads_the_target() -> None:
    rows = pair_table(blobs(64), np.full((64, 4), np.nan, dtype=np.float32), seed=0)
    learner = adapting("source")
    assert torch.isfinite(learner.loss(learner.build(), learner.collate(rows))[0])


def test_the_features_seen_are_what_the_last_layer_reads() -> None:
    module = TwoDomains(mlp(), hidden=None)
    x, target = torch.randn(5, 4), torch.randn(3, 4)
    seen = module(x, target, 0.0)
    torch.testing.assert_close(module.network.layers[-1](seen.features_BD), seen.logits_BK)
    torch.testing.assert_close(module.network.layers[-1](seen.target_BD), module.network(target))


def test_the_domain_classifier_descends_what_the_features_climb() -> None:
    learner = adapting("dann")
    learner.before_step(1, 2)
    module = learner.build()
    rows = pair_table(blobs(64), moved(64, seed=1).x, seed=0)
    seen = module(*(learner.collate(rows).x, learner.collate(rows).target), 0.0)
    loss, _ = learner._between(seen)
    loss.backward()
    body = module.network.get_submodule("layers.0").weight.grad
    assert body is not None and not body.any()
    assert module.domain is not None and module.domain[0].weight.grad.any()


def test_figures_of_a_step_are_those_that_the_settings_name() -> None:
    rows = pair_table(blobs(64), moved(64, seed=1).x, seed=0)
    for method in ("source", "coral", "mmd", "dann"):
        learner = adapting(method)
        _, figures = learner.loss(learner.build(), learner.collate(rows))
        chosen = TransferSettings.parse({"method": method, "data": "digits", "source": "mnist"})
        assert tuple(figures) == chosen.measures


def test_a_batch_of_one_row_has_no_covariance_and_is_learned_from_by_its_class_alone() -> None:
    rows = pair_table(blobs(1), blobs(1, seed=1).x, seed=0)
    learner = adapting("coral")
    assert torch.isfinite(learner.loss(learner.build(), learner.collate(rows))[0])
