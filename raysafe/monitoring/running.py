"""The monitor as it runs: one thread looks, one renews the lease, one tells the sinks, one writes the history."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from raysafe.errors import RaySafeError, raised_at
from raysafe.monitoring.acting import Approved, nowhere
from raysafe.monitoring.archive import archive
from raysafe.monitoring.deliveries import deliver
from raysafe.monitoring.exported import Exported
from raysafe.monitoring.history import history_folder
from raysafe.monitoring.lease import RENEW_S
from raysafe.monitoring.monitor import Monitor
from raysafe.monitoring.rules_file import RulesFile
from raysafe.records.audit import AuditLog, audit_folder
from raysafe.records.store import Store

logger = logging.getLogger(__name__)
CHAIN = "monitor"
COURIER_S, ARCHIVE_S = 0.5, 60.0
WAIT_S = 20.0
"""Longest wait for the store, whose writers take turns."""


class Running:
    """A monitor in this process. `start` returns at once; `stop` ends it, and gives the lease back."""

    def __init__(
        self, store_url: str, rules: str | Path, *, approved: Approved = nowhere, archive_s: float = ARCHIVE_S
    ) -> None:
        """Raises ConfigError for rules that can't be in force, StorageError for a store that can't be used."""
        file = RulesFile(rules)
        self._store = Store(store_url, wait_s=WAIT_S)
        self._audit = AuditLog(audit_folder(store_url), writer=CHAIN, unique=True)
        self.monitor = Monitor(self._store, file, self._audit, approved=approved)
        self._folder = history_folder(store_url)
        self._exported = Exported()
        self._stop = threading.Event()
        self.in_charge = False
        """Whether this one is, and not another that it waits for."""
        self.failure: str | None = None
        """Why the last look failed; None where it didn't."""
        tick_s = file.rules.tick_s
        self._threads = [
            threading.Thread(target=self._every, args=(period_s, work), name=f"monitor-{name}", daemon=True)
            for name, period_s, work in (
                ("lease", RENEW_S, self._renew),
                ("ticks", tick_s, self._tick),
                ("courier", COURIER_S, self._deliver),
                ("archive", archive_s, self._archive),
            )
        ]

    def start(self) -> None:
        self._audit.append("monitor started", self.monitor.actor, self.monitor.lease.name, {})
        self._renew()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.in_charge:
            self._try(self._archive)
            self._try(self.monitor.lease.give_back)
        self._audit.append("monitor stopped", self.monitor.actor, self.monitor.lease.name, {})
        self._audit.close()
        self._store.close()

    def wait(self, timeout_s: float) -> bool:
        """Whether it was stopped meanwhile."""
        return self._stop.wait(timeout_s)

    def _every(self, period_s: float, work: Callable[[], object]) -> None:
        while not self._stop.wait(period_s):
            self._try(work)

    def _try(self, work: Callable[[], object]) -> None:
        """What goes wrong is told and tried again at the next turn: the monitor must outlive a store that is away."""
        try:
            work()
        except RaySafeError as error:
            self.failure = str(error)
            logger.error("%s", error)
        except Exception as error:
            self.failure = f"{type(error).__name__} at {raised_at(error)}"
            logger.error("the monitor failed: %s", self.failure)

    def _renew(self) -> None:
        self.in_charge = self.monitor.lease.take(self.monitor.rules.label)

    def _tick(self) -> None:
        if self.in_charge:
            self.in_charge = self.monitor.tick()
            self.failure = None
            self._exported.update(self._store, self.in_charge)

    def _deliver(self) -> None:
        if self.in_charge:
            while deliver(self._store, {sink.name: sink for sink in self.monitor.rules.sinks}):
                pass

    def _archive(self) -> None:
        if self.in_charge:
            archive(self._store, self.monitor.lease, self._folder)
