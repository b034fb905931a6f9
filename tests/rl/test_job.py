"""Settings of `raysafe rl`, and what is refused before Ray is started."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium as gym
import pytest

from raysafe.cli.main import main
from raysafe.errors import ConfigError
from raysafe.rl.build import check_env
from raysafe.rl.environment import EnvMaker
from raysafe.rl.job import RLJob

OWN = """
import gymnasium as gym
import numpy as np

class Corridor(gym.Env):
    observation_space = gym.spaces.Discrete(5)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None, *, length=4):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        return self.at, {}

    def step(self, action):
        self.at = max(0, self.at + (1 if action else -1))
        return self.at, float(self.at == self.length), self.at == self.length, False, {}

class Odd(Corridor):
    action_space = gym.spaces.Discrete(2, start=1)

class Spoken(Corridor):
    action_space = gym.spaces.Text(3)
"""


@pytest.fixture
def corridor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own in the working folder."""
    (tmp_path / "corridors.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "corridors", raising=False)
    return "corridors:Corridor"


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["rl", "--storage", "nowhere", *argv]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not Path("nowhere").exists()
    return said


def test_an_environment_that_is_not_registered(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--env", "CartPool-v1")
    assert "env: Environment `CartPool` doesn't exist" in said
    assert "module:Class" in said


def test_a_module_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "env: there is no module 'nobody'" in refused(capsys, "--env", "nobody:Env")


def test_dqn_takes_no_continuous_actions(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--env", "Pendulum-v1", "--algorithm", "dqn")
    assert "algorithm dqn takes actions of Discrete, and Pendulum-v1 has Box" in said
    assert "choose algorithm ppo" in said


def test_an_option_that_the_environment_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "rl.yaml"
    settings.write_text("env: CartPole-v1\nenv_config:\n  gravitation: 3\n")
    said = refused(capsys, "--config", str(settings))
    assert "env_config: CartPole-v1 can't be made with {'gravitation': 3}" in said


def test_settings_of_the_other_algorithm_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--env", "CartPole-v1", "--dqn.gamma", "0.9")
    assert "dqn does nothing with algorithm ppo" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ppo": {"minibatch_size": 64, "batch_size": 32}}, "minibatch_size 64 is larger than batch_size 32"),
        ({"algorithm": "dqn", "dqn": {"memory": 10}}, "memory 10 must hold"),
        ({"ppo": {"network": {"hidden": [0]}}}, "positive widths"),
        ({"steps": 0}, "steps: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_impossible_settings_are_one_sentence(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RLJob.parse({"env": "CartPole-v1", **settings})


def test_a_class_of_the_users_own_is_an_environment(corridor: str) -> None:
    check_env(RLJob(env=corridor, env_config={"length": 3}))
    with EnvMaker(corridor, {"length": 3}).make() as env:
        assert env.unwrapped.length == 3  # pyright: ignore[reportAttributeAccessIssue]


def test_observations_that_are_no_vectors_become_some(corridor: str) -> None:
    with EnvMaker(corridor, flat=True).make() as env:
        assert env.observation_space.shape == (5,)
    envs = EnvMaker(corridor, flat=True).make_vec(3)
    assert envs.single_observation_space.shape == (5,)
    envs.close()


@pytest.mark.parametrize(("name", "said"), [("Odd", "number them from 0"), ("Spoken", "takes actions of Discrete or")])
def test_action_spaces_that_nothing_can_act_in(corridor: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_env(RLJob(env=f"corridors:{name}"))


def test_an_environment_vectorises_itself_where_it_can() -> None:
    envs = EnvMaker("CartPole-v1").make_vec(4)
    assert type(envs.unwrapped).__name__ == "CartPoleVectorEnv"
    envs.close()


def test_a_wrapper_that_only_training_has_is_not_in_evaluations() -> None:
    class Doubled(gym.RewardWrapper):
        def reward(self, reward):  # type: ignore[no-untyped-def]
            return 2 * reward

    maker = EnvMaker("CartPole-v1").wrapped(Doubled, evaluated=False)
    rewards = []
    for found in (maker, maker.for_evaluation()):
        with found.make() as env:
            env.reset(seed=0)
            rewards.append(env.step(env.action_space.sample())[1])
    assert rewards == [2.0, 1.0]
