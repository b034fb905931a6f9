"""Interventions in the audit log. One is in force where the store or the log says so, and lifting it takes both.

So whoever can write the store alone can close a service further, and never open it. What an intervention says is its
row's in the log, whatever the store holds of it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from raysafe.control.intervention import Intervention
from raysafe.control.kill_log import ALL
from raysafe.control.order_chain import read_order_chain
from raysafe.control.people import same_person

CHAIN = "interventions"
"""Writer of interventions in the audit log; interventions-2, … where several write at a time."""
APPLIED, REVERTED = "intervention applied", "intervention reverted"
BROKEN = "broken"


class InterventionLog:
    """The interventions of one audit log."""

    def __init__(self, folder: Path) -> None:
        """Reads the chains of interventions alone. Raises StorageError where the log or its anchors can't be read."""
        self.folder = folder
        rows, self.problems = read_order_chain(folder, CHAIN)
        self.applied = {row["hash"]: row for row in rows if row["kind"] == APPLIED}
        self.lifted = {key for row in rows if row["kind"] == REVERTED for key in self._lifts(row)}

    @property
    def open(self) -> dict[str, Intervention]:
        """Those that nothing lifts, by their row's hash."""
        return {key: _read(row) for key, row in self.applied.items() if key not in self.lifted}

    def _lifts(self, row: dict[str, Any]) -> list[str]:
        """What a reverting row lifts: what is of its own target, and another person's."""
        orders = [self.applied[key] for key in row["details"].get("lifts", []) if key in self.applied]
        return [
            order["hash"]
            for order in orders
            if order["subject"] == row["subject"] and not same_person(order["actor"], row["actor"])
        ]


def standing(stored: Collection[Intervention], log: InterventionLog) -> list[Intervention]:
    """The interventions that were applied and not reverted, by the store or the log, oldest first; a broken log is a
    quarantine of everything."""
    found = log.open
    for each in stored:
        key = each.audit_hash
        if key is None or each.kind == "kill":
            continue
        known = found.get(key)
        if known is None and each.state == "applied":
            lifted = key in log.lifted
            note = f"only by the store, while the audit log in {log.folder} "
            found[key] = each._replace(note=note + ("says that it was reverted" if lifted else "doesn't hold it"))
        elif known is not None and each.state != "applied":
            said = f"the store says that it is {each.state}, and the audit log in {log.folder} doesn't"
            found[key] = known._replace(note=said)
    have = {each.audit_hash for each in stored}
    for key, each in found.items():
        if key not in have:
            found[key] = each._replace(note=f"the audit log in {log.folder} holds it, and the store doesn't")
    if log.problems:
        problems = "; ".join(log.problems)
        reason = f"the audit log of interventions in {log.folder} is broken ({problems}): see `raysafe audit verify`"
        found[BROKEN] = _broken(reason)
    return sorted(found.values(), key=lambda each: (each.applied is not None, each.applied or 0))


def details_of(each: Intervention) -> dict[str, Any]:
    """What the row of an intervention that is applied says, beside target and who."""
    return {
        "intervention": each.id,
        "kind": each.kind,
        "options": each.options,
        "reason": each.reason,
        "alert": each.alert,
        "proposed_by": each.proposed_by,
        "starts": each.starts and each.starts.isoformat(),
        "until": each.until and each.until.isoformat(),
    }


def _read(row: dict[str, Any]) -> Intervention:
    said = row["details"]
    return Intervention(
        id=str(said.get("intervention")),
        target=row["subject"],
        kind=said.get("kind"),
        options=said.get("options") or {},
        reason=str(said.get("reason")),
        alert=said.get("alert"),
        state="applied",
        proposed_by=str(said.get("proposed_by")),
        starts=_time(said.get("starts")),
        until=_time(said.get("until")),
        applied_by=row["actor"],
        applied=_time(row["time"]),
        audit_hash=row["hash"],
    )


def _broken(reason: str) -> Intervention:
    who = "the audit log"
    return Intervention(BROKEN, ALL, "quarantine", {}, reason, None, "applied", who, applied_by=who)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
