"""RLlib's runner and learner in this process, without Ray: what an iteration of an algorithm does, and little else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raysafe.rl.environment import REGISTERED, EnvMaker
from raysafe.rl.extension import Extension


def ppo_config(env: str, extension: Extension | None = None, *, seed: int = 0, **training: Any) -> Any:
    """PPO with a small network on ten environments side by side."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    from raysafe.rl.build import _make
    from raysafe.rl.ppo_learner import PPOLearner
    from raysafe.rl.runner import VectorRunner

    register_env(REGISTERED, _make)
    config = PPOConfig()
    config.environment(env=REGISTERED, env_config={"maker": EnvMaker(env, {})})
    config.training(
        **{"train_batch_size_per_learner": 1000, "minibatch_size": 250, "num_epochs": 4, "lr": 5e-3, "gamma": 1.0}
        | {"use_kl_loss": False, "vf_clip_param": float("inf")}
        | training
    )
    config.rl_module(model_config={"fcnet_hiddens": [32], "fcnet_activation": "tanh", "vf_share_layers": False})
    config.learners(num_learners=0, learner_class=PPOLearner, learner_config_dict={"adam_epsilon": 1e-5})
    config.env_runners(
        env_runner_cls=VectorRunner,
        num_env_runners=0,
        num_envs_per_env_runner=10,
        gym_env_vectorize_mode="vector_entry_point",
    )
    config.debugging(seed=seed, log_level="ERROR")
    if extension is not None:
        extension.apply(config)
    return config


def iterations(
    config: Any, count: int, learner: Any = None, runner: Any = None
) -> Iterator[tuple[Any, Any, list[Any]]]:
    """(learner, runner, episodes that were learned from) after each."""
    runner = runner or config.env_runner_cls(config=config, worker_index=0)
    if learner is None:
        learner = config.learner_class(config=config, module_spec=config.get_multi_rl_module_spec(env=runner.env))
        learner.build()
    for _ in range(count):
        runner.set_state({"rl_module": learner.get_state(components="rl_module")["rl_module"]})
        episodes = runner.sample(num_timesteps=config.train_batch_size_per_learner)
        learner.update(episodes=episodes, num_epochs=config.num_epochs, minibatch_size=config.minibatch_size)
        yield learner, runner, episodes
