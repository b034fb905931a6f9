"""Exact optima and values by backward induction over a problem's states, for its reward or for its hidden performance.

Never imported by an environment or a job. The two differ in three ways. Performance has its own terms for a step; it is
had where the agent is deployed; and it counts what an agent really does, where a state makes a share of its choices
random (`Problem.exploration`). The optimum of the reward is a plan in which every choice is the agent's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from raysafe.errors import ConfigError
from raysafe.rl.envs.performance import deployed, measure
from raysafe.rl.envs.problem import Problem, State
from raysafe.rl.envs.table import Table, table
from raysafe.rl.mdp import Floats
from raysafe.rl.planning import backup, check, greedy

Of = Literal["reward", "performance"]


@dataclass(frozen=True)
class Optimum:
    """value: the mean over the starts. values_TS, policy_TSA: for the time gone, over the states of `problem`."""

    problem: Problem
    states: list[State]
    value: float
    values_TS: Floats
    policy_TSA: Floats


def optimum(problem: Problem, of: Of = "reward", gamma: float = 1.0, horizon: int | None = None) -> Optimum:
    """The best that any policy can have that sees the state and the time; horizon: the problem's limit by default."""
    made, rewards_TSA, random_S1, steps = _asked(problem, of, gamma, horizon)
    values_TS, policy_TSA = np.zeros((steps + 1, len(made.states))), np.zeros((steps, *made.next_SAK.shape[:2]))
    for time in reversed(range(steps)):
        q_SA = backup(made.mdp, rewards_TSA[time % len(rewards_TSA)], gamma, values_TS[time + 1])
        policy_TSA[time] = greedy(q_SA)
        values_TS[time] = ((1 - random_S1) * q_SA.max(axis=1, keepdims=True) + random_S1 * q_SA).mean(axis=1)
    return Optimum(made.problem, made.states, float(made.initial_S @ values_TS[0]), values_TS[:-1], policy_TSA)


def value(problem: Problem, policy: Floats, of: Of = "reward", gamma: float = 1.0, horizon: int | None = None) -> float:
    """What a policy (S, A) or (T, S, A) over the states of `problem` has, in the mean over the starts.

    Where performance is had on another problem, a state there is acted on like the states of the same view; in one
    that looks like none, all actions are as likely.
    """
    made, rewards_TSA, random_S1, steps = _asked(problem, of, gamma, horizon)
    policy_TSA = _moved(table(problem), made, policy if policy.ndim == 3 else policy[None])
    if len(policy_TSA) not in (1, steps):
        raise ConfigError(f"policy is for {len(policy_TSA)} steps and the horizon is {steps}: give as many, or one")
    values_S = np.zeros(len(made.states))
    for time in reversed(range(steps)):
        q_SA = backup(made.mdp, rewards_TSA[time % len(rewards_TSA)], gamma, values_S)
        done_SA = (1 - random_S1) * policy_TSA[time % len(policy_TSA)] + random_S1 / problem.actions
        values_S = (done_SA * q_SA).sum(axis=1)
    return float(made.initial_S @ values_S)


def _asked(problem: Problem, of: Of, gamma: float, horizon: int | None) -> tuple[Table, Floats, Floats, int]:
    """Table, rewards (one or `horizon` of them, S, A), share of random choices (S, 1), and horizon."""
    if of not in ("reward", "performance"):
        raise ConfigError(f"of must be 'reward' or 'performance', got {of!r}")
    steps = problem.limit if horizon is None else horizon
    check(gamma, steps)
    if of == "reward":
        made = table(problem)
        return made, made.rewards_SA[None], np.zeros((len(made.states), 1)), steps
    made = table(deployed(problem))
    return made, _performance(made, steps), made.exploration_S[:, None], steps


def _performance(made: Table, steps: int) -> Floats:
    """(1, S, A), or (steps, S, A) where the time counts."""
    step, times = measure(made.problem).step, steps if getattr(measure(made.problem), "TIMED", False) else 1
    wanted_TSA = np.zeros((times, *made.next_SAK.shape[:2]))
    for state, action, place in zip(*np.nonzero(made.probability_SAK), strict=True):
        if made.terminal_S[state]:
            continue
        one = (made.states[state], int(action), made.states[made.next_SAK[state, action, place]])
        reward, chance = float(made.reward_SAK[state, action, place]), made.probability_SAK[state, action, place]
        for time in range(times):
            wanted_TSA[time, state, action] += chance * step(made.problem, time, *one, reward)
    return wanted_TSA


def _moved(own: Table, elsewhere: Table, policy_TSA: Floats) -> Floats:
    """A policy over the states of one problem as one over the states of another, by what they look like."""
    if policy_TSA.shape[1:] != own.next_SAK.shape[:2]:
        raise ConfigError(f"policy must be {own.next_SAK.shape[:2]}, got {policy_TSA.shape[1:]}")
    if own.problem == elsewhere.problem:
        return policy_TSA
    rows: dict[State, list[int]] = {}
    for number in np.flatnonzero(~own.terminal_S):
        rows.setdefault(own.views[own.view_S[number]], []).append(int(number))
    even_TA = np.full((len(policy_TSA), policy_TSA.shape[2]), 1 / policy_TSA.shape[2])
    seen = [rows.get(elsewhere.views[view]) for view in elsewhere.view_S]
    return np.stack([even_TA if row is None else policy_TSA[:, row].mean(axis=1) for row in seen], axis=1)
