"""Policy: the YAML that says which guards stand before and behind a model, in order, and what is written down.

name: default
guards:
  - kind: length
    input_characters: 20000
  - kind: rate
    requests_per_minute: 60
  - kind: patterns
    name: weapons
    stages: [input]
    rules:
      - name: explosives
        phrases: ["(make|build) {0,3} bomb*"]
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, SerializeAsAny, field_validator, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.guards.kinds import kind_of
from raysafe.guards.pipeline import Entry, Pipeline
from raysafe.guards.settings import NOTHING, GuardConfig, Resources


class Policy(Config):
    """Guards in order, and what the gateway writes down. An empty list of guards allows everything."""

    name: str = Field(default="policy", min_length=1, description="Shown in the audit log.")
    guards: tuple[SerializeAsAny[GuardConfig], ...] = Field(
        description="Run in this order; the first that stops an exchange ends it."
    )
    record_text: bool = Field(
        default=False, description="Store the texts in the audit log, not only digests and lengths."
    )
    stream_window: int = Field(
        default=64, ge=1, description="Characters of a streamed answer that leave together, under one audit row."
    )

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "policy") -> Self:
        """Validate; raises ConfigError. Guards are checked one by one first, so that a typo names its near field."""
        guards = values.get("guards")
        for number, guard in enumerate(guards if isinstance(guards, list) else ()):
            where = f"{source}, guards[{number}]"
            if not isinstance(guard, dict):
                raise ConfigError(f"guards[{number}] in {source} must be a mapping with a kind, got {guard!r}")
            kind_of(guard.get("kind"), where).parse(guard, where)
        return super().parse(values, source)

    @field_validator("guards", mode="before")
    @classmethod
    def _each_of_its_kind(cls, guards: Any) -> Any:
        if not isinstance(guards, list | tuple):
            return guards
        return tuple(
            kind_of(guard.get("kind"), f"guards[{number}]")(**guard) if isinstance(guard, dict) else guard
            for number, guard in enumerate(guards)
        )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [guard.name for guard in self.guards]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(
                f"two guards are called '{twice[0]}'; give each its own name, by which verdicts are told apart"
            )
        return self

    def build(self, resources: Resources = NOTHING) -> Pipeline:
        """The pipeline of this policy, with rate buckets of its own."""
        return Pipeline(Entry(guard.build(resources), guard.timeout_s, guard.on_error) for guard in self.guards)


def default_policy() -> Policy:
    """The packaged example policy: raysafe/guards/policies/default.yaml."""
    text = files("raysafe.guards").joinpath("policies/default.yaml").read_text(encoding="utf-8")
    return Policy.parse(yaml.safe_load(text), "default policy")


def load_policy(path: str | Path | None) -> Policy:
    """The policy in a YAML file, or the packaged one where no path is given; raises ConfigError."""
    return default_policy() if path is None else Policy.load(path)
