"""FitConfig refuses what can't be trained with; a loss that is not a number says what is kept and what to do."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysafe.errors import ConfigError, TrainingError
from raysafe.runtime.learner import FitConfig
from raysafe.runtime.loop import Worker
from tests.runtime.toys import ToyLearner, counting_rows

FLOATS = ["learning_rate", "weight_decay", "warmup_fraction", "clip_norm", "cpus_per_worker", "gpus_per_worker"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("field", FLOATS)
def test_a_figure_that_is_not_finite_is_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{field}: Input should be"):
        FitConfig(**{field: value})


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1), (0.9, 1.5), (math.nan, 0.9)])
def test_decay_rates_outside_of_0_to_1_are_refused(betas: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match=r"betas\.[01]: Input should be"):
        FitConfig(betas=betas)


def test_a_share_of_a_gpu_is_for_a_single_worker() -> None:
    assert FitConfig(gpus_per_worker=0.25).needs.gpus == 0.25
    with pytest.raises(ConfigError, match="need a GPU each"):
        FitConfig(gpus_per_worker=0.5, workers=2)


def refusal(saved_step: int | None, learner: Any, rows: pa.Table, bad: list[int]) -> str:
    worker = Worker.__new__(Worker)
    worker.ranks, worker.saved_step, worker.learner, worker.train_rows = 1, saved_step, learner, rows
    with pytest.raises(TrainingError) as raised:
        worker._refuse(3, np.array([0, 1]), bad, math.nan, 1.0)
    return str(raised.value)


@pytest.mark.parametrize(("saved_step", "kept"), [(None, "there is no checkpoint yet"), (2, "checkpoint is step 2")])
def test_a_loss_that_is_not_a_number_says_which_checkpoint_there_is_and_to_start_anew(
    saved_step: int | None, kept: str
) -> None:
    message = refusal(saved_step, ToyLearner(), counting_rows(5), [4])
    assert "step 3: loss nan" in message
    assert "data rows 4;" in message
    assert kept in message
    assert message.endswith("mend these rows or lower training.learning_rate, then start a new run")


def test_rows_of_a_bad_batch_are_numbered_from_0_where_the_table_has_no_lines() -> None:
    assert "data rows 0, 1;" in refusal(None, ToyLearner(), counting_rows(5), [])
