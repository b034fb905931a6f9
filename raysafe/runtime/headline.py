"""Which figures say how a training goes: what its bar, its result and the list of runs show.

Only a policy that writes its own answers has a KL to a reference; its loss says nothing of how it goes, and a reward
model's mean reward says nothing either. An agent in an environment is judged by its returns, a robust classifier by
what it holds against attacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SUPERVISED = (
    "loss",
    "accuracy",
    "validation/loss",
    "validation/accuracy",
    "validation/robust_accuracy",
    "validation/certified_accuracy",
)
_ONLINE = ("reward", "gold", "kl", "validation/reward", "validation/gold", "validation/kl")
_AGENT = ("return", "true_return", "evaluation/return")


def headline(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what a run with these figures is judged by, those that it has."""
    names = _AGENT if _is_agent(figures) else _ONLINE if _is_online(figures) else _SUPERVISED
    return tuple(name for name in names if name in figures)


def one_line(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """The same, as much as fits beside a bar, and the speed."""
    left_out = ("gold", "validation/kl") if _is_online(figures) else ()
    names = (*(name for name in headline(figures) if name not in left_out), "tokens_per_s", "steps_per_s")
    return tuple(name for name in names if name in figures)


def _is_agent(figures: Mapping[str, Any]) -> bool:
    return "evaluation/return" in figures


def _is_online(figures: Mapping[str, Any]) -> bool:
    return "kl" in figures or "validation/kl" in figures
