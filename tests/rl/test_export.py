"""What is exported acts as what RLlib trained: the oracle is RLlib's own env runner, behind its own connectors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from raysafe.errors import ModelError
from raysafe.records.registry import Registry
from raysafe.records.store import open_store
from raysafe.rl.checkpoint import Position
from raysafe.rl.environment import EnvMaker
from raysafe.rl.export import export_agent
from raysafe.rl.policy import load_policy
from raysafe.rl.rllib_policy import policy_of, space_of
from raysafe.runtime.storage import Folder

pytestmark = pytest.mark.ray
CARD: dict[str, Any] = {"env": "CartPole-v1", "algorithm": "PPO", "run": "rl-1"}


def runner_of(env: str, algorithm: str = "ppo", connector: Any = None, training: Any = None, **model: Any) -> Any:
    """An env runner with a network of random weights that has seen some steps; no cluster is started."""
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.connectors.env_to_module import MeanStdFilter
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config: Any = (PPOConfig if algorithm == "ppo" else DQNConfig)().environment(env).training(**training or {})
    build = connector or (lambda env, spaces, device: MeanStdFilter())
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=2, env_to_module_connector=build)
    config.rl_module(model_config={"fcnet_hiddens": [16, 16], **model})
    config.debugging(seed=0)
    runner: Any = SingleAgentEnvRunner(config=config, worker_index=0)
    with torch.no_grad():
        # so that actions depend on observations
        for parameter in runner.module.parameters():
            parameter.mul_(3.0)
    runner.sample(num_timesteps=60, random_actions=algorithm == "dqn")
    return runner


def exported(runner: Any, **card: Any) -> Any:
    spaces = runner.env.single_observation_space, runner.env.single_action_space
    return policy_of(runner.module, runner._env_to_module, *spaces, {**CARD, **card})


def differences(runner: Any, policy: Any) -> tuple[float, int]:
    """How far the policy's actions are, at raw observations, from those that RLlib took at the filtered ones."""
    for connector in runner._env_to_module.connectors:
        if type(connector).__name__ == "MeanStdFilter":
            connector._update_stats = False
    runner._cached_to_module = None
    raw: list[Any] = []
    inner = runner.env.env.step

    def step(actions: Any) -> Any:
        raw.append((np.asarray(actions), np.array(runner.last_raw)))
        observations, *rest = inner(actions)
        runner.last_raw = observations
        return observations, *rest

    reset = runner.env.env.reset

    def first(*given: Any, **named: Any) -> Any:
        observations, infos = reset(*given, **named)
        runner.last_raw = observations
        return observations, infos

    runner.env.env.reset, runner.env.env.step = first, step
    runner.sample(num_timesteps=80, explore=False, force_reset=True)
    taken = np.concatenate([np.asarray(actions, dtype=float).reshape(2, -1) for actions, _ in raw])
    found = policy.act(np.concatenate([observations for _, observations in raw])).actions.reshape(len(taken), -1)
    return float(np.abs(taken - found).max()), len(np.unique(found.round(4)))


@pytest.mark.parametrize(
    ("env", "algorithm", "training", "model"),
    [
        ("CartPole-v1", "ppo", {}, {}),
        ("CartPole-v1", "ppo", {}, {"vf_share_layers": True, "fcnet_activation": "relu"}),
        ("Pendulum-v1", "ppo", {}, {}),
        ("Pendulum-v1", "ppo", {}, {"free_log_std": True, "head_fcnet_hiddens": [8], "head_fcnet_activation": "tanh"}),
        ("CartPole-v1", "dqn", {}, {"head_fcnet_hiddens": [8], "head_fcnet_activation": "tanh"}),
        ("CartPole-v1", "dqn", {"dueling": False}, {}),
    ],
)
def test_an_exported_policy_does_what_rllib_does(
    env: str, algorithm: str, training: dict[str, Any], model: dict[str, Any]
) -> None:
    runner = runner_of(env, algorithm, training=training, **model)
    off, kinds = differences(runner, exported(runner))
    assert off < 1e-4 and kinds > 1


def test_an_exported_folder_is_a_registered_model(tmp_path: Path) -> None:
    runner = runner_of("CartPole-v1")

    agent = SimpleNamespace(policy=lambda card: exported(runner, **card), make_env=EnvMaker("CartPole-v1").make)
    job = SimpleNamespace(env="CartPole-v1", learned_by="PPO", seed=0)
    run = SimpleNamespace(folder=Folder(tmp_path), name="rl-1", events=[])
    run.event = lambda event, **fields: run.events.append((event, fields))
    export_agent(agent, run, job, Position(steps=60, best=9.5, best_step=60))  # type: ignore[arg-type]
    assert run.events == []
    assert {file.name for file in (tmp_path / "model").iterdir()} == {
        "config.json", "model.safetensors", "policy.json", "policy.onnx",
    }  # fmt: skip
    card = load_policy(tmp_path / "model").card
    assert card is not None and card.observed is not None and card.observed.observations > 2_000
    assert (card.algorithm, card.run, card.steps, card.mean_return) == ("PPO", "rl-1", 60, 9.5)
    assert all(low < high for low, high in zip(card.observed.low, card.observed.high, strict=True))
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        version, new = Registry(store).register(tmp_path / "model", name="cartpole")
        assert new and Registry(store).get("cartpole:1") == version


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "dqn", "training": {"num_atoms": 5}}, "num_atoms=1"),
        ({"use_lstm": True, "max_seq_len": 4}, "stacks of linear layers"),
        ({"fcnet_activation": "swish", "head_fcnet_hiddens": [8], "head_fcnet_activation": "relu"}, "several activat"),
    ],
)
def test_networks_that_the_format_cannot_hold_are_refused(given: dict[str, Any], message: str) -> None:
    runner = runner_of("CartPole-v1", **given)
    with pytest.raises(ModelError, match=message):
        exported(runner)


def test_a_connector_that_cannot_be_exported_is_refused() -> None:
    from ray.rllib.connectors.connector_v2 import ConnectorV2

    class Doubling(ConnectorV2):
        def __call__(self, *, batch: Any, **kwargs: Any) -> Any:
            return batch

    runner = runner_of("CartPole-v1", connector=lambda env, spaces, device: Doubling())
    with pytest.raises(ModelError, match="the connector Doubling changes observations"):
        exported(runner)


def test_a_network_whose_outputs_differ_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of("CartPole-v1")
    forward = runner.module._forward
    monkeypatch.setattr(
        runner.module,
        "_forward",
        lambda batch: {key: value * 1.01 + 0.1 for key, value in forward(batch).items()},
    )
    with pytest.raises(ModelError, match="it isn't exported"):
        exported(runner)


def test_spaces_that_are_no_vector_are_refused() -> None:
    for space in (gym.spaces.MultiDiscrete([2, 2]), gym.spaces.Discrete(3, start=1), gym.spaces.Dict({})):
        with pytest.raises(ModelError, match="must be Box or Discrete from 0"):
            space_of(space)
