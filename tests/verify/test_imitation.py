"""Real expert demonstrations of CartPole: cloned and imitated to 450 of 500, and controls that don't get there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from raysafe.data.schema import to_json_lines
from raysafe.data.trajectories import Trajectory, to_table
from raysafe.data.trajectory_files import read_trajectories
from raysafe.runtime.run import Run
from tests.real_data import SHARED
from tests.verify.readme import publish
from tests.verify.shell import Shell

EXPERT = SHARED / "imitation_demos" / "cartpole_expert.npz"
WANTED, FAR_BELOW = 450, 150


def written(file: Path, trajectories: list[Trajectory]) -> str:
    rows = [{k: v for k, v in row.items() if v is not None} for row in to_table(trajectories).to_pylist()]
    file.write_text(to_json_lines(rows), encoding="utf-8")
    return str(file)


def shuffled(trajectories: list[Trajectory]) -> list[Trajectory]:
    """The expert's observations, with its actions in another order."""
    draw = np.random.default_rng(0)
    return [Trajectory(obs_T1D=one.obs_T1D, actions_T=draw.permutation(one.actions_T)) for one in trajectories]


def random(trajectories: list[Trajectory]) -> list[Trajectory]:
    """Demonstrations of somebody who acts at random: to imitate them well is to fall."""
    env, draw, found = gym.make("CartPole-v1"), np.random.default_rng(0), []
    for seed in range(200):
        seen, actions, over = [env.reset(seed=seed)[0]], [], False
        while not over:
            actions.append(int(draw.integers(2)))
            observation, _, terminated, truncated, _ = env.step(actions[-1])
            seen.append(observation)
            over = terminated or truncated
        found.append(Trajectory(obs_T1D=np.array(seen), actions_T=actions, terminated=True))
    return found


CONTROLS: dict[str, tuple[str, Callable[[list[Trajectory]], list[Trajectory]]]] = {
    "bc": ("the expert's actions shuffled", shuffled),
    "airl": ("demonstrations that act at random", random),
}


@pytest.mark.slow
@pytest.mark.skipif(not EXPERT.exists(), reason="the expert demonstrations are not beside the checkout")
def test_an_experts_demonstrations_are_imitated_and_controls_are_not(shell: Shell, tmp_path: Path) -> None:
    expert = read_trajectories(str(EXPERT)).trajectories
    rows = [["method", "demonstrations", "true return", "95% interval"]]
    for method, (control, change) in CONTROLS.items():
        files = {"the expert's": str(EXPERT), control: written(tmp_path / f"{method}.jsonl", change(expert))}
        for name, file in files.items():
            preset = f"jobs/presets/irl_{method}_cartpole.yaml"
            uri = shell.run(f"raysafe irl --config {preset} --demonstrations {file}", named=True, show=False)
            [found] = [item for item in Run.open(shell.folder / uri).evidence if item.metric == "true_return"]
            assert found.n == 100
            assert found.value >= WANTED if name == "the expert's" else found.value <= FAR_BELOW, (method, name)
            spread = f"{found.interval[0]:.0f} to {found.interval[1]:.0f}" if found.interval else "none varies"
            rows.append([method, name, f"{found.value:.0f}", spread])
    table = "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ["---"] * 4, *rows[1:]])
    shown = [one.rewards_T.sum() for one in expert if one.rewards_T is not None]
    publish(
        "imitation",
        f"{table}\n\n"
        f"CartPole-v1, 100 episodes that nothing was learned from; the expert's own {len(shown)} episodes bring "
        f"{np.mean(shown):.0f}. The environment's reward is\nseen by neither method.",
    )
