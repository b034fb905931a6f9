"""Where a trial's job runs: an actor beside Tune's own, which lies outside of Tune's placement group.

Tune puts whatever a trial starts into the trial's placement group; Ray Train reserves one of its own, and what a job
starts elsewhere would have no room in Tune's. So Tune's process only hands on figures, and takes no CPU.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from raysafe.errors import Interrupted
from raysafe.evaluation.sweep.trial import Order, work

STOP_PATIENCE_S = 5.0


class News(NamedTuple):
    """A row that is compared, or the end. folder: of a checkpoint that goes with it, on the same node."""

    step: int
    value: float
    folder: str | None = None


class Body:
    """Works on one trial in a thread of its own; each piece of news is waited on until Tune has taken it."""

    def __init__(self) -> None:
        self.news: queue.Queue[News | None] = queue.Queue()
        self.taken = threading.Event()
        self.stopped = False

    def work(self, order: Order, given: Mapping[str, Any], checkpoint: str | None) -> None:
        """Returns at the trial's end; raises what ended it."""
        try:
            work(order, given, checkpoint, self._tell)
        finally:
            self.news.put(None)

    def next(self) -> News | None:
        """The next piece of news, None at the end. Asking for it says that the last one was taken."""
        self.taken.set()
        return self.news.get()

    def stop(self) -> None:
        """The scheduler wants no more of this trial."""
        self.stopped = True
        self.taken.set()

    def _tell(self, step: int, value: float, folder: str | None) -> None:
        self.taken.clear()
        self.news.put(News(step, value, folder))
        self.taken.wait()
        if self.stopped:
            raise Interrupted(f"the scheduler stopped this trial at step {step}")


def follow(order: Order, given: Mapping[str, Any]) -> None:
    """What Tune calls: start a body, and report its news until it ends; raises what ended it."""
    import ray
    from ray import tune
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # the same node, since checkpoints are handed over by folder
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    body: Any = ray.remote(Body).options(num_cpus=0, max_concurrency=3, scheduling_strategy=here).remote()
    found = tune.get_checkpoint()
    try:
        if found is None:
            _report(body, body.work.remote(order, given, None), order.job.metric)
            return
        with found.as_directory() as folder:
            _report(body, body.work.remote(order, given, folder), order.job.metric)
    finally:
        ray.kill(body)


def _report(body: Any, work_: Any, metric: str) -> None:
    import ray
    from ray import tune

    while True:
        news: Any = ray.get(body.next.remote())
        if news is None:
            return
        checkpoint = None if news.folder is None else tune.Checkpoint.from_directory(news.folder)
        try:
            tune.report({metric: news.value, "step": news.step}, checkpoint=checkpoint)
        except SystemExit:
            # how Tune ends the thread of a trial that it has stopped
            body.stop.remote()
            ray.wait([work_], timeout=STOP_PATIENCE_S)
            raise
    ray.get(work_)
