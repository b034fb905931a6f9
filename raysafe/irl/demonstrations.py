"""Demonstrations as what maximum-entropy inverse reinforcement learning needs of them.

Its objective is sum(starts * v) - sum(visits * r), where v are the soft values under the reward r: what could be had,
less what the demonstrations earned. It is minimal where the policy's visits from `starts` are those demonstrated.

Of the likelihood (Ziebart 2010, chapter 6): minus the log-probability of the actions, each step counting alike. Of
features (the dual, Ziebart 2008): visits discounted by gamma^t from each trajectory's start, which is where the policy
starts too; where a recording stops before its episode does, the policy goes on from there as well, at gamma^length.
The first knows the transitions and so isn't misled by the chances of those that were drawn; with as many
demonstrations as one likes both are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.errors import DataError
from raysafe.irl.soft import likelihood_flows
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.rl.planning import check

Objective = Literal["likelihood", "features"]
FLOW_ERROR = 1e-6


@dataclass(frozen=True, eq=False)
class Demonstrated:
    """visits (S, A) and starts (S,), or with a horizon (T, S), as means over `number` trajectories; infinitely many
    where the visits are a population's."""

    visits_SA: Floats
    starts: Floats
    number: float


def demonstrated(
    mdp: TabularMDP,
    trajectories: Sequence[Trajectory],
    gamma: float,
    horizon: int | None = None,
    objective: Objective = "likelihood",
) -> Demonstrated:
    """Raises DataError, naming the trajectory, where one can't have happened in the MDP."""
    check(gamma, horizon)
    if not trajectories:
        raise DataError("there are no trajectories to learn from: give one at least")
    shape = (mdp.states, mdp.actions) if horizon is None else (horizon, mdp.states, mdp.actions)
    counts, visits_SA, starts = np.zeros(shape), np.zeros((mdp.states, mdp.actions)), np.zeros(shape[:-1])
    for number, trajectory in enumerate(trajectories, start=1):
        states_T1, actions_T = checked(mdp, trajectory, horizon, f"trajectory {number}")
        states_T, steps = states_T1[:-1], len(actions_T)
        np.add.at(counts, (states_T, actions_T) if horizon is None else (np.arange(steps), states_T, actions_T), 1.0)
        np.add.at(visits_SA, (states_T, actions_T), gamma ** np.arange(steps))
        starts[states_T[0] if horizon is None else (0, states_T[0])] += 1.0
        if horizon is None or steps < horizon:
            starts[states_T1[-1] if horizon is None else (steps, states_T1[-1])] -= gamma**steps
    if objective == "likelihood":
        visits_SA, starts = likelihood_flows(mdp, counts, gamma)
    return Demonstrated(visits_SA / len(trajectories), starts / len(trajectories), len(trajectories))


def population(mdp: TabularMDP, visits_SA: Floats, gamma: float, horizon: int | None = None) -> Demonstrated:
    """Of exact discounted visits (S, A) from the MDP's initial states.

    Raises DataError where no policy visits like that, as when they weren't discounted by this gamma.
    """
    check(gamma, horizon)
    if visits_SA.shape != (mdp.states, mdp.actions) or not np.isfinite(visits_SA).all() or visits_SA.min() < 0:
        raise DataError(f"visits_SA must be numbers from 0 on, ({mdp.states}, {mdp.actions}), got {visits_SA.shape}")
    start_S = np.where(mdp.ends_S, 0.0, mdp.initial_S)
    if horizon is None:
        off_S = np.abs(visits_SA.sum(axis=1) - start_S - gamma * mdp.arrivals(visits_SA))
        if off_S.max() > FLOW_ERROR * max(1.0, visits_SA.sum()):
            raise DataError(
                f"visits_SA are no occupancy for gamma {gamma}: state {off_S.argmax()} is left {off_S.max():.3g} times "
                "more or less than it is reached; give sums of gamma^t P(state, action at t) from initial_S"
            )
        return Demonstrated(visits_SA, start_S, np.inf)
    most = sum(gamma**time for time in range(horizon)) * start_S.sum()
    if visits_SA.sum() > most * (1 + FLOW_ERROR):
        raise DataError(
            f"visits_SA add up to {visits_SA.sum():.6g}, more than {horizon} steps discounted by {gamma} allow, "
            f"{most:.6g}; give sums of gamma^t P(state, action at t) from initial_S"
        )
    return Demonstrated(visits_SA, np.vstack([start_S, np.zeros((horizon - 1, mdp.states))]), np.inf)


def checked(mdp: TabularMDP, trajectory: Trajectory, horizon: int | None, which: str) -> tuple[np.ndarray, np.ndarray]:
    """states_T1 and actions_T; raises DataError where they can't have happened in the MDP."""
    if trajectory.states_T1 is None or not trajectory.discrete:
        raise DataError(f"{which} has no states or no discrete actions: tabular learning needs both")
    states_T1, actions_T = trajectory.states_T1, trajectory.actions_T
    if states_T1.max() >= mdp.states or actions_T.max() >= mdp.actions:
        raise DataError(
            f"{which} has state {states_T1.max()} and action {actions_T.max()} as its highest, where the MDP has "
            f"{mdp.states} states and {mdp.actions} actions, numbered from 0"
        )
    if horizon is not None and len(actions_T) > horizon:
        raise DataError(f"{which} has {len(actions_T)} steps, more than the horizon of {horizon}")
    if mdp.ends_S[states_T1[:-1]].any():
        step = int(mdp.ends_S[states_T1[:-1]].argmax())
        raise DataError(f"{which} goes on after step {step} in state {states_T1[step]}, which is terminal in the MDP")
    if trajectory.terminated and not mdp.ends_S[states_T1[-1]]:
        raise DataError(
            f"{which} ended in state {states_T1[-1]}, which isn't terminal in the MDP: flag it in terminal_S"
        )
    flat_T = states_T1[:-1] * mdp.actions + actions_T
    chances_T = np.asarray(cast(sparse.csr_array, mdp.rows)[flat_T, states_T1[1:]]).ravel()
    if not chances_T.all():
        step = int((chances_T == 0).argmax())
        raise DataError(
            f"{which} comes from state {states_T1[step]} to {states_T1[step + 1]} by action {actions_T[step]} at step "
            f"{step}, which has probability 0 in the MDP"
        )
    return states_T1, actions_T
