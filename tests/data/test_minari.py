"""Minari datasets, written here by minari itself from real environments."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from raysafe.data.trajectory_files import read_trajectories
from raysafe.errors import DataError

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector.episode_buffer").EpisodeBuffer


ABOUT = dict.fromkeys(("author", "author_email", "code_permalink", "algorithm_name", "description"), "made here")
pytestmark = pytest.mark.filterwarnings("ignore:`eval_env` is set to None")


def record(env_id: str, data_format: str, monkeypatch: pytest.MonkeyPatch, root: Path) -> tuple[Path, list]:
    """A dataset of three short episodes, and what minari itself reads in it."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    env = gym.make(env_id, max_episode_steps=12)
    buffers = []
    for seed in range(3):
        seen, steps = [env.reset(seed=seed)[0]], []
        env.action_space.seed(seed)
        while not steps or not any(steps[-1][2:]):
            action = env.action_space.sample()
            observation, reward, terminated, truncated, _ = env.step(action)
            seen.append(observation)
            steps.append((action, float(reward), terminated, truncated))
        actions, rewards, terminations, truncations = map(list, zip(*steps, strict=True))
        buffers.append(EpisodeBuffer(seed, None, None, seen, actions, rewards, terminations, truncations))
    dataset = minari.create_dataset_from_buffers("made/here-v0", buffers, env=env, data_format=data_format, **ABOUT)
    env.close()
    return root / "made" / "here-v0", list(dataset.iterate_episodes())


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_episodes_are_read_as_minari_reads_them(
    env_id: str, data_format: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, episodes = record(env_id, data_format, monkeypatch, tmp_path)
    found = read_trajectories(str(folder)).trajectories
    assert len(found) == len(episodes) == 3
    for trajectory, episode in zip(found, episodes, strict=True):
        seen = trajectory.states_T1 if env_id == "FrozenLake-v1" else trajectory.obs_T1D
        np.testing.assert_array_equal(seen, episode.observations)
        np.testing.assert_array_equal(trajectory.actions_T, episode.actions)
        np.testing.assert_array_equal(trajectory.rewards_T, episode.rewards)
        assert trajectory.discrete == (env_id != "Pendulum-v1")
        assert (trajectory.terminated, trajectory.truncated) == (episode.terminations[-1], episode.truncations[-1])


def test_a_dataset_is_found_by_its_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, _ = record("CartPole-v1", "hdf5", monkeypatch, tmp_path)
    assert read_trajectories("made/here-v0").digest == read_trajectories(str(folder)).digest


def test_a_dataset_without_spaces_may_not_have_its_environment_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, _ = record("CartPole-v1", "hdf5", monkeypatch, tmp_path)
    file = folder / "data" / "metadata.json"
    metadata = json.loads(file.read_text())
    spec = json.loads(metadata["env_spec"]) | {"entry_point": "pathlib:Path.touch", "kwargs": {}}
    del metadata["observation_space"]
    file.write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    with pytest.raises(DataError, match="doesn't state observation_space"):
        read_trajectories(str(folder))


def test_damage_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, _ = record("CartPole-v1", "hdf5", monkeypatch, tmp_path)
    (folder / "data" / "main_data.hdf5").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"can't be read as a minari dataset .*: fetch it again"):
        read_trajectories(str(folder))
