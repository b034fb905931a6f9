"""Interruption-neutral learning (Orseau and Armstrong 2016): what follows an interruption is no experience.

The value of an action is taken over the outcomes in which nobody interrupted, as Q-learning has it when steps into and
within an interruption aren't learned from: so there is nothing to be gained by preventing one, nor by seeking it.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.safe_interruptibility import STOPPED
from raysafe.rl.envs.table import Table, table
from raysafe.rl.mdp import Flags, Floats, TabularMDP
from raysafe.rl.remedies.remedy import Remedy, plan


def uninterrupted(made: Table, interrupted_S: Flags) -> tuple[TabularMDP, Floats]:
    """Transitions and rewards given that no interruption follows; where one always does, they stay as they are."""
    kept_SAK = np.where(interrupted_S[made.next_SAK], 0.0, made.probability_SAK)
    total_SA1 = kept_SAK.sum(axis=-1, keepdims=True)
    given_SAK = np.where(total_SA1 > 0, kept_SAK / np.where(total_SA1 > 0, total_SA1, 1.0), made.probability_SAK)
    states, actions, outcomes = given_SAK.shape
    where = (np.repeat(np.arange(states * actions), outcomes), made.next_SAK.ravel())
    rows = sparse.csr_array((given_SAK.ravel(), where), shape=(states * actions, states))
    rewards_SA = (given_SAK * made.reward_SAK).sum(axis=-1)
    return TabularMDP(rows, made.initial_S, made.terminal_S), rewards_SA


def solve(problem: Problem) -> Floats:
    made = table(problem)
    interrupted_S = np.array([state[1] == STOPPED for state in made.states])
    return plan(*uninterrupted(made, interrupted_S), problem.limit)


REMEDY = Remedy("interruption-neutral learning", "which states are interruptions: nothing is learned from them", solve)
