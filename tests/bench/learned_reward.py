"""Agents that learn from comparisons against agents that see the true reward, and against a constant one.

`python -m tests.bench.learned_reward pendulum cartpole gridworld planned` makes three agents for each, by the same
settings and steps: on the true reward, on one learned from 500 comparisons by a rater with Boltzmann's noise, and on 1
a step. PPO trains them; in `planned`, the gridworld as a table, they plan exactly. What counts is the last policy's
true return, 0 being random and 1 the agent that saw the true reward.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from raysafe.data.comparisons import Comparison
from raysafe.data.trajectories import Trajectory
from raysafe.irl.epic import epic
from raysafe.rl.checkpoint import complete_steps, read
from raysafe.rl.extension import Extension
from raysafe.rl.fragments import random_pairs
from raysafe.rl.job import RLJob
from raysafe.rl.planning import evaluate, optimal
from raysafe.rl.preference_model import PreferenceModel
from raysafe.rl.raters import SyntheticRater
from raysafe.rl.tabular_preferences import TabularPreferenceConfig, learn_table, walk, with_rewards
from raysafe.rl.transitions import TransitionShape
from raysafe.runtime.run import Run
from tests.bench.preference_tasks import grid

COMPARISONS = 500
GRIDWORLD, PLANNED, GAMMA = "gridworld", "planned", 0.95
Kind = Literal["true", "learned", "constant"]
PPO = {"batch_size": 2048, "minibatch_size": 256, "epochs": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "pendulum": {
        "env": "Pendulum-v1",
        "steps": 150_000,
        "ppo": {**PPO, "gamma": 0.9, "learning_rate": 2e-3},
        # a rate that falls leaves little to learn by from what is asked late
        "learned_reward": {"rater": {"kind": "synthetic", "rationality": 1.0}, "until": 0.3},
    },
    "cartpole": {
        "env": "tests.bench.preference_tasks:CartPoleCost",
        "steps": 100_000,
        "ppo": {**PPO, "gamma": 0.97, "learning_rate": 2e-3},
        "learned_reward": {"rater": {"kind": "synthetic", "rationality": 3.0}},
    },
    GRIDWORLD: {
        "env": "tests.bench.preference_tasks:ColourGrid",
        "steps": 100_000,
        "ppo": {**PPO, "gamma": GAMMA, "learning_rate": 2e-3},
        # as the table has it, a reward of the state; questions that cover what was seen, and most of the training after
        "learned_reward": {
            "rater": {"kind": "synthetic", "rationality": 3.0},
            "fragment_length": 5,
            "pool": 20_000,
            "until": 0.3,
            "model": {"sees": "state", "members": 5, "bootstrap": False},
            "queries": {"choice": "random"},
        },
    },
}
TASKS = (*SETTINGS, PLANNED)


@dataclass(frozen=True)
class Outcome:
    """Mean returns of 100 episodes, and what was learned."""

    task: str
    random: float
    true: float
    learned: float
    constant: float
    comparisons: int
    held_out_accuracy: float
    epic: float | None

    def share(self, value: float) -> float:
        return (value - self.random) / (self.true - self.random)


class ConstantJob(RLJob):
    """The same training with 1 as the reward of every step."""

    @property
    def extensions(self) -> list[Extension]:
        return [_Constant()]


class _Constant(Extension):
    def apply(self, config: Any) -> None:
        from raysafe.rl.extension import add_learner_connector
        from raysafe.rl.reward_connector import Actions, RewardConnector

        env = config.env_config["maker"].make()
        actions = Actions(env.action_space, normalised=True, clipped=False)
        seen = env.observation_space
        add_learner_connector(config, lambda *_: RewardConnector(seen, actions, lambda obs, *_: np.ones(len(obs))))


def measure(task: str, seed: int = 0, scale: float = 1.0) -> Outcome:
    """Train the three; scale: of the steps."""
    if task == PLANNED:
        return plan(seed)
    true, _, _ = train(task, "true", seed, scale)
    learned, row, distance = train(task, "learned", seed, scale)
    constant, _, _ = train(task, "constant", seed, scale)
    return Outcome(
        task,
        random=random_return(task),
        true=true,
        learned=learned,
        constant=constant,
        comparisons=int(row["learned_reward/comparisons"]),
        held_out_accuracy=row["learned_reward/held_out_accuracy"],
        epic=distance,
    )


def plan(seed: int) -> Outcome:
    """In the gridworld agents plan exactly, and returns are exact too."""
    mdp, true_SA = grid()
    rater = SyntheticRater(rationality=3.0)

    def ask(pairs: Sequence[tuple[Trajectory, Trajectory]], draw: np.random.Generator) -> list[Comparison]:
        return rater.compare([(with_rewards(a, true_SA), with_rewards(b, true_SA)) for a, b in pairs], draw)

    config = TabularPreferenceConfig(comparisons=COMPARISONS)
    table_SA, asked = learn_table(mdp, ask, config, gamma=GAMMA, seed=seed)

    def worth(policy_SA: np.ndarray) -> float:
        return float(mdp.initial_S @ evaluate(mdp, policy_SA, true_SA, GAMMA))

    def planned(rewards_SA: np.ndarray) -> float:
        return worth(optimal(mdp, rewards_SA, GAMMA).policy)

    # comparisons that nobody learned from: of walks by random actions
    draw = np.random.default_rng(seed + 1)
    uniform_SA = np.full(true_SA.shape, 1 / mdp.actions)
    fresh = random_pairs([walk(mdp, uniform_SA, config.fragment_length, draw) for _ in range(200)], 500, draw)
    returns_N2 = np.array([[rater.return_of(with_rewards(side, table_SA)) for side in pair] for pair in fresh])
    answers_N = np.array([found.preference for found in ask(fresh, draw)])
    right = float(((returns_N2[:, 0] > returns_N2[:, 1]) == (answers_N > 0.5)).mean())
    return Outcome(
        PLANNED,
        random=worth(uniform_SA),
        true=planned(true_SA),
        learned=planned(table_SA),
        constant=planned(np.ones(true_SA.shape)),
        comparisons=len(asked),
        held_out_accuracy=right,
        epic=epic(table_SA, true_SA, GAMMA),
    )


def train(task: str, kind: Kind, seed: int, scale: float = 1.0) -> tuple[float, dict[str, float], float | None]:
    """The last policy's true return, the last row of its metrics, and a gridworld's reward's EPIC distance."""
    settings = {**SETTINGS[task], "seed": seed}
    settings["steps"] = int(settings["steps"] * scale)
    if kind != "learned":
        settings.pop("learned_reward")
    with tempfile.TemporaryDirectory(prefix="raysafe-bench-") as storage:
        settings |= {"storage": storage, "evaluation": {"every": settings["steps"], "episodes": 100, "frames": 0}}
        job = (ConstantJob if kind == "constant" else RLJob).parse(settings)
        run = job.run()
        row = run.metrics[-1]
        distance = distance_on_grid(job, run) if (task, kind) == (GRIDWORLD, "learned") else None
        return float(row["evaluation/return"]), row, distance


