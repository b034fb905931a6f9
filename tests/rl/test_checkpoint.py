"""Checkpoints of a training, without pickle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from raysafe.errors import StorageError
from raysafe.rl import checkpoint as checkpoints
from raysafe.rl.checkpoint import Position, pack, unpack
from raysafe.rl.job import RLJob
from raysafe.runtime.run import Run


def test_a_nested_state_comes_back_with_its_types() -> None:
    state = {
        "weights": torch.arange(3.0),
        "betas": (0.9, 0.999),
        "by number": {0: np.array([1, 2], dtype=np.int64), 1: [None, True, "text", 2.5]},
        "by pair": {("a", "b"): np.float32(1.5)},
        "nothing": {},
        "scalar": np.array(3.0),
    }
    arrays: dict[str, np.ndarray] = {}
    found = unpack(json.loads(json.dumps(pack(state, arrays))), arrays)
    assert list(found) == list(state)
    assert found["weights"].tolist() == [0.0, 1.0, 2.0]
    assert found["betas"] == (0.9, 0.999)
    assert list(found["by number"]) == [0, 1]
    assert found["by number"][0].dtype == np.int64
    assert found["by number"][1] == [None, True, "text", 2.5]
    assert found["by pair"] == {("a", "b"): 1.5}
    assert found["nothing"] == {}
    assert found["scalar"].shape == ()


def test_what_json_and_arrays_can_not_hold_is_refused() -> None:
    with pytest.raises(StorageError, match="can't hold a function"):
        pack({"callback": lambda: None}, {})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(RLJob(env="CartPole-v1", storage=str(tmp_path)))


def test_the_latest_and_the_best_are_kept(run: Run) -> None:
    for step in (10, 20, 30, 40):
        checkpoints.write(run, Position(steps=step, best_step=10), {})
        checkpoints.forget_old(run, 2, 10)
    assert checkpoints.complete_steps(run) == [10, 30, 40]


def test_half_a_checkpoint_is_none(run: Run) -> None:
    checkpoints.write(run, Position(steps=10), {"a": np.ones(2)})
    checkpoints.write(run, Position(steps=20), {"a": np.ones(2)})
    run.folder.remove(f"{checkpoints.folder_of(20)}/{checkpoints.STATE}")
    assert checkpoints.complete_steps(run) == [10]


def test_a_damaged_checkpoint_is_one_sentence(run: Run) -> None:
    checkpoints.write(run, Position(steps=10), {"a": np.ones(2)})
    run.folder.write(f"{checkpoints.folder_of(10)}/{checkpoints.ARRAYS}", b"not safetensors")
    with pytest.raises(StorageError, match=r"step-0000000010 is damaged .*delete"):
        checkpoints.read(run, 10)


def test_the_best_policy_is_kept_between_checkpoints_that_are_far_apart(tmp_path: Path) -> None:
    settings = {"env": "raysafe/SafeExploration-v0", "algorithm": "q-learning", "steps": 32_768, "keep_checkpoints": 9}
    settings |= {"evaluation": {"every": 4096, "episodes": 5, "frames": 0}}
    near, far = (
        RLJob.parse({**settings, "storage": str(tmp_path / name), "checkpoint_every": every}).run()
        for name, every in (("near", None), ("far", 1_000_000))
    )
    clock = {"steps_per_s"}
    curves = [[{k: v for k, v in row.items() if k not in clock} for row in run.metrics] for run in (near, far)]
    assert curves[0] == curves[1]
    steps = checkpoints.complete_steps(near)
    assert len(steps) == 9 and checkpoints.complete_steps(far) == [0, steps[-1]]
    (best,) = (event["best_step"] for event in near.events if event["event"] == "trained")
    kept = [checkpoints.read(run, int(best)) for run in (near, far)]
    assert 0 < best < steps[-1] and [position.steps for position, _ in kept] == [best, best]
    one, other = (state["q_learning"] for _, state in kept)
    assert np.array_equal(one["q"], other["q"])
