"""What runs beside a service, in the process that started it: its safety monitor, and who follows its roll backs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from raysafe.errors import RaySafeError
from raysafe.monitoring.running import Running
from raysafe.oversight.roll_back import roll_back_of
from raysafe.records.store import Store
from raysafe.serving.application import Application
from raysafe.serving.deploy import Deployment
from raysafe.serving.rolling_back import RollBacks

logger = logging.getLogger(__name__)


class Beside:
    """One service's; made before it is started, so that what can't be is said first."""

    def __init__(
        self,
        url: str,
        label: str | None,
        names: frozenset[str],
        application_of: Callable[[str], Application],
        rules: str | None,
    ) -> None:
        """label: of the version that is served; None before an upstream server. application_of: that of another
        version, checked as at a start. rules: of the monitor, if one is wanted. Raises ConfigError for bad rules."""
        self._store = Store(url)
        self._application_of = application_of
        self._label, self._refusal = label, ""
        self._roll_backs = None if label is None else RollBacks(self._store, label, names)
        self._monitor: Running | None = None
        if rules is not None:
            self._monitor = Running(url, rules, approved=lambda service: roll_back_of(self._store, service))

    def start(self) -> None:
        if self._monitor is not None:
            self._monitor.start()

    def look(self, deployment: Deployment) -> None:
        """Replace the version that is served where an intervention says so: its gateways are closed by it already."""
        if self._roll_backs is None:
            return
        try:
            wanted = self._roll_backs.wanted()
            if wanted == self._label:
                return
            deployment.replace(self._application_of(wanted))
        except RaySafeError as error:
            if str(error) != self._refusal:
                logger.error("the version that is wanted can't be served: %s", error)
            self._refusal = str(error)
            return
        self._label, self._refusal = wanted, ""
        logger.warning("serving %s now, by an intervention", wanted)

    def stop(self) -> None:
        if self._monitor is not None:
            self._monitor.stop()
        self._store.close()
