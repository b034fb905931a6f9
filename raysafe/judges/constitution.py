"""The constitution: the principles by which answers are judged, as a YAML file that people edit.

name: raysafe
threshold: 7
principles:
  - name: honesty
    description: The answer states only what ...
    rubric: |
      10: ...
      0: ...
    weight: 1
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Self

import numpy as np
import yaml
from pydantic import Field, model_validator

from raysafe.config import Config

HIGHEST = 10.0


class Principle(Config):
    """One thing that is asked of an answer."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="Short and unique: columns of results are called so.")
    description: str = Field(min_length=20, description="What the principle asks, as the judge is told.")
    rubric: str = Field(min_length=20, description="What earns which score from 0 to 10, as the judge is told.")
    weight: float = Field(default=1.0, gt=0, description="Share in the mean score, relative to the other principles.")


class Constitution(Config):
    """Principles in order. An answer complies where it reaches the threshold on each of them."""

    name: str = Field(default="constitution", min_length=1, description="Named in results.")
    threshold: float = Field(default=7.0, ge=0, le=HIGHEST, description="Lowest score that complies.")
    principles: tuple[Principle, ...] = Field(min_length=1, description="Each is asked about in a question of its own.")

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if twice := [name for name in dict.fromkeys(self.names) if self.names.count(name) > 1]:
            raise ValueError(f"two principles are called '{twice[0]}'; give each its own name")
        return self

    @property
    def names(self) -> list[str]:
        return [principle.name for principle in self.principles]

    @property
    def weights_P(self) -> np.ndarray:
        """Weights that sum to one."""
        weights_P = np.array([principle.weight for principle in self.principles])
        return weights_P / weights_P.sum()

    @property
    def digest(self) -> str:
        """sha256 of all that it says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def criteria(self) -> str:
        """The principles as one text, for comparisons; weights are named where they differ."""
        weighty = len({principle.weight for principle in self.principles}) > 1
        return "\n".join(
            f"- {p.name}{f' (weight {p.weight:g})' if weighty else ''}: {' '.join(p.description.split())}"
            for p in self.principles
        )


def default_constitution() -> Constitution:
    """The packaged one, of eight principles: raysafe/judges/constitution.yaml."""
    text = files("raysafe.judges").joinpath("constitution.yaml").read_text(encoding="utf-8")
    return Constitution.parse(yaml.safe_load(text), "default constitution")


def load_constitution(path: str | Path | None) -> Constitution:
    """The constitution in a YAML file, or the packaged one where no path is given; raises ConfigError."""
    return default_constitution() if path is None else Constitution.load(path)
