"""A policy with all its pipelines built: what an exchange begins with, and keeps to its end."""

from __future__ import annotations

from raysafe.errors import ConfigError
from raysafe.guards.guard import Guard
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.policy import Policy
from raysafe.guards.settings import NOTHING, GuardConfig, Resources


class InForce:
    """A policy, its label, and the pipeline of each tenant.

    Guards whose settings are equal are one object: between tenants, and with the policy that was in force before, so
    that the counts of a rate guard outlive a change of other guards. A file that settings only name isn't read again:
    give a changed model a new name.
    """

    def __init__(self, policy: Policy, resources: Resources = NOTHING, before: InForce | None = None) -> None:
        """Build every pipeline; raises RaySafeError where one of them can't be built."""
        self.policy = policy
        self.label = policy.label
        self._resources = resources
        self._before = before._guards if before else []
        self._guards: list[tuple[GuardConfig, Guard]] = []
        self._pipeline = self._build(policy)
        self._of_tenants = {tenant: self._build(policy.for_tenant(tenant)) for tenant in policy.tenants}
        self._before = []

    def pipeline(self, tenant: str = "default") -> Pipeline:
        """The pipeline of a tenant; the policy's own where it changes nothing for that tenant."""
        return self._of_tenants.get(tenant, self._pipeline)

    def _build(self, policy: Policy) -> Pipeline:
        kinds, always = {guard.kind for guard in policy.guards}, {guard.kind for guard in self._resources.always}
        for guard in policy.guards:
            if guard.kind in always and (guard.mode != "enforce" or guard.sample < 1 or guard.on_error != "closed"):
                raise ConfigError(
                    f"the guard '{guard.name}' applies what the safety case grants: it can't be in shadow mode, "
                    "sampled, or open where it fails"
                )
        missing = tuple(guard for guard in self._resources.always if guard.kind not in kinds)
        if missing:
            policy = policy.model_copy(update={"guards": (*missing, *policy.guards)})
        return policy.build(self._resources, self._guard)

    def _guard(self, config: GuardConfig) -> Guard:
        for known, guard in self._guards:
            if known == config:
                return guard
        kept = next((guard for known, guard in self._before if known == config), None)
        guard = kept if kept is not None else config.build(self._resources)
        self._guards.append((config, guard))
        return guard
