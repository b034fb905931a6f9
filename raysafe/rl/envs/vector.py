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
from raysafe.rl.envs.chance import fresh_seed, key_of, uniforms
from raysafe.rl.envs.lookup import Observation, lookup
from raysafe.rl.envs.problem import Problem, State
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.recording import Recorder
from raysafe.rl.envs.rendering import ansi, check_mode, rgb
from raysafe.rl.envs.table import table


class VectorGridworldEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Copy i is seeded with seed + i. Where an episode is over, the next step is a reset and its action isn't used.

    problem: a name in PROBLEMS, with its settings, or one of your own.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        problem: str | Problem,
        num_envs: int = 1,
        observation: Observation = "flat",
        render_mode: str | None = None,
        record: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.render_mode, self.num_envs = check_mode(render_mode), num_envs
        self.problem = problem if isinstance(problem, Problem) else problem_named(problem, settings)
        self._rules = lookup(self.problem, observation)
        self.single_observation_space = self._rules.observation_space
        self.single_action_space = gymnasium.spaces.Discrete(self._rules.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._keys_N = np.zeros(num_envs, dtype=np.uint64)
        self._draws_N = np.zeros(num_envs, dtype=np.uint64)
        self._steps_N = np.zeros(num_envs, dtype=np.int64)
        self.over_N = np.zeros(num_envs, dtype=bool)
        self._seeds: list[int] = []
        self.state_N = np.zeros(num_envs, dtype=np.int64)
        kind_N = self._rules.observations[self.state_N]
        self._recorder = None if record is None else Recorder(record, self.problem, observation, kind_N)

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
        known = self._seeds or [None] * self.num_envs
        new = [None] * self.num_envs if seeds is None else seeds
        self._seeds = [self._seed(copy, *pair) for copy, pair in enumerate(zip(new, known, strict=True))]
        self._steps_N[:], self.over_N[:] = 0, False
        self.state_N = self._rules.start_many(self._chances())
        seen, infos = self._seen()
        self._record_starts(np.arange(self.num_envs), seen)
        return seen, infos

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        actions_N = np.asarray(actions)
        if actions_N.shape != (self.num_envs,) or actions_N.min() < 0 or actions_N.max() >= self._rules.actions:
            raise ConfigError(
                f"actions must be {self.num_envs} whole numbers from 0 to {self._rules.actions - 1}, got {actions!r}"
            )
        if not self._seeds:
            raise ConfigError("no episode has begun: call reset() before step()")
        chances_N, fresh_N = self._chances(), self.over_N
        state_N, reward_N = self._rules.follow_many(self.state_N, actions_N, chances_N)
        if fresh_N.any():
            state_N[fresh_N], reward_N[fresh_N] = self._rules.start_many(chances_N[fresh_N]), 0.0
        self.state_N = state_N
        self._steps_N = np.where(fresh_N, 0, self._steps_N + 1)
        terminated_N = self._rules.terminal_S[state_N]
        truncated_N = ~terminated_N & (self._steps_N >= self._rules.limit)
        self.over_N = terminated_N | truncated_N
        seen, infos = self._seen()
        if self._recorder is not None:
            done = (actions_N, seen, reward_N, terminated_N, truncated_N)
            self._recorder.step(np.flatnonzero(~fresh_N), *done)
            self._record_starts(np.flatnonzero(fresh_N), seen)
        return seen, reward_N, terminated_N, truncated_N, infos

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that copies of the same problem need to go on as these would."""
        return {
            "seeds": np.array(self._seeds, dtype=np.int64),
            "keys": self._keys_N.copy(),
            "draws": self._draws_N.copy(),
            "steps": self._steps_N.copy(),
            "over": self.over_N.copy(),
            "state": self.state_N.copy(),
        }

    def load_state_dict(self, kept: dict[str, NDArray[Any]]) -> None:
        """The reverse. Episodes under way are not recorded: what they did before isn't known here."""
        self._seeds = kept["seeds"].tolist()
        self._keys_N, self._draws_N = np.array(kept["keys"]), np.array(kept["draws"])
        self._steps_N, self.over_N, self.state_N = (np.array(kept[name]) for name in ("steps", "over", "state"))
        if self._recorder is not None:
            self._recorder.forget()

    def render(self) -> tuple[Any, ...] | None:
        if self.render_mode is None:
            return None
        draw = ansi if self.render_mode == "ansi" else rgb
        return tuple(draw(self._rules.board(int(state))) for state in self.state_N)

    def close_extras(self, **kwargs: Any) -> None:
        if self._recorder is not None:
            self._recorder.flush()
            self._recorder.close()

    def _seed(self, copy: int, new: int | None, known: int | None) -> int:
        """The seed of a copy, which begins anew with a new one and otherwise goes on."""
        if new is None and known is not None:
            return known
        seed = fresh_seed() if new is None else new
        self._keys_N[copy], self._draws_N[copy] = key_of(seeding.np_random(seed)[0]), 0
        return seed

    def _record_starts(self, copies: NDArray[np.int64], seen: Any) -> None:
        if self._recorder is not None:
            self._recorder.begin(copies, seen, self._seeds, self._draws_N - np.uint64(1))

    def _chances(self) -> NDArray[np.float64]:
        chances_N = uniforms(self._keys_N, self._draws_N)
        self._draws_N += np.uint64(1)
        return chances_N

    def _seen(self) -> tuple[Any, dict[str, Any]]:
        infos: dict[str, Any] = {}
        all_N = np.ones(self.num_envs, dtype=bool)
        for name, values_S in self._rules.information.items():
            infos[name], infos[f"_{name}"] = values_S[self.state_N], all_N
        return self._rules.observations[self.state_N], infos
