"""The modules of self-play: past selves, which act and don't learn, and who sits where in each game."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModule

from raysafe.rl.policy import Policy

LEARNER = "learner"
_REMEMBERED = 4096


def slot_name(number: int) -> str:
    return f"past_{number}"


class PastSelf(RLModule):
    """An opponent that draws its actions from a policy, which `seat` exchanges; before that it acts at random."""

    framework: Any = None

    def setup(self) -> None:
        self.policy: Policy | None = None
        self.draw = np.random.default_rng()

    def seat(self, policy: Policy, seed: int) -> None:
        self.policy, self.draw = policy, np.random.default_rng(seed)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        observations = np.asarray(batch[Columns.OBS])
        if self.policy is None:
            space: Any = self.action_space
            return {Columns.ACTIONS: np.asarray([space.sample() for _ in observations])}
        flat_BD = observations.reshape(len(observations), -1)
        return {
            Columns.ACTIONS: self.policy.act(flat_BD, deterministic=not self.policy.draws, generator=self.draw).actions
        }

    def _forward_train(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError("a past self doesn't learn")

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Env runners ask for it."""


class Seats:
    """The mapping of agents to modules: in each game, the learner takes a seat at random, a past self the other."""

    def __init__(self, agents: Sequence[str], slots: int, seed: int) -> None:
        self._agents, self._slots, self._draw = list(agents), slots, random.Random(seed)
        self._games: dict[str, tuple[int, int]] = {}

    def __call__(self, agent: Any, episode: Any, **kwargs: Any) -> str:
        game = self._games.get(episode.id_)
        if game is None:
            game = self._games[episode.id_] = self._draw.randrange(2), self._draw.randrange(self._slots)
            if len(self._games) > _REMEMBERED:
                # games end in about the order in which they begin
                del self._games[next(iter(self._games))]
        seat, slot = game
        return LEARNER if self._agents.index(agent) == seat else slot_name(slot)


class Games(RLlibCallback):
    """Notes how each game ended, as (slot, score of the learner), on the env runner: `games`."""

    def on_episode_end(self, *, episode: Any, env_runner: Any, **kwargs: Any) -> None:
        returns = {
            episode.module_for(agent): float(episode.agent_episodes[agent].get_return()) for agent in episode.agent_ids
        }
        own = returns.pop(LEARNER, None)
        if own is None or not returns:
            return
        [(slot, other)] = returns.items()
        score = 0.5 if own == other else float(own > other)
        if not hasattr(env_runner, "games"):
            env_runner.games = []
        env_runner.games.append((slot, score))
