"""Judges and detectors as `module:function`, and what they may return."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

from raysafe.errors import ConfigError

Behaviour = Literal["complies", "refuses", "off-topic"]
Messages = list[dict[str, str]]
Detector = Callable[[Messages, str], Behaviour]
"""(prompt, answer) -> what the answer does."""
Comparison = Callable[[Messages, str, str], float]
"""(prompt, first, second) -> 1 where the first is better, 0 where the second is, 0.5 for a tie."""


def is_function(name: str) -> bool:
    """Whether `name` has the form module:function, rather than being a path or a hub id."""
    module, colon, function = name.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def load_function(name: str, field: str) -> Callable[..., Any]:
    """The function that module:function names; the working folder is on the path. Raises ConfigError."""
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{field}: there is no module {error.name!r} for {name!r}; give module:function") from None
    except AttributeError:
        raise ConfigError(f"{field}: module {module!r} has no function {function!r}") from None
    if not callable(found):
        raise ConfigError(f"{field}: {name!r} is a {type(found).__name__}, not a function")
    return found


def checked_behaviour(value: Any, name: str) -> Behaviour:
    """A detector's answer, or ConfigError where it isn't one of the allowed words."""
    if value not in get_args(Behaviour):
        allowed = ", ".join(get_args(Behaviour))
        raise ConfigError(f"detector {name} returned {value!r}; it must return one of {allowed}")
    return value


def checked_preference(value: Any, name: str) -> float:
    """A judge's answer, or ConfigError where it isn't a number from 0 to 1."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"judge {name} returned {value!r}; it must return a number from 0 (second) to 1 (first)")
    return float(value)
