"""A project: a folder that holds what was asked, who was asked and what they said, and the settings that stay."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError, StorageError
from raysafe.feedback.judgements import Judgements
from raysafe.records.store import Store

SETTINGS, DATABASE, LOCK = "feedback.yaml", "feedback.db", ".lock"
MOST_STEPS = 20


class ProjectSettings(Config):
    """What must stay the same while a project is judged."""

    low: int = Field(default=1, description="Lowest rating.")
    high: int = Field(default=5, description="Highest rating.")
    overlap: float = Field(default=0.2, ge=0, le=1, description="Share of items that every rater judges.")
    seed: int = Field(default=0, ge=0, description="Seed of the sides' order and of what is drawn.")

    @model_validator(mode="after")
    def _scale(self) -> Self:
        if not 0 < self.high - self.low <= MOST_STEPS:
            raise ValueError(
                f"a scale has 2 to {MOST_STEPS + 1} steps and its lowest first, got {self.low} to {self.high}"
            )
        return self


def parse_scale(text: str) -> tuple[int, int]:
    """(lowest, highest) of a scale such as 1-5 or 0-10; raises ConfigError."""
    found = re.fullmatch(r"\s*(-?\d{1,6})\s*-\s*(-?\d{1,6})\s*", text)
    if not found:
        raise ConfigError(f"scale must be two whole numbers such as 1-5 or 0-10, got {text[:40]!r}")
    return int(found[1]), int(found[2])


def make_project(folder: str | Path, settings: ProjectSettings) -> None:
    """Make the folder, for its owner's eyes only; one that is there must have the same settings."""
    root = Path(folder)
    file = root / SETTINGS
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.exists():
            if any(root.iterdir()):
                raise StorageError(f"{root} holds other files and no {SETTINGS}: give an empty or a new folder")
            partial = file.with_name(f".{SETTINGS}")
            partial.write_text(settings.to_yaml(), encoding="utf-8")
            partial.replace(file)
    except OSError as error:
        raise StorageError(f"can't make the folder {root}: {error.strerror}") from None
    kept = ProjectSettings.load(file)
    changed = [name for name in ProjectSettings.model_fields if getattr(kept, name) != getattr(settings, name)]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"{name} is {getattr(kept, name)} in {file}, got {getattr(settings, name)}: what was judged so far would "
            "mean something else; use another folder"
        )


def load_settings(folder: str | Path) -> ProjectSettings:
    """The settings of a project; raises StorageError where the folder holds none."""
    file = Path(folder, SETTINGS)
    if not file.is_file():
        raise StorageError(f"{folder} is no feedback folder (no {SETTINGS}): give the --out of `raysafe feedback`")
    return ProjectSettings.load(file)


def open_judgements(folder: str | Path) -> tuple[Store, Judgements]:
    """The store of a project, to be closed, and its rows."""
    store = Store(f"sqlite:///{Path(folder, DATABASE).absolute()}")
    return store, Judgements(store)
