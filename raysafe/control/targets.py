"""What a kill order may name: what gateways serve, what is registered, and what was ordered before."""

from __future__ import annotations

import difflib

from raysafe.control.kill_log import ALL
from raysafe.control.kill_orders import read_orders
from raysafe.control.leases import holders
from raysafe.errors import ConfigError
from raysafe.records.registry import Registry
from raysafe.records.store import Store


def check_target(store: Store, target: str) -> None:
    """Raise ConfigError for a name that no gateway and no registered version goes by."""
    if target == ALL:
        return
    with store.reading() as session:
        serving = {name for holder in holders(session) for name in holder.names}
        ordered = {stored.order.target for stored in read_orders(session)}
    versions = Registry(store).list()
    known = serving | ordered | {name for version in versions for name in (version.name, version.label, version.digest)}
    if target not in known:
        near = difflib.get_close_matches(target, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"gateways serve {', '.join(sorted(serving)) or 'nothing now'}"
        raise ConfigError(f"no gateway and no registered model is called '{target}'; {hint} (--all closes everything)")
