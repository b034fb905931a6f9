"""Comparisons: what is written is read, and what doesn't fit together is refused with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysafe.data.comparisons import Comparison, read_comparisons, to_table, write_comparisons
from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.rl.comparison_state import packed, unpacked


def piece(steps: int, seed: int, *, rewards: bool = True, vectors: bool = False) -> Trajectory:
    draw = np.random.default_rng(seed)
    return Trajectory(
        actions_T=draw.normal(size=(steps, 2)) if vectors else draw.integers(3, size=steps),
        obs_T1D=draw.normal(size=(steps + 1, 4)).astype(np.float32),
        rewards_T=draw.normal(size=steps) if rewards else None,
        terminated=bool(seed % 2),
    )


def assert_same(found: list[Comparison], wanted: list[Comparison]) -> None:
    assert [(one.preference, one.rater) for one in found] == [(one.preference, one.rater) for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        for a, b in ((one.a, other.a), (one.b, other.b)):
            assert a.row().keys() == b.row().keys()
            assert (a.actions_T == b.actions_T).all() and a.actions_T.dtype == b.actions_T.dtype
            assert a.obs_T1D is not None and (a.obs_T1D == b.obs_T1D).all()
            assert (a.rewards_T is None) == (b.rewards_T is None)
            assert b.rewards_T is None or (a.rewards_T == b.rewards_T).all()
            assert a.terminated == b.terminated


@pytest.fixture(params=[False, True], ids=["discrete", "continuous"])
def comparisons(request: pytest.FixtureRequest) -> list[Comparison]:
    vectors = bool(request.param)
    return [
        Comparison(piece(3, 0, vectors=vectors), piece(5, 1, vectors=vectors), 1.0, "ann"),
        Comparison(piece(2, 2, rewards=False, vectors=vectors), piece(2, 3, vectors=vectors), 0.5, "bob"),
    ]


def test_written_is_read(comparisons: list[Comparison], tmp_path: Path) -> None:
    write_comparisons(comparisons, tmp_path / "kept.parquet")
    assert_same(read_comparisons(tmp_path / "kept.parquet"), comparisons)


def test_packed_is_unpacked(comparisons: list[Comparison]) -> None:
    assert_same(unpacked(packed(comparisons)), comparisons)
    assert unpacked(packed([])) == []


def test_a_preference_beyond_its_bounds_is_refused() -> None:
    with pytest.raises(DataError, match="from 0"):
        Comparison(piece(2, 0), piece(2, 1), 1.2)
    with pytest.raises(DataError, match="two environments"):
        Comparison(piece(2, 0), piece(2, 1, vectors=True), 1.0)


def test_a_bad_row_is_named(comparisons: list[Comparison], tmp_path: Path) -> None:
    table = to_table(comparisons)
    bad = table.set_column(2, "preference", pa.array([1.0, 7.0]))
    pq.write_table(bad, tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=r"bad\.parquet: row 2: preference must be"):
        read_comparisons(tmp_path / "bad.parquet")
    pq.write_table(table.select(["a", "b"]), tmp_path / "less.parquet")
    with pytest.raises(DataError, match="holds no comparisons"):
        read_comparisons(tmp_path / "less.parquet")
