"""An RLlib algorithm within one process, for which no Ray is started.

Where neither runners nor learners have processes of their own, RLlib uses Ray's object store twice all the same: for a
copy of the config that no runner will read, and for weights that go from one object of this process to another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.rllib.core import DEFAULT_MODULE_ID


def build_locally(config: Any, module_id: str | None = None) -> Any:
    """The algorithm of a config without remote runners and learners; Ray stays as it is.

    module_id: the one that learns, where there are several.
    """
    with _nothing_shared():
        algorithm = config.build_algo()
    algorithm.env_runner_group.sync_weights = CopyWeights(algorithm, module_id)
    return algorithm


class CopyWeights:
    """In the place of `EnvRunnerGroup.sync_weights`: from the learner here to the runner here."""

    def __init__(self, algorithm: Any, module_id: str | None = None) -> None:
        self.algorithm, self.module_id = algorithm, module_id

    def __call__(self, *arguments: Any, **options: Any) -> None:
        learner, runner = self.algorithm.learner_group._learner, self.algorithm.env_runner
        learned = learner.module[self.module_id or DEFAULT_MODULE_ID].unwrapped()
        acting = runner.module if self.module_id is None else runner.module[self.module_id]
        # the runner's module has the policy alone
        acting.load_state_dict(learned.state_dict(), strict=False)
        runner._weights_seq_no = learner._weights_seq_no


@contextmanager
def _nothing_shared() -> Iterator[None]:
    put = ray.put
    ray.put = lambda *values, **options: None  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        ray.put = put
