"""What stands beside a gateway: the audit log, the kill switch and keys, the counters of budgets, the holds, the
recorder of figures, the sandboxes of its tool, and the records that its dashboard shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raysafe.monitoring.recorder import Recorder
from raysafe.records.store import Store
from raysafe.serving.door import Plane
from raysafe.serving.holding import Shelf
from raysafe.serving.ledger import AuditWriter
from raysafe.serving.python_tool import Sandboxes
from raysafe.serving.spending import Counters


@dataclass(frozen=True)
class Records:
    """What a dashboard reads and decides on."""

    store: Store
    audit_folder: Path


@dataclass(frozen=True)
class ControlRoom:
    """What a gateway asks and tells, so that it does no more than it may. The gateway starts and stops it."""

    audit: AuditWriter
    plane: Plane
    counters: Counters | None = None
    """Of budgets; without them, a policy or a safety case that sets budgets is refused with ConfigError."""
    holds: Shelf | None = None
    """Keep what guards hold; without them, a hold is a refusal."""
    recorder: Recorder | None = None
    """Takes note of how exchanges end, for the safety monitor."""
    records: Records | None = None
    """Shown at /dashboard; without them there is no such page."""
    sandboxes: Sandboxes | None = None
    """For the tool that the gateway runs itself; without them, settings that offer it are refused with ConfigError."""

    def start(self) -> None:
        """Raises SandboxUnavailable where a tool's code can't be isolated: the gateway doesn't start then."""
        if self.sandboxes is not None:
            self.sandboxes.start()
        self.plane.start()
        if self.recorder is not None:
            self.recorder.start()

    def stop(self) -> None:
        """Close the gateway for good, and finish what waits; the log last, for the others write to it."""
        self.plane.stop()
        if self.recorder is not None:
            self.recorder.stop()
        if self.sandboxes is not None:
            self.sandboxes.close()
        if self.counters is not None:
            self.counters.close()
        if self.records is not None:
            self.records.store.close()
        self.audit.close()
