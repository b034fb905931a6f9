"""Learners of continual learning: what each keeps of an earlier task, beside the control that keeps nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysafe.data.labelled import Labelled
from raysafe.errors import ConfigError, DataError
from raysafe.generalization.accuracy import right
from raysafe.generalization.continual_settings import ContinualFit, ContinualSettings
from raysafe.generalization.continuing import (
    IMPORTANCE,
    Continued,
    Continuing,
    Earlier,
    read_importance,
    with_memory,
    write_importance,
)
from raysafe.generalization.fine_tuning import Start, table
from raysafe.generalization.fisher import Importance, diagonal_fisher
from raysafe.generalization.tasks import divide, make_task, together
from raysafe.models.classifier import save_classifier
from tests.generalization.here import LABELS, blobs, exported, fitted, mlp, saved

OLD, NEW = (0, 1), (2,)
FIT = ContinualFit(epochs=20, batch_size=32, learning_rate=0.01)


def settings(method: str, **changes: Any) -> ContinualSettings:
    return ContinualSettings.parse({"method": method, "data": ["digits"], "tasks": ["a,b", "c"], **changes})


def learner(method: str, folder: Path | None = None, **changes: Any) -> Continuing:
    """Of the second task, where there is a folder of the first one's model, else of the first."""
    start = Start(mlp().config, LABELS, None, 0)
    earlier = Earlier(str(folder), ("1",)) if folder else Earlier("", ())
    return Continuing(settings(method, **changes), start, [OLD, NEW] if folder else [OLD], earlier)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder after the first task: its model, and what that needs of the weights."""
    folder = tmp_path_factory.mktemp("run")
    task = learner("plain")
    network = exported(task, fitted(task, table(blobs(200, classes=OLD)), FIT))
    save_classifier(network, folder / "1")
    fisher = diagonal_fisher(network, torch.from_numpy(blobs(200, classes=OLD).x), range(3))
    weights = {name: p.detach() for name, p in network.named_parameters()}
    write_importance(Importance(weights, fisher), folder / "1" / IMPORTANCE)
    return folder


def after_both(first: Path, method: str, memory: Labelled | None = None, **changes: Any) -> tuple[float, float]:
    """Accuracy on the old task and on the new one."""
    second = learner(method, first, **changes)
    remembered = [] if memory is None else [(x, int(y)) for x, y in zip(memory.x, memory.y, strict=True)]
    module = fitted(second, with_memory(blobs(100, seed=1, classes=NEW), remembered), FIT)
    network = exported(second, module)
    old, new = (float(right(network, blobs(300, seed=2, classes=task)).mean()) for task in (OLD, NEW))
    return old, new


def test_plain_fine_tuning_forgets_and_rehearsal_of_twenty_rows_does_not(first: Path) -> None:
    old, new = after_both(first, "plain")
    assert old < 0.5 and new > 0.95
    old, new = after_both(first, "rehearsal", memory=blobs(20, classes=OLD))
    assert old > 0.9 and new > 0.95


def test_consolidation_keeps_more_of_the_old_task_the_stronger_it_is(first: Path) -> None:
    kept = [after_both(first, "ewc", consolidation={"strength": strength})[0] for strength in (1e-6, 1e6)]
    assert kept[0] < 0.5
    assert kept[1] > 0.9


def test_distillation_keeps_what_the_old_model_says_of_the_new_rows(first: Path) -> None:
    x = torch.from_numpy(blobs(100, seed=1, classes=NEW).x)
    apart = {}
    for method in ("plain", "lwf"):
        second = learner(method, first)
        network = exported(second, fitted(second, table(blobs(100, seed=1, classes=NEW)), FIT))
        with torch.no_grad():
            said, before = (some(x)[:, :2].softmax(dim=1) for some in (network, second.earlier.model()))
        apart[method] = float((said - before).abs().mean())
    assert apart["lwf"] < 0.5 * apart["plain"]


def test_at_the_old_weights_the_penalty_is_0_and_the_distillation_too(first: Path) -> None:
    for method, figure in (("ewc", "penalty"), ("lwf", "distillation")):
        second = learner(method, first)
        _, figures = second.loss(second.build(), second.collate(table(blobs(8, classes=NEW))))
        assert float(figures[figure][0]) == pytest.approx(0, abs=1e-5)


def test_the_first_task_knows_of_no_earlier_one() -> None:
    for method in ("ewc", "lwf", "rehearsal"):
        task = learner(method)
        _, figures = task.loss(task.build(), task.collate(table(blobs(8, classes=OLD))))
        assert list(figures) == ["accuracy"]


def test_where_tasks_are_told_only_their_own_classes_compete(first: Path) -> None:
    second = learner("plain", first, scenario="task")
    rows = table(blobs(8, classes=NEW))
    loss, _ = second.loss(second.build(), second.collate(rows))
    # a task of one class has nothing to tell apart
    assert loss.item() == 0


def test_what_binds_to_earlier_tasks_is_in_no_checkpoint_and_isnt_trained(first: Path) -> None:
    for method in ("ewc", "lwf"):
        module = learner(method, first).build()
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        assert trained == {f"network.{name}" for name, _ in mlp().named_parameters()}
        assert not any(name.startswith(("weights_", "fisher_")) for name in module.state_dict())


def test_the_teacher_stays_in_eval_mode() -> None:
    module = Continued(mlp(), teacher=mlp()).train()
    assert module.network.training and module.teacher is not None and not module.teacher.training


def test_importance_is_read_back_as_written(tmp_path: Path) -> None:
    kept = Importance({"a.weight": torch.randn(2, 3)}, {"a.weight": torch.rand(2, 3)})
    write_importance(kept, tmp_path / IMPORTANCE)
    found = read_importance(tmp_path / IMPORTANCE)
    assert torch.equal(found.weights["a.weight"], kept.weights["a.weight"])
    assert torch.equal(found.fisher["a.weight"], kept.fisher["a.weight"])


def test_memory_comes_as_often_as_new_rows_and_evenly() -> None:
    memory = blobs(7, classes=OLD)
    rows = with_memory(blobs(30, seed=1, classes=NEW), [(x, int(y)) for x, y in zip(memory.x, memory.y, strict=True)])
    y = np.array(rows["y"])
    assert len(y) == 60 and (y == 2).sum() == 30
    old = np.array(rows["x"].combine_chunks().flatten()).reshape(60, 4)[y != 2]
    counts = np.unique(old, axis=0, return_counts=True)[1]
    assert len(counts) == 7 and counts.max() - counts.min() <= 1


def test_dividing_keeps_the_numbers_of_the_classes_and_a_strange_class_is_named() -> None:
    parts = divide(blobs(60), [["c"], ["a", "b"]])
    assert set(parts[0].y) == {2} and set(parts[1].y) == {0, 1}
    assert parts[0].labels == LABELS
    with pytest.raises(ConfigError, match="class 'd', the data have a, b, c"):
        divide(blobs(60), [["a"], ["d"]])


def test_sets_with_other_classes_get_one_numbering() -> None:
    other = Labelled(blobs(10).x, np.array([0, 1] * 5), ("c", "d"))
    one, two = together([blobs(10), other])
    assert one.labels == two.labels == ("a", "b", "c", "d")
    assert set(two.y) == {2, 3}
    with pytest.raises(DataError, match="inputs differ"):
        together([blobs(10), Labelled(np.zeros((4, 3), dtype=np.float32), np.array([0, 1] * 2), ("a", "b"))])


def test_a_tasks_classes_are_those_of_its_examples() -> None:
    task = make_task("old", divide(blobs(80), [["a", "c"]])[0], 0.2, 0.3, seed=0)
    assert task.classes == (0, 2)
    assert len(task.train) + len(task.validation) + len(task.test) == len(divide(blobs(80), [["a", "c"]])[0])


def test_a_run_can_begin_at_a_trained_model(tmp_path: Path) -> None:
    start = Start(mlp().config, LABELS, saved(mlp(), tmp_path / "m"), 0)
    module = Continuing(settings("plain"), start, [OLD], Earlier("", ())).build()
    assert torch.equal(module.network.layers[0].weight, mlp().layers[0].weight)
