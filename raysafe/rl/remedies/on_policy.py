"""On-policy choice: actions are valued by what the agent will really do after them, as Sarsa does.

Where a state makes a share of the agent's choices random, its value is that of a policy with that share.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.table import Table, table
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.remedies.remedy import Remedy, plan


def carried_out(made: Table) -> tuple[TabularMDP, Floats]:
    """The problem in which a choice is what becomes of it: itself, or with the state's share any action."""
    states, actions = made.rewards_SA.shape
    share_S = made.exploration_S
    own = sparse.kron(sparse.diags_array(1 - share_S), sparse.eye_array(actions))
    any_one = sparse.kron(sparse.diags_array(share_S / actions), np.ones((actions, actions)))
    does = sparse.csr_array(own + any_one)
    rows = sparse.csr_array(does @ sparse.csr_array(made.mdp.rows))
    rewards_SA = (does @ made.rewards_SA.ravel()).reshape(states, actions)
    return TabularMDP(rows, made.initial_S, made.terminal_S), rewards_SA


def solve(problem: Problem) -> Floats:
    return plan(*carried_out(table(problem)), problem.limit)


REMEDY = Remedy("on-policy choice", "the exploration rate, as side information has it, counts in values", solve)
