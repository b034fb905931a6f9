"""From a job to RLlib's config: what all algorithms have in common, and what is refused before anything starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from raysafe.errors import ConfigError
from raysafe.rl.environment import REGISTERED, EnvMaker
from raysafe.runtime.cluster import Needs, preflight

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from raysafe.rl.extension import Extension
    from raysafe.rl.job import RLJob


def check_env(job: RLJob) -> None:
    """Make one environment and close it; raises ConfigError where it or its spaces can't be used."""
    if job.algorithm == "q-learning":
        from raysafe.rl.tabular_agent import problem_of

        problem_of(job)
        return
    env = EnvMaker(job.env, job.env_config).make()
    try:
        actions = env.action_space
        allowed = (
            (gym.spaces.Discrete,)
            if job.algorithm != "ppo"
            else (
                gym.spaces.Discrete,
                gym.spaces.MultiDiscrete,
                gym.spaces.Box,
            )
        )
        if not isinstance(actions, allowed):
            names = " or ".join(kind.__name__ for kind in allowed)
            remedy = "choose algorithm ppo" if job.algorithm != "ppo" else "flatten its actions in a wrapper"
            raise ConfigError(
                f"algorithm {job.algorithm} takes actions of {names}, and {job.env} has {actions}: {remedy}"
            )
        if isinstance(actions, gym.spaces.Discrete) and actions.start != 0:
            raise ConfigError(f"env: {job.env} numbers its actions from {actions.start}; number them from 0")
    finally:
        env.close()


def check_room(job: RLJob) -> None:
    """Raise ResourceError where the machine or cluster can't hold the job's processes."""
    sampling = job.sampling
    if sampling.runners:
        preflight(job.address, Needs(workers=sampling.runners, cpus=sampling.cpus_per_runner))
    if sampling.learners:
        needs = Needs(workers=sampling.learners, cpus=sampling.cpus_per_learner, gpus=sampling.gpus_per_learner)
        preflight(job.address, needs)


def quieten() -> None:
    """What RLlib and Tune warn of is their own deprecations, and tools that nobody asked for."""
    for name in ("ray.rllib", "ray.tune", "ray._common.deprecation"):
        logging.getLogger(name).setLevel(logging.ERROR)


def build_config(job: RLJob, extensions: Sequence[Extension] = ()) -> AlgorithmConfig:
    """RLlib's config, extensions applied. Registers the environment maker with RLlib."""
    from ray.tune.registry import register_env

    from raysafe.rl.runner import VectorRunner

    quieten()
    register_env(REGISTERED, _make)
    settings, sampling = job.settings, job.sampling
    config: Any = settings.config(job)
    config.environment(env=REGISTERED, env_config={"maker": EnvMaker(job.env, job.env_config, flat=True)})
    config.env_runners(
        env_runner_cls=VectorRunner,
        num_env_runners=sampling.runners,
        num_envs_per_env_runner=sampling.envs or settings.envs,
        num_cpus_per_env_runner=sampling.cpus_per_runner,
        gym_env_vectorize_mode="vector_entry_point",
        # evaluations are run here, and ask its environments for their spaces
        create_env_on_local_worker=True,
    )
    if sampling.normalise:
        from raysafe.rl.normaliser import MeanStdFilter

        config.env_runners(env_to_module_connector=lambda env, spaces, device: MeanStdFilter())
    config.learners(
        num_learners=sampling.learners,
        num_cpus_per_learner=sampling.cpus_per_learner,
        num_gpus_per_learner=sampling.gpus_per_learner,
    )
    config.debugging(seed=job.seed, log_level="ERROR")
    # one iteration is one round of sampling and learning, whatever the clock says
    config.reporting(min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=0)
    config.python_environment(extra_python_environs_for_worker={"OMP_NUM_THREADS": "1"})
    for extension in extensions:
        extension.apply(config)
    return config


def _make(context: dict) -> gym.Env | gym.vector.VectorEnv:
    maker: EnvMaker = context["maker"]
    count = context.get("num_envs")
    return maker.make() if count is None else maker.make_vec(count)
