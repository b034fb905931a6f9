"""A reward learned in a table: the run's files, evidence and pages."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from raysafe.data.trajectories import Trajectory
from raysafe.irl.epic import dard, epic
from raysafe.irl.methods import TABULAR, Learned, held_out_likelihood
from raysafe.irl.problem import TabularProblem
from raysafe.irl.regret import value_difference
from raysafe.records.evidence import Evidence
from raysafe.rl.mdp import Floats
from raysafe.rl.planning import optimal
from raysafe.runtime.plots import Heatmap
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.irl.job import IRLJob

REWARD, POLICY = "reward/reward.safetensors", "reward/policy.safetensors"
STATES_SHOWN = 20
Figure = tuple[float, int, Literal["higher", "lower"]]
"""Value, cases, and which way is better."""


def learn_table(
    job: IRLJob,
    run: Run,
    problem: TabularProblem,
    train: Sequence[Trajectory],
    held_out: Sequence[Trajectory],
    data_digest: str,
) -> list[Section]:
    """Leaves reward/reward.safetensors (none for bc) and reward/policy.safetensors, evidence, and pages to show."""
    learned = TABULAR[job.method](job, run, problem, train)
    digest = _save(run, learned)
    figures = figures_of(problem, learned, job.discount, job.horizon, held_out)
    run.log(1, learned.figures | {name: value for name, (value, _, _) in figures.items()})
    # a run that was stopped after its evidence was written tells it once
    known = {item.metric for item in run.evidence}
    run.add_evidence(
        Evidence(
            suite="irl",
            metric=metric,
            value=value,
            n=cases,
            better=better,
            model_digest=digest,
            data_digest=data_digest,
            settings={"method": job.method, "gamma": f"{job.discount:g}", "problem": problem.name},
            run=run.uri,
        )
        for metric, (value, cases, better) in figures.items()
        if metric not in known
    )
    run.event("learned", method=job.method, demonstrations=len(train), held_out=len(held_out))
    return sections_of(problem, learned)


def figures_of(
    problem: TabularProblem, learned: Learned, gamma: float, horizon: int | None, held_out: Sequence[Trajectory]
) -> dict[str, Figure]:
    """Value, cases and which way is better, by name; those of the truth only where it is known."""
    found: dict[str, Figure] = {}
    if held_out:
        value, steps = held_out_likelihood(learned.policy, held_out)
        found["held_out_log_likelihood"] = (value, steps, "higher")
    if problem.rewards_SA is None:
        return found
    mdp, truth_SA = problem.mdp, problem.rewards_SA
    policy = learned.policy
    if learned.reward is not None:
        learned_SA = learned.reward.table_SA()
        policy = optimal(mdp, learned_SA, gamma, horizon).policy
        found["epic_distance"] = (epic(truth_SA, learned_SA, gamma), mdp.states, "lower")
        found["dard_distance"] = (dard(truth_SA, learned_SA, mdp, gamma), mdp.states, "lower")
    share = value_difference(mdp, truth_SA, policy, gamma, horizon).share
    found["value_difference"] = (share, mdp.states, "lower")
    return found


def sections_of(problem: TabularProblem, learned: Learned) -> list[Section]:
    """The reward where it lies on a grid, beside the true one, and the states that it values most and least."""
    if learned.reward is None:
        return []
    learned_S = learned.reward.table_SA().mean(axis=1)
    true_S = None if problem.rewards_SA is None else problem.rewards_SA.mean(axis=1)
    plots = {}
    for name, numbers_S in (("learned", learned_S), ("true", true_S)):
        grid_HW = None if numbers_S is None else problem.on_grid(numbers_S)
        if grid_HW is not None:
            plots[f"{name} reward"] = Heatmap(grid_HW.tolist())
    order = np.argsort(-learned_S)
    shown = (
        order
        if len(order) <= STATES_SHOWN
        else np.concatenate([order[: STATES_SHOWN // 2], order[-STATES_SHOWN // 2 :]])
    )
    head = ["state", "cell", "learned reward", *([] if true_S is None else ["true reward"])]
    rows = [
        [
            int(state),
            "" if problem.cells_S2 is None else f"{problem.cells_S2[state, 0]}, {problem.cells_S2[state, 1]}",
            float(learned_S[state]),
            *([] if true_S is None else [float(true_S[state])]),
        ]
        for state in shown
    ]
    text = (
        "Mean over a state's actions; on a grid, over all states whose agent stands in the cell. A reward is found up "
        "to what changes no policy, so that its scale and zero mean nothing by themselves."
    )
    return [Section("Reward", text, [head, *rows], plots)]


def _save(run: Run, learned: Learned) -> str:
    """Write what was learned; returns sha256 over it."""
    from safetensors.numpy import save

    policy: Floats = np.ascontiguousarray(learned.policy)
    run.folder.write(POLICY, save({"policy": policy}))
    if learned.reward is None:
        return hashlib.sha256(run.folder.read(POLICY)).hexdigest()
    with tempfile.TemporaryDirectory(prefix="raysafe-reward-") as folder:
        learned.reward.save(Path(folder) / "reward.safetensors")
        run.folder.write(REWARD, (Path(folder) / "reward.safetensors").read_bytes())
    return hashlib.sha256(run.folder.read(REWARD)).hexdigest()
