"""Which checkpoint is the best, and that Ray Train keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysafe.runtime.fit import fit
from raysafe.runtime.loop import rank
from raysafe.runtime.run import Run
from tests.runtime.test_fit import ToyJob, settings, weights
from tests.runtime.toys import ToyLearner, counting_rows


@given(figure=st.floats(-1e6, 1e6), steps=st.lists(st.integers(1, 10**6), min_size=2, max_size=2, unique=True))
def test_of_equal_figures_the_earlier_ranks_higher(figure: float, steps: list[int]) -> None:
    for mode in ("min", "max"):
        assert rank(figure, min(steps), mode) > rank(figure, max(steps), mode)


def test_a_better_figure_ranks_higher_whenever_it_came() -> None:
    assert rank(0.5, 1, "max") < rank(0.5001, 100_000, "max")
    assert rank(0.5, 1, "min") < rank(0.4999, 100_000, "min")


@pytest.mark.ray
def test_the_first_of_equal_checkpoints_is_kept_and_exported(ray_cluster: None, tmp_path: Path) -> None:
    rows, validation = counting_rows(64), counting_rows(20, seed=1)
    config = settings(
        epochs=2,
        evaluate_every=2,
        keep_checkpoints=1,
        monitor="flat",
        monitor_mode="max",
        schedule="constant",
        warmup_fraction=0.0,
    )
    tied, short = Run.create(ToyJob(storage=str(tmp_path))), Run.create(ToyJob(storage=str(tmp_path)))
    result = fit(ToyLearner(), tied, config, train=rows, validation=validation)
    assert (result.best, result.best_step, result.steps) == (1.0, 2, 8)
    fit(ToyLearner(), short, config.model_copy(update={"max_steps": 2}), train=rows)
    exported = weights(tied)
    assert all(torch.equal(exported[name], value) for name, value in weights(short).items())
