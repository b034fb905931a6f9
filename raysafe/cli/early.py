"""What can be refused before torch is imported: a job that this machine can't hold.

The settings are only peeked at here; whatever is odd about them is left to the job's own parsing, which explains it.
"""

from __future__ import annotations

from typing import Any

from raysafe.config import read_yaml
from raysafe.errors import ConfigError
from raysafe.runtime.cluster import Needs, preflight

_NEEDS = {"workers": "workers", "cpus_per_worker": "cpus", "gpus_per_worker": "gpus"}


def check_resources(argv: list[str]) -> None:
    """Raise ResourceError where the workers that the command line and its --config ask for have no place here."""
    flags = dict(_flags(argv))
    try:
        values = read_yaml(flags["config"]) if "config" in flags else {}
        training = values.get("training") or {}
        # evaluate has its workers at the top, training jobs below `training`
        asked = {field: {**values, **training, **_last_parts(flags)}.get(field) for field in _NEEDS}
        needs = Needs.parse({_NEEDS[field]: value for field, value in asked.items() if value is not None})
    except (ConfigError, TypeError):
        return
    if needs.gpus > 1:
        # no place for it either, but the settings have a better remedy: one GPU a worker, and more workers
        return
    preflight(flags.get("address") or values.get("address"), needs)


def _flags(argv: list[str]) -> list[tuple[str, Any]]:
    """(name, value) of each `--name value` and `--name=value`, with underscores in the names."""
    found = []
    for index, argument in enumerate(argv):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            following = argv[index + 1] if index + 1 < len(argv) else ""
            found.append((name.replace("-", "_"), value if equals else following))
    return found


def _last_parts(flags: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("training."): value for name, value in flags.items()}
