"""What is in force at a gateway for one tenant: its pipeline, the ledger that names the policy, and the budgets. An
exchange ends under what it began with, whatever becomes of the policy's file meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from raysafe.control.capability_guard import CapabilitiesConfig, CapabilityGuard
from raysafe.control.measures import NONE, Measures
from raysafe.errors import ConfigError
from raysafe.guards.guard import Exchange
from raysafe.guards.in_force import InForce
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.policy import Policy
from raysafe.guards.reload import Accepted, FixedPolicy, PolicyFile, PolicySource, Refused
from raysafe.guards.settings import Ask, Resources
from raysafe.serving.control_room import ControlRoom
from raysafe.serving.ledger import Ledger
from raysafe.serving.refusals import guard_failed
from raysafe.serving.settings import GatewaySettings
from raysafe.serving.spending import Counters, Spending, limits_of
from raysafe.serving.terms import pipeline_under


@dataclass(frozen=True)
class Standing:
    """One tenant's."""

    policy: Policy
    pipeline: Pipeline
    ledger: Ledger
    counters: Counters | None
    answer_tokens: int
    measures: Measures = NONE
    """What the interventions that were in force asked for."""

    def spending(self, exchange: Exchange) -> Spending | None:
        """The exchange's draw on budgets; None where none counts it. Raises ApiError for a throttle without a store."""
        guard, throttle = capability_guard(self.pipeline), self.measures.requests_per_minute
        if self.counters is None:
            if throttle is not None:
                raise guard_failed("the service is throttled, and has no store to count in")
            return None
        if guard is None and throttle is None:
            return None
        drawn = Spending(self.counters, guard, exchange, exchange.max_tokens or self.answer_tokens, throttle)
        return drawn if drawn.limits else None


class Standings:
    """A gateway's, by tenant, under whatever policy its source says is in force."""

    def __init__(self, settings: GatewaySettings, upstream: Ask, room: ControlRoom) -> None:
        """upstream: the served model, for guards that ask it anew. Raises ConfigError where there are budgets and
        nothing counts them."""
        # what the safety case grants holds under any policy
        always = () if settings.granted is None else (CapabilitiesConfig(),)
        self._resources = Resources(upstream=upstream, granted=settings.granted, always=always)
        self._source: PolicySource = (
            FixedPolicy(settings.policy, self._resources)
            if settings.policy_file is None
            else PolicyFile(settings.policy_file, self._resources, only=settings.approved_guards)
        )
        self._audit, self._counters = room.audit, room.counters
        self._answer_tokens = settings.answer_tokens
        self._of: tuple[InForce | None, Measures, dict[str, Standing]] = (None, NONE, {})
        self._check_budgets(self._source.current().policy)

    @property
    def label(self) -> str:
        """The policy in force, with its version and the beginning of its digest."""
        return self._source.current().label

    @property
    def refused(self) -> bool:
        """Whether the policy's file holds another policy, which was refused."""
        return self._source.refusal is not None

    def of(self, tenant: str, measures: Measures = NONE) -> Standing:
        """What is in force now for a tenant, under the measures of interventions."""
        in_force = self._source.current()
        known, under, made = self._of
        if known is not in_force or under is not measures:
            made = {}
            self._of = (in_force, measures, made)
        if tenant not in made:
            ledger = Ledger(self._audit, in_force.label, in_force.policy.record_text, measures.in_force)
            pipeline = pipeline_under(measures, in_force.pipeline(tenant))
            made[tenant] = Standing(in_force.policy, pipeline, ledger, self._counters, self._answer_tokens, measures)
        return made[tenant]

    def start(self) -> None:
        """Follow the policy's file, where there is one."""
        self._source.start(self._changed)

    def stop(self) -> None:
        self._source.stop()

    def _changed(self, change: Accepted | Refused) -> None:
        """Record a change before it takes effect; raises where it can't be recorded or may not be."""
        if isinstance(change, Accepted):
            self._check_budgets(change.new)
        self._audit.submit("policy", "gateway", "policy", change.record()).result()

    def _check_budgets(self, policy: Policy) -> None:
        if self._counters is not None:
            return
        policies = (policy, *(policy.for_tenant(tenant) for tenant in policy.tenants))
        own = [guard for each in policies for guard in each.guards if isinstance(guard, CapabilitiesConfig)]
        if any(_counts(guard.build(self._resources)) for guard in (*own, CapabilitiesConfig())):
            raise ConfigError("the policy or the safety case sets budgets, and this gateway has no store to count in")


def capability_guard(pipeline: Pipeline) -> CapabilityGuard | None:
    """The pipeline's guard of capabilities, if it has one."""
    return next((e.guard for e in pipeline.entries if isinstance(e.guard, CapabilityGuard)), None)


def _counts(guard: CapabilityGuard) -> bool:
    return bool(guard.config.budgets or limits_of(guard, Exchange("", "k", "m", ())))
