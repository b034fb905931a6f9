"""Many copies of a problem, stepped at once by looking up arrays: each goes as the single environment would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from raysafe.errors import ConfigError
from raysafe.rl.envs.chance import uniforms
from raysafe.rl.envs.environment import key_of
from raysafe.rl.envs.lookup import Observation, lookup
from raysafe.rl.envs.problem import State
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.rendering import ansi, rgb
from raysafe.rl.envs.table import table


class VectorGridworldEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Copy i is seeded with seed + i. Where an episode is over, the next step is a reset and its action isn't used."""

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        problem: str,
        num_envs: int = 1,
        observation: Observation = "flat",
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"render_mode must be one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode, self.num_envs = render_mode, num_envs
        self.problem = problem_named(problem, settings)
        self._rules = lookup(self.problem, observation)
        self.single_observation_space = self._rules.observation_space
        self.single_action_space = gymnasium.spaces.Discrete(self._rules.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._keys_N = np.zeros(num_envs, dtype=np.uint64)
        self._draws_N = np.zeros(num_envs, dtype=np.uint64)
        self._steps_N = np.zeros(num_envs, dtype=np.int64)
        self._over_N = np.zeros(num_envs, dtype=bool)
        self._seeded = False
        self.state_N = np.zeros(num_envs, dtype=np.int64)

    @property
    def states(self) -> list[State]:
        """The problem's own state of each copy."""
        return [table(self.problem).states[number] for number in self.state_N]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        seeds = [seed + copy for copy in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise ConfigError(f"seed must be one number or {self.num_envs} of them, got {len(seeds)}")
        for copy in range(self.num_envs):
            own = None if seeds is None else seeds[copy]
            if own is not None or not self._seeded:
                self._keys_N[copy], self._draws_N[copy] = key_of(seeding.np_random(own)[0]), 0
        self._seeded = True
        self._steps_N[:], self._over_N[:] = 0, False
        self.state_N = self._rules.start_many(self._chances())
        return self._seen(np.ones(self.num_envs, dtype=bool))

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        actions_N = np.asarray(actions)
        if actions_N.shape != (self.num_envs,) or actions_N.min() < 0 or actions_N.max() >= self._rules.actions:
            raise ConfigError(
                f"actions must be {self.num_envs} whole numbers from 0 to {self._rules.actions - 1}, got {actions!r}"
            )
        if not self._seeded:
            raise ConfigError("no episode has begun: call reset() before step()")
        chances_N, fresh_N = self._chances(), self._over_N
        state_N, reward_N = self._rules.follow_many(self.state_N, actions_N, chances_N)
        if fresh_N.any():
            state_N[fresh_N], reward_N[fresh_N] = self._rules.start_many(chances_N[fresh_N]), 0.0
        self.state_N = state_N
        self._steps_N = np.where(fresh_N, 0, self._steps_N + 1)
        terminated_N = self._rules.terminal_S[state_N]
        truncated_N = ~terminated_N & (self._steps_N >= self._rules.limit)
        self._over_N = terminated_N | truncated_N
        seen, infos = self._seen(np.ones(self.num_envs, dtype=bool))
        return seen, reward_N, terminated_N, truncated_N, infos

    def render(self) -> tuple[Any, ...] | None:
        if self.render_mode is None:
            return None
        draw = ansi if self.render_mode == "ansi" else rgb
        return tuple(draw(self._rules.board(int(state))) for state in self.state_N)

    def _chances(self) -> NDArray[np.float64]:
        chances_N = uniforms(self._keys_N, self._draws_N)
        self._draws_N += np.uint64(1)
        return chances_N

    def _seen(self, all_N: NDArray[np.bool_]) -> tuple[Any, dict[str, Any]]:
        infos: dict[str, Any] = {}
        for name, values_S in self._rules.information.items():
            infos[name], infos[f"_{name}"] = values_S[self.state_N], all_N
        return self._rules.observations[self.state_N], infos
