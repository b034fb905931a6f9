"""Shields a policy: which actions it may take and where, and at which observations it may act at all.

- kind: action
  action: modify                   # the best of the allowed actions takes a forbidden one's place
  rules:
    - name: brake near the edge
      when: [{feature: 0, at_least: 2.0}]
      forbid: [1]
  range_of: runs/cartpole/model    # what the policy saw in training, by its card
  outside: hold

Rules add up: an action must be allowed by each rule whose conditions hold. Such a shield (Alshiekh et al. 2018) lets
the policy be wherever no rule is broken. It judges `/v1/act`, and no other endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.guards.guard import ACT, Exchange, Stage, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources

Number = Annotated[float, Field(allow_inf_nan=False)]
Action = int | list[float]


class Condition(Config):
    """Holds where a number of the observation is within both limits."""

    feature: int = Field(ge=0, description="Place of the number in the observation, from 0.")
    at_least: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a condition needs at_least or at_most")
        return self

    def holds(self, observation: Sequence[float]) -> bool:
        """Raises IndexError where the observation has no such number."""
        value = observation[self.feature]
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


class ActionRule(Config):
    """What may be done where all conditions hold; without conditions, everywhere."""

    name: str | None = Field(default=None, min_length=1, description="Shown in verdicts; its number by default.")
    when: tuple[Condition, ...] = ()
    forbid: tuple[int, ...] = Field(default=(), description="Discrete actions that may not be taken.")
    allow: tuple[int, ...] | None = Field(default=None, min_length=1, description="The only discrete actions.")
    low: tuple[Number | None, ...] | None = Field(default=None, description="Least value of each part of an action.")
    high: tuple[Number | None, ...] | None = Field(default=None, description="Greatest value of each part.")

    @model_validator(mode="after")
    def _says_something_of_one_kind(self) -> Self:
        discrete = bool(self.forbid) or self.allow is not None
        if discrete == (self.low is not None or self.high is not None):
            raise ValueError("a rule needs forbid or allow, for discrete actions, or else low or high, for others")
        return self


class ObservedRangeConfig(Config):
    """Bounds of each number of an observation."""

    low: tuple[Number, ...] = Field(min_length=1)
    high: tuple[Number, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if len(self.low) != len(self.high) or any(a > b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError("low and high need one number each for every number of an observation, low below high")
        return self


class ActionGuardConfig(GuardConfig):
    """`kind: action` of a policy."""

    kind: Literal["action"] = "action"
    name: str = Field(default="action", min_length=1)
    rules: tuple[ActionRule, ...] = ()
    action: Literal["block", "hold", "modify"] = Field(
        default="block",
        description="What is done to an action that a rule forbids; modify: the best allowed one, or the nearest.",
    )
    range: ObservedRangeConfig | None = Field(default=None, description="Observations that may be acted at.")
    range_of: Path | None = Field(
        default=None, description="Folder of a policy whose card tells the range of observations of its training."
    )
    slack: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="So much beyond the range passes, as a part of its width."
    )
    outside: Literal["block", "hold"] = Field(default="block", description="What is done to observations outside it.")

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.range is not None and self.range_of is not None:
            raise ValueError("either range or range_of tells the observations: leave one out")
        if not self.rules and self.range is None and self.range_of is None:
            raise ValueError("an action guard needs rules, range or range_of")
        return self

    def build(self, resources: Resources = NOTHING) -> ActionGuard:
        """Raises ConfigError where the folder's policy has no range, ModelError where there is no policy."""
        bounds = self.range
        if self.range_of is not None:
            from raysafe.rl.policy import read_card

            observed = read_card(self.range_of).observed
            if observed is None:
                raise ConfigError(
                    f"the policy in {self.range_of} doesn't say what it observed in training: give range instead "
                    f"(guard '{self.name}')"
                )
            bounds = ObservedRangeConfig(low=observed.low, high=observed.high)
        return ActionGuard(self, None if bounds is None else _widened(bounds, self.slack))


@dataclass(frozen=True)
class _Limits:
    """What the rules leave at one observation, and which of them apply."""

    rules: Sequence[tuple[str, ActionRule]]

    def broken(self, action: Action) -> str | None:
        """The first rule that forbids the action; raises TypeError for one of another kind."""
        return next((name for name, rule in self.rules if _forbids(rule, action)), None)

    def instead(self, action: Action, scores: Sequence[float] | None) -> Action | None:
        """The best allowed discrete action, or the nearest allowed continuous one; None where there is none."""
        if isinstance(action, list):
            nearest = list(action)
            for _, rule in self.rules:
                nearest = [
                    min(max(x, -_INF if a is None else a), _INF if b is None else b)
                    for x, a, b in zip(nearest, *_bounds(rule, len(nearest)), strict=True)
                ]
            # two rules may leave nothing between them
            return nearest if self.broken(nearest) is None else None
        if not scores:
            return None
        allowed = [each for each in range(len(scores)) if self.broken(each) is None]
        return max(allowed, key=scores.__getitem__, default=None)


