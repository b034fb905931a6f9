"""What changes a training from outside: shaped or learned rewards, constraints, masks, penalties, recorded signals.

An Extension is applied to the finished RLlib config before anything is built. Several of them compose: the functions
here add a wrapper, a connector or a callback to what the config has already, and overwrite nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import gymnasium as gym
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.rllib.callbacks.callbacks import RLlibCallback
    from ray.rllib.connectors.connector_v2 import ConnectorV2

    from raysafe.rl.environment import EnvMaker, Wrapper
    from raysafe.runtime.report import Section
    from raysafe.runtime.run import Run

    BuildConnector = Callable[[gym.Space, gym.Space], ConnectorV2]

TRUE_REWARD = "true_reward"
"""Where a wrapper that changes the reward leaves the environment's own, in `info`: the metrics keep its sum too."""


class Extension(ABC):
    """One change of a training. A config's method `extension(job)` makes it; it lives in the driver."""

    @abstractmethod
    def apply(self, config: AlgorithmConfig) -> None:
        """Change the config, by the functions below or directly: `config.training(learner_config_dict=...)` too."""

    def begin(self, run: Run) -> None:  # noqa: B027 - most have no use for it
        """Called in the driver before the algorithm is built, for what is written into the run."""

    def admits(self) -> bool:
        """Whether the policy, as it is, may be the best one: asked after an evaluation."""
        return True

    def after_iteration(self, algorithm: Algorithm, step: int) -> Mapping[str, float]:
        """Called in the driver when an iteration is over; what it returns joins the iteration's row of metrics."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep of it: nested mappings and lists of arrays, numbers and text."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:  # noqa: B027 - most have none
        """The reverse of `state`; called after `apply` and after the algorithm is built."""

    def restored(self, algorithm: Algorithm) -> None:  # noqa: B027 - most have nothing there
        """Called when `set_state` is done: what learners and env runners have of it must follow."""

    def sections(self, run: Run) -> list[Section]:
        """What the report says of it."""
        return []


def wrap_env(config: AlgorithmConfig, wrapper: Wrapper, *, evaluated: bool = False) -> None:
    """Put a gymnasium wrapper around every environment that is trained in, outside of those that are there.

    evaluated: whether evaluations are wrapped too; a reward that is shaped must not be, a mask must.
    """
    maker: EnvMaker = config.env_config["maker"]
    config.environment(env_config={"maker": maker.wrapped(wrapper, evaluated=evaluated)})


def add_learner_connector(config: AlgorithmConfig, build: BuildConnector) -> None:
    """Let `build(observation_space, action_space)` make a connector that sees `episodes` before they are batched.

    It comes after those that are there; its episodes are copies, so what it writes into them reaches the loss alone.
    """
    config.learners(learner_connector=_Appended(config._learner_connector, build))


def add_env_to_module_connector(config: AlgorithmConfig, build: BuildConnector) -> None:
    """The same between environment and policy; it is part of the policy's state, and of evaluations."""
    before: Any = config._env_to_module_connector

    def both(env: Any, spaces: Any, device: Any) -> list[ConnectorV2]:
        single = spaces["__env_single__"] if env is None else (env.single_observation_space, env.single_action_space)
        return [*_listed(before(env, spaces, device) if before else []), build(*single)]

    config.env_runners(env_to_module_connector=cast(Any, both))


def add_callback(config: AlgorithmConfig, callback: type[RLlibCallback]) -> None:
    """One more class of callbacks."""
    present = config.callbacks_class
    config.callbacks(callbacks_class=[*(present if isinstance(present, list) else [present]), callback])


class _Appended:
    """Makes the connectors that were configured before, and one more."""

    def __init__(self, before: Callable[..., Any] | None, build: BuildConnector) -> None:
        self.before, self.build = before, build

    def __call__(self, observation_space: gym.Space, action_space: gym.Space) -> list[ConnectorV2]:
        before = self.before(observation_space, action_space) if self.before else []
        return [*_listed(before), self.build(observation_space, action_space)]


def _listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, list | tuple) else [made]
