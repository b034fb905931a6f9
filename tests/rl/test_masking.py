"""Masked actions: what is drawn, what is recorded, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pytest

import raysafe.rl.envs  # noqa: F401
from raysafe.errors import ConfigError, DataError
from raysafe.rl.mask_wrapper import Masked
from raysafe.rl.masking import INTERVENTIONS, SCHEMA, Masking, MaskingSettings
from tests.rl.small_training import iterations, ppo_config

ISLAND, SHIELD = "raysafe/SafeExploration-v0", "raysafe.rl.remedies.shield:mask"


class Own(gym.Env):
    """Tells its mask itself, in `info` or in the observation."""

    action_space = gym.spaces.Discrete(3)

    def __init__(self, mask: list[int], within: bool = False) -> None:
        self.mask, self.within = mask, within
        seen = gym.spaces.Box(-1, 1, (2,), np.float32)
        mask_space = gym.spaces.MultiBinary(3)
        self.observation_space = gym.spaces.Dict({"seen": seen, "action_mask": mask_space}) if within else seen

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        seen = np.array([0.5, -0.5], np.float32)
        return ({"seen": seen, "action_mask": self.mask}, {}) if self.within else (seen, {"action_mask": self.mask})

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, info = self.reset()
        return seen, 1.0, False, False, info


@pytest.mark.parametrize("within", [False, True])
def test_the_mask_stands_behind_the_observation(within: bool) -> None:
    env = Masked(Own([1, 0, 1], within))
    seen, _ = env.reset()
    assert seen.tolist() == [0.5, -0.5, 1, 0, 1]
    assert env.observation_space.contains(seen)
    assert env.step(2)[1] == 1.0
    with pytest.raises(DataError, match=r"action 1 is forbidden here: the mask is \[1, 0, 1\]"):
        env.step(1)


def test_masks_that_can_not_be_are_refused() -> None:
    with pytest.raises(DataError, match="3 flags, one of them set"):
        Masked(Own([0, 0, 0])).reset()
    with pytest.raises(DataError, match="3 flags"):
        Masked(Own([1, 1])).reset()
    with pytest.raises(ConfigError, match=r"masking\.function: .* gives no 'action_mask'"):
        Masked(gym.make("CartPole-v1")).reset()
    with pytest.raises(ConfigError, match="needs numbered actions"):
        Masked(gym.make("Pendulum-v1"))
    with pytest.raises(ConfigError, match="is for algorithm ppo, got dqn"):
        MaskingSettings().extension(SimpleNamespace(algorithm="dqn"))  # type: ignore[arg-type]


@pytest.mark.ray
def test_no_forbidden_action_is_taken_and_each_that_was_drawn_is_a_row(tmp_path: Any) -> None:
    """A new policy on the island draws steps into the water; none is taken, and each is written down."""
    from raysafe.rl.masking_callback import interventions

    masking = Masking(MaskingSettings(function=SHIELD))
    config = ppo_config(ISLAND, masking, train_batch_size_per_learner=500, minibatch_size=500, num_epochs=1)
    ((_, runner, episodes),) = iterations(config, 1)
    assert not any(np.asarray(episode.get_observations())[:, -5:].sum(axis=1).min() < 1 for episode in episodes)
    expected = [row for episode in episodes for row in interventions(episode)]
    assert len(expected) > 20
    for row in expected:
        mask = row["observation"][-5:]
        assert (mask[row["intended"]], mask[row["done"]]) == (0, 1)
    written: dict[str, bytes] = {}
    masking.begin(SimpleNamespace(folder=SimpleNamespace(write=written.__setitem__)))  # type: ignore[arg-type]
    group = SimpleNamespace(foreach_env_runner=lambda function: [function(runner)])
    told = masking.after_iteration(SimpleNamespace(env_runner_group=group), 500)  # type: ignore[arg-type]
    assert told == {INTERVENTIONS: len(expected)}
    found = pa.ipc.open_file(pa.BufferReader(written["interventions/000000000500.arrow"])).read_all()
    assert found.schema == SCHEMA
    assert found.to_pylist() == expected
    assert masking.state() == {"total": len(expected)}
    drowned = [episode for episode in episodes if episode.is_terminated and episode.get_rewards(-1) < 0]
    assert not drowned


@pytest.mark.ray
def test_what_is_done_has_the_masked_distribution() -> None:
    import torch

    from raysafe.rl.masked_policy import INTENDED

    config = ppo_config(ISLAND, Masking(MaskingSettings(function=SHIELD)), entropy_coeff=0.0)
    runner = config.env_runner_cls(config=config, worker_index=0)
    seen, _ = runner.env.reset(seed=0)
    obs_BD = torch.from_numpy(np.repeat(np.asarray(seen, dtype=np.float32)[:1], 20_000, axis=0))
    torch.manual_seed(0)
    out = runner.module.forward_exploration({"obs": obs_BD})
    mask_A = obs_BD[0, -5:]
    wanted_A = torch.bincount(out[INTENDED], minlength=5) / 20_000
    done_A = torch.bincount(out["actions"], minlength=5) / 20_000
    assert 0 < mask_A.sum() < 5
    assert done_A.numpy() == pytest.approx((wanted_A * mask_A / (wanted_A * mask_A).sum()).numpy(), abs=0.015)
    exact_A = torch.softmax(out["action_dist_inputs"][0], dim=-1)
    assert done_A.numpy() == pytest.approx(exact_A.detach().numpy(), abs=0.015)
    assert out["action_logp"][0].item() == pytest.approx(torch.log(exact_A[out["actions"][0]]).item(), abs=1e-5)
    best = runner.module.forward_inference({"obs": obs_BD[:1]})["action_dist_inputs"][0]
    assert (best[mask_A < 0.5] < -1e8).all()


@pytest.mark.ray
def test_a_masked_policy_is_exported_with_its_mask(tmp_path: Any) -> None:
    """The exported policy, read back, does what RLlib's does: in each state, what the mask allows."""
    from raysafe.rl.policy import load_policy, save_policy
    from raysafe.rl.rllib_policy import policy_of

    config = ppo_config(ISLAND, Masking(MaskingSettings(function=SHIELD)), train_batch_size_per_learner=500)
    ((_, runner, episodes),) = iterations(config, 1)
    spaces = runner.env.single_observation_space, runner.env.single_action_space
    save_policy(policy_of(runner.module, runner._env_to_module, *spaces, {"env": ISLAND, "algorithm": "PPO"}), tmp_path)
    policy = load_policy(tmp_path)
    obs_BD = np.concatenate([np.asarray(episode.get_observations()) for episode in episodes]).astype(np.float32)
    done_B = np.asarray(policy.act(obs_BD).actions)
    assert (obs_BD[np.arange(len(done_B)), done_B - 5] == 1).all() and (obs_BD[:, -5:] == 0).any()
