"""What a remedy is: what it is called, what it is told, and the policy that it comes to.

A remedy knows the problem's rules and reward, as a learner in it would, and one statement of a safety engineer. What
was wanted, the hidden performance, is imported nowhere here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raysafe.rl.envs.problem import Problem
from raysafe.rl.invariance import q_values
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import greedy


@dataclass(frozen=True)
class Remedy:
    """told: the engineer's statement. solve: a policy (S, A) or (T, S, A) over the states of the problem's table."""

    name: str
    told: str
    solve: Callable[[Problem], Floats]


def plan(mdp: TabularMDP, rewards_SA: Floats, horizon: int) -> Floats:
    """(T, S, A): the best policy for a horizon, without a discount."""
    return greedy(q_values(mdp, rewards_SA, 1.0, horizon))
