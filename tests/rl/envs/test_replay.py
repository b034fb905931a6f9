"""Episodes played again in another process: the same bits, and the performance that nobody saw."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import raysafe.rl.envs  # noqa: F401
from raysafe.errors import DataError
from raysafe.rl.envs.problems import PROBLEMS
from raysafe.rl.envs.recording import digest, read
from raysafe.rl.envs.replay import replay, replay_all, replay_file


def recorded(folder: Path, name: str, **settings: Any) -> Path:
    """Random steps in five copies, over several episodes each."""
    env = gymnasium.make_vec(f"raysafe/{name}-v0", num_envs=5, record=str(folder), **settings)
    env.reset(seed=3)
    draw = np.random.default_rng(0)
    for _ in range(60):
        env.step(draw.integers(0, 5, 5))
    env.close()
    (path,) = folder.glob(f"{name}-*.arrow")
    return path


def test_a_recording_has_each_step_once(tmp_path: Path) -> None:
    """60 steps of 5 copies, less the resets between episodes."""
    episodes = read(recorded(tmp_path, "AbsentSupervisor", limit=20))
    began = [(episode.seed, episode.draw) for episode in episodes]
    assert len(set(began)) == len(began)
    for seed in range(3, 8):
        own = [episode for episode in episodes if episode.seed == seed]
        assert sum(len(episode.actions) for episode in own) + len(own) - 1 == 60
        assert [episode.ended for episode in own].count("open") <= 1


def test_single_and_many_record_the_same(tmp_path: Path) -> None:
    """The copies' actions, done in single environments, give the same rows."""
    for episode in read(recorded(tmp_path / "many", "FriendFoe", limit=12))[:6]:
        env = gymnasium.make("raysafe/FriendFoe-v0", limit=12, record=str(tmp_path / "one")).unwrapped
        env.reset(seed=episode.seed, options={"draw": episode.draw})
        for action in episode.actions:
            env.step(action)
        env.close()
        (path,) = (tmp_path / "one").glob("*.arrow")
        assert read(path) == [episode]
        path.unlink()


def test_the_digest_sees_a_single_bit() -> None:
    obs_T1, rewards_T = np.zeros((3, 4), dtype=np.float32), np.array([1.0, 2.0])
    same = digest(obs_T1, rewards_T)
    assert digest(obs_T1.copy(), rewards_T.copy()) == same
    assert digest(np.nextafter(obs_T1, np.float32(1)), rewards_T) != same
    assert digest(obs_T1, np.nextafter(rewards_T, 9)) != same


def test_what_a_kill_tears_off_is_left_out(tmp_path: Path) -> None:
    path = recorded(tmp_path, "RewardGaming", limit=1)
    whole = path.read_bytes()
    assert len(read(path)) > 128
    path.write_bytes(whole[: len(whole) // 2])
    assert 64 <= len(read(path)) <= 128
    path.write_bytes(b"something else")
    with pytest.raises(DataError, match="not a recording"):
        read(path)


@pytest.mark.serve
def test_replays_in_another_process_are_the_same_bits(tmp_path: Path) -> None:
    """All problems; and what was changed afterwards is refused."""
    episodes = [episode for name in PROBLEMS for episode in read(recorded(tmp_path, name, limit=25))]
    played = replay_all(episodes)
    assert [again.digest for again in played] == [episode.digest for episode in episodes]
    assert {again.ended for again in played} == {"terminated", "truncated", "open"}
    changed = dataclasses.replace(episodes[0], actions=[*episodes[0].actions[:-1], 4])
    with pytest.raises(DataError, match=r"episode 1 of -: (observations or rewards differ|it was recorded as)"):
        replay_all([changed])


@pytest.mark.serve
def test_the_fine_that_nobody_charged_is_in_the_performance() -> None:
    """Straight over the tile: the reward tells the supervised and the other episodes apart, the performance doesn't."""
    for supervised, reward in ((1.0, 16.0), (0.0, 46.0)):
        again = replay("raysafe/AbsentSupervisor-v0", {"supervised": supervised}, seed=1, actions=[3, 3, 3, 3])
        assert sum(again.rewards) == reward
        assert again.performance == 16
        assert again.states[-1] == ((1, 5), supervised == 1.0)


@pytest.mark.serve
def test_the_command_prints_what_episodes_were_worth(tmp_path: Path) -> None:
    path = recorded(tmp_path, "SideEffects", limit=15)
    command = [sys.executable, "-m", "raysafe.rl.envs.replay"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.count("same bits") == len(replay_file(path))
    done = subprocess.run([*command, str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("there is no recording")


@pytest.mark.ray
def test_what_rllib_does_can_be_played_again(tmp_path: Path) -> None:
    """Episodes of RLlib's own env runner, over many copies; returns as it counts them."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = (
        PPOConfig()
        .environment("raysafe.rl.envs:raysafe/SafeExploration-v0", env_config={"record": str(tmp_path), "limit": 30})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4, gym_env_vectorize_mode="vector_entry_point")
    )
    runner = SingleAgentEnvRunner(config=config, worker_index=0, num_workers=0)
    sampled = runner.sample(num_episodes=12, random_actions=True)
    runner.stop()
    (path,) = tmp_path.glob("*.arrow")
    played = [again for again in replay_file(path) if again.ended != "open"]
    assert len(played) == len(sampled) >= 12
    assert sorted(sum(again.rewards) for again in played) == sorted(float(done.get_return()) for done in sampled)
