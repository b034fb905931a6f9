"""A list of guards in a policy: each is validated by the settings of its kind, and no two have the same name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from raysafe.errors import ConfigError
from raysafe.guards.kinds import kind_of
from raysafe.guards.settings import GuardConfig


def _each_of_its_kind(guards: Any) -> Any:
    if not isinstance(guards, list | tuple):
        return guards
    return tuple(
        kind_of(guard.get("kind"), f"guards[{number}]")(**guard) if isinstance(guard, dict) else guard
        for number, guard in enumerate(guards)
    )


GuardList = Annotated[tuple[SerializeAsAny[GuardConfig], ...], BeforeValidator(_each_of_its_kind)]


def parse_guards(guards: object, field: str, source: str) -> tuple[GuardConfig, ...]:
    """The guards in a policy's `field`, one by one, so that a typo names its near field; raises ConfigError.

    What is no list is left to the policy's own validation.
    """
    parsed = []
    for number, guard in enumerate(guards if isinstance(guards, list | tuple) else ()):
        where = f"{source}, {field}[{number}]"
        if isinstance(guard, GuardConfig):
            parsed.append(guard)
            continue
        if not isinstance(guard, dict):
            raise ConfigError(f"{field}[{number}] in {source} must be a mapping with a kind, got {guard!r}")
        parsed.append(kind_of(guard.get("kind"), where).parse(guard, where))
    return tuple(parsed)


def check_names(guards: Sequence[GuardConfig]) -> None:
    """Raise ValueError where two guards have the same name."""
    names = [guard.name for guard in guards]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(
            f"two guards are called '{twice[0]}'; give each its own name, by which verdicts are told apart"
        )
