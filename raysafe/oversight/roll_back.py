"""Where a service can be rolled back to: the newest approved version of its model that is older than the one served."""

from __future__ import annotations

from raysafe.control.leases import holders
from raysafe.errors import ConfigError
from raysafe.monitoring.acting import RollBack
from raysafe.oversight.decisions import DecisionLog
from raysafe.oversight.safety_case import load_case, why_not
from raysafe.records.audit import audit_folder
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.versions import ModelVersion


def roll_back_of(store: Store, service: str) -> RollBack:
    """The version that gateways of a service answer with, and the last approved one before it.

    Raises ConfigError where no gateway serves a registered version by that name, or no older version is approved.
    """
    versions = Registry(store).list()
    served = _served(store, service, versions)
    log = DecisionLog(audit_folder(store.url))
    older = (each for each in versions if each.name == served.name and each.version < served.version)
    for version in sorted(older, key=lambda each: each.version, reverse=True):
        if why_not(load_case(store, version.label), log) is None:
            return RollBack(away_from=served.label, to=version.label)
    raise ConfigError(
        f"'{service}' serves {served.label}, and no version before that is approved: degrade it, or kill it"
    )


def _served(store: Store, service: str, versions: list[ModelVersion]) -> ModelVersion:
    with store.reading() as session:
        names = {name for holder in holders(session) if service in holder.names for name in holder.names}
    found = [each for each in versions if each.label in names]
    if len(found) != 1:
        what = ", ".join(each.label for each in found) or "no registered version"
        raise ConfigError(f"'{service}' can't be rolled back: its gateways serve {what}")
    return found[0]
