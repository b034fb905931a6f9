"""Tabular Q-learning as the training loop drives it: gridworlds whose states can be listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from raysafe.errors import ConfigError
from raysafe.rl.agent import Episodes, Iteration
from raysafe.rl.environment import OWN
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.vector import VectorGridworldEnv
from raysafe.rl.q_learning import QLearner, QLearningSettings

if TYPE_CHECKING:
    from raysafe.rl.checkpoint import Position
    from raysafe.rl.job import RLJob

ROUND = 4096
"""Steps between two rows of metrics."""


def problem_of(job: RLJob) -> Problem:
    """The problem behind the job's environment; raises ConfigError for one whose states can't be listed."""
    if not job.env.startswith(OWN):
        raise ConfigError(
            f"q-learning keeps a value for each state of a gridworld, env: {OWN}…, got {job.env}: choose one of those, "
            "or algorithm dqn"
        )
    settings = {name: value for name, value in job.env_config.items() if name not in ("observation", "record")}
    return problem_named(job.env, settings)


class TabularAgent:
    """A table of values. Its own state goes on exactly, so that nothing begins anew at a checkpoint."""

    def __init__(self, job: RLJob) -> None:
        self.problem, self.evaluation, self.seed = problem_of(job), job.evaluation, job.seed
        settings = job.q_learning or QLearningSettings()
        self.learner = QLearner(
            self.problem, settings, steps=job.steps, seed=job.seed, record=job.env_config.get("record")
        )

    def iterate(self, steps: int) -> Iteration:
        before = self.learner.done
        self.learner.learn(ROUND)
        _, mean, count = self.learner.curve[-1]
        figures = {"epsilon": self.learner.epsilon()}
        if count:
            figures["return"] = mean
        return Iteration(self.learner.done - before, count, figures)

    def evaluate(self) -> Episodes:
        count = self.evaluation.episodes
        envs = VectorGridworldEnv(self.problem, count, observation="index")
        envs.reset(seed=self._evaluation_seed)
        best_S = self.learner.policy_SA.argmax(axis=1)
        returns_N, lengths_N = np.zeros(count), np.zeros(count, dtype=np.int64)
        going_N = np.ones(count, dtype=bool)
        while going_N.any() and lengths_N.max() < self.evaluation.longest:
            _, rewards_N, terminated_N, truncated_N, _ = envs.step(best_S[envs.state_N])
            returns_N += np.where(going_N, rewards_N, 0.0)
            lengths_N += going_N
            going_N &= ~(terminated_N | truncated_N)
        envs.close()
        return Episodes(returns_N, lengths_N)

    def frames(self) -> list[NDArray[np.uint8]]:
        if not self.evaluation.frames:
            return []
        envs = VectorGridworldEnv(self.problem, 1, observation="index", render_mode="rgb_array")
        envs.reset(seed=self._evaluation_seed)
        best_S = self.learner.policy_SA.argmax(axis=1)
        drawn = [np.asarray(_picture(envs))]
        ended = False
        while not ended and len(drawn) < self.evaluation.longest:
            _, _, terminated_N, truncated_N, _ = envs.step(best_S[envs.state_N])
            ended = bool(terminated_N[0] or truncated_N[0])
            drawn.append(np.asarray(_picture(envs)))
        envs.close()
        places = np.unique(np.linspace(0, len(drawn) - 1, self.evaluation.frames).round().astype(int))
        return [drawn[place] for place in places]

    def begin_leg(self, seed: int) -> None:
        """The learner's own state has the environments' and the draws'."""

    def state(self) -> dict[str, Any]:
        return {"q_learning": self.learner.state()}

    def restore(self, state: dict[str, Any], position: Position) -> None:
        self.learner.set_state(state["q_learning"])

    def close(self) -> None:
        self.learner.env.close()

    @property
    def _evaluation_seed(self) -> int:
        return int(np.random.SeedSequence([self.seed, 20_241]).generate_state(1)[0] >> 1)


def _picture(envs: gym.vector.VectorEnv) -> Any:
    return cast(Any, envs.render())[0]
