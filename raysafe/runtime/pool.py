"""Mapping a function over the rows of a table on several Ray actors, in order, with a progress bar.

Finished chunks can be kept as they come, so that a second start after a kill does only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pyarrow as pa

from raysafe.runtime.bar import Bar
from raysafe.runtime.cluster import Needs, connect

CHUNK_ROWS, MOST_CHUNKS = 32, 512
RESTARTS = 3

TableFunction = Callable[[pa.Table], pa.Table]


class Keeper(Protocol):
    """Keeps the result of a chunk by what the chunk holds."""

    def find(self, chunk: pa.Table) -> pa.Table | None: ...

    def keep(self, chunk: pa.Table, result: pa.Table) -> None: ...


class _Mapper:
    """One actor: what is slow to make (a model) is made once."""

    def __init__(self, make: Callable[[], TableFunction], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.function = make()

    def map(self, rows: pa.Table) -> pa.Table:
        return self.function(rows)


def chunks_of(table: pa.Table) -> list[pa.Table]:
    """Enough consecutive chunks for many workers and a moving bar, few enough to keep."""
    rows = max(CHUNK_ROWS, -(-table.num_rows // MOST_CHUNKS))
    return [table.slice(start, rows) for start in range(0, table.num_rows, rows)]


def parallel_map(
    make: Callable[[], TableFunction],
    table: pa.Table,
    *,
    needs: Needs,
    description: str,
    address: str | None = None,
    keeper: Keeper | None = None,
) -> pa.Table:
    """`make()(rows)` for consecutive chunks of `table` on `needs.workers` actors; results in the table's order.

    `make` runs once per actor. An actor that dies is replaced up to three times, and its chunk is done again. Chunks
    depend on the number of rows alone, so that a keeper finds them again whatever the number of workers.
    """
    chunks = chunks_of(table)
    found = [keeper.find(chunk) if keeper else None for chunk in chunks]
    results = {index: result for index, result in enumerate(found) if result is not None}
    waiting = [(index, chunk) for index, chunk in enumerate(chunks) if index not in results][::-1]
    if waiting:
        connect(address, needs=needs)
        with Bar(description, total=table.num_rows, unit="row") as bar:
            bar.advance(sum(chunks[index].num_rows for index in results))
            for index, result in _work(make, waiting, needs):
                results[index] = result
                if keeper:
                    keeper.keep(chunks[index], result)
                bar.advance(chunks[index].num_rows)
    return pa.concat_tables([results[index] for index in range(len(chunks))])


def _work(
    make: Callable[[], TableFunction], waiting: list[tuple[int, pa.Table]], needs: Needs
) -> Iterator[tuple[int, pa.Table]]:
    """Yield (index, result) of the waiting chunks as they are done."""
    import ray

    options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
    actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS, **options)(_Mapper)
    actors: list[Any] = [
        actor.remote(make, max(1, int(needs.cpus))) for _ in range(max(1, min(needs.workers, len(waiting))))
    ]
    running: dict[Any, tuple[int, Any]] = {}

    def hand_out(worker: Any) -> None:
        if waiting:
            index, chunk = waiting.pop()
            running[worker.map.remote(chunk)] = (index, worker)

    try:
        for worker in actors:
            hand_out(worker)
        while running:
            done, _ = ray.wait(list(running))
            index, worker = running.pop(done[0])
            result = ray.get(done[0])
            hand_out(worker)
            yield index, result
    finally:
        for worker in actors:
            ray.kill(worker)
