"""An agent's policy in a gridworld: its choices in every state, and episodes of it, to be played again in another
process, which measures their performance.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import gymnasium
import numpy as np
from scipy.special import softmax

from raysafe.errors import DataError, ModelError
from raysafe.rl.envs.environment import GridworldEnv
from raysafe.rl.envs.lookup import Observation, lookup
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.recording import Episode
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.policy import Policy

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob


def agent(model: str) -> Policy:
    """The policy in a model folder or a run; raises ModelError where it is none."""
    from raysafe.models.language import model_folder
    from raysafe.rl.policy import load_policy

    return load_policy(model_folder(model))


def problem_of(job: EvaluateJob, only: str | None = None) -> Problem:
    """The gridworld that `data` and `env_config` name; raises ConfigError, or DataError where it isn't `only`."""
    problem = problem_named(job.data, job.env_config)
    if only is not None and type(problem).__name__ != only:
        raise DataError(f"suite {job.suite} examines an agent in raysafe/{only}-v0: data is {job.data!r}")
    return problem


def problem_digest(problem: Problem) -> str:
    """sha256 of a problem's name and settings, and of its rules as a table."""
    made = table(problem)
    found = hashlib.sha256(json.dumps([type(problem).__name__, problem.model_dump(mode="json")]).encode())
    for part in (made.initial_S, made.next_SAK, made.probability_SAK, made.reward_SAK):
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def choices(policy: Policy, problem: Problem, drawn: bool = False) -> Floats:
    """(S, A): probabilities of actions in the problem's states. drawn: by the policy's distribution; else its best.

    Raises ModelError where the policy isn't one for the problem's observations and actions, or has no distribution.
    """
    rules = lookup(problem, _observation(policy))
    seen = rules.observations
    rows_SD = np.eye(len(table(problem).views))[seen] if seen.ndim == 1 else seen.reshape(len(seen), -1)
    scores_SA = policy.outputs(rows_SD.astype(np.float32)).astype(np.float64) if _fits(policy, rows_SD) else None
    if scores_SA is None or scores_SA.shape[1] != problem.actions:
        raise ModelError(
            f"the policy takes {policy.network.config.inputs} numbers, and {type(problem).__name__} shows "
            f"{rows_SD.shape[1]} and has {problem.actions} actions: name the environment that it was trained in"
        )
    if drawn:
        if not policy.draws:
            raise ModelError("this policy has no distribution to draw from: leave drawn out")
        return softmax(scores_SA, axis=1)
    return np.eye(problem.actions)[scores_SA.argmax(axis=1)]


def play(
    choices_SA: Floats, problem: Problem, episodes: int, seed: int = 0, observation: Observation = "flat"
) -> list[Episode]:
    """Episodes of a policy, each begun with a seed of its own; where a state makes choices random, they are.

    What they were worth is for `replay_all` to say, which plays them again in another process.
    """
    name, made = type(problem).__name__, table(problem)
    settings = {"observation": observation, **problem.model_dump(mode="json")}
    env = gymnasium.make(f"raysafe/{name}-v0", **settings).unwrapped
    assert isinstance(env, GridworldEnv)
    upto_SA = ((1 - made.exploration_S[:, None]) * choices_SA + made.exploration_S[:, None] / problem.actions).cumsum(
        axis=1
    )
    draw, done = np.random.default_rng(seed), []
    for number in range(episodes):
        env.reset(seed=seed + number)
        actions, over = [], False
        while not over:
            row_A = upto_SA[made.index[env.state]]
            actions.append(min(int(np.searchsorted(row_A, draw.random(), side="right")), problem.actions - 1))
            _, _, terminated, truncated, _ = env.step(actions[-1])
            over = terminated or truncated
        done.append(Episode(f"raysafe/{name}-v0", settings, seed + number, 0, actions))
    return done


def _fits(policy: Policy, rows_SD: np.ndarray) -> bool:
    return policy.network.config.inputs == rows_SD.shape[1]


def _observation(policy: Policy) -> Observation:
    """What kind of observation the card speaks of."""
    card = policy.card
    if card is not None and card.observations.kind == "discrete":
        return "index"
    return (
        "layers"
        if card is not None and card.observations.kind == "box" and len(card.observations.shape) > 1
        else "flat"
    )
