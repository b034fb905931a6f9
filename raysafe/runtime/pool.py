"""Mapping a function over the rows of a table on several Ray actors, in order, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import track

from raysafe.runtime.cluster import Needs, connect

CHUNKS_PER_WORKER = 8
RESTARTS = 3

TableFunction = Callable[[pa.Table], pa.Table]


class _Mapper:
    """One actor: what is slow to make (a model) is made once."""

    def __init__(self, make: Callable[[], TableFunction], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.function = make()

    def map(self, rows: pa.Table) -> pa.Table:
        return self.function(rows)


def parallel_map(
    make: Callable[[], TableFunction], table: pa.Table, *, needs: Needs, description: str, address: str | None = None
) -> pa.Table:
    """`make()(rows)` for consecutive chunks of `table` on `needs.workers` actors; results in the table's order.

    `make` runs once per actor. An actor that dies is replaced up to three times, and its chunk is done again.
    """
    connect(address, needs=needs)
    import ray

    workers = max(1, min(needs.workers, table.num_rows))
    rows = max(1, -(-table.num_rows // (workers * CHUNKS_PER_WORKER)))
    options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
    actor = ray.remote(max_restarts=RESTARTS, max_task_retries=RESTARTS, **options)(_Mapper)
    actors: list[Any] = [actor.remote(make, max(1, int(needs.cpus))) for _ in range(workers)]
    chunks = [table.slice(start, rows) for start in range(0, table.num_rows, rows)]
    waiting = list(enumerate(chunks))[::-1]
    running: dict[Any, tuple[int, Any]] = {}
    results: dict[int, pa.Table] = {}
    for worker in actors:
        _hand_out(worker, waiting, running)
    console = Console(stderr=True)
    for _ in track(range(len(chunks)), description, console=console, disable=not console.is_terminal):
        done, _ = ray.wait(list(running))
        index, worker = running.pop(done[0])
        results[index] = ray.get(done[0])
        _hand_out(worker, waiting, running)
    for worker in actors:
        ray.kill(worker)
    return pa.concat_tables([results[index] for index in range(len(chunks))])


def _hand_out(worker: Any, waiting: list[tuple[int, pa.Table]], running: dict[Any, tuple[int, Any]]) -> None:
    if waiting:
        index, chunk = waiting.pop()
        running[worker.map.remote(chunk)] = (index, worker)