_INF = float("inf")


class ActionGuard:
    """Linear in observations and rules. An action or observation that it can't read is a failure, which closes."""

    inline = True

    def __init__(self, config: ActionGuardConfig, bounds: ObservedRangeConfig | None = None) -> None:
        self.config, self.name, self._bounds = config, config.name, bounds
        self._rules = [(rule.name or f"number {place + 1}", rule) for place, rule in enumerate(config.rules)]
        seen: frozenset[Stage] = frozenset({"input"} if bounds else ())
        done: frozenset[Stage] = frozenset({"tool_call"} if config.rules else ())
        self.stages = seen | done

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        """Raises ValueError, TypeError or IndexError for what is no observation or no action of the rules' kind."""
        if exchange.endpoint != ACT:
            return Verdict(self.name, stage, "allow")
        observations = [_numbers(json.loads(text)) for text in exchange.texts("input")]
        return self._seen(observations) if stage == "input" else self._done(exchange, observations)

    def _seen(self, observations: Sequence[Sequence[float]]) -> Verdict:
        assert self._bounds is not None
        for observation in observations:
            if len(observation) != len(self._bounds.low):
                reason = f"an observation has {len(observation):,} numbers, and the range {len(self._bounds.low):,}"
                return Verdict(self.name, "input", self.config.outside, reason, 1.0)
            for place, (value, low, high) in enumerate(
                zip(observation, self._bounds.low, self._bounds.high, strict=True)
            ):
                if not low <= value <= high:
                    reason = f"number {place} of an observation is outside the range that the policy may act in"
                    return Verdict(self.name, "input", self.config.outside, reason, 1.0)
        return Verdict(self.name, "input", "allow")

    def _done(self, exchange: Exchange, observations: Sequence[Sequence[float]]) -> Verdict:
        texts, broken, missing = [], list[str](), False
        calls = zip(
            observations, exchange.texts("tool_call"), exchange.scores or [None] * len(observations), strict=True
        )
        for observation, text, scores in calls:
            limits = _Limits([(n, r) for n, r in self._rules if all(c.holds(observation) for c in r.when)])
            action = _action(text)
            rule = limits.broken(action)
            if rule is not None:
                broken.append(rule)
                action = limits.instead(action, scores)
                missing |= action is None
                text = json.dumps({"action": action})
            texts.append(text)
        if not broken:
            return Verdict(self.name, "tool_call", "allow")
        rules = ", ".join(dict.fromkeys(broken))
        reason = f"{len(broken)} of {len(texts)} actions forbidden by the rule {rules}"
        if self.config.action != "modify":
            return Verdict(self.name, "tool_call", self.config.action, reason, 1.0)
        if missing:
            return Verdict(self.name, "tool_call", "block", f"{reason}, and no allowed action is known", 1.0)
        return Verdict(self.name, "tool_call", "modify", reason, 1.0, replacement=tuple(texts))


def _widened(bounds: ObservedRangeConfig, slack: float) -> ObservedRangeConfig:
    pairs = [
        (low - slack * (high - low), high + slack * (high - low))
        for low, high in zip(bounds.low, bounds.high, strict=True)
    ]
    return ObservedRangeConfig(low=tuple(low for low, _ in pairs), high=tuple(high for _, high in pairs))


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise TypeError("an observation is no list of numbers")
    return values


def _action(text: str) -> Action:
    action = json.loads(text)["action"]
    return action if type(action) is int else _numbers(action)


def _bounds(rule: ActionRule, parts: int) -> tuple[Sequence[float | None], Sequence[float | None]]:
    none = (None,) * parts
    return none if rule.low is None else rule.low, none if rule.high is None else rule.high


def _forbids(rule: ActionRule, action: Action) -> bool:
    if isinstance(action, list):
        if rule.low is None and rule.high is None:
            raise TypeError("a rule for discrete actions meets a continuous one")
        low, high = _bounds(rule, len(action))
        pairs = zip(action, low, high, strict=True)
        return any(not (-_INF if a is None else a) <= x <= (_INF if b is None else b) for x, a, b in pairs)
    if rule.low is not None or rule.high is not None:
        raise TypeError("a rule for continuous actions meets a discrete one")
    return action in rule.forbid or (rule.allow is not None and action not in rule.allow)
