"""Two-player games with exact solutions, for self-play."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

BIASED = np.array([[0.0, -1.0, 2.0], [1.0, 0.0, -1.0], [-2.0, 1.0, 0.0]])
"""Rock, paper, scissors, where rock beats scissors twice: the equilibrium is (1/4, 1/2, 1/4)."""


class BiasedRockPaperScissors(MultiAgentEnv):
    """`rounds` rounds, of which nobody sees the others: the matrix game BIASED so many times."""

    metadata: ClassVar[dict[str, Any]] = {}

    def __init__(self, rounds: int = 8) -> None:
        super().__init__()
        self.rounds = rounds
        self.agents = self.possible_agents = ["row", "column"]
        self.observation_spaces = {agent: gym.spaces.Box(0.0, 1.0, (1,), np.float32) for agent in self.agents}
        self.action_spaces = {agent: gym.spaces.Discrete(3) for agent in self.agents}
        self._round = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._round = 0
        return self._seen(), {}

    def step(self, actions: dict[str, Any]) -> Any:
        self._round += 1
        gain = float(BIASED[int(actions["row"]), int(actions["column"])])
        over = self._round >= self.rounds
        ends = {"row": over, "column": over, "__all__": over}
        return self._seen(), {"row": gain, "column": -gain}, ends, dict.fromkeys(ends, False), {}

    def _seen(self) -> dict[Any, Any]:
        return {agent: np.ones(1, dtype=np.float32) for agent in self.agents}
