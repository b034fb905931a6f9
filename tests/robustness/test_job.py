"""The adversarial job on Ray: what a run leaves behind, free training's steps, and a training that is given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysafe.data.labelled import load_labelled
from raysafe.models.classifier import load_classifier
from raysafe.robustness.adversarial_training import AdversarialLearner
from raysafe.robustness.job import HELD_OUT, AdversarialJob
from raysafe.robustness.report import LAST
from raysafe.runtime.run import Run

pytestmark = pytest.mark.ray


@pytest.fixture
def squares(tmp_path: Path) -> str:
    """Images of a bright or a dark square, 40 of each, under noise."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 2
    x = 0.3 * rng.random((80, 1, 4, 4))
    x[y == 1, :, 1:3, 1:3] += 0.6
    np.savez(tmp_path / "squares.npz", x=x.astype(np.float32), y=y)
    return str(tmp_path / "squares.npz")


def job(data: str, **changes: Any) -> AdversarialJob:
    fields: dict[str, Any] = {
        "data": data,
        "storage": str(Path(data).parent),
        "epsilon": 0.1,
        "test_steps": 3,
        "validation_steps": 3,
        "network": {"stages": [4], "dense": [8]},
        "training": {"epochs": 2, "batch_size": 24, "learning_rate": 0.01},
    }
    return AdversarialJob(**(fields | changes))


def test_free_training_takes_each_batch_several_times_and_leaves_a_measured_model(
    ray_cluster: None, squares: str
) -> None:
    run = job(squares, method="free", replays=3, average=0.5).run()
    # 48 training rows in batches of 24, each three times, twice
    assert run.metrics[-1]["step"] == 12
    assert run.metrics[-1]["epoch"] == 2
    held = load_labelled(str(run.folder.local_path(HELD_OUT)))
    assert (len(held), held.labels) == (20, ("0", "1"))
    model = load_classifier(run.folder.local_path("model"))
    tested = next(event for event in run.events if event["event"] == "tested")
    right = (model(_tensor(held.x)).argmax(-1).numpy() == held.y).mean()
    assert tested["figures"]["model"]["accuracy"] == pytest.approx(right)
    report = run.folder.read("report.html").decode()
    assert "Over the epochs" in report and "Held-out examples" in report


class GivenUp(AdversarialLearner):
    """Robust accuracy falls after the first validation, as it does in a collapse."""

    def give_up(self, figures: dict[str, float], best: float | None) -> str | None:
        return None if best is None else "fallen"


def test_a_training_that_is_given_up_ends_with_its_best_model(
    ray_cluster: None, squares: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysafe.robustness import adversarial_training

    monkeypatch.setattr(adversarial_training, "AdversarialLearner", GivenUp)
    run = job(squares, method="fast", training={"epochs": 9, "batch_size": 24, "learning_rate": 0.01}).run()
    assert [event["why"] for event in run.events if event["event"] == "stopped-early"] == ["fallen"]
    assert run.metrics[-1]["step"] == 4
    trained = next(event for event in run.events if event["event"] == "trained")
    assert trained["best_step"] in (2, 4)
    assert run.folder.exists(LAST) == (trained["best_step"] == 2)
    assert Run.open(run.uri).status == "finished"


def _tensor(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x)
