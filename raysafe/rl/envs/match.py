"""A game as RLlib's multi-agent environment: two agents, the same spaces, opposite rewards."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from raysafe.errors import ConfigError
from raysafe.rl.envs.chance import fresh_seed, key_of, uniform
from raysafe.rl.envs.game import Game
from raysafe.rl.envs.problem import State
from raysafe.rl.envs.rendering import ansi
from raysafe.rl.envs.soccer import Soccer

AGENTS = "first", "second"


class Match(MultiAgentEnv):
    """game: Soccer with these settings by default. Observations are a player's layers as one row."""

    def __init__(self, game: Game | None = None, **settings: Any) -> None:
        super().__init__()
        self.game = game or Soccer.parse(settings, "the settings of Soccer")
        self.state: State = self.game.starts()[0][1]
        shape = self.game.layers(self.state, 0).size
        self.agents = self.possible_agents = list(AGENTS)
        self.observation_spaces = dict.fromkeys(AGENTS, gymnasium.spaces.Box(0.0, 1.0, (shape,), np.float32))
        self.action_spaces = dict.fromkeys(AGENTS, gymnasium.spaces.Discrete(self.game.actions))
        self._key: int | None = None
        self._draw = self._steps = 0
        self._over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None or self._key is None:
            chosen = fresh_seed() if seed is None else seed
            self._key, self._draw = key_of(np.random.default_rng(chosen)), 0
        starts = self.game.starts()
        self.state = starts[self._pick([chance for chance, _ in starts])][1]
        self._steps, self._over = 0, False
        return self._seen(), {}

    def step(self, action_dict: dict[str, Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        if self._over:
            raise ConfigError("the game is over: call reset() before step()")
        known = range(self.game.actions)
        if set(action_dict) != set(AGENTS) or not all(int(action) in known for action in action_dict.values()):
            raise ConfigError(f"actions must be one from 0 to {self.game.actions - 1} of each agent, got {action_dict}")
        first, second = (int(action_dict[agent]) for agent in AGENTS)
        outcomes = self.game.transitions(self.state, (first, second))
        _, self.state, reward, done = outcomes[self._pick([outcome.probability for outcome in outcomes])]
        self._steps += 1
        drawn = not done and self._steps >= self.game.limit
        self._over = done or drawn
        ends, cuts = (dict.fromkeys((*AGENTS, "__all__"), flag) for flag in (done, drawn))
        return self._seen(), {AGENTS[0]: reward, AGENTS[1]: -reward}, ends, cuts, {}

    def render(self) -> str:
        """As the first player sees it."""
        return ansi(self.game.board(self.state, 0))

    def _seen(self) -> dict[str, Any]:
        return {agent: self.game.layers(self.state, player).reshape(-1) for player, agent in enumerate(AGENTS)}

    def _pick(self, chances: list[float]) -> int:
        assert self._key is not None
        self._draw += 1
        place = int(np.searchsorted(np.cumsum(chances), uniform(self._key, self._draw - 1), side="right"))
        return min(place, len(chances) - 1)
