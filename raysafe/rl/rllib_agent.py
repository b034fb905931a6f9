"""PPO and DQN: an RLlib algorithm with the job's extensions, in the driver."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from raysafe.rl.agent import Episodes, Iteration
from raysafe.rl.build import build_config
from raysafe.rl.evaluation import Evaluator
from raysafe.rl.local import build_locally
from raysafe.rl.state import algorithm_state, restore_algorithm
from raysafe.runtime.cluster import connect

if TYPE_CHECKING:
    import gymnasium as gym

    from raysafe.rl.checkpoint import Position
    from raysafe.rl.job import RLJob
    from raysafe.rl.policy import Policy
    from raysafe.runtime.run import Run

FIGURES = {
    "policy_loss": "policy_loss",
    "vf_loss": "value_loss",
    "entropy": "entropy",
    "mean_kl_loss": "kl",
    "vf_explained_var": "explained_variance",
    "qf_loss": "value_loss",
    "qf_mean": "value",
    "td_error_mean": "td_error",
    "default_optimizer_learning_rate": "learning_rate",
}
"""RLlib's names, and ours."""


class RLlibAgent:
    """Builds the algorithm; starts or joins Ray for it where anything is to run in other processes."""

    def __init__(self, job: RLJob, run: Run | None = None) -> None:
        apart = bool(job.sampling.runners or job.sampling.learners or job.address)
        if apart:
            connect(job.address)
        # a process that steps small networks gains nothing by more threads, and two halve it on two cores
        torch.set_num_threads(1)
        self.extensions = job.extensions
        if run is not None:
            for extension in self.extensions:
                extension.begin(run)
        config = build_config(job, self.extensions)
        self.algorithm: Any = config.build_algo() if apart else build_locally(config)
        maker = config.env_config["maker"].for_evaluation()
        self.evaluator = Evaluator(self.algorithm.env_runner, maker, job.evaluation, job.seed)

    def iterate(self, steps: int) -> Iteration:
        result = self.algorithm.train()
        sampled, learned = result["env_runners"], result.get("learners", {}).get("default_policy", {})
        taken = int(sampled["num_env_steps_sampled"])
        figures = {
            "return": sampled.get("episode_return_mean"),
            "true_return": sampled.get("true_return_mean"),
            "episode_length": sampled.get("episode_len_mean"),
        }
        figures |= {ours: learned[theirs] for theirs, ours in FIGURES.items() if theirs in learned}
        for extension in self.extensions:
            figures |= extension.after_iteration(self.algorithm, steps + taken)
        known = {name: float(value) for name, value in figures.items() if value is not None and value == value}
        return Iteration(taken, int(sampled.get("num_episodes", 0)), known)

    def evaluate(self) -> Episodes:
        self.algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.algorithm.learner_group, inference_only=True
        )
        return replace(self.evaluator.run(), admitted=all(extension.admits() for extension in self.extensions))

    def frames(self) -> list[NDArray[np.uint8]]:
        return self.evaluator.frames()

    def policy(self, card: dict[str, Any]) -> Policy:
        from raysafe.rl.rllib_policy import policy_of

        runner = self.algorithm.env_runner
        spaces = runner.env.single_observation_space, runner.env.single_action_space
        scaled = bool(self.algorithm.config.normalize_actions)
        return policy_of(runner.module, runner._env_to_module, *spaces, card, scaled=scaled)

    def make_env(self) -> gym.Env:
        return self.evaluator.maker.make()

    def begin_leg(self, seed: int) -> None:
        random.seed(seed)
        self.algorithm.env_runner_group.foreach_env_runner(_Restart(seed))
        if hasattr(self.algorithm, "restart"):
            self.algorithm.restart(seed)

    def state(self) -> dict[str, Any]:
        extensions = [extension.state() for extension in self.extensions]
        return {"algorithm": algorithm_state(self.algorithm), "extensions": extensions}

    def restore(self, state: dict[str, Any], position: Position) -> None:
        restore_algorithm(self.algorithm, state["algorithm"], position)
        for extension, kept in zip(self.extensions, state["extensions"], strict=True):
            extension.set_state(kept)
            extension.restored(self.algorithm)

    def close(self) -> None:
        self.evaluator.close()
        self.algorithm.stop()


class _Restart:
    """Sent to each runner, which adds its own number to the seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, runner: Any) -> None:
        runner.restart(self.seed + (runner.worker_index or 0))
