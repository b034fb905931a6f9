"""What a policy changes for one tenant. A guard may be tightened; loosened or removed only where it says so itself."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.guards.guard_list import GuardList, parse_guards
from raysafe.guards.settings import GuardConfig

FIXED = ("kind", "name", "overridable")
"""Fields that belong to the policy, and not to a tenant."""


class TenantChanges(Config):
    """`tenants: {acme: {guards: {length: {input_characters: 500}}, add: [{kind: ...}], remove: [topics]}}`."""

    guards: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Fields by the name of the guard that they change."
    )
    add: GuardList = Field(default=(), description="Guards of the tenant's own, which run after the policy's.")
    remove: tuple[str, ...] = Field(default=(), description="Names of overridable guards that are left out.")

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "tenant") -> Self:
        parse_guards(values.get("add"), "add", source)
        return super().parse(values, source)


def tenant_guards(guards: Sequence[GuardConfig], changes: TenantChanges, where: str) -> tuple[GuardConfig, ...]:
    """A tenant's guards, in order; raises ConfigError for what the policy's guards don't allow."""
    known = {guard.name: guard for guard in guards}
    for name in (*changes.guards, *changes.remove):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"guards: {', '.join(known) or 'none'}"
            raise ConfigError(f"the policy has no guard '{name}' ({where}); {hint}")
    for name in changes.remove:
        if name in changes.guards:
            raise ConfigError(f"the guard '{name}' is both changed and removed ({where}); do one of them")
        if not known[name].overridable:
            raise ConfigError(f"the guard '{name}' can't be removed ({where}), unless it says 'overridable: true'")
    if taken := [guard.name for guard in changes.add if guard.name in known]:
        raise ConfigError(f"a guard '{taken[0]}' is there already ({where}); give the added one another name")
    kept = (guard for guard in guards if guard.name not in changes.remove)
    return (*(_changed(guard, changes.guards.get(guard.name), where) for guard in kept), *changes.add)


def _changed(guard: GuardConfig, fields: dict[str, Any] | None, where: str) -> GuardConfig:
    if not fields:
        return guard
    where = f"{where}.guards.{guard.name}"
    if fixed := [name for name in FIXED if name in fields]:
        raise ConfigError(f"{fixed[0]} of a guard is the policy's to say ({where}); leave it out")
    before = {name: getattr(guard, name) for name in guard.model_fields_set}
    changed = type(guard).parse({**before, "kind": guard.kind, "name": guard.name, **fields}, where)
    if not guard.overridable:
        _check_tighter(guard, changed, where)
    return changed


def _check_tighter(guard: GuardConfig, changed: GuardConfig, where: str) -> None:
    for name in type(guard).model_fields:
        old, new = getattr(guard, name), getattr(changed, name)
        if old == new:
            continue
        rule = guard.tighter.get(name)
        if rule is None or not rule(old, new):
            own = (name for name in guard.tighter if name in type(guard).model_fields)
            may = f"a tenant may tighten {', '.join(own)}" if rule is None else "that doesn't tighten it"
            raise ConfigError(
                f"{name} of the guard '{guard.name}' can't become {new!r} ({where}): {may}; for more, the guard must "
                f"say 'overridable: true'"
            )
