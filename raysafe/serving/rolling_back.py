"""Which version of its model a service should serve now: the one it was started with, or where interventions lead."""

from __future__ import annotations

from raysafe.control.intervention import Intervention
from raysafe.control.intervention_log import InterventionLog, standing
from raysafe.control.intervention_orders import read_interventions
from raysafe.control.revision import read_revision
from raysafe.records.audit import audit_folder
from raysafe.records.store import Store, store_now


class RollBacks:
    """Looks at the store; reads interventions and their audit log anew only where something has changed."""

    def __init__(self, store: Store, label: str, names: frozenset[str]) -> None:
        """label: the version that the service was started with, as name:version."""
        self._store, self._label, self._names = store, label, names
        self._followed: int | None = None
        self._standing: list[Intervention] = []

    def wanted(self) -> str:
        """The label of the version to serve. Raises StorageError."""
        with self._store.reading() as session:
            number, now = read_revision(session), store_now(session)
            if number != self._followed:
                self._standing = standing(read_interventions(session), InterventionLog(audit_folder(self._store.url)))
                self._followed = number
        mine = [each for each in self._standing if each.kind == "roll_back" and each.concerns(self._names)]
        leads = {each.options["away_from"]: each.options["to"] for each in mine if each.holds(now)}
        label, seen = self._label, set()
        while label in leads and label not in seen:
            seen.add(label)
            label = leads[label]
        return label
