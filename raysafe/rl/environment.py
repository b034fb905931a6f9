"""Environments by name: a gymnasium id, or `module:Class` of the user's own, which alone is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from raysafe.errors import ConfigError
from raysafe.runtime.functions import is_function, load_function

if TYPE_CHECKING:
    import gymnasium as gym
    from gymnasium.envs.registration import EnvSpec

Wrapper = Callable[["gym.Env"], "gym.Env"]

OWN = "raysafe/"
"""Namespace of the environments in raysafe.rl.envs, which are registered when that is imported."""
REGISTERED = "raysafe"
"""The one name under which RLlib makes environments; `env_config["maker"]` says which."""


@dataclass(frozen=True)
class EnvMaker:
    """Makes one environment or several at once; small enough to be sent to env runners."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[Wrapper, bool], ...] = ()
    """From the innermost; with each, whether evaluations have it too."""
    flat: bool = False
    """Whether observations become vectors of float32, which is what a multilayer perceptron takes."""

    def wrapped(self, wrapper: Wrapper, *, evaluated: bool) -> EnvMaker:
        return replace(self, wrappers=(*self.wrappers, (wrapper, evaluated)))

    def for_evaluation(self) -> EnvMaker:
        """Without the wrappers that only training has."""
        return replace(self, wrappers=tuple(entry for entry in self.wrappers if entry[1]))

    def make(self, **options: Any) -> gym.Env:
        """One environment; raises ConfigError naming env or env_config."""
        import gymnasium as gym

        known = self.known()
        chosen = {**self.options, **options}
        try:
            env = gym.make(known, **chosen)
        except (TypeError, ValueError, gym.error.Error) as error:
            raise ConfigError(f"env_config: {self.name} can't be made with {chosen}: {_first_line(error)}") from None
        for wrapper, _ in self.wrappers:
            env = wrapper(env)
        return gym.wrappers.FlattenObservation(env) if self.flat and _is_shaped(env.observation_space) else env

    def make_vec(self, count: int) -> gym.vector.VectorEnv:
        """`count` at once: vectorised by the environment itself where it can and no wrapper stands in between."""
        import gymnasium as gym

        spec = self.known()
        if spec.vector_entry_point is not None and not self.wrappers:
            envs = gym.make_vec(spec, num_envs=count, vectorization_mode="vector_entry_point", **self.options)
            shaped = self.flat and _is_shaped(envs.single_observation_space)
            return gym.wrappers.vector.FlattenObservation(envs) if shaped else envs
        return gym.vector.SyncVectorEnv([self.make] * count)

    def known(self) -> EnvSpec:
        """The registered environment; raises ConfigError for a name that is none."""
        import gymnasium as gym
        from gymnasium.envs.registration import EnvSpec

        if self.name.startswith(OWN):
            import_module("raysafe.rl.envs")
        if is_function(self.name):
            entry = load_function(self.name, "env")
            return EnvSpec(_own_id(self.name), entry_point=entry)
        try:
            return gym.spec(self.name)
        except gym.error.Error as error:
            raise ConfigError(
                f"env: {_first_line(error)}, got {self.name!r}; give a gymnasium id, or module:Class of your own"
            ) from None


def _is_shaped(space: gym.Space) -> bool:
    """Whether observations are anything but plain vectors."""
    import gymnasium as gym

    return not (isinstance(space, gym.spaces.Box) and len(space.shape) == 1)


def _own_id(name: str) -> str:
    """module:Class as a gymnasium id."""
    return f"{name.replace(':', '-').replace('.', '-')}-v0"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
