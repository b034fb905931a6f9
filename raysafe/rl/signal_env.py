"""Environments in which a predicted signal is earned or paid for, and the extension that puts them in a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from raysafe.data.trajectory_files import read_trajectories
from raysafe.errors import ConfigError, DataError
from raysafe.rl.extension import TRUE_REWARD, Extension, wrap_env
from raysafe.rl.signal_model import SignalModel, fit, read_signal
from raysafe.rl.signals import SignalsConfig

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

SIGNAL = "signal"
"""Where `info` tells the predicted signal, in deviations from its mean."""


class Signals(Extension):
    """The Extension: reads and fits at once, so that a signal that can't be used is told before anything starts."""

    def __init__(self, config: SignalsConfig) -> None:
        """Raises DataError where files can't be read or don't fit, ConfigError where observations tell too little."""
        found = read_trajectories(config.trajectories).trajectories
        if any(trajectory.obs_T1D is None for trajectory in found):
            raise DataError(f"{config.trajectories} has no observations, from which a signal could be predicted")
        values = read_signal(config.file, config.column, [len(trajectory) for trajectory in found])
        # the signal of step t belongs to what was seen when its action was chosen
        seen = [np.asarray(t.obs_T1D, dtype=float)[:-1] for t, v in zip(found, values, strict=True) if v is not None]
        self.config = config
        self.model = fit(seen, [v for v in values if v is not None], config.ridge)
        if self.model.explained < config.least_explained:
            raise ConfigError(
                f"signals: observations explain {self.model.explained:.3f} of the variance of {config.column} in "
                f"held-out trajectories, less than least_explained {config.least_explained:g}: check the alignment, "
                "record more, or lower it"
            )

    def apply(self, algorithm: AlgorithmConfig) -> None:  # type: ignore[override]
        wrap_env(algorithm, _Wrapping(self.config, self.model), evaluated=False)


class SignalEnv(gym.Wrapper):
    """Adds what the signal is worth where an action was chosen; the environment's own reward stays in `info`."""

    def __init__(self, env: gym.Env, config: SignalsConfig, model: SignalModel) -> None:
        super().__init__(env)
        self.config, self.model = config, model
        self._seen: Any = None

    def reset(self, **given: Any) -> Any:
        self._seen, info = self.env.reset(**given)
        return self._seen, info

    def step(self, action: Any) -> Any:
        at = self._seen
        self._seen, reward, terminated, truncated, info = self.env.step(action)
        flat: Any = gym.spaces.flatten(self.env.observation_space, at)
        [signal] = self.model.predict(np.ravel(flat)[None])
        config = self.config
        if config.use == "reward":
            worth = -signal if config.lower_is_better else signal
        else:
            worth = -((signal - config.target) ** 2)
        info = {TRUE_REWARD: float(reward), **info, SIGNAL: float(signal)}
        return self._seen, float(reward) + config.weight * float(worth), terminated, truncated, info


@dataclass(frozen=True)
class _Wrapping:
    config: SignalsConfig
    model: SignalModel

    def __call__(self, env: gym.Env) -> gym.Env:
        return SignalEnv(env, self.config, self.model)
