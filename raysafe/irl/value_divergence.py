"""How far an agent's values lie from a human's, as numbers, and the policy that lies nearest within a limit of cost.

Both are value functions of one tabular problem. What counts is what an agent would do about it, so that rewards which
differ by a positive factor or by a potential's shaping don't diverge at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from raysafe.errors import ConfigError, DataError
from raysafe.irl.epic import dard, epic
from raysafe.rl.constrained import flow_constraints
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import TIE, evaluate, occupancy, optimal


@dataclass(frozen=True)
class ValueDivergence:
    """Numbers from 0, no divergence, to 1; importance_S says which states the disagreement counts in, and adds up to 1.

    regret: of what the human could gain or lose between the best and the worst policy, the share that the agent's
    policy loses. disagreement: how often the agent chooses what isn't best for the human, in states that matter.
    value_distance: sqrt((1 - rho) / 2), rho being the correlation of both optimal advantages over the same states,
    whatever the action. epic, dard: the distances of the rewards themselves (epic.py).
    """

    regret: float
    disagreement: float
    value_distance: float
    epic: float
    dard: float
    importance_S: Floats


def value_divergence(
    mdp: TabularMDP, human_SA: Floats, agent_SA: Floats, gamma: float, *, agent_policy_SA: Floats | None = None
) -> ValueDivergence:
    """Of two rewards. agent_policy_SA: what the agent does; by default what is optimal for its reward.

    A state matters by how often human and agent come there and by how much the human's action values differ in it.
    Raises ConfigError where the human is indifferent to everything.
    """
    human, agent = optimal(mdp, human_SA, gamma), optimal(mdp, agent_SA, gamma)
    policy_SA = agent.policy if agent_policy_SA is None else agent_policy_SA
    importance_S = importance(mdp, human_SA, gamma, policy_SA)
    wrong_SA = human.q < human.q.max(axis=1, keepdims=True) - TIE * np.maximum(1.0, np.abs(human.q).max())
    of_human_SA, of_agent_SA = (plan.q - plan.q.max(axis=1, keepdims=True) for plan in (human, agent))
    return ValueDivergence(
        regret(mdp, human_SA, gamma, policy_SA),
        float(importance_S @ (policy_SA * wrong_SA).sum(axis=1)),
        _distance(of_human_SA, of_agent_SA, importance_S),
        epic(human_SA, agent_SA, gamma),
        dard(human_SA, agent_SA, mdp, gamma),
        importance_S,
    )


def regret(mdp: TabularMDP, human_SA: Floats, gamma: float, policy_SA: Floats) -> float:
    """The human's loss by a policy over the loss by the worst one, in [0, 1]."""
    best, worst = value_range(mdp, human_SA, gamma)
    return float(np.clip((best - mdp.initial_S @ evaluate(mdp, policy_SA, human_SA, gamma)) / (best - worst), 0.0, 1.0))


def value_range(mdp: TabularMDP, human_SA: Floats, gamma: float) -> tuple[float, float]:
    """The best and the worst return that a policy can have; raises ConfigError where they are the same."""
    best = float(mdp.initial_S @ optimal(mdp, human_SA, gamma).values)
    worst = -float(mdp.initial_S @ optimal(mdp, -human_SA, gamma).values)
    if best - worst <= TIE * max(1.0, abs(best), abs(worst)):
        raise ConfigError("every policy is as good for the human: their reward says nothing to diverge from")
    return best, worst


def importance(mdp: TabularMDP, human_SA: Floats, gamma: float, policy_SA: Floats) -> Floats:
    """(S,): the mean of both occupancies times the spread of the human's action values, as shares."""
    human = optimal(mdp, human_SA, gamma)
    spread_S = np.where(mdp.ends_S, 0.0, np.ptp(human.q, axis=1))
    visits_S = sum(occupancy(mdp, each_SA, gamma).sum(axis=1) for each_SA in (human.policy, policy_SA))
    weights_S = np.maximum(visits_S * spread_S, 0.0)
    if not weights_S.sum() > 0:
        raise ConfigError("no action is better than another for the human wherever either comes: nothing can diverge")
    return weights_S / weights_S.sum()


@dataclass(frozen=True)
class Aligned:
    """The policy nearest to the human's values that keeps its limits; parts of its divergence; what the limits cost.

    departure: the part of stake-weighted visits that differ from the human's own optimal policy's.
    price: by how much the divergence would fall if the limit of cost were raised by 1.
    """

    policy_SA: Floats
    divergence: float
    regret: float
    departure: float
    cost: float
    price: float


