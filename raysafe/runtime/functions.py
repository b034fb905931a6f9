"""The user's own functions, named as `module:function`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from raysafe.errors import ConfigError


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
