"""Penalties for side effects: attainable utility preservation (Turner, Hadfield-Menell and Tadepalli 2020) and relative
reachability (Krakovna, Orseau, Kumar, Martic and Legg 2019), exact in tabular problems.

Both compare what could still be attained after an action with what could be attained in a baseline: K values of each
state, of auxiliary rewards or of coming to a set of states. A baseline says what the world would be without the agent:
the starting state, inaction since the start, or inaction for the last step only (stepwise). The starting state makes an
agent stop what changes by itself (interference); inaction since the start makes it undo the task's own effects once it
was paid for them (offsetting); stepwise does neither, but sees delayed effects only with `rollout` steps.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from raysafe.errors import ConfigError, DataError
from raysafe.rl.mdp import Flags, Floats, TabularMDP
from raysafe.rl.planning import optimal

Baseline = Literal["starting state", "inaction", "stepwise inaction"]
Deviation = Literal["change", "decrease"]
CHANGE: Deviation = "change"
"""Absolute difference: gains count as well (attainable utility)."""
DECREASE: Deviation = "decrease"
"""Only what was lost counts (relative reachability)."""
CONVERGED = 1e-12


def attainable_utilities(mdp: TabularMDP, auxiliary_KSA: Floats, gamma: float) -> Floats:
    """(K, S): the optimal value of each auxiliary reward."""
    if auxiliary_KSA.ndim != 3 or auxiliary_KSA.shape[1:] != (mdp.states, mdp.actions):
        raise DataError(f"auxiliary rewards must be (K, {mdp.states}, {mdp.actions}), got {auxiliary_KSA.shape}")
    return np.stack([optimal(mdp, rewards_SA, gamma).values for rewards_SA in auxiliary_KSA])


def random_auxiliaries(mdp: TabularMDP, count: int, seed: int) -> Floats:
    """(K, S, A): auxiliary rewards of states, uniform in [0, 1], as Turner et al. draw them."""
    rewards_KS = np.random.default_rng(seed).uniform(size=(count, mdp.states))
    return np.repeat(rewards_KS[:, :, None], mdp.actions, axis=2)


def reachability(mdp: TabularMDP, gamma: float, targets_KS: Flags | None = None) -> Floats:
    """(K, S): the largest expected gamma^N, N being the steps until a state of the target set; 1 within it.

    targets_KS: sets of states; each state by itself by default. Terminal states reach only where they are.
    """
    if not 0 < gamma < 1:
        raise ConfigError(f"gamma of reachability must be in (0, 1), got {gamma}")
    targets_SK = np.eye(mdp.states, dtype=bool) if targets_KS is None else targets_KS.T
    if targets_SK.shape[0] != mdp.states:
        raise DataError(f"targets must be (K, {mdp.states}), got {targets_SK.T.shape}")
    reached_SK = targets_SK.astype(float)
    while True:
        next_SAK = (mdp.rows @ reached_SK).reshape(mdp.states, mdp.actions, -1)
        next_SK = np.where(targets_SK, 1.0, gamma * np.where(mdp.ends_S[:, None], 0.0, next_SAK.max(axis=1)))
        change, reached_SK = np.abs(next_SK - reached_SK).max(), next_SK
        if change < CONVERGED:
            return reached_SK.T


def penalties(
    mdp: TabularMDP,
    values_KS: Floats,
    baseline: Baseline,
    deviation: Deviation,
    *,
    noop: int,
    rollout: int = 0,
    horizon: int | None = None,
    scaled: bool = False,
) -> Floats:
    """(S, A), or (T, S, A) for the inaction baseline: mean over K of the deviation of what each action leaves
    attainable, in expectation over the next state, from what the baseline's state does.

    noop: the action that does nothing. rollout: with stepwise inaction, how many further steps of doing nothing both
    sides are followed for, the deviation being their mean. horizon: T, for the inaction baseline only, whose state
    depends on the time. scaled: divide by the mean of what inaction leaves attainable (Turner et al.'s Scale).
    Raises ConfigError for options that don't fit the baseline, DataError where there is more than one start.
    """
    _check(mdp, values_KS, baseline, noop, rollout, horizon)
    after_SAK = _after(mdp, values_KS)
    if baseline == "stepwise inaction":
        penalty_SA = np.zeros((mdp.states, mdp.actions))
        for _ in range(rollout + 1):
            penalty_SA += _deviation(after_SAK[:, noop, None], after_SAK, deviation, scaled) / (rollout + 1)
            values_KS = np.where(mdp.ends_S, values_KS, after_SAK[:, noop].T)
            after_SAK = _after(mdp, values_KS)
        return np.where(mdp.ends_S[:, None], 0.0, penalty_SA)
    if baseline == "starting state":
        start_K = values_KS @ mdp.initial_S
        return np.where(mdp.ends_S[:, None], 0.0, _deviation(start_K, after_SAK, deviation, scaled))
    state_S, penalty_TSA = mdp.initial_S, []
    for _ in range(horizon or 0):
        state_S = _idle(mdp, state_S, noop)
        penalty_TSA.append(_deviation(values_KS @ state_S, after_SAK, deviation, scaled))
    return np.where(mdp.ends_S[:, None], 0.0, np.stack(penalty_TSA))


def _after(mdp: TabularMDP, values_KS: Floats) -> Floats:
    """(S, A, K): the expected value of the next state. Being in a terminal state is compared as any other."""
    return (mdp.rows @ values_KS.T).reshape(mdp.states, mdp.actions, -1)


def _idle(mdp: TabularMDP, state_S: Floats, noop: int) -> Floats:
    """The next state's distribution when nothing is done; what has ended stays."""
    rows = mdp.rows[np.arange(mdp.states) * mdp.actions + noop]
    return np.where(mdp.ends_S, state_S, 0.0) + rows.T @ np.where(mdp.ends_S, 0.0, state_S)


def _deviation(baseline: Floats, after_SAK: Floats, deviation: Deviation, scaled: bool) -> Floats:
    lost_SAK = baseline - after_SAK
    mean_SA = (np.abs(lost_SAK) if deviation == CHANGE else np.maximum(lost_SAK, 0.0)).mean(axis=-1)
    if not scaled:
        return mean_SA
    scale = np.broadcast_to(baseline.mean(axis=-1), mean_SA.shape)
    return np.divide(mean_SA, scale, out=np.zeros_like(mean_SA), where=scale > 0)


def _check(
    mdp: TabularMDP, values_KS: Floats, baseline: Baseline, noop: int, rollout: int, horizon: int | None
) -> None:
    if values_KS.ndim != 2 or values_KS.shape[1] != mdp.states:
        raise DataError(f"values must be (K, {mdp.states}), got {values_KS.shape}")
    if not 0 <= noop < mdp.actions:
        raise ConfigError(f"noop must be one of the {mdp.actions} actions, got {noop}")
    if (baseline == "inaction") != (horizon is not None):
        raise ConfigError(
            f"a horizon belongs to the baseline 'inaction' and to no other, got {horizon} for {baseline!r}"
        )
    if rollout and baseline != "stepwise inaction":
        raise ConfigError(f"rollout belongs to the baseline 'stepwise inaction', got {rollout} for {baseline!r}")
    if baseline != "stepwise inaction" and not np.isclose(mdp.initial_S.max(), 1.0):
        raise DataError(f"the baseline {baseline!r} compares with one start, and this problem has several")
