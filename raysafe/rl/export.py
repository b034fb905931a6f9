"""From a trained agent to the run's model/: safetensors, a card and ONNX, for registry and service."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from raysafe.errors import ConfigError, ModelError
from raysafe.rl.agent import Exportable
from raysafe.rl.onnx import export_onnx
from raysafe.rl.policy import ObservedRange, Policy, save_policy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from raysafe.rl.agent import Agent
    from raysafe.rl.checkpoint import Position
    from raysafe.rl.job import RLJob
    from raysafe.runtime.run import Run

EXPLORED = 2_000
"""Steps by which the range of observations is told."""


def export_agent(agent: Agent, run: Run, job: RLJob, position: Position) -> None:
    """Write an agent's policy as the run's model/, with the range of what it sees when it acts.

    What can't be exported leaves an event `not-exported` with the reason: the training isn't lost by it.
    """
    if not isinstance(agent, Exportable):
        run.event("not-exported", why=f"a policy of {job.algorithm} is no network")
        return
    card = {"env": job.env, "algorithm": job.learned_by, "run": run.name}
    judged = position.best if position.best_step == position.steps else None
    card |= {"steps": position.steps, "mean_return": judged}
    try:
        policy = agent.policy(card)
    except ModelError as error:
        run.event("not-exported", why=str(error))
        return
    env = agent.make_env()
    try:
        observed = observed_range(explored(policy, env, job.seed))
    finally:
        env.close()
    assert policy.card is not None
    policy = Policy(policy.network, policy.card.model_copy(update={"observed": observed}))
    with tempfile.TemporaryDirectory() as local:
        write_model(policy, local, run)
        run.folder.upload(local, "model")


def write_model(policy: Policy, folder: str | Path, run: Run) -> None:
    """The model's files; without the packages of the extra onnx, an event says that there is no policy.onnx."""
    save_policy(policy, folder)
    try:
        export_onnx(policy, Path(folder) / "policy.onnx")
    except ConfigError as error:
        run.event("no-onnx", why=str(error))


def explored(policy: Policy, env: gym.Env[Any, Any], seed: int, steps: int = EXPLORED) -> NDArray[np.float64]:
    """(N, D): flat observations of so many steps of a policy that draws its actions where it can."""
    draw = np.random.default_rng(seed)
    seen: list[Any] = []
    obs, _ = env.reset(seed=seed)
    for _ in range(steps):
        flat_D = _flat(env, obs)
        seen.append(flat_D)
        action = policy.act(flat_D[None], deterministic=not policy.draws, generator=draw).actions[0]
        obs, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            seen.append(_flat(env, obs))
            obs, _ = env.reset()
    return np.asarray(seen, dtype=np.float64)


def _flat(env: gym.Env[Any, Any], obs: Any) -> NDArray[Any]:
    flat: Any = gym.spaces.flatten(env.observation_space, obs)
    return np.ravel(flat)


def observed_range(observations_ND: NDArray[Any]) -> ObservedRange:
    """What a policy has seen, of flat observations."""
    low_D, high_D = observations_ND.min(axis=0), observations_ND.max(axis=0)
    return ObservedRange(low=tuple(low_D.tolist()), high=tuple(high_D.tolist()), observations=len(observations_ND))
