"""Rules: the YAML that says what the monitor watches, when it alerts, whom it tells, and what it does by itself.

name: shop
version: 1
sinks:
  - {kind: webhook, name: on-call, url: https://pager.example.org/hook, secret_env: PAGER_SECRET}
rules:
  - name: repetition
    metric: behaviour.repetition
    detector: {kind: cusum, side: high}
    calibration: {values: 500, average_run_length: 2000}
    severity: warning
    escalate:
      - {after_s: 60, severity: critical, sinks: [on-call], intervention: {kind: degrade, duration_s: 3600}}
  - name: errors
    metric: performance.errors
    limit: {above: 0.05, clear: 0.01, over_s: 120, least: 20}
...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from raysafe.config import Config
from raysafe.control.intervention import Kind
from raysafe.guards.policy_text import check_seal, decoded, policy_values, read_policy
from raysafe.monitoring.alert import Severity
from raysafe.monitoring.detectors.chart import ChartConfig
from raysafe.monitoring.detectors.kinds import chart_config
from raysafe.monitoring.sinks import Sink

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w.-]+$")]


def _detector(value: Any) -> Any:
    return chart_config(dict(value)) if isinstance(value, Mapping) else value


class Limit(Config):
    """A limit on the mean of the newest values, over all gateways."""

    above: float | None = Field(default=None, description="Alert where the mean is higher.")
    below: float | None = Field(default=None, description="Alert where the mean is lower.")
    clear: float | None = Field(default=None, description="The mean at which it is over; the limit itself by default.")
    over_s: float = Field(default=60.0, gt=0, description="The mean is that of the windows of so many seconds.")
    least: int = Field(default=1, ge=1, description="With fewer values than this it says nothing.")

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("a limit has either above or below")
        if self.clear is not None and self.broken(self.clear):
            raise ValueError("clear must lie on the good side of the limit")
        return self

    def broken(self, mean: float) -> bool:
        return mean > self.above if self.above is not None else mean < (self.below or 0.0)

    def cleared(self, mean: float) -> bool:
        if self.above is not None:
            return mean <= (self.above if self.clear is None else self.clear)
        return mean >= ((self.below or 0.0) if self.clear is None else self.clear)


class Calibration(Config):
    """The values that a detector's limit is set on: the first that come, once for each service."""

    values: int = Field(default=500, ge=20, le=20_000, description="How many values of normal traffic to gather.")
    average_run_length: float = Field(
        default=500.0, ge=20, description="Values between two false alarms, on average, where nothing changes."
    )
    block: int = Field(default=1, ge=1, description="How many values in a row depend on one another.")
    seed: int = Field(default=0, ge=0, description="Of the simulation; another one calibrates anew.")


class Intervening(Config):
    """What a step does about the service."""

    kind: Kind
    requests_per_minute: float | None = Field(default=None, gt=0, description="Of a throttle.")
    duration_s: float | None = Field(default=None, gt=0, description="How long; until reverted by default.")
    confirm: bool = Field(default=False, description="Only propose it: a person confirms or declines.")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.requests_per_minute is not None) != (self.kind == "throttle"):
            raise ValueError("requests_per_minute belongs to a throttle, which needs it")
        if self.kind == "kill" and self.duration_s:
            raise ValueError("a kill lasts until it is restored: leave out duration_s")
        return self


class Step(Config):
    """What happens to an alert that nobody has acknowledged by its deadline."""

    after_s: float = Field(ge=0, description="Seconds from the alert's beginning.")
    severity: Severity | None = Field(default=None, description="The alert's from then on.")
    sinks: tuple[str, ...] = Field(default=(), description="Told besides those of the rule.")
    intervention: Intervening | None = Field(default=None, description="Applied, or proposed, to the service.")


