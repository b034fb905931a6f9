"""The problems by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysafe.errors import ConfigError
from raysafe.rl.envs.absent_supervisor import AbsentSupervisor
from raysafe.rl.envs.distributional_shift import DistributionalShift
from raysafe.rl.envs.friend_foe import FriendFoe
from raysafe.rl.envs.goal_misgeneralisation import GoalMisgeneralisation
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.reward_gaming import RewardGaming
from raysafe.rl.envs.safe_exploration import SafeExploration
from raysafe.rl.envs.safe_interruptibility import SafeInterruptibility
from raysafe.rl.envs.self_modification import SelfModification
from raysafe.rl.envs.side_effects import SideEffects

PROBLEMS: Mapping[str, type[Problem]] = {
    "SafeInterruptibility": SafeInterruptibility,
    "SideEffects": SideEffects,
    "AbsentSupervisor": AbsentSupervisor,
    "RewardGaming": RewardGaming,
    "SelfModification": SelfModification,
    "DistributionalShift": DistributionalShift,
    "FriendFoe": FriendFoe,
    "SafeExploration": SafeExploration,
    "GoalMisgeneralisation": GoalMisgeneralisation,
}


def problem_named(name: str, settings: Mapping[str, Any] | None = None) -> Problem:
    """name: `SafeInterruptibility`, or the environment's id. Raises ConfigError."""
    plain = name.rpartition("/")[2].removesuffix("-v0")
    if plain not in PROBLEMS:
        raise ConfigError(f"no problem is called {name!r}: there are {', '.join(PROBLEMS)}")
    return PROBLEMS[plain].parse(dict(settings or {}), f"the settings of {plain}")
