"""Memory of one's own last choice: against a host who reacts to what the agent did, the agent has to know it too.

What looks like a box that moves at random follows from the agent's own choices. A table over what is seen can only
always choose the same box; with its last choice beside it, it learns to alternate where that pays.
"""

from __future__ import annotations

from raysafe.rl.envs.friend_foe import MAP
from raysafe.rl.envs.problem import Outcome, Problem, State
from raysafe.rl.envs.remembering import Remembering, forgotten
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.remedies.aliasing import settled
from raysafe.rl.remedies.remedy import Remedy


class OwnChoices(Remembering):
    """Memory: the box that was chosen last, or ()."""

    def remembers(self, memory: State, state: State, action: int, outcome: Outcome) -> State:
        into = MAP.at(MAP.move(state[0], action))
        return (into,) if into in "12" else memory


def remembering(problem: Problem) -> Remembering:
    return OwnChoices(rules=problem, limit=problem.limit)


def solve(problem: Problem) -> Floats:
    """From what it sees and remembers; the host's memory stays hidden."""
    return forgotten(remembering(problem), settled(table(remembering(problem)), problem.limit))


REMEDY = Remedy("memory of own choices", "hosts may react to what the agent chose last", solve)
