"""Kill orders in the audit log: what was ordered, and which of it was lifted.

A restore's row names the hashes of the orders that it lifts, so that no clock decides what came after what. Whoever
can write the store alone can't make such a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from raysafe.control.order_chain import read_order_chain
from raysafe.control.people import same_person

CHAIN = "kill"
"""Writer of kill orders in the audit log; kill-2, … where several write at a time."""
ALL = "*"
"""The target of an order that closes everything."""


class Order(NamedTuple):
    """A kill order in force."""

    target: str
    by: str
    reason: str
    time: str
    hash: str
    """Of its row in the audit log."""
    note: str = ""
    """Why it is in force although the store or the log, read alone, would say otherwise."""

    def concerns(self, names: frozenset[str]) -> bool:
        return self.target == ALL or self.target in names

    def __str__(self) -> str:
        what = "everything" if self.target == ALL else f"'{self.target}'"
        return f"{what} was killed by {self.by} at {self.time[:19]}: {self.reason}" + (
            f" ({self.note})" if self.note else ""
        )


class KillLog:
    """The orders of one audit log."""

    def __init__(self, folder: Path) -> None:
        """Reads the chains of kill orders alone. Raises StorageError where the log or its anchors can't be read."""
        self.folder = folder
        rows, self.problems = read_order_chain(folder, CHAIN)
        self.killed = {row["hash"]: row for row in rows if row["kind"] == "killed"}
        self.lifted = {order for row in rows if row["kind"] == "restored" for order in self._lifts(row)}

    @property
    def open(self) -> dict[str, Order]:
        """Orders that no restore lifts, by their hash."""
        return {key: _order(row) for key, row in self.killed.items() if key not in self.lifted}

    def _lifts(self, row: dict[str, Any]) -> list[str]:
        """The orders that a restore lifts: those of its own target that another person gave."""
        named = row["details"].get("lifts", [])
        orders = [self.killed[key] for key in named if key in self.killed]
        return [
            order["hash"]
            for order in orders
            if order["subject"] == row["subject"] and not same_person(order["actor"], row["actor"])
        ]


def _order(row: dict[str, Any]) -> Order:
    return Order(row["subject"], row["actor"], str(row["details"].get("reason")), row["time"], row["hash"])
