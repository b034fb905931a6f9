"""Agents that learn from comparisons against agents that see the true reward, and against a constant one.

`python -m tests.bench.learned_reward pendulum cartpole gridworld` trains three agents of each by PPO, the same settings
and steps for all: on the true reward, on one learned from 500 comparisons by a rater with Boltzmann's noise, and on 1
a step. What counts is the true return of the last policy, 0 being random and 1 the agent that saw the true reward.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from raysafe.rl.extension import Extension
from raysafe.rl.job import RLJob
from tests.bench.preference_tasks import grid

COMPARISONS = 500
Kind = Literal["true", "learned", "constant"]
PPO = {"batch_size": 2048, "minibatch_size": 256, "epochs": 8}
SETTINGS: dict[str, dict[str, Any]] = {
    "pendulum": {
        "env": "Pendulum-v1",
        "steps": 100_000,
        "ppo": {**PPO, "gamma": 0.9, "learning_rate": 2e-3},
        "learned_reward": {"rater": {"kind": "synthetic", "rationality": 1.0}},
    },
    "cartpole": {
        "env": "tests.bench.preference_tasks:CartPoleCost",
        "steps": 100_000,
        "ppo": {**PPO, "gamma": 0.97, "learning_rate": 2e-3},
        "learned_reward": {"rater": {"kind": "synthetic", "rationality": 3.0}},
    },
    "gridworld": {
        "env": "tests.bench.preference_tasks:ColourGrid",
        "steps": 24_000,
        "ppo": {**PPO, "batch_size": 1024, "gamma": 0.95, "learning_rate": 3e-3},
        "learned_reward": {
            "rater": {"kind": "synthetic", "rationality": 5.0},
            "fragment_length": 5,
            "pool": 5000,
            "first": 0.4,
            "rounds": 4,
            "until": 0.6,
            # a share of wrong answers would bound what a fragment's sum may say, and with it the best cell's reward
            "model": {"sees": "state", "label_smoothing": 0.0},
        },
    },
}


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
    true, _ = train(task, "true", seed, scale)
    learned, run = train(task, "learned", seed, scale)
    constant, _ = train(task, "constant", seed, scale)
    table_SA = run["table_SA"]
    distance = None if table_SA is None else epic_distance(table_SA, grid()[1], gamma=0.95)
    figures = {name: run["row"][f"learned_reward/{name}"] for name in ("comparisons", "held_out_accuracy")}
    return Outcome(
        task,
        random=random_return(task),
        true=true,
        learned=learned,
        constant=constant,
        comparisons=int(figures["comparisons"]),
        held_out_accuracy=figures["held_out_accuracy"],
        epic=distance,
    )


def train(task: str, kind: Kind, seed: int, scale: float = 1.0) -> tuple[float, dict[str, Any]]:
    """The last policy's true return, and what the run holds."""
    from raysafe.rl.preference_loop import reward_model_of, reward_table

    settings = {**SETTINGS[task], "seed": seed}
    settings["steps"] = int(settings["steps"] * scale)
    if kind != "learned":
        settings.pop("learned_reward")
    with tempfile.TemporaryDirectory(prefix="raysafe-bench-") as storage:
        settings |= {"storage": storage, "evaluation": {"every": settings["steps"], "episodes": 100, "frames": 0}}
        run = (ConstantJob if kind == "constant" else RLJob).parse(settings).run()
        row = run.metrics[-1]
        found: dict[str, Any] = {"row": row, "table_SA": None}
        if kind == "learned" and task == "gridworld":
            found["table_SA"] = reward_table(reward_model_of(run), np.eye(len(grid()[1]), dtype=np.float32))
        return float(row["evaluation/return"]), found


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


def epic_distance(a_SA: np.ndarray, b_SA: np.ndarray, *, gamma: float) -> float:
    """EPIC (Gleave et al. 2021, definitions 4.1 and 4.5) under uniform and independent states, actions and next states:
    sqrt((1 - rho) / 2) of the canonically shaped rewards, 0 for the same task and 1 for its opposite."""

    def canonical(rewards_SA: np.ndarray) -> np.ndarray:
        mean_S = rewards_SA.mean(axis=1)
        shaped_SAS = rewards_SA[:, :, None] + gamma * mean_S - mean_S[:, None, None] - gamma * mean_S.mean()
        return shaped_SAS.ravel()

    rho = np.corrcoef(canonical(a_SA), canonical(b_SA))[0, 1]
    return float(np.sqrt(max(0.0, 1 - rho) / 2))


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
    parser.add_argument("tasks", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes = [measure(task, arguments.seed) for task in arguments.tasks]
    print(table(outcomes))
    for outcome in outcomes:
        if outcome.epic is not None:
            print(f"EPIC distance of the {outcome.task}'s reward: {outcome.epic:.3f}")


if __name__ == "__main__":
    main()
