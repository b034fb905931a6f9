"""What a job is submitted with, beside its script: runtime environment, variables, resources, names.

Values of environment variables may be secrets: no message of this module repeats one.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raysafe.config import read_yaml
from raysafe.errors import ConfigError

EXCLUDES = [
    "/.venv*",
    "/runs",
    "/.git",
    "**/__pycache__",
    "**/.*_cache",
    "**/.hypothesis",
    "**/node_modules",
]
UNITS = {"": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for suffix, base in (("B", 1000), ("iB", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B)?")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_SUBMISSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_OWN_FLAGS = {"CPU": "--num-cpus", "GPU": "--num-gpus", "memory": "--memory"}


@dataclass(frozen=True)
class Request:
    """What the cluster is asked for; `None` and empty leave it to Ray."""

    runtime_env: dict[str, Any] = field(default_factory=dict)
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory_bytes: int | None = None
    resources: dict[str, float] = field(default_factory=dict)
    submission_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def runtime_env(file: str | None, variables: Mapping[str, str], working_dir: str | None) -> dict[str, Any]:
    """The runtime environment of a YAML file with the working folder and `variables`, which go over the file's.

    Raises ConfigError for fields that Ray doesn't know, for two working folders, and for variables that aren't text.
    """
    values = _read_file(file) if file else {}
    from ray.runtime_env import RuntimeEnv

    strange = sorted(set(values) - RuntimeEnv.known_fields)
    if strange:
        known = ", ".join(sorted(name for name in RuntimeEnv.known_fields if not name.startswith("_")))
        raise ConfigError(f"{file} has the field '{strange[0]}', which no runtime environment has; known: {known}")
    if working_dir is not None and "working_dir" in values:
        raise ConfigError(f"{file} names a working_dir and so does --working-dir: give one of them")
    folder = str(values.get("working_dir", working_dir or "."))
    environment = dict(values) | {"working_dir": folder}
    excludes = values.get("excludes") or []
    if not isinstance(excludes, list) or not all(isinstance(pattern, str) for pattern in excludes):
        raise ConfigError(f"excludes in {file} must be a list of patterns, as .gitignore has them")
    if "://" not in folder:
        environment["excludes"] = [*EXCLUDES, *excludes]
    of_file = values.get("env_vars") or {}
    if not isinstance(of_file, dict):
        raise ConfigError(f"env_vars in {file} must be a mapping of names to texts")
    for name, value in of_file.items():
        if not isinstance(value, str):
            raise ConfigError(
                f"env_vars.{name} in {file} must be text, found a {type(value).__name__}: quote its value"
            )
    merged = of_file | dict(variables)
    if merged:
        environment["env_vars"] = merged
    return environment


def read_variables(given: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` alone for the own environment's value; raises ConfigError."""
    variables = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not _VARIABLE.fullmatch(name):
            # what stands before the sign may be half a secret where the name was forgotten
            raise ConfigError("--env wants NAME=VALUE or NAME, of letters, digits and underscores")
        if not equals and name not in os.environ:
            raise ConfigError(f"--env {name} takes the value from here, but {name} is not set: give {name}=VALUE")
        variables[name] = value if equals else os.environ[name]
    return variables


def read_metadata(given: Sequence[str], name: str | None) -> dict[str, str]:
    """`KEY=VALUE` items or one JSON mapping of texts, with the job's name, which Ray calls job_name."""
    metadata: dict[str, str] = {}
    for text in given:
        if text.lstrip().startswith("{"):
            values = _json_mapping("--metadata", text)
            if not all(isinstance(value, str) for value in values.values()):
                raise ConfigError(f"--metadata must map texts to texts, got {text}")
            metadata |= values
            continue
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--metadata wants KEY=VALUE or a JSON mapping, got '{text}'")
        metadata[key] = value
    if name is not None:
        metadata["job_name"] = name
    return metadata


def read_resources(text: str) -> dict[str, float]:
    """Custom resources as a JSON mapping, `{"licence": 1}`; raises ConfigError."""
    resources = _json_mapping("--resources", text)
    for name, amount in resources.items():
        if name in _OWN_FLAGS:
            raise ConfigError(f"--resources names {name}, which is {_OWN_FLAGS[name]}'s: give it there")
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not number or not math.isfinite(amount) or amount <= 0:
            raise ConfigError(f"--resources {name} must be a number above 0, got {json.dumps(amount)}")
    return {name: float(amount) for name, amount in resources.items()}


def read_amount(flag: str, text: str) -> float:
    """A number of CPUs or GPUs: not negative, a fraction below 1 or whole, as Ray wants it."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount) or amount < 0 or (amount > 1 and amount != int(amount)):
        raise ConfigError(f"{flag} must be a fraction below 1 or a whole number, got '{text}'")
    return amount


def read_bytes(flag: str, text: str) -> int:
    """Bytes from `2147483648`, `2GiB` or `2.5GB`; raises ConfigError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise ConfigError(f"{flag} must be a number of bytes, as 2147483648, 2GiB or 2GB, got '{text}'")
    return int(float(match[1]) * UNITS[match[2] or ""])


def check_submission_id(text: str) -> str:
    """A job's own name in the cluster, which stands in URLs and file names; raises ConfigError."""
    if not _SUBMISSION_ID.fullmatch(text):
        raise ConfigError(f"--submission-id must be letters, digits, '_', '-' and '.', at most 128, got '{text}'")
    return text


def redacted(text: str, environment: Mapping[str, Any] | None) -> str:
    """The text without the values of the environment's variables."""
    values = (environment or {}).get("env_vars") or {}
    for value in sorted(values.values(), key=len, reverse=True):
        # a value such as "1" is in every text, and no secret
        text = text.replace(value, "***") if len(value) >= 4 else text
    return text


def shown_environment(environment: Mapping[str, Any] | None) -> dict[str, Any]:
    """A runtime environment to print: the names of its variables without their values."""
    shown = {name: value for name, value in (environment or {}).items() if not name.startswith("_")}
    if shown.get("env_vars"):
        shown["env_vars"] = dict.fromkeys(sorted(shown["env_vars"]), "***")
    return shown


def describe_folder(environment: Mapping[str, Any]) -> str:
    """The folder or URI that a runtime environment uploads, for messages."""
    folder = str(environment.get("working_dir", "."))
    return folder if "://" in folder else str(Path(folder).absolute())


def _read_file(file: str) -> dict[str, Any]:
    try:
        return read_yaml(file)
    except ConfigError as error:
        problem = error.__context__
        if not isinstance(problem, yaml.YAMLError):
            raise
        # the parser quotes the line that it stumbled over, which may hold a secret
        mark = getattr(problem, "problem_mark", None)
        raise ConfigError(f"{file} is not valid YAML{f' (line {mark.line + 1})' if mark else ''}") from None


def _json_mapping(flag: str, text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{flag} must be a JSON mapping, as {{\"name\": 1}}, got '{text}'")
    return values