def distance_on_grid(job: RLJob, run: Run) -> float:
    """EPIC distance of the reward in a run's last checkpoint to the true one."""
    assert job.learned_reward is not None
    _, state = read(run, complete_steps(run)[-1])
    (kept,) = state["extensions"]
    shape = TransitionShape.parse(kept["shape"])
    model = PreferenceModel(job.learned_reward.model, shape)
    model.set_state(kept["model"])
    _, true_SA = grid()
    states, actions = true_SA.shape
    obs_SD = np.eye(states, dtype=np.float32)
    columns = [model.rewards(shape.encode(obs_SD, np.full(states, action), obs_SD)) for action in range(actions)]
    return epic(np.stack(columns, axis=1), true_SA, GAMMA)


def random_return(task: str, episodes: int = 200) -> float:
    """Mean return of random actions."""
    from raysafe.rl.environment import EnvMaker

    envs = EnvMaker(SETTINGS[task]["env"]).make_vec(episodes)
    envs.action_space.seed(1)
    envs.reset(seed=1)
    returns_N, going_N = np.zeros(episodes), np.ones(episodes, dtype=bool)
    while going_N.any():
        _, rewards_N, terminated_N, truncated_N, _ = envs.step(envs.action_space.sample())
        returns_N += np.where(going_N, rewards_N, 0.0)
        going_N &= ~(terminated_N | truncated_N)
    return float(returns_N.mean())


def table(outcomes: list[Outcome]) -> str:
    """As Markdown."""
    lines = [
        "| task | random | true reward | 500 comparisons | constant | share, learned | share, constant | held out |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for o in outcomes:
        returns = " | ".join(f"{value:.1f}" for value in (o.random, o.true, o.learned, o.constant))
        shares = " | ".join(f"{o.share(value):.2f}" for value in (o.learned, o.constant))
        lines.append(f"| {o.task} | {returns} | {shares} | {o.held_out_accuracy:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes = [measure(task, arguments.seed) for task in arguments.tasks]
    print(table(outcomes))
    for outcome in outcomes:
        if outcome.epic is not None:
            print(f"EPIC distance of the {outcome.task}'s reward: {outcome.epic:.3f}")


if __name__ == "__main__":
    main()
