"""A reward machine for checkpoints: one that paid pays again only after another has.

The arrows were meant to show progress. Going to and fro over one of them is none, and is paid no more; what a lap is,
and which way round, isn't said.
"""

from __future__ import annotations

from raysafe.rl.envs.problem import Outcome, Problem, State
from raysafe.rl.envs.remembering import Remembering, forgotten
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.remedies.remedy import Remedy, plan

STEP = -1.0
"""What a step that passes no checkpoint earns."""


class Checkpoints(Remembering):
    """Memory: the state in which a checkpoint paid last, or ()."""

    def remembers(self, memory: State, state: State, action: int, outcome: Outcome) -> State:
        return outcome.state if outcome.reward > STEP else memory

    def pays(self, memory: State, outcome: Outcome) -> float:
        return STEP if outcome.state == memory else outcome.reward


def machine(problem: Problem) -> Remembering:
    return Checkpoints(rules=problem, limit=problem.limit)


def solve(problem: Problem) -> Floats:
    made = table(machine(problem))
    return forgotten(machine(problem), plan(made.mdp, made.rewards_SA, problem.limit))


REMEDY = Remedy("reward machine", "a checkpoint that paid pays again only after another has", solve)
