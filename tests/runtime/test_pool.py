"""parallel_map: order, death of an actor, and what a second start need not do again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from raysafe.runtime.cluster import Needs
from raysafe.runtime.pool import CHUNK_ROWS, MOST_CHUNKS, TableFunction, parallel_map

ROWS = pa.table({"x": list(range(5 * CHUNK_ROWS + 3))})


def squares(log: str) -> Callable[[], TableFunction]:
    """A maker of actors that square x and leave a line in `log` for each chunk."""

    def make() -> TableFunction:
        def work(rows: pa.Table) -> pa.Table:
            with open(log, "a") as file:
                file.write(f"{rows['x'][0].as_py()}\n")
            return pa.table({"square": [x * x for x in rows["x"].to_pylist()]})

        return work

    return make


def dying_once(log: str, mark: str) -> Callable[[], TableFunction]:
    """As `squares`, but the actor that gets the third chunk kills itself the first time."""

    def make() -> TableFunction:
        work = squares(log)()

        def dying(rows: pa.Table) -> pa.Table:
            if rows["x"][0].as_py() == 2 * CHUNK_ROWS and not os.path.exists(mark):
                Path(mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return work(rows)

        return dying

    return make


class Memory:
    """A keeper in a dict, by a chunk's first value."""

    def __init__(self) -> None:
        self.kept: dict[int, pa.Table] = {}

    def find(self, chunk: pa.Table) -> pa.Table | None:
        return self.kept.get(chunk["x"][0].as_py())

    def keep(self, chunk: pa.Table, result: pa.Table) -> None:
        self.kept[chunk["x"][0].as_py()] = result


@pytest.mark.ray
def test_results_come_in_the_order_of_the_rows(ray_cluster: None, tmp_path: Path) -> None:
    result = parallel_map(squares(f"{tmp_path}/log"), ROWS, needs=Needs(workers=2, cpus=0.5), description="squares")
    assert result["square"].to_pylist() == [x * x for x in ROWS["x"].to_pylist()]


@pytest.mark.ray
def test_an_actor_that_dies_is_replaced_and_its_chunk_done_again(ray_cluster: None, tmp_path: Path) -> None:
    make = dying_once(f"{tmp_path}/log", f"{tmp_path}/died")
    result = parallel_map(make, ROWS, needs=Needs(cpus=0.5), description="squares")
    assert (tmp_path / "died").exists()
    assert result["square"].to_pylist() == [x * x for x in ROWS["x"].to_pylist()]


@pytest.mark.ray
def test_a_second_start_does_only_what_is_missing(ray_cluster: None, tmp_path: Path) -> None:
    keeper, log = Memory(), tmp_path / "log"
    make = squares(str(log))
    whole = parallel_map(make, ROWS, needs=Needs(cpus=0.5), description="squares", keeper=keeper)
    lost = [keeper.kept.pop(start) for start in (CHUNK_ROWS, 3 * CHUNK_ROWS)]
    log.unlink()
    again = parallel_map(make, ROWS, needs=Needs(workers=2, cpus=0.5), description="squares", keeper=keeper)
    assert again.equals(whole) and len(lost) == 2
    assert sorted(map(int, log.read_text().split())) == [CHUNK_ROWS, 3 * CHUNK_ROWS]


def test_what_is_all_kept_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysafe.runtime.pool.connect", lambda *a, **k: pytest.fail("Ray was started"))
    keeper = Memory()
    for start in range(0, ROWS.num_rows, CHUNK_ROWS):
        keeper.keep(ROWS.slice(start, 1), ROWS.slice(start, CHUNK_ROWS))
    assert parallel_map(squares("unused"), ROWS, needs=Needs(), description="", keeper=keeper).equals(ROWS)


def test_chunks_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Memory()
    keeper.find = lambda chunk: (keeper.keep(chunk, chunk), chunk)[1]  # type: ignore[method-assign]
    parallel_map(squares("unused"), pa.table({"x": range(100_000)}), needs=Needs(), description="", keeper=keeper)
    assert len(keeper.kept) <= MOST_CHUNKS
