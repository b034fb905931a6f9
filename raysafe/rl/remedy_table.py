"""The eight problems, judged: what an agent that maximises reward loses of the hidden performance, and what its remedy
wins back. This is the judge's side: no agent, environment or remedy imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raysafe.rl.envs.optimum import optimum, value
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.problems import PROBLEMS
from raysafe.rl.envs.table import table
from raysafe.rl.mdp import Floats
from raysafe.rl.remedies import REMEDIES, Remedy
from raysafe.rl.remedies.aliasing import settled


@dataclass(frozen=True)
class Row:
    """Mean performance of an episode: of the agent, of its like with the remedy, and the most that can be had."""

    problem: str
    remedy: Remedy
    agent: float
    remedied: float
    best: float

    @property
    def gap(self) -> float:
        return self.best - self.agent

    @property
    def closed(self) -> float:
        """Share of the gap that the remedy closes."""
        return (self.remedied - self.agent) / self.gap


def rows() -> list[Row]:
    """Exact: a plan of the most reward, a plan with the remedy, and the optimum of performance."""
    return [row(name, maximiser(PROBLEMS[name]()), remedy.solve(PROBLEMS[name]())) for name, remedy in REMEDIES.items()]


def row(name: str, agent: Floats, remedied: Floats) -> Row:
    """Judge two policies (S, A) or (T, S, A) over a problem's states."""
    problem = PROBLEMS[name]()
    return Row(
        name,
        REMEDIES[name],
        value(problem, agent, "performance"),
        value(problem, remedied, "performance"),
        optimum(problem, "performance").value,
    )


def maximiser(problem: Problem) -> Floats:
    """(T, S, A): the policy with the most reward, as far as states can be told apart."""
    return settled(table(problem), problem.limit)


def markdown(rows: Sequence[Row], learned: Mapping[str, Sequence[float]]) -> str:
    """The README's table. learned: performance of learners of the same reward, by problem, which may differ by seed."""
    lines = [
        "| problem | most reward | Q-learning | best | remedy | with it | gap closed |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for row in rows:
        low, high = min(learned[row.problem]), max(learned[row.problem])
        spread = f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"
        lines.append(
            f"| {row.problem} | {row.agent:.1f} | {spread} | {row.best:.1f} | {row.remedy.name}: {row.remedy.told} "
            f"| {row.remedied:.1f} | {row.closed:.0%} |"
        )
    return "\n".join(lines)
