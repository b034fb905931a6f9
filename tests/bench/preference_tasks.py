"""Environments where a constant reward is no good: what to do depends on the state, and all episodes last as long."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from raysafe.rl.mdp import TabularMDP


class CartPoleCost(CartPoleEnv):
    """CartPole from anywhere: leaning, off the middle and moving. Each step costs 1 - cos(angle) + (position / 2.4)^2.

    200 steps, whatever falls; the track has walls.
    """

    steps = 200

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        gym.Env.reset(self, seed=seed)
        wide = np.array([1.8, 0.5, 0.35, 0.5])
        self.state = self.np_random.uniform(-wide, wide)
        self.done_steps = 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        x, _, angle, _ = self._place
        reward = -(1 - np.cos(angle) + (x / 2.4) ** 2)
        self.steps_beyond_terminated = None
        super().step(int(action))
        x, speed, angle, turning = self._place
        if abs(x) > 2.4:
            x, speed = np.clip(x, -2.4, 2.4), 0.0
        self.state = np.array([x, speed, angle, np.clip(turning, -8, 8)])
        self.done_steps += 1
        return self._seen(), float(reward), False, self.done_steps >= self.steps, {}

    @property
    def _place(self) -> np.ndarray:
        return np.asarray(self.state, dtype=np.float64)

    def _seen(self) -> np.ndarray:
        x, speed, angle, turning = self._place
        return np.array([x, speed, np.cos(angle), np.sin(angle), turning], dtype=np.float32)


ROWS = (
    "......G",
    ".##....",
    "...T...",
    ".T...#.",
    "...#...",
    "T......",
    "..T...g",
)
"""G: 1 a step, g: 0.4, T: -1, all others -0.05; one starts anywhere."""
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1), (0, 0))
WORTH = {"G": 1.0, "g": 0.4, "T": -1.0, ".": -0.05}
SLIP = 0.1


def cells() -> list[tuple[int, int]]:
    """Free ones, in the order of the states."""
    return [(r, c) for r, row in enumerate(ROWS) for c, kind in enumerate(row) if kind != "#"]


def grid() -> tuple[TabularMDP, np.ndarray]:
    """The gridworld as a table, and its reward (S, A), which the cell earns that one is in."""
    places = cells()
    number = {place: state for state, place in enumerate(places)}
    states, actions = len(places), len(MOVES)
    transitions_SAS = np.zeros((states, actions, states))
    for state, (row, column) in enumerate(places):
        ends = [number.get((row + dr, column + dc), state) for dr, dc in MOVES]
        for action in range(actions):
            transitions_SAS[state, action, ends[action]] += 1 - SLIP
            for end in ends:
                transitions_SAS[state, action, end] += SLIP / actions
    worth_S = np.array([WORTH[ROWS[row][column]] for row, column in places])
    return TabularMDP(transitions_SAS, np.full(states, 1 / states)), np.repeat(worth_S[:, None], actions, axis=1)


class ColourGrid(gym.Env):
    """The gridworld of `grid`, seen one-hot; 50 steps."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 4}
    steps = 50

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        mdp, self.rewards_SA = grid()
        self.ends_SAS = np.asarray(mdp.transitions).cumsum(axis=2)
        self.observation_space = gym.spaces.Box(0, 1, (mdp.states,), np.float32)
        self.action_space = gym.spaces.Discrete(mdp.actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place, self.done_steps = int(self.np_random.integers(len(self.rewards_SA))), 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(self.rewards_SA[self.place, action])
        ends_S = self.ends_SAS[self.place, action]
        self.place = min(int(np.searchsorted(ends_S, self.np_random.random(), side="right")), len(ends_S) - 1)
        self.done_steps += 1
        return self._seen(), reward, False, self.done_steps >= self.steps, {}

    def render(self) -> str:
        row, column = cells()[self.place]
        lines = [list(line) for line in ROWS]
        lines[row][column] = "A"
        return "\n".join(map("".join, lines))

    def _seen(self) -> np.ndarray:
        return np.eye(len(self.rewards_SA), dtype=np.float32)[self.place]
