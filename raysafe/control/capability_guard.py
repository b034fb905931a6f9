"""CapabilityGuard: holds a model's actions to what is in effect; `kind: capabilities` of a policy.

kind: capabilities
allowed: {tools: [search, send_mail], domains: ["*.example.org"], autonomy: 2, scope: tenant, recipients: 3}
tools:
  send_mail: {scope: tenant, recipients: to, arguments: {to: {kind: list, longest: 3}, body: {kind: text}}}
isolation: {information: strict, influence: moderate}
budgets: [{subject: key, resource: requests, window: day, limit: 1000}]
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.control.capabilities import AUTONOMY, UNLIMITED, Capabilities, minimum
from raysafe.control.tools import Objection, ToolRule, object_to
from raysafe.guards.guard import Action, Exchange, Stage, Verdict
from raysafe.guards.settings import NOTHING, GuardConfig, Resources

Isolation = Literal["strict", "moderate", "minimal"]
_ACTIONS: dict[Isolation, Action] = {"strict": "block", "moderate": "hold", "minimal": "allow"}


class IsolationConfig(Config):
    """What happens where a capability is overstepped: strict blocks, moderate holds for a reviewer, minimal lets it
    through and reports it."""

    actions: Isolation = "strict"
    information: Isolation = "strict"
    influence: Isolation = "strict"


class BudgetRule(Config):
    """A budget of every key, of every tenant, or of the model, in a window of time."""

    subject: Literal["key", "tenant", "model"]
    resource: Literal["requests", "tokens", "model_seconds"]
    window: Literal["minute", "hour", "day", "total"]
    limit: float = Field(gt=0, description="Requests, tokens, or seconds of the model's work.")
    only: tuple[str, ...] = Field(default=(), description="The keys or tenants that it is for; none named: all.")
    aside: float | None = Field(
        default=None,
        gt=0,
        description="Model seconds set aside for a request, which is cut there; a tenth by default.",
    )

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if self.aside is not None and (self.resource != "model_seconds" or self.aside > self.limit):
            raise ValueError("aside is for model_seconds, and no more than their limit: leave it out, or lower it")
        if self.only and self.subject == "model":
            raise ValueError("only names keys or tenants, and has no effect on a model's budget: leave it out")
        return self


class CapabilitiesConfig(GuardConfig):
    """`kind: capabilities` of a policy: what the service allows, whatever a model's safety case grants."""

    kind: Literal["capabilities"] = "capabilities"
    name: str = Field(default="capabilities", min_length=1)
    allowed: Capabilities = Field(default=UNLIMITED, description="What this service allows; left out: no limit.")
    tools: dict[str, ToolRule] = Field(default_factory=dict, description="Rules of tools, by name.")
    isolation: IsolationConfig = Field(default_factory=IsolationConfig)
    budgets: tuple[BudgetRule, ...] = Field(default=(), description="Counted in the store, exactly, over all gateways.")

    def build(self, resources: Resources = NOTHING) -> CapabilityGuard:
        granted = resources.granted if isinstance(resources.granted, Capabilities) else UNLIMITED
        return CapabilityGuard(self, granted)


class CapabilityGuard:
    """Judges tool calls. What is asked may narrow what is granted and allowed, never widen it."""

    inline = True
    judges_last = True

    def __init__(self, config: CapabilitiesConfig, granted: Capabilities = UNLIMITED) -> None:
        self.config, self.name = config, config.name
        self.stages: frozenset[Stage] = frozenset({"tool_call"})
        self._standing = minimum(granted, config.allowed)

    def effective(self, exchange: Exchange) -> Capabilities:
        """What this exchange may do: the minimum of what is granted, allowed and asked."""
        asked = exchange.asked
        return minimum(self._standing, asked) if isinstance(asked, Capabilities) else self._standing

    def check(self, exchange: Exchange, stage: Stage) -> Verdict:
        if not exchange.tool_calls:
            return Verdict(self.name, stage, "allow")
        granted = self.effective(exchange)
        calls = exchange.cleared_calls()
        found = [o for call in calls for o in object_to(call, self.config.tools.get(call.name), granted)]
        ranked = sorted(found, key=lambda objection: _severity(self._action(objection)))
        action: Action = self._action(ranked[0]) if ranked else "allow"
        reasons = [objection.text for objection in ranked if self._action(objection) == action]
        if action != "block" and granted.autonomy == 0:
            action, reasons = "block", ["its autonomy is 0: it may suggest, and call no tool"]
        elif action == "allow" and granted.autonomy == 1:
            action, reasons = "hold", ["its autonomy is 1: it acts after approval", *reasons]
        elif action == "allow" and granted.autonomy == 2:
            reasons = ["reported: its autonomy is 2", *reasons]
        score = {"block": 1.0, "hold": 0.5}.get(action, 0.0)
        return Verdict(self.name, stage, action, "; ".join(dict.fromkeys(reasons)), score, "capability")

    def _action(self, objection: Objection) -> Action:
        level = getattr(self.config.isolation, objection.capability)
        return _ACTIONS[level]


def _severity(action: Action) -> int:
    return ("block", "hold", "allow").index(action)


def describe(granted: Capabilities) -> list[tuple[str, str]]:
    """Rows of a table: the five capabilities in words."""

    def listed(names: tuple[str, ...]) -> str:
        return "all" if "*" in names else ", ".join(names) or "none"

    def rate(limit: float | None) -> str:
        return "no limit" if limit is None else f"{limit:,.12g} a minute"

    unlimited = granted.recipients >= UNLIMITED.recipients
    return [
        ("resources: requests", rate(granted.requests_per_minute)),
        ("resources: tokens", rate(granted.tokens_per_minute)),
        ("resources: model seconds", rate(granted.model_seconds_per_minute)),
        ("information: data classes", listed(granted.data_classes)),
        ("information: paths", listed(granted.paths)),
        ("information: domains", listed(granted.domains)),
        ("actions: tools", listed(granted.tools)),
        ("autonomy", f"{granted.autonomy}: {AUTONOMY[granted.autonomy]}"),
        ("influence: scope", granted.scope),
        ("influence: recipients", "no limit" if unlimited else f"{granted.recipients:,}"),
    ]
