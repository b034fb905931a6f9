"""Trajectories: every format gives the same ones, and what doesn't fit is named with file, row and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.data.readers import read
from raysafe.data.schema import to_json_lines
from raysafe.data.trajectories import Trajectory, from_table, to_table
from raysafe.data.trajectory_files import read_trajectories
from raysafe.errors import DataError
from tests.real_data import SHARED

CARTPOLE = SHARED / "imitation_demos" / "cartpole_expert.npz"
PENDULUM = SHARED / "imitation_demos" / "pendulum_expert.npz"
GOOD = {"states": [3, 4, 4], "actions": [1, 0], "rewards": [0.5, -1.0], "terminated": True}


def same(one: Trajectory, other: Trajectory) -> bool:
    names = ("actions_T", "states_T1", "obs_T1D", "rewards_T", "terminated", "truncated")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    steps, width = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    discrete, tabular = draw(st.booleans()), draw(st.booleans())
    return Trajectory(
        actions_T=rng.integers(0, 5, steps) if discrete else rng.normal(size=(steps, width)),
        states_T1=rng.integers(0, 9, steps + 1) if tabular else None,
        obs_T1D=None if tabular else rng.normal(size=(steps + 1, width)),
        rewards_T=rng.normal(size=steps) if draw(st.booleans()) else None,
        terminated=draw(st.booleans()),
    )


@given(drawn=st.lists(trajectories(), min_size=1, max_size=3))
def test_a_table_holds_trajectories_bit_for_bit(drawn: list[Trajectory]) -> None:
    assert all(map(same, from_table(to_table(drawn)), drawn))


def test_rows_of_json_parquet_and_arrow_are_the_same_trajectories(tmp_path: Path) -> None:
    rows = [GOOD, GOOD | {"states": [0, 1, 2], "rewards": None, "terminated": False, "truncated": True}]
    plain = read_trajectories(write(tmp_path / "a.jsonl", rows))
    table = read(str(tmp_path / "a.jsonl"), "trajectories").table
    pq.write_table(table, tmp_path / "b.parquet")
    for name, open_writer in (("c.arrow", pa.ipc.new_file), ("d.arrow", pa.ipc.new_stream)):
        with open_writer(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    for name in ("b.parquet", "c.arrow", "d.arrow"):
        found = read_trajectories(str(tmp_path / name))
        assert len(found.trajectories) == 2
        assert all(map(same, found.trajectories, plain.trajectories)), name


def test_trajectories_are_written_as_json_lines_through_their_rows(tmp_path: Path) -> None:
    written = Trajectory(actions_T=np.array([[0.25], [1.5]]), obs_T1D=np.ones((3, 2)), truncated=True)
    (tmp_path / "a.jsonl").write_text(to_json_lines(to_table([written]).to_pylist()))
    [found] = read_trajectories(str(tmp_path / "a.jsonl")).trajectories
    assert same(found, written)


BAD = {
    "states must have 3 entries for 2 actions, the last being where the trajectory ended, got 2": {"states": [3, 4]},
    "rewards must have 2 entries for 2 actions, got 1": {"rewards": [1.0]},
    "rewards must be finite, but isn't at step 1": {"rewards": [1.0, float("nan")]},
    "states must be 0 or more, got -1 at step 2": {"states": [0, 1, -1]},
    "states must be whole numbers, got 0.5": {"states": [0.5, 1, 2]},
    "actions must be whole numbers, or vectors": {"actions": [0.5, 1]},
    "actions is empty": {"actions": [], "states": [1]},
    "no field 'actions'": {"actions": None},
    "there are neither states nor observations": {"states": None},
    "observations has entries of different lengths": {"observations": [[1, 2], [1], [3, 4]]},
    "observations must be within single precision (3.4e38), got 1e+300": {"observations": [[1], [1e300], [3]]},
    "actions must be a list of numbers, one entry a step": {"actions": ["left", "right"]},
    "terminated must be true or false, got 'yes'": {"terminated": "yes"},
    "terminated and truncated are both true": {"truncated": True},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_trajectory_is_named_with_file_row_and_field(reason: str, tmp_path: Path) -> None:
    uri = write(tmp_path / "rows.jsonl", [GOOD, GOOD | BAD[reason]])
    with pytest.raises(DataError) as raised:
        read_trajectories(uri)
    assert f"{uri}:2: {reason}" in str(raised.value)
    assert len(read_trajectories(uri, skip_bad_rows=True).trajectories) == 1


def test_trajectories_of_two_environments_are_not_read_as_one_set(tmp_path: Path) -> None:
    other = {"observations": [[0.0], [1.0], [2.0]], "actions": [0, 1]}
    with pytest.raises(DataError, match="states of trajectory 2 is missing, of the first one number"):
        read_trajectories(write(tmp_path / "a.jsonl", [GOOD, other]))


def flat(**arrays: Any) -> dict[str, Any]:
    """Two trajectories, of 2 steps and of 1, end to end."""
    whole = {
        "obs": np.arange(10.0).reshape(5, 2),
        "acts": np.array([1, 0, 1]),
        "rews": np.array([1.0, 2.0, 3.0]),
        "indices": np.array([2]),
        "terminal": np.array([True, False]),
    }
    return {name: array for name, array in (whole | arrays).items() if array is not None}


def test_an_npz_is_cut_where_its_indices_say(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **flat(infos=np.array([{}, {}, {}], dtype=object)))
    first, second = read_trajectories(str(tmp_path / "a.npz")).trajectories
    assert first.obs_T1D is not None and second.obs_T1D is not None and second.rewards_T is not None
    assert first.obs_T1D.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert second.obs_T1D.tolist() == [[6, 7], [8, 9]]
    assert (second.actions_T.tolist(), second.rewards_T.tolist()) == ([1], [3.0])
    assert [(t.terminated, t.truncated) for t in (first, second)] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"acts": None}, "has no array 'acts'"),
        ({"indices": np.array([3, 2])}, "indices must grow from 0 to the number of acts"),
        ({"indices": np.array([9])}, "indices must grow from 0 to the number of acts"),
        ({"indices": np.array([0.5])}, "indices must be whole numbers"),
        ({"obs": np.zeros((4, 2))}, "obs must have 5 entries for 3 acts in 2 trajectories"),
        ({"rews": np.zeros(2)}, "rews must have 3 entries"),
        ({"acts": np.array([0, "go", None], dtype=object)}, "pickle is never opened"),
        ({"indices": np.array([0])}, r"a\.npz:1: actions is empty"),
        ({"obs": np.full((5, 2), np.nan)}, r"2 bad trajectories .*a\.npz:1: observations must be finite"),
    ],
)
def test_an_npz_that_does_not_fit_together_is_one_sentence(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **flat(**arrays))
    with pytest.raises(DataError, match=message):
        read_trajectories(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(("content", "message"), [(None, "there is no data file"), (b"PK\x03\x04", "not a whole npz")])
def test_a_file_that_is_no_npz_is_one_sentence(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_trajectories(str(tmp_path / "a.npz"))


@pytest.mark.skipif(not CARTPOLE.exists(), reason="the expert demonstrations are not beside the checkout")
def test_real_expert_demonstrations_are_whole() -> None:
    cartpole = read_trajectories(str(CARTPOLE)).trajectories
    assert (len(cartpole), sum(map(len, cartpole)), max(map(len, cartpole))) == (57, 26_964, 500)
    # a pole's state follows from the one before within one time step of 0.02 s
    for trajectory in cartpole:
        obs = trajectory.obs_T1D
        assert obs is not None
        assert np.allclose(obs[1:, 0] - obs[:-1, 0], 0.02 * obs[:-1, 1], atol=1e-5)
    pendulum = read_trajectories(str(PENDULUM), limit=5).trajectories
    assert [(len(t), t.actions_T.shape) for t in pendulum] == [(200, (200, 1))] * 5
