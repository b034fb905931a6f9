"""Constrained Markov decision processes (Altman 1999): the most reward among policies whose cost keeps a limit.

Exactly, as a linear programme over occupancies, whose dual gives the multiplier; and by ascent on that dual, which is
what learners do. The best policy may have to draw between two actions: no reward that is merely reduced by a price of
the cost has it as its greedy policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from raysafe.errors import ConfigError, DataError
from raysafe.rl.mdp import Flags, Floats, TabularMDP
from raysafe.rl.multiplier import Multiplier, MultiplierSettings
from raysafe.rl.planning import occupancy, optimal


@dataclass(frozen=True)
class Constrained:
    """policy_SA, stochastic; its discounted reward and cost from the initial states; the constraint's multiplier."""

    policy_SA: Floats
    reward: float
    cost: float
    multiplier: float


def constrained_optimum(
    mdp: TabularMDP, rewards_SA: Floats, costs_SA: Floats, limit: float, gamma: float
) -> Constrained:
    """By linear programming (HiGHS). Raises DataError where no policy keeps the limit."""
    flow, start_S = flow_constraints(mdp, gamma)
    found = linprog(
        -rewards_SA.ravel(), A_ub=costs_SA.reshape(1, -1), b_ub=[limit], A_eq=flow, b_eq=start_S, method="highs"
    )
    if found.status == 2:
        least = float(mdp.initial_S @ -optimal(mdp, -costs_SA, gamma).values)
        raise DataError(f"no policy keeps the cost within {limit:g}: the least that can be had is {least:.6g}")
    if found.status != 0:
        raise DataError(f"the linear programme of the constraint was not solved: {found.message}")
    visits_SA = found.x.reshape(rewards_SA.shape)
    return _of(visits_SA, rewards_SA, costs_SA, -float(found.ineqlin.marginals[0]))


def dual_ascent(
    mdp: TabularMDP,
    rewards_SA: Floats,
    costs_SA: Floats,
    limit: float,
    gamma: float,
    *,
    settings: MultiplierSettings,
    updates: int,
) -> Constrained:
    """Plan for reward less multiplier times cost, raise the multiplier by the excess, and again; the second half's
    mean occupancy is the answer, since single plans are deterministic and lie on either side of the limit."""
    if updates < 2:
        raise ConfigError(f"updates must be at least 2, got {updates}")
    multiplier = Multiplier.start(settings, limit)
    visits_SA, prices, known = np.zeros_like(rewards_SA), [], {}
    for update in range(updates):
        policy_SA = optimal(mdp, rewards_SA - multiplier.value * costs_SA, gamma).policy
        key = policy_SA.tobytes()
        if key not in known:
            known[key] = occupancy(mdp, policy_SA, gamma)
        if update >= updates // 2:
            visits_SA += known[key]
            prices.append(multiplier.value)
        multiplier.update(float((known[key] * costs_SA).sum()))
    return _of(visits_SA / len(prices), rewards_SA, costs_SA, float(np.mean(prices)))


def shielded(mdp: TabularMDP, rewards_SA: Floats, allowed_SA: Flags) -> tuple[TabularMDP, Floats]:
    """The problem behind a shield: an action that isn't allowed does what the state's first allowed one does.

    What is planned for it is optimal among allowed actions. Raises DataError for a state that allows none.
    """
    if allowed_SA.shape != (mdp.states, mdp.actions):
        raise DataError(f"allowed must be ({mdp.states}, {mdp.actions}), got {allowed_SA.shape}")
    stuck = np.flatnonzero(~allowed_SA.any(axis=1) & ~mdp.ends_S)
    if len(stuck):
        raise DataError(f"state {stuck[0]} and {len(stuck) - 1} more allow no action: allow at least one in each")
    actions = np.arange(mdp.actions)
    does_SA = np.where(allowed_SA, actions, allowed_SA.argmax(axis=1)[:, None])
    rows = sparse.csr_array(mdp.rows)[(np.arange(mdp.states)[:, None] * mdp.actions + does_SA).ravel()]
    behind = TabularMDP(sparse.csr_array(rows), mdp.initial_S, mdp.terminal_S)
    return behind, np.take_along_axis(rewards_SA, does_SA, axis=1)


def flow_constraints(mdp: TabularMDP, gamma: float) -> tuple[sparse.csr_array, Floats]:
    """Conservation: visits to a state, less gamma times what comes into it, are its initial probability.

    Terminal states have one equation each as well: nothing is visited in them.
    """
    if not 0 <= gamma < 1:
        raise ConfigError(f"gamma must be in [0, 1), got {gamma}")
    goes_on = np.repeat(~mdp.ends_S, mdp.actions)
    pairs = sparse.kron(sparse.eye_array(mdp.states), np.ones((1, mdp.actions)))
    into = sparse.csr_array(mdp.rows).T @ sparse.diags_array(goes_on.astype(float))
    keep = sparse.diags_array((~mdp.ends_S).astype(float))
    return sparse.csr_array(pairs - gamma * (keep @ into)), np.where(mdp.ends_S, 0.0, mdp.initial_S)


def _of(visits_SA: Floats, rewards_SA: Floats, costs_SA: Floats, multiplier: float) -> Constrained:
    visits_S = visits_SA.sum(axis=1, keepdims=True)
    uniform_SA = np.full_like(visits_SA, 1 / visits_SA.shape[1])
    policy_SA = np.divide(visits_SA, visits_S, out=uniform_SA, where=visits_S > 1e-12)
    return Constrained(
        policy_SA, float((visits_SA * rewards_SA).sum()), float((visits_SA * costs_SA).sum()), multiplier
    )
