"""One rule on one service: values in, and whether the rule's condition holds, with the number that says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from raysafe.errors import ConfigError
from raysafe.monitoring.detectors.detector import Detector, calibrate
from raysafe.monitoring.rules import Rule
from raysafe.monitoring.window_store import Observed
from raysafe.monitoring.windows import SAMPLE, Window

Value = float | str
"""A number, or the name of a category."""


class Condition(NamedTuple):
    """How a rule stands on a service."""

    since: datetime | None
    """When what it watches for began; None while it doesn't hold."""
    lasted_s: float
    """To the newest value."""
    value: float
    summary: str
    detections: int
    """New ones."""


class Stream:
    """What a rule remembers of one service. All of it goes to JSON and back."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._gathered: list[Value] = []
        self._detector: Detector | None = None
        self._quiet = 0
        """Values since the last detection."""
        self._recent: list[tuple[datetime, int, float]] = []
        """End, count and sum of the windows that a limit's mean is of."""
        self._since: datetime | None = None
        self._value = 0.0
        self._summary = ""
        self._detections = 0
        self._latest: datetime | None = None
        self.alert: str | None = None
        """The alert that it has opened, until that is over."""

    @property
    def calibrated(self) -> bool:
        return self.rule.limit is not None or self._detector is not None

    @property
    def progress(self) -> str:
        """How far it is, for people."""
        if self.calibrated:
            return "watching"
        return f"calibrating: {len(self._gathered)} of {self.rule.calibration.values} values"

    def feed(self, observed: Observed) -> None:
        """Take a window, if it has values of the rule's metric; calibrating takes a second or more, once.

        Raises ConfigError where no limit can be set on the values.
        """
        if self.rule.metric in observed.window.numbers or self.rule.metric in observed.window.categories:
            self._latest = observed.start + timedelta(seconds=observed.window.seconds)
            self._take(observed.window, self._latest)

    def _take(self, window: Window, end: datetime) -> None:
        if self.rule.limit is not None:
            self._feed_limit(window, end)
            return
        for value in self._values(window):
            if self._detector is None:
                self._gather(value)
            else:
                self._detect(self._detector, value, end)

    def condition(self) -> Condition:
        """How it stands after what was fed; detections are told once."""
        detections, self._detections = self._detections, 0
        lasted = self._latest - self._since if self._since and self._latest else timedelta(0)
        return Condition(self._since, lasted.total_seconds(), self._value, self._summary, detections)

    def clear(self) -> None:
        """A person said that it is over: it takes new values to say otherwise."""
        self._since, self._quiet, self._detections, self._recent, self.alert = None, 0, 0, [], None

    def _gather(self, value: Value) -> None:
        self._gathered.append(value)
        wanted = self.rule.calibration
        if len(self._gathered) < wanted.values or self.rule.detector is None:
            return
        self._detector = calibrate(
            self.rule.detector,
            self._calibration_data(),
            average_run_length=wanted.average_run_length,
            block=wanted.block,
            seed=wanted.seed,
        )
        self._gathered = []

    def _detect(self, detector: Detector, value: Value, now: datetime) -> None:
        found = detector.update(value)
        if found is None:
            self._quiet += 1
            if self._since is not None and self._quiet >= self.rule.clear_after:
                self._since = None
            return
        self._quiet, self._since = 0, self._since or now
        self._detections += 1
        self._value = found.statistic
        went = "changed" if found.direction == "change" else f"went {found.direction}"
        self._summary = (
            f"{self.rule.metric} {went}: {detector.config.kind} {found.statistic:.3g}, over its limit of "
            f"{found.limit:.3g} after {found.values} values"
        )

    def _feed_limit(self, window: Window, end: datetime) -> None:
        limit = self.rule.limit
        assert limit is not None
        summary = window.numbers[self.rule.metric]
        self._recent.append((end, summary.count, summary.total))
        self._recent = [each for each in self._recent if each[0] > end - timedelta(seconds=limit.over_s)]
        count = sum(each[1] for each in self._recent)
        if count < limit.least:
            return
        mean = sum(each[2] for each in self._recent) / count
        if limit.broken(mean):
            self._value, self._since = mean, self._since or end
            side, bound = ("above", limit.above) if limit.above is not None else ("below", limit.below)
            self._summary = f"{self.rule.metric} is {mean:.4g} over {count} values, {side} {bound:g}"
            self._detections += 1
        elif limit.cleared(mean):
            self._since = None

    def _calibration_data(self) -> Any:
        """Names of categories as they are, numbers as an array; raises ConfigError where a metric has both."""
        names = [isinstance(value, str) for value in self._gathered]
        if any(names) and not all(names):
            raise ConfigError(f"{self.rule.metric} has numbers and names: a detector takes one of them")
        return self._gathered if any(names) else np.array(self._gathered)

    def _values(self, window: Window) -> Iterator[Value]:
        if self.rule.metric in window.categories:
            for category, count in window.categories[self.rule.metric].items():
                yield from [category] * min(count, SAMPLE)
            return
        summary = window.numbers[self.rule.metric]
        if self.rule.each == "window":
            yield summary.total / summary.count
        else:
            yield from summary.sample

    def state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.rule.fingerprint,
            "gathered": self._gathered,
            "detector": None if self._detector is None else self._detector.state(),
            "quiet": self._quiet,
            "recent": [(end.isoformat(), count, total) for end, count, total in self._recent],
            "alert": self.alert,
            "since": None if self._since is None else self._since.isoformat(),
            "value": self._value,
            "summary": self._summary,
        }

    @classmethod
    def restored(cls, rule: Rule, state: dict[str, Any]) -> Stream:
        """What a state says, for the rule that left it; begun anew where the rule watches otherwise now."""
        stream = cls(rule)
        if state["fingerprint"] != rule.fingerprint:
            return stream
        stream._gathered, stream._quiet = state["gathered"], state["quiet"]
        stream._detector = None if state["detector"] is None else Detector.restored(state["detector"])
        stream._recent = [(datetime.fromisoformat(end), count, total) for end, count, total in state["recent"]]
        stream._since = None if state["since"] is None else datetime.fromisoformat(state["since"])
        stream._value, stream._summary, stream.alert = state["value"], state["summary"], state["alert"]
        return stream
