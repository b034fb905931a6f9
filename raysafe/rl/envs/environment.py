"""One copy of a problem as a gymnasium environment."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from raysafe.errors import ConfigError
from raysafe.rl.envs.chance import fresh_seed, key_of, uniform
from raysafe.rl.envs.lookup import Observation, lookup
from raysafe.rl.envs.problem import Problem, State
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.recording import Recorder
from raysafe.rl.envs.rendering import ansi, check_mode, rgb
from raysafe.rl.envs.table import table

ONLY = np.zeros(1, dtype=np.int64)


class GridworldEnv(gymnasium.Env[Any, Any]):
    """problem: a name in PROBLEMS, with its settings, or one of your own; record: a folder for what is done.

    Each reset and each step uses one draw of chance. `reset(seed=s, options={"draw": n})` goes to the n-th: that is how
    an episode in the middle of a run is played again.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}

    def __init__(
        self,
        problem: str | Problem,
        observation: Observation = "flat",
        render_mode: str | None = None,
        record: str | None = None,
        **settings: Any,
    ) -> None:
        self.render_mode = check_mode(render_mode)
        self.problem = problem if isinstance(problem, Problem) else problem_named(problem, settings)
        self._rules = lookup(self.problem, observation)
        self.observation_space = self._rules.observation_space
        self.action_space = gymnasium.spaces.Discrete(self._rules.actions)
        self._seed: int | None = None
        self._key = self._draw = self._state = self._steps = 0
        self._over = True
        self._recorder = (
            None if record is None else Recorder(record, self.problem, observation, self._rules.observations[:1])
        )

    @property
    def state(self) -> State:
        """The problem's own state, which the observation may show less of."""
        return table(self.problem).states[self._state]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None and self._seed is None:
            seed = fresh_seed()
        super().reset(seed=seed)
        if seed is not None:
            self._seed, self._key, self._draw = seed, key_of(self.np_random), 0
        self._draw = int((options or {}).get("draw", self._draw))
        began = self._draw
        self._state = self._rules.start(self._chance())
        self._steps, self._over = 0, False
        seen, info = self._seen()
        if self._recorder is not None:
            assert self._seed is not None
            self._recorder.begin(ONLY, np.asarray(seen)[None], [self._seed], np.array([began], dtype=np.uint64))
        return seen, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self._over:
            raise ConfigError("the episode is over: call reset() before step()")
        if not self.action_space.contains(action):
            raise ConfigError(f"action must be a whole number from 0 to {self._rules.actions - 1}, got {action!r}")
        self._state, reward = self._rules.follow(self._state, int(action), self._chance())
        self._steps += 1
        terminated = bool(self._rules.terminal_S[self._state])
        truncated = not terminated and self._steps >= self._rules.limit
        self._over = terminated or truncated
        seen, info = self._seen()
        if self._recorder is not None:
            parts = (np.array([action]), np.asarray(seen)[None], np.array([reward]))
            self._recorder.step(ONLY, *parts, np.array([terminated]), np.array([truncated]))
        return seen, reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | str | None:  # type: ignore[override]
        if self.render_mode is None:
            return None
        board = self._rules.board(self._state)
        return ansi(board) if self.render_mode == "ansi" else rgb(board)

    def close(self) -> None:
        if self._recorder is not None:
            self._recorder.flush()
            self._recorder.close()

    def _chance(self) -> float:
        self._draw += 1
        return uniform(self._key, self._draw - 1)

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        info = {name: float(values_S[self._state]) for name, values_S in self._rules.information.items()}
        return self._rules.observe(self._state), info
