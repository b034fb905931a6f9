"""Problems to learn rewards in: random ones, and grids."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.rl.mdp import Floats, TabularMDP


def random_mdp(seed: int, states: int = 5, actions: int = 3, terminal: bool = True) -> TabularMDP:
    """Dense; the last state is terminal where one is."""
    draw = np.random.default_rng(seed)
    transitions_SAS = draw.dirichlet(np.full(states, 0.5), (states, actions))
    ends_S = np.arange(states) == states - 1 if terminal else None
    initial_S = draw.dirichlet(np.ones(states)) * (1 if ends_S is None else ~ends_S)
    return TabularMDP(transitions_SAS, initial_S / initial_S.sum(), ends_S)


def sparse_of(mdp: TabularMDP) -> TabularMDP:
    return TabularMDP(sparse.csr_array(mdp.rows), mdp.initial_S, mdp.terminal_S)


def grid(side: int, slip: float = 0.3, start: int | None = None) -> TabularMDP:
    """Up, right, down, left on a square; with probability `slip` the direction is drawn anew. Walls hold one back.

    start: the first state; any, equally likely, where None. Sparse.
    """
    states = side * side
    row_S, column_S = np.divmod(np.arange(states), side)
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    next_SA = np.stack(
        [np.clip(row_S + r, 0, side - 1) * side + np.clip(column_S + c, 0, side - 1) for r, c in moves], axis=1
    )
    chances_AA = np.full((4, 4), slip / 4) + (1 - slip) * np.eye(4)
    rows_SAA = np.broadcast_to(np.arange(states * 4).reshape(states, 4, 1), (states, 4, 4))
    columns_SAA = np.broadcast_to(next_SA[:, None], (states, 4, 4))
    entries = (np.broadcast_to(chances_AA, (states, 4, 4)).ravel(), (rows_SAA.ravel(), columns_SAA.ravel()))
    initial_S = np.full(states, 1 / states) if start is None else np.eye(states)[start]
    return TabularMDP(sparse.csr_array(sparse.coo_array(entries, shape=(states * 4, states))), initial_S)


def walks(mdp: TabularMDP, policy: Floats, steps: int, number: int, seed: int) -> list[Trajectory]:
    """Walks of a policy, (S, A) or (T, S, A); shorter where one ends."""
    draw = np.random.default_rng(seed)
    rows, found = sparse.csr_array(mdp.rows), []
    policies = np.broadcast_to(policy, (steps, mdp.states, mdp.actions))
    for _ in range(number):
        states, actions = [int(draw.choice(mdp.states, p=mdp.initial_S))], []
        while len(actions) < steps and not mdp.ends_S[states[-1]]:
            actions.append(int(draw.choice(mdp.actions, p=policies[len(actions)][states[-1]])))
            row = states[-1] * mdp.actions + actions[-1]
            span = slice(rows.indptr[row], rows.indptr[row + 1])
            states.append(int(draw.choice(rows.indices[span], p=rows.data[span])))
        found.append(Trajectory(states_T1=np.array(states), actions_T=np.array(actions)))
    return found
