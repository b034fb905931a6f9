"""What escalations do about a service: what is due is kept in the monitor's state until it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from raysafe.control.intervention import InterventionOrder
from raysafe.control.intervention_orders import apply, propose
from raysafe.errors import ConfigError, RaySafeError, StorageError
from raysafe.monitoring.rules import Intervening
from raysafe.records.audit import AuditLog
from raysafe.records.intervention_table import InterventionRow
from raysafe.records.store import Store

logger = logging.getLogger(__name__)


class RollBack(NamedTuple):
    """The version that a service is to leave, and the approved one to serve instead, as name:version."""

    away_from: str
    to: str


Approved = Callable[[str], RollBack]
"""Where a service can be rolled back to; raises RaySafeError where there is nothing."""


def nowhere(service: str) -> RollBack:
    """For monitors that know no registry."""
    raise ConfigError(f"'{service}' can't be rolled back from here: this monitor knows no approved versions")


def act(
    store: Store,
    audit: AuditLog,
    due: dict[str, Any],
    *,
    by: str,
    approved: Approved = nowhere,
    folder: Path | None = None,
) -> None:
    """Apply or propose one due intervention, once: one that is in the store already is not ordered again.

    due: `intervention` (rules.Intervening), `service`, `alert`, `summary`. What can't be done is recorded, and not
    tried again; raises StorageError where the store is away, and then it is.
    """
    asked = Intervening.model_validate(due["intervention"])
    try:
        order = _order(asked, due["service"], approved)
        if _ordered(store, order, due["alert"]):
            return
        do = propose if asked.confirm else apply
        do(store, order, by=by, reason=due["summary"], alert=due["alert"], audit=folder)
    except StorageError:
        raise
    except RaySafeError as error:
        logger.error("the intervention '%s' of '%s' can't be made: %s", asked.kind, due["service"], error)
        details = {"kind": asked.kind, "alert": due["alert"], "reason": str(error)}
        audit.append("intervention failed", by, due["service"], details)


def _ordered(store: Store, order: InterventionOrder, alert: str) -> bool:
    """Whether the store has this order for this alert already."""
    same = (InterventionRow.alert == alert, InterventionRow.kind == order.kind)
    with store.reading() as session:
        return any(
            options == order.options() for options in session.scalars(select(InterventionRow.options).where(*same))
        )


def _order(asked: Intervening, service: str, approved: Approved) -> InterventionOrder:
    fields: dict[str, Any] = {"requests_per_minute": asked.requests_per_minute, "duration_s": asked.duration_s}
    if asked.kind == "roll_back":
        fields |= approved(service)._asdict()
    return InterventionOrder(kind=asked.kind, target=service, **fields)