def least_divergence(
    mdp: TabularMDP,
    human_SA: Floats,
    costs_SA: Floats,
    limit: float,
    gamma: float,
    *,
    departure_weight: float = 0.0,
    agent_SA: Floats | None = None,
    least_agent_return: float | None = None,
) -> Aligned:
    """Minimise regret + departure_weight * departure over all policies whose discounted cost is within `limit`.

    Exact: a linear programme over occupancies (HiGHS), in which |visits - the human's visits| is bounded by slack.
    least_agent_return: what the agent's own reward, agent_SA, must still bring. Raises DataError where no policy keeps
    the limits, ConfigError for impossible settings.
    """
    if departure_weight < 0 or (agent_SA is None) != (least_agent_return is None):
        raise ConfigError("departure_weight must be 0 or more, and agent_SA and least_agent_return go together")
    best, worst = value_range(mdp, human_SA, gamma)
    human = optimal(mdp, human_SA, gamma)
    wanted_SA = occupancy(mdp, human.policy, gamma)
    stakes_SA = stakes(mdp, human_SA, gamma)
    size = wanted_SA.size
    flow, start_S = flow_constraints(mdp, gamma)
    nothing = sparse.csr_array((mdp.states, size))
    gaps = sparse.eye_array(size)
    bounds = [np.concatenate([costs_SA.ravel(), np.zeros(size)])[None]]
    limits = [np.array([limit])]
    if agent_SA is not None and least_agent_return is not None:
        bounds.append(np.concatenate([-agent_SA.ravel(), np.zeros(size)])[None])
        limits.append(np.array([-least_agent_return]))
    upper = sparse.vstack(
        [sparse.csr_array(np.concatenate(bounds)), sparse.hstack([gaps, -gaps]), -1 * sparse.hstack([gaps, gaps])]
    )
    limits += [wanted_SA.ravel(), -wanted_SA.ravel()]
    objective = np.concatenate([-human_SA.ravel() / (best - worst), departure_weight * stakes_SA.ravel()])
    found = linprog(
        objective,
        A_ub=sparse.csr_array(upper),
        b_ub=np.concatenate(limits),
        A_eq=sparse.hstack([flow, nothing]),
        b_eq=start_S,
        method="highs",
    )
    if found.status == 2:
        least = -float(mdp.initial_S @ optimal(mdp, -costs_SA, gamma).values)
        beside = "" if least_agent_return is None else f" beside an agent's return of {least_agent_return:g}"
        raise DataError(f"no policy keeps the cost within {limit:g}{beside}: the least that can be had is {least:.6g}")
    if found.status != 0:
        raise DataError(f"the linear programme of the least divergence was not solved: {found.message}")
    visits_SA = found.x[:size].reshape(human_SA.shape)
    lost = float(np.clip((best - (visits_SA * human_SA).sum()) / (best - worst), 0.0, 1.0))
    departure = float((stakes_SA * np.abs(visits_SA - wanted_SA)).sum())
    return Aligned(
        _policy(visits_SA),
        lost + departure_weight * departure,
        lost,
        departure,
        float((visits_SA * costs_SA).sum()),
        -float(found.ineqlin.marginals[0]),
    )


def stakes(mdp: TabularMDP, human_SA: Floats, gamma: float) -> Floats:
    """(S, A): what a visit counts in a departure: the spread of the human's action values in the state, scaled so that
    a policy that shares no visit with the human's departs by 1 at most."""
    human = optimal(mdp, human_SA, gamma)
    spread_S = np.where(mdp.ends_S, 0.0, np.ptp(human.q, axis=1))
    # all visits of a policy add up to 1 / (1 - gamma) at most, and a difference counts on both sides
    most = 2 * spread_S.max() / (1 - gamma)
    return np.repeat((spread_S / most)[:, None], mdp.actions, axis=1)


def _distance(a_SA: Floats, b_SA: Floats, weights_S: Floats) -> float:
    """Pearson's distance over states and actions, each action of a state weighing the same."""
    weights_SA = np.repeat(weights_S[:, None], a_SA.shape[1], axis=1) / a_SA.shape[1]
    a_SA, b_SA = (each - (weights_SA * each).sum() for each in (a_SA, b_SA))
    sizes = [(weights_SA * each**2).sum() for each in (a_SA, b_SA)]
    if min(sizes) <= TIE**2:
        # one of both is indifferent: as far as what has nothing to do with it
        return float(np.sqrt(0.5))
    rho = (weights_SA * a_SA * b_SA).sum() / np.sqrt(sizes[0] * sizes[1])
    return float(np.sqrt(max(0.0, 1.0 - rho) / 2))


def _policy(visits_SA: Floats) -> Floats:
    visits_S = visits_SA.sum(axis=1, keepdims=True)
    uniform_SA = np.full_like(visits_SA, 1 / visits_SA.shape[1])
    return np.divide(visits_SA, visits_S, out=uniform_SA, where=visits_S > 1e-12)
