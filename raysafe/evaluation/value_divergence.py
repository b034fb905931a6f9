"""value-divergence: how far does what an agent values lie from what a human does, in one tabular problem?

The model is the agent's reward, the data the human's: a reward's file, or the run of `raysafe irl` that left it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from raysafe.errors import ConfigError, ModelError
from raysafe.evaluation.suites import Figure, Findings
from raysafe.records.digest import file_digest

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob
    from raysafe.rl.mdp import Floats

PLACES = ("reward/reward.safetensors", "reward.safetensors")
SHOWN = 40


def reward_file(name: str) -> Path:
    """The file of a reward, by itself, in a folder, or in a run; raises ModelError where there is none."""
    path = Path(name.removeprefix("file://")).expanduser()
    for file in (path, *(path / place for place in PLACES)):
        if file.is_file():
            return file
    raise ModelError(f"there is no reward at {name}: give a reward's safetensors file, or a run of raysafe irl")


def digest(name: str) -> str:
    """sha256 of the reward's file: its identity as a model."""
    return file_digest(reward_file(name))


def examine(job: EvaluateJob) -> Findings:
    """Compare both rewards' values in the job's problem; raises ConfigError where one is of another problem."""
    from raysafe.irl.problem import gridworld, read_problem
    from raysafe.irl.value_divergence import value_divergence
    from raysafe.rl.planning import optimal

    assert job.problem is not None
    problem = gridworld(job.problem, {}) if job.problem.startswith("raysafe/") else read_problem(job.problem)
    size = (problem.mdp.states, problem.mdp.actions)
    human_SA, agent_SA = (_table(name, size, problem.name) for name in (job.data, job.model))
    found = value_divergence(problem.mdp, human_SA, agent_SA, job.gamma)
    human, agent = (optimal(problem.mdp, rewards_SA, job.gamma) for rewards_SA in (human_SA, agent_SA))
    order = np.argsort(-found.importance_S)[: job.limit or SHOWN]
    rows = [
        {
            "state": int(state),
            "importance": float(found.importance_S[state]),
            "human's action": int(human.policy[state].argmax()),
            "agent's action": int(agent.policy[state].argmax()),
            "human's loss": float(human.q[state].max() - human.q[state] @ agent.policy[state]),
        }
        for state in order
        if found.importance_S[state] > 0
    ]
    figures = [
        Figure(name, getattr(found, name), problem.mdp.states, better="lower")
        for name in ("regret", "disagreement", "value_distance", "epic", "dard")
    ]
    summary = {"problem": problem.name, "gamma": job.gamma, "states": problem.mdp.states}
    return Findings(figures, rows, summary, file_digest(reward_file(job.data)))


def _table(name: str, size: tuple[int, int], problem: str) -> Floats:
    from raysafe.irl.reward import load_reward

    rewards_SA = load_reward(reward_file(name)).table_SA()
    if rewards_SA.shape != size:
        raise ConfigError(
            f"{name} rewards {rewards_SA.shape[0]} states and {rewards_SA.shape[1]} actions, {problem} has {size[0]} "
            f"and {size[1]}: give the problem that it was learned in"
        )
    return rewards_SA
