"""An RLlib env runner that steps all of its environments as arrays, and makes episodes of them only at the end.

RLlib's own appends to a Python object per environment and step, and runs three pipelines of connectors on these: at 32
CartPoles that is some thirty times the work of the environments and the policy together. What the arrays can't hold
(memory in the policy, connectors that only know episodes, callbacks on each step) is left to RLlib's way.
"""

from __future__ import annotations

import uuid
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

from raysafe.rl.extension import TRUE_REWARD
from raysafe.rl.normaliser import MeanStdFilter
from raysafe.rl.rollout import Chunk, Rollout

STEPWISE = ("on_episode_created", "on_episode_start", "on_episode_step", "on_episode_end")
PLAIN = {
    "AddObservationsFromEpisodesToBatch",
    "AddTimeDimToBatchAndZeroPad",
    "AddStatesFromEpisodesToBatch",
    "BatchIndividualItems",
    "NumpyToTensor",
}
"""RLlib's own connectors before a policy without memory, which only turn observations into a tensor."""


class VectorRunner(SingleAgentEnvRunner):
    """`sample(num_timesteps=...)` by arrays where everything is plain, otherwise as RLlib does."""

    # RLlib's annotations leave each of them optional, or a base class
    config: Any
    env: Any
    module: Any
    _env_to_module: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._carried: _Carried | None = None
        self._going: list[_Going] = []
        self.plain = self._is_plain()

    def make_env(self) -> None:
        """By the maker alone; RLlib's way registers an id with gymnasium each time, which warns that it is there."""
        if self.env is not None:
            self.env.close()
        made = self.config.env_config["maker"].make_vec(self.config.num_envs_per_env_runner)
        self.env = gym.wrappers.vector.DictInfoToList(made)
        self.num_envs = self.env.num_envs
        self._needs_initial_reset = True
        make_callback(
            "on_environment_created",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_environment_created,
            kwargs={
                "env_runner": self,
                "metrics_logger": self.metrics,
                "env": self.env.unwrapped,
                "env_context": self.config.env_config,
            },
        )

    def restart(self, seed: int) -> None:
        """Begin new episodes, with environments and draws that follow from the seed alone."""
        self._seed = seed
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        self._needs_initial_reset = True
        self._carried = None

    def _is_plain(self) -> bool:
        if self.env is None or self.module is None or self.module.is_stateful():
            return False
        pieces = self._env_to_module.connectors
        known = all(type(piece).__name__ in PLAIN or isinstance(piece, MeanStdFilter) for piece in pieces)
        callbacks = all(
            getattr(type(found), name) is getattr(RLlibCallback, name) for found in self._callbacks for name in STEPWISE
        )
        functions = any(getattr(self.config, f"callbacks_{name}") for name in STEPWISE)
        flat = isinstance(self.env.single_observation_space, gym.spaces.Box)
        return known and callbacks and not functions and flat and self.config._module_to_env_connector is None

    def _sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[SingleAgentEpisode]:
        if num_timesteps is None or random_actions or not self.plain:
            return super()._sample(
                num_timesteps=num_timesteps,
                num_episodes=num_episodes,
                explore=explore,
                random_actions=random_actions,
                force_reset=force_reset,
            )
        if self._carried is None or force_reset or self._needs_initial_reset:
            self._carried = self._reset()
        # once, and not for every step as forward_exploration does: it walks through all submodules
        self.module.eval()
        rollout = Rollout(self._carried.obs_ND, self._carried.infos, self._carried.done_N)
        while rollout.steps < num_timesteps:
            self._step(rollout, explore)
        self._carried = _Carried(rollout.obs[-1], rollout.infos[-1], rollout.done_N)
        if not self.config.num_env_runners:
            self.num_env_steps_sampled_lifetime += rollout.steps
        episodes = [self._episode(chunk) for chunk in rollout.chunks()]
        ended = [episode for episode in episodes if episode.is_done]
        self._log_env_steps(metric=self._metrics_num_env_steps_sampled, num_steps=rollout.steps)
        self._increase_sampled_metrics(rollout.steps, len(ended))
        return ended + [episode for episode in episodes if not episode.is_done]

    def _reset(self) -> _Carried:
        obs_ND, infos = self._vector.reset(seed=self._seed if self._needs_initial_reset else None)
        self._needs_initial_reset = False
        self._going = [_Going() for _ in range(self.num_envs)]
        return _Carried(self._ready(obs_ND), self._listed(infos), np.zeros(self.num_envs, dtype=bool))

    @property
    def _vector(self) -> gym.vector.VectorEnv:
        # without the wrapper that makes a list of infos at every step, of which most are empty
        return self.env.env if isinstance(self.env, gym.wrappers.vector.DictInfoToList) else self.env

    def _listed(self, infos: dict[str, Any]) -> list[dict[str, Any]] | None:
        return self.env._convert_info_to_list(infos) if infos else None

    def _ready(self, obs_ND: NDArray[Any]) -> NDArray[np.float32]:
        """Observations as the policy sees them, and as episodes keep them."""
        for piece in self._env_to_module.connectors:
            if isinstance(piece, MeanStdFilter):
                obs_ND = piece.normalise(obs_ND)
        # a copy: an environment may write its next observations into the same array
        return np.array(obs_ND, dtype=np.float32)

    @torch.no_grad()
    def _step(self, rollout: Rollout, explore: bool) -> None:
        batch = {Columns.OBS: torch.from_numpy(rollout.obs[-1]).to(self._device)}
        if explore:
            taken = self.num_env_steps_sampled_lifetime + rollout.steps * (self.config.num_env_runners or 1)
            out = self.module._forward_exploration(batch, t=taken)
        else:
            out = self.module._forward_inference(batch)
        inputs = out.get(Columns.ACTION_DIST_INPUTS)
        extra: dict[str, NDArray[Any]] = {}
        if Columns.ACTIONS in out:
            actions = out[Columns.ACTIONS]
            kept = out.keys() - {Columns.ACTIONS, Columns.ACTION_DIST_INPUTS}
            extra |= {name: out[name].cpu().numpy() for name in kept}
        else:
            kind = "exploration" if explore else "inference"
            distribution = getattr(self.module, f"get_{kind}_action_dist_cls")().from_logits(inputs)
            actions = (distribution if explore else distribution.to_deterministic()).sample()
            if explore:
                extra[Columns.ACTION_LOGP] = distribution.logp(actions).cpu().numpy()
        if inputs is not None:
            extra[Columns.ACTION_DIST_INPUTS] = inputs.cpu().numpy()
        actions_N = actions.cpu().numpy()
        obs_ND, rewards_N, terminated_N, truncated_N, infos = self._vector.step(self._bounded(actions_N))
        rollout.add(actions_N, rewards_N, terminated_N, truncated_N, self._ready(obs_ND), self._listed(infos), extra)

    def _bounded(self, actions_N: NDArray[Any]) -> NDArray[Any]:
        """What the environment gets for the policy's own actions."""
        space = self.env.single_action_space
        if isinstance(space, gym.spaces.Box):
            if self.config.normalize_actions:
                return np.asarray(unsquash_action(actions_N, space))
            return np.asarray(clip_action(actions_N, space)) if self.config.clip_actions else actions_N
        return actions_N

    def _episode(self, chunk: Chunk) -> SingleAgentEpisode:
        """A chunk as RLlib has it, and its part in the figures of the whole episode."""
        going = self._going[chunk.env]
        going.length += len(chunk.rewards)
        going.reward += float(chunk.rewards.sum())
        going.true += sum(info.get(TRUE_REWARD, 0.0) for info in chunk.infos[1:])
        going.rewritten = going.rewritten or any(TRUE_REWARD in info for info in chunk.infos[1:])
        episode = SingleAgentEpisode(
            id_=going.id,
            observations=InfiniteLookbackBuffer(chunk.obs),
            infos=InfiniteLookbackBuffer(chunk.infos),
            actions=InfiniteLookbackBuffer(chunk.actions),
            rewards=InfiniteLookbackBuffer(chunk.rewards),
            terminated=chunk.terminated,
            truncated=chunk.truncated,
            extra_model_outputs={name: InfiniteLookbackBuffer(values) for name, values in chunk.extra.items()},
            t_started=going.length - len(chunk.rewards),
            len_lookback_buffer=0,
        )
        if episode.is_done:
            self._log_episode_metrics(going.length, going.reward, 0.0)
            if going.rewritten:
                self.metrics.log_value("true_return_mean", going.true, window=100)
            self._going[chunk.env] = _Going()
        return episode


class _Carried:
    """Where the environments stand between two calls."""

    def __init__(self, obs_ND: NDArray[np.float32], infos: list[dict[str, Any]] | None, done_N: NDArray[np.bool_]):
        self.obs_ND, self.infos, self.done_N = obs_ND, infos, done_N


class _Going:
    """The sums of an episode that goes on."""

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        self.length, self.reward, self.true, self.rewritten = 0, 0.0, 0.0, False
