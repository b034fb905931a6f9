"""Stable-Baselines3's side of the bench, run by an interpreter that has it: `rl_peer.py ppo|dqn SEED` prints JSON.

Settings are those that its own zoo of tuned hyperparameters gives for CartPole-v1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

import gymnasium as gym
import numpy as np
import psutil
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

TARGET, EVERY, EPISODES, SEED_OF_EVALUATIONS = 475.0, 2048, 20, 10_000


class Reached(Exception):
    """The target was reached."""


class Judge(BaseCallback):
    """Evaluates between rounds, every so many steps; its own CPU seconds count for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.due, self.aside_s, self.last = EVERY, 0.0, 0.0
        self.process = psutil.Process()
        self.envs = gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * EPISODES)

    def cpu_s(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system

    def _on_training_start(self) -> None:
        self.started_s = self.cpu_s()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps < self.due:
            return
        self.due += EVERY
        before = self.cpu_s()
        self.last = self.evaluate()
        self.aside_s += self.cpu_s() - before
        if self.last >= TARGET:
            raise Reached

    def evaluate(self) -> float:
        obs_ND, _ = self.envs.reset(seed=SEED_OF_EVALUATIONS)
        returns_N, going_N = np.zeros(EPISODES), np.ones(EPISODES, dtype=bool)
        while going_N.any():
            actions_N, _ = self.model.predict(obs_ND, deterministic=True)
            obs_ND, rewards_N, terminated_N, truncated_N, _ = self.envs.step(actions_N)
            returns_N += np.where(going_N, rewards_N, 0.0)
            going_N &= ~(terminated_N | truncated_N)
        return float(returns_N.mean())


def falling(start: float) -> Callable[[float], float]:
    return lambda left: left * start


def make(algorithm: str, seed: int) -> tuple[PPO | DQN, int]:
    """The model and the steps that its settings give it."""
    if algorithm == "ppo":
        settings = {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20}
        settings |= {"ent_coef": 0.0, "learning_rate": falling(0.001), "clip_range": falling(0.2)}
        env = make_vec_env("CartPole-v1", n_envs=8, seed=seed)
        return PPO("MlpPolicy", env, seed=seed, device="cpu", **settings), 100_000
    settings = {"learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1000}
    settings |= {"gamma": 0.99, "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128}
    settings |= {"exploration_fraction": 0.16, "exploration_final_eps": 0.04, "policy_kwargs": {"net_arch": [256, 256]}}
    env = make_vec_env("CartPole-v1", n_envs=1, seed=seed)
    return DQN("MlpPolicy", env, seed=seed, device="cpu", **settings), 50_000


def main(algorithm: str, seed: int) -> None:
    torch.set_num_threads(1)
    model, steps = make(algorithm, seed)
    judge = Judge()
    try:
        model.learn(steps, callback=judge)
        judge.last = judge.evaluate()
    except Reached:
        pass
    cpu_s = judge.cpu_s() - judge.started_s - judge.aside_s
    print(json.dumps({"return": judge.last, "steps": model.num_timesteps, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