class Rule(Config):
    """One thing to watch. It has either a detector, which is calibrated, or a limit."""

    name: Name
    metric: str = Field(pattern=r"^[a-z]+(\.[\w -]+)+$", description="Such as safety.blocked; see `raysafe monitor`.")
    services: tuple[str, ...] = Field(default=(), description="Watched services; all by default, each by itself.")
    each: Literal["value", "window"] = Field(
        default="value", description="A detector takes each value, or each window's mean."
    )
    detector: Annotated[SerializeAsAny[ChartConfig], BeforeValidator(_detector)] | None = None
    calibration: Calibration = Calibration()
    limit: Limit | None = None
    severity: Severity = "warning"
    for_s: float = Field(default=0.0, ge=0, description="Alert only where it lasts so long.")
    clear_after: int = Field(
        default=100, ge=1, description="A detector's alert is over after so many values without another detection."
    )
    group: str = Field(default="", max_length=200, description="Alerts of one group are told together.")
    inhibited_by: tuple[str, ...] = Field(
        default=(), description="While one of these rules has an alert on the same service, nobody is told of this one."
    )
    sinks: tuple[str, ...] | None = Field(default=None, description="Who is told; all sinks by default.")
    escalate: tuple[Step, ...] = Field(default=(), description="By deadlines, in order.")

    @model_validator(mode="after")
    def _one_way_to_tell(self) -> Self:
        if (self.detector is None) == (self.limit is None):
            raise ValueError(f"the rule '{self.name}' needs either a detector or a limit")
        if self.limit is not None and self.calibration != Calibration():
            raise ValueError(f"calibration has no effect on a limit (rule '{self.name}'): leave it out")
        deadlines = [step.after_s for step in self.escalate]
        if deadlines != sorted(set(deadlines)):
            raise ValueError(f"the steps of '{self.name}' must have growing deadlines, got {deadlines}")
        if self.detector is not None:
            needed = self.detector.needed(self.calibration.average_run_length)
            if self.calibration.values < needed:
                raise ValueError(
                    f"the detector of '{self.name}' needs {needed:,} calibration values for an average run length of "
                    f"{self.calibration.average_run_length:g}: raise calibration.values, or state a shorter run length"
                )
        return self

    @property
    def fingerprint(self) -> str:
        """Of what a detector's memory depends on: a change begins with a new calibration."""
        detector = None if self.detector is None else self.detector.model_dump(mode="json")
        known = [self.metric, self.each, detector, self.calibration.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


class Rules(Config):
    """A file of rules."""

    name: Name = Field(description="Shown in the audit log; two monitors of one name take turns.")
    version: int | str | None = Field(default=None, description="Yours to count; shown in the audit log.")
    tick_s: float = Field(default=1.0, gt=0, le=60, description="How often the monitor looks.")
    group_wait_s: float = Field(default=0.0, ge=0, le=600, description="How long a notification waits for company.")
    sinks: tuple[Sink, ...] = Field(default=(), description="Who is told; the monitor's own log always is.")
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        sinks, rules = [sink.name for sink in self.sinks], [rule.name for rule in self.rules]
        for names, what in ((sinks, "sinks"), (rules, "rules")):
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                raise ValueError(f"two {what} are called '{twice[0]}'; give each its own name")
        for rule in self.rules:
            asked = {*(rule.sinks or ()), *(sink for step in rule.escalate for sink in step.sinks)}
            if strange := sorted(asked - set(sinks)):
                raise ValueError(f"the rule '{rule.name}' tells '{strange[0]}', which is no sink; sinks: {sinks}")
            if strange := sorted(set(rule.inhibited_by) - set(rules)):
                raise ValueError(f"'{rule.name}' is inhibited by '{strange[0]}', which is no rule; rules: {rules}")
        self._check_inhibitions()
        return self

    def _check_inhibitions(self) -> None:
        by = {rule.name: rule.inhibited_by for rule in self.rules}

        def visit(name: str, path: tuple[str, ...]) -> None:
            if name in path:
                raise ValueError(f"rules that inhibit each other tell nobody: {' <- '.join((*path, name))}")
            for other in by[name]:
                visit(other, (*path, name))

        for name in by:
            visit(name, ())

    @property
    def digest(self) -> str:
        """sha256 of all settings in canonical JSON, defaults included."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name, version and the digest's beginning, such as 'shop@3 (1f2e3d4c)'."""
        version = "" if self.version is None else f"@{self.version}"
        return f"{self.name}{version} ({self.digest[:8]})"

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "rules") -> Self:
        """Validate; raises ConfigError. Rules are checked one by one first, so that a typo names its near field."""
        rules = values.get("rules")
        for number, rule in enumerate(rules if isinstance(rules, list | tuple) else ()):
            if isinstance(rule, dict):
                Rule.parse(rule, f"{source}, rules[{number}]")
        return super().parse(values, source)

    @classmethod
    def from_bytes(cls, raw: bytes, source: str) -> Self:
        """The rules in a file's bytes; raises ConfigError, also where it was changed after it was sealed."""
        check_seal(raw, source)
        return cls.parse(policy_values(decoded(raw, source), source), source)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        return cls.from_bytes(read_policy(path), str(path))
