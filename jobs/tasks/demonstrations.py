"""Demonstrations in one of RaySafe's gridworlds, by a demonstrator who is more or less rational.

    python -m jobs.tasks.demonstrations raysafe/SideEffects-v0 demonstrations.jsonl --beta 5

Actions have probability proportional to exp(beta q*); states are numbered as `raysafe irl` numbers them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from raysafe.data.schema import to_json_lines
from raysafe.data.trajectories import to_table
from raysafe.errors import RaySafeError
from raysafe.irl.demonstrators import demonstrate
from raysafe.irl.problem import gridworld
from raysafe.irl.rationality import boltzmann_policy


def write(env: str, file: Path, *, count: int, beta: float, gamma: float, steps: int, seed: int) -> None:
    """JSON Lines of `count` trajectories; raises RaySafeError for an environment that is no gridworld."""
    problem = gridworld(env, {})
    assert problem.rewards_SA is not None
    policy_SA = boltzmann_policy(problem.mdp, problem.rewards_SA, gamma, beta)
    shown = demonstrate(problem.mdp, policy_SA, count, steps=steps, seed=seed, rewards_SA=problem.rewards_SA)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(to_json_lines(_plain(to_table(shown).to_pylist())), encoding="utf-8")


def _plain(rows: list[dict]) -> list[dict]:
    """Rows without the fields that say nothing."""
    return [{name: value for name, value in row.items() if value is not None and name != "row"} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", help="raysafe/…-v0")
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=20, help="trajectories (20)")
    parser.add_argument("--beta", type=float, default=5.0, help="rationality (5)")
    parser.add_argument("--gamma", type=float, default=0.95, help="the demonstrator's discount (0.95)")
    parser.add_argument("--steps", type=int, default=50, help="most steps of a trajectory (50)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        write(
            given.env,
            given.file,
            count=given.count,
            beta=given.beta,
            gamma=given.gamma,
            steps=given.steps,
            seed=given.seed,
        )
    except RaySafeError as error:
        parser.error(str(error))
    print(f"{given.file}: {given.count} demonstrations in {given.env}")


if __name__ == "__main__":
    main()
