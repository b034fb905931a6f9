"""What the files of a model folder name: transformers opens that too, so it must be in the folder, under its digest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from raysafe.errors import ModelError

_INSIDE = ("weight_map", "transformers_weights", "configuration_files", "fast_tokenizer_files")
"""Settings whose values are names of files in the folder."""
_NOWHERE = re.compile(r"\w+_file|vocab|merges|init_inputs")
"""Settings of a tokenizer that its class may open as they stand, wherever the process happens to run."""
_IGNORED = ("special_tokens_map_file",)
"""Left in many published tokenizers by old versions of transformers; nothing opens it."""


def check_references(folder: Path) -> None:
    """Raise ModelError where loading a model from the folder would read files that its digest doesn't cover."""
    if (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter beside its model, which changes the model where peft is installed and not "
            "elsewhere: merge it into the model, or take adapter_config.json away"
        )
    for file in sorted({*folder.glob("*config*.json"), *folder.rglob("*.index.json")}):
        for setting, name in _named(file):
            if not _is_inside(folder, name):
                raise ModelError(
                    f"{file} names {name!r} in {setting}, which is no file of {folder}: put the file there and name it"
                )
    for file in sorted(folder.glob("*tokenizer_config*.json")):
        for setting, value in _settings(file):
            if _NOWHERE.fullmatch(setting) and setting not in _IGNORED and any(_strings(value)):
                raise ModelError(
                    f"{file} has {setting}, which may be opened wherever it leads to: take it away, the tokenizer's "
                    "files are found by their usual names"
                )


def _named(file: Path) -> Iterator[tuple[str, str]]:
    for setting, value in _settings(file):
        if setting in _INSIDE:
            names = value.values() if isinstance(value, dict) else [value]
            yield from ((setting, name) for name in dict.fromkeys(n for value in names for n in _strings(value)))


def _settings(file: Path) -> list[tuple[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []  # whoever loads it can't read it either, and says so
    return list(content.items()) if isinstance(content, dict) else []


def _strings(value: Any) -> list[str]:
    """The strings that a setting may be or list; an empty one names nothing."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and item]


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a name leads to a place in the folder; the file itself may be a link, whose content the digest covers."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        return False
    return Path(os.path.realpath((folder / path).parent)).is_relative_to(os.path.realpath(folder))
