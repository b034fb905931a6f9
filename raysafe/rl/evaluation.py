"""What a policy is worth: whole episodes in environments and with seeds of their own, that nothing is learned from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

from raysafe.errors import ConfigError
from raysafe.rl.agent import Episodes
from raysafe.rl.environment import EnvMaker
from raysafe.rl.normaliser import MeanStdFilter
from raysafe.rl.runner import PLAIN
from raysafe.rl.settings import EvaluationSettings

FRAME_WIDTH = 240


class Evaluator:
    """Runs a runner's policy; made once, for the environments stay."""

    def __init__(self, runner: Any, maker: EnvMaker, settings: EvaluationSettings, seed: int) -> None:
        self.runner, self.maker, self.settings = runner, maker, settings
        # no seed of the training's, which are counted from the job's
        self.seed = int(np.random.SeedSequence([seed, 20_241]).generate_state(1)[0])
        self.filters: list[MeanStdFilter] = []
        for piece in runner._env_to_module.connectors:
            if isinstance(piece, MeanStdFilter):
                self.filters.append(piece)
            elif type(piece).__name__ not in PLAIN:
                raise ConfigError(
                    f"the connector {type(piece).__name__} between environment and policy can't be evaluated: do what "
                    "it does in a wrapper of the environment"
                )
        self.envs: gym.vector.VectorEnv | None = None

    def run(self) -> Episodes:
        """One episode in each environment, from the same seeds every time."""
        count = self.settings.episodes
        if self.envs is None:
            self.envs = self.maker.make_vec(count)
        obs_ND, _ = self.envs.reset(seed=self.seed)
        returns_N, lengths_N = np.zeros(count), np.zeros(count, dtype=np.int64)
        going_N = np.ones(count, dtype=bool)
        while going_N.any() and lengths_N.max() < self.settings.longest:
            obs_ND, rewards_N, terminated_N, truncated_N, _ = self.envs.step(self.act(obs_ND))
            returns_N += np.where(going_N, rewards_N, 0.0)
            lengths_N += going_N
            going_N &= ~(terminated_N | truncated_N)
        return Episodes(returns_N, lengths_N)

    @torch.no_grad()
    def act(self, obs_ND: NDArray[Any]) -> NDArray[Any]:
        """Actions as the environment takes them."""
        runner, space = self.runner, self.runner.env.single_action_space
        for piece in self.filters:
            obs_ND = piece.normalise(obs_ND, update=False)
        batch = {Columns.OBS: torch.from_numpy(np.array(obs_ND, dtype=np.float32)).to(runner._device)}
        module = runner.module
        if self.settings.explore:
            out = module.forward_exploration(batch, t=runner.num_env_steps_sampled_lifetime)
            kind = module.get_exploration_action_dist_cls
        else:
            out = module.forward_inference(batch)
            kind = module.get_inference_action_dist_cls
        if Columns.ACTIONS in out:
            return out[Columns.ACTIONS].cpu().numpy()
        drawn = kind().from_logits(out[Columns.ACTION_DIST_INPUTS])
        actions_N = (drawn if self.settings.explore else drawn.to_deterministic()).sample().cpu().numpy()
        if isinstance(space, gym.spaces.Box):
            if runner.config.normalize_actions:
                return np.asarray(unsquash_action(actions_N, space))
            return np.asarray(clip_action(actions_N, space)) if runner.config.clip_actions else actions_N
        return actions_N

    def frames(self) -> list[NDArray[np.uint8]]:
        """Pictures of one episode, evenly spread over it; none where the environment draws no rgb arrays.

        Raises gymnasium's DependencyNotInstalled where it can't for want of a package.
        """
        if not self.settings.frames or "rgb_array" not in _render_modes(self.maker):
            return []
        env = self.maker.make(render_mode="rgb_array")
        try:
            obs, _ = env.reset(seed=self.seed)
            drawn: list[Any] = [env.render()]
            ended = False
            while not ended and len(drawn) < self.settings.longest:
                (action,) = self.act(obs[None])
                obs, _, terminated, truncated, _ = env.step(action)
                ended = bool(terminated or truncated)
                drawn.append(env.render())
        finally:
            env.close()
        places = np.unique(np.linspace(0, len(drawn) - 1, self.settings.frames).round().astype(int))
        return [_small(np.asarray(drawn[place], dtype=np.uint8)) for place in places]

    def close(self) -> None:
        if self.envs is not None:
            self.envs.close()


def _render_modes(maker: EnvMaker) -> list[str]:
    env = maker.make()
    env.close()
    return list(env.metadata.get("render_modes", []))


def _small(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most FRAME_WIDTH wide, by means of blocks; a picture that is small already stays."""
    by = -(-frame_HWC.shape[1] // FRAME_WIDTH)
    if by == 1:
        return frame_HWC
    height, width = (side // by * by for side in frame_HWC.shape[:2])
    blocks = frame_HWC[:height, :width].reshape(height // by, by, width // by, by, -1)
    return blocks.mean(axis=(1, 3)).astype(np.uint8)
