"""Demonstrations made in a tabular problem: what a demonstrator of a given policy does, from the initial states."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError, DataError
from raysafe.rl.mdp import Floats, TabularMDP


def demonstrate(
    mdp: TabularMDP, policy: Floats, count: int, *, steps: int, seed: int = 0, rewards_SA: Floats | None = None
) -> list[Trajectory]:
    """`count` trajectories of a policy (S, A) or (T, S, A), each until a terminal state or `steps` steps.

    Raises ConfigError for a policy of another shape, DataError where every episode starts in a terminal state.
    """
    if policy.shape[-2:] != (mdp.states, mdp.actions) or (policy.ndim == 3 and len(policy) < steps):
        raise ConfigError(f"the policy must be ({mdp.states}, {mdp.actions}), for each of {steps} steps or all")
    draw = np.random.default_rng(seed)
    starts_S = np.where(mdp.ends_S, 0.0, mdp.initial_S)
    if not starts_S.sum():
        raise DataError("every episode starts where it ends: there is nothing to demonstrate")
    rows = sparse.csr_array(mdp.rows)
    policies = np.broadcast_to(policy, (steps, mdp.states, mdp.actions)) if policy.ndim == 2 else policy
    found = []
    for _ in range(count):
        states, actions = [int(draw.choice(mdp.states, p=starts_S / starts_S.sum()))], []
        while len(actions) < steps and not mdp.ends_S[states[-1]]:
            chances_A = policies[len(actions)][states[-1]]
            actions.append(int(draw.choice(mdp.actions, p=chances_A / chances_A.sum())))
            row = states[-1] * mdp.actions + actions[-1]
            span = slice(rows.indptr[row], rows.indptr[row + 1])
            chances_K = rows.data[span]
            states.append(int(draw.choice(rows.indices[span], p=chances_K / chances_K.sum())))
        ended = bool(mdp.ends_S[states[-1]])
        earned_T = None if rewards_SA is None else rewards_SA[states[:-1], actions]
        found.append(
            Trajectory(
                states_T1=np.array(states),
                actions_T=np.array(actions),
                rewards_T=earned_T,
                terminated=ended,
                truncated=not ended,
            )
        )
    return found
