"""Policy: the YAML that says which guards stand before and behind a model, in order, and what is written down.

name: default
version: 3
guards:
  - kind: length
    input_characters: 20000
  - kind: rate
    requests_per_minute: 60
  - kind: patterns
    name: weapons
    stages: [input]
    mode: shadow
    rules:
      - name: explosives
        phrases: ["(make|build) {0,3} bomb*"]
tenants:
  acme:
    guards: {weapons: {mode: enforce}}
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import to_jsonable_python

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Guard
from raysafe.guards.guard_list import GuardList, check_names, parse_guards
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.policy_text import check_seal, decoded, policy_values, read_policy
from raysafe.guards.settings import NOTHING, GuardConfig, Resources
from raysafe.guards.tenants import TenantChanges, tenant_guards

Build = Callable[[GuardConfig], Guard]


class Policy(Config):
    """Guards in order, and what the gateway writes down. An empty list of guards allows everything."""

    name: str = Field(default="policy", min_length=1, description="Shown in the audit log.")
    version: int | str | None = Field(default=None, description="Yours to count; shown in the audit log.")
    guards: GuardList = Field(description="Run in this order; the first that stops an exchange ends it.")
    tenants: dict[str, TenantChanges] = Field(
        default_factory=dict, description="What differs for a tenant, by its name."
    )
    record_text: bool = Field(
        default=False, description="Store the texts in the audit log, not only digests and lengths."
    )
    stream_window: int = Field(
        default=256, ge=1, description="Characters of a fast model's answer that leave together, under one audit row."
    )
    stream_interval_s: float = Field(
        default=0.05, ge=0, description="A slow model's answer leaves this often, however few characters there are."
    )

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "policy") -> Self:
        """Validate; raises ConfigError. Guards are checked one by one first, so that a typo names its near field."""
        guards = parse_guards(values.get("guards"), "guards", source)
        tenants = values.get("tenants")
        for tenant, changes in (tenants if isinstance(tenants, dict) else {}).items():
            where = f"{source}, tenants.{tenant}"
            parsed = TenantChanges.parse(changes, where) if isinstance(changes, dict) else changes
            if isinstance(parsed, TenantChanges):
                tenant_guards(guards, parsed, where)
        return super().parse(values, source)

    @classmethod
    def from_bytes(cls, raw: bytes, source: str) -> Self:
        """The policy in a file's bytes; raises ConfigError, also where it was changed after it was sealed."""
        check_seal(raw, source)
        return cls.parse(policy_values(decoded(raw, source), source), source)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        return cls.from_bytes(read_policy(path), str(path))

    @field_validator("version", mode="before")
    @classmethod
    def _exact(cls, version: Any) -> Any:
        if isinstance(version, float | bool):
            raise ValueError("YAML reads this as a number of its own making: put the version in quotes")
        return version.isoformat() if isinstance(version, datetime.date) else version

    @model_validator(mode="after")
    def _tenants_have_guards_of_their_own(self) -> Self:
        check_names(self.guards)
        for tenant, changes in self.tenants.items():
            check_names(tenant_guards(self.guards, changes, f"tenants.{tenant}"))
        return self

    @property
    def digest(self) -> str:
        """sha256 of all settings in canonical JSON, defaults included: layout and comments of the file don't count.

        Computed at each call, in some milliseconds for a policy of many phrases.
        """
        canonical = json.dumps(_canonical(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def label(self) -> str:
        """Name, version and the digest's beginning, such as 'default@3 (1f2e3d4c)'."""
        version = "" if self.version is None else f"@{self.version}"
        return f"{self.name}{version} ({self.digest[:8]})"

    def for_tenant(self, tenant: str) -> Policy:
        """The policy as it is for one tenant: this one, where it changes nothing for that tenant."""
        if tenant not in self.tenants:
            return self
        guards = tenant_guards(self.guards, self.tenants[tenant], f"tenants.{tenant}")
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Policy(**{**fields, "name": f"{self.name}/{tenant}", "guards": guards, "tenants": {}})

    def build(self, resources: Resources = NOTHING, build: Build | None = None) -> Pipeline:
        """The pipeline of this policy, without its tenants' changes; `build` makes a guard in place of its settings."""
        make = build or (lambda config: config.build(resources))
        return Pipeline([_entry(config, make(config)) for config in self.guards])


def _entry(config: GuardConfig, guard: Guard) -> Entry:
    if config.beside and "input" not in guard.stages:
        raise ConfigError(f"the guard '{config.name}' reads no requests: beside is for guards of the stage input")
    return Entry(guard, config.timeout_s, config.on_error, config.mode, config.sample, config.beside)


def _canonical(value: Any) -> Any:
    """Plain values in one order, whatever the order of sets in this process."""
    if isinstance(value, BaseModel):
        return {name: _canonical(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _canonical(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_canonical(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return to_jsonable_python(value)


def default_policy() -> Policy:
    """The packaged example policy: raysafe/guards/policies/default.yaml."""
    raw = files("raysafe.guards").joinpath("policies/default.yaml").read_bytes()
    return Policy.from_bytes(raw, "default policy")


def load_policy(path: str | Path | None) -> Policy:
    """The policy in a YAML file, or the packaged one where no path is given; raises ConfigError."""
    return default_policy() if path is None else Policy.load(path)
