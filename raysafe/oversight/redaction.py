"""Personal data and secrets marked in what leaves the log: what a policy's guards look for, or all that is known."""

from __future__ import annotations

from collections.abc import Sequence

from raysafe.guards.entities import EntityConfig, EntityGuard, Marks
from raysafe.guards.pii import Numbered, PiiConfig, PiiGuard
from raysafe.guards.policy import Policy
from raysafe.guards.secrets import SecretsConfig


class Redactor:
    """Marks entities, whatever a guard's own action and mode: what is blocked for an address holds that address."""

    def __init__(self, policy: Policy | None) -> None:
        """policy: whose guards say what is marked, each tenant's its own; None marks every kind there is."""
        self._policy = policy
        self._guards: dict[str, list[EntityGuard]] = {}

    @property
    def told(self) -> str:
        """What is marked, as a sentence."""
        if self._policy is None:
            return "personal data and secrets of every known kind are marked"
        named = [config.name for config in _entities(self._policy)]
        if not named:
            return f"nothing is marked: the policy {self._policy.label} has no pii or secrets guard"
        return f"what {' and '.join(named)} of the policy {self._policy.label} look for is marked"

    def redact(self, texts: Sequence[str], tenant: str) -> list[str]:
        """The texts of one exchange: the same entity has the same mark in all of them."""
        found = list(texts)
        for guard in self._of(tenant):
            marks = Numbered(guard.finder, found) if isinstance(guard, PiiGuard) else Marks(guard.finder)
            found = [marks.rewrite(text) for text in found]
        return found

    def _of(self, tenant: str) -> list[EntityGuard]:
        if tenant not in self._guards:
            configs = [SecretsConfig(), PiiConfig()]
            if self._policy is not None:
                configs = _entities(self._policy.for_tenant(tenant))
            built = [config.build() for config in configs]
            self._guards[tenant] = [guard for guard in built if isinstance(guard, EntityGuard)]
        return self._guards[tenant]


def _entities(policy: Policy) -> list[EntityConfig]:
    return [config for config in policy.guards if isinstance(config, EntityConfig)]
