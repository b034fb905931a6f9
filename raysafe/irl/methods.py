"""The ways to learn a reward in a table, each as a function of the job: what `raysafe irl` runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from raysafe.data.trajectories import Trajectory
from raysafe.irl.behavioural_cloning import clone_tabular
from raysafe.irl.problem import TabularProblem
from raysafe.irl.reward import Reward
from raysafe.rl.mdp import Floats

if TYPE_CHECKING:
    from raysafe.irl.job import IRLJob
    from raysafe.runtime.run import Run


@dataclass(frozen=True)
class Learned:
    """A reward, or none where actions alone were learned; the demonstrator's policy (S, A) or (T, S, A) as it explains
    them; figures of the fit."""

    reward: Reward | None
    policy: Floats
    figures: dict[str, float]


def max_ent(job: IRLJob, run: Run, problem: TabularProblem, train: Sequence[Trajectory]) -> Learned:
    from raysafe.irl.maxent import MaxEntIRL

    model = MaxEntIRL(problem.mdp, problem.features.array, job.discount, job.horizon, job.maxent)
    reward = model.fit(train)
    found = model.report
    if not found.converged:
        run.event("doubt", why=str(found))
    figures = {"objective": found.objective, "gap": found.gap, "converged": float(found.converged)}
    return Learned(reward, model.policy(), figures)


def deep_max_ent(job: IRLJob, run: Run, problem: TabularProblem, train: Sequence[Trajectory]) -> Learned:
    from raysafe.irl.deep_maxent import DeepMaxEntIRL
    from raysafe.irl.settings import DeepMaxEntSettings

    array = problem.features.array
    features = array.toarray() if isinstance(array, sparse.csr_array) else array
    if problem.features.sparse and problem.features.of_actions:
        features = features.reshape(problem.mdp.states, problem.mdp.actions, -1)
    settings = job.deep_maxent or DeepMaxEntSettings(seed=job.seed)
    model = DeepMaxEntIRL(problem.mdp, features, job.discount, job.horizon, settings)
    reward = model.fit(train)
    return Learned(reward, model.policy(), {"objective": model.report.objective, "gap": model.report.gap})


def bayesian(job: IRLJob, run: Run, problem: TabularProblem, train: Sequence[Trajectory]) -> Learned:
    from raysafe.irl.bayesian import BayesianConfig, BayesianIRL
    from raysafe.irl.rationality import boltzmann_policy

    settings = job.bayesian or BayesianConfig(seed=job.seed)
    model = BayesianIRL(problem.mdp, problem.features.array, job.discount, job.horizon, settings)
    reward = model.fit(train, folder=run.folder, address=job.address)
    for doubt in model.posterior.doubts:
        run.event("doubt", why=doubt)
    diagnoses = model.posterior.diagnoses.values()
    figures = {
        "r_hat": max(one.r_hat for one in diagnoses),
        "ess": min(min(one.ess_bulk, one.ess_tail) for one in diagnoses),
    }
    policy_SA = boltzmann_policy(problem.mdp, reward.table_SA(), job.discount, settings.beta)
    return Learned(reward, policy_SA, figures)


def cloning(job: IRLJob, run: Run, problem: TabularProblem, train: Sequence[Trajectory]) -> Learned:
    from raysafe.irl.behavioural_cloning import split

    # of what is left to learn from, a part chooses the pseudo-count
    fitted, held = split(train, 0.2, job.seed) if len(train) > 1 else (list(train), [])
    found = clone_tabular(fitted, problem.mdp.states, problem.mdp.actions, held)
    return Learned(None, found.policy_SA, {"pseudo_count": found.pseudo_count})


TABULAR: dict[str, Callable[[IRLJob, Run, TabularProblem, Sequence[Trajectory]], Learned]] = {
    "maxent": max_ent,
    "deep-maxent": deep_max_ent,
    "bayesian": bayesian,
    "bc": cloning,
}


def held_out_likelihood(policy: Floats, trajectories: Sequence[Trajectory]) -> tuple[float, int]:
    """The mean log-probability of a step's action in nats, and how many steps there were."""
    values = []
    for one in trajectories:
        assert one.states_T1 is not None
        states_T = one.states_T1[:-1]
        rows = (
            policy[states_T, one.actions_T]
            if policy.ndim == 2
            else policy[np.arange(len(one)), states_T, one.actions_T]
        )
        values.append(np.log(np.maximum(rows, np.finfo(float).tiny)))
    steps = np.concatenate(values)
    return float(steps.mean()), len(steps)
