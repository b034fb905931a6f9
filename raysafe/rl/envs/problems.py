"""The problems by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysafe.errors import ConfigError
from raysafe.rl.envs.problem import Problem
from raysafe.rl.envs.safe_interruptibility import SafeInterruptibility

PROBLEMS: Mapping[str, type[Problem]] = {
    "SafeInterruptibility": SafeInterruptibility,
}


def problem_named(name: str, settings: Mapping[str, Any] | None = None) -> Problem:
    """name: `SafeInterruptibility`, or the environment's id. Raises ConfigError."""
    plain = name.rpartition("/")[2].removesuffix("-v0")
    if plain not in PROBLEMS:
        raise ConfigError(f"no problem is called {name!r}: there are {', '.join(PROBLEMS)}")
    return PROBLEMS[plain].parse(dict(settings or {}), f"the settings of {plain}")
