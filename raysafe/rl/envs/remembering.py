"""A problem whose states hold something of what the agent itself has done: a finite memory of its own.

With `pays`, the memory makes a reward machine of it (Toro Icarte et al. 2018): what a step earns may depend on what was
earned before.
"""

from __future__ import annotations

import numpy as np

from raysafe.rl.envs.problem import Outcome, Problem, State
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats


class Remembering(Problem):
    """States: (state, memory). An agent sees its memory, and of the state what it saw before."""

    rules: Problem

    def __hash__(self) -> int:
        return hash((type(self), self.limit, self.rules))

    def first(self) -> State:
        """The memory at the start of an episode."""
        return ()

    def remembers(self, memory: State, state: State, action: int, outcome: Outcome) -> State:
        """The memory after a step."""
        raise NotImplementedError

    def pays(self, memory: State, outcome: Outcome) -> float:
        """What the step earns; what the rules say by default."""
        return outcome.reward

    def starts(self) -> list[tuple[float, State]]:
        return [(chance, (state, self.first())) for chance, state in self.rules.starts()]

    def transitions(self, state: State, action: int) -> list[Outcome]:
        inner, memory = state
        return [
            outcome._replace(
                state=(outcome.state, self.remembers(memory, inner, action, outcome)),
                reward=self.pays(memory, outcome),
            )
            for outcome in self.rules.transitions(inner, action)
        ]

    def view(self, state: State) -> State:
        return (self.rules.view(state[0]), state[1])

    def exploration(self, state: State) -> float:
        return self.rules.exploration(state[0])


def forgotten(problem: Remembering, policy: Floats) -> Floats:
    """(T, S, A) over the states of the inner problem: what a policy (S, A) or (T, S, A) with memory does in the mean.

    At each time it does each thing in each state as often as the policy with memory does, so that all that is counted
    step by step is the same.
    """
    kept, made = table(problem), table(problem.rules)
    inner_S = np.array([made.index[state[0]] for state in kept.states])
    policies = np.broadcast_to(policy, (problem.limit, *kept.rewards_SA.shape))
    done_TSA = np.zeros((problem.limit, *made.rewards_SA.shape))
    state_S = np.where(kept.terminal_S, 0.0, kept.initial_S)
    for time in range(problem.limit):
        np.add.at(done_TSA[time], inner_S, state_S[:, None] * policies[time])
        state_S = kept.mdp.arrivals(state_S[:, None] * policies[time])
    visited_TS1 = done_TSA.sum(axis=-1, keepdims=True)
    even_TSA = np.full_like(done_TSA, 1 / made.rewards_SA.shape[1])
    return np.divide(done_TSA, visited_TS1, out=even_TSA, where=visited_TS1 > 0)
