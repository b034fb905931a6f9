"""AuditBudget: which of a stream of suspicion scores to act on, so that a given share of them is, the highest first.

A score's rank among those before it is a smoothed conformal p-value (Vovk, Gammerman and Shafer 2005, section 2.2):
as long as scores are exchangeable, whatever their distribution, it is uniform on (0, 1), so that acting where it is at
most q acts on a share q exactly, from the first score on. An account bounds what is acted on where they are not.
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left, bisect_right, insort
from collections import deque
from fractions import Fraction
from typing import Literal

from raysafe.errors import ConfigError

Call = Literal["clear", "act", "spent"]
"""Not suspicious; to act on; suspicious, but there is nothing left in the account."""


class AuditBudget:
    """Threads may share it. `seen` scores so far, of which `acted` were acted on: acted <= burst + fraction * seen.

    The ranks of the last `window` scores count, so that a drift is followed, and memory and time a score are bounded.
    """

    def __init__(
        self, fraction: float, *, burst: int = 10, window: int = 1000, rng: random.Random | None = None
    ) -> None:
        if not 0 < fraction <= 1 or burst < 0 or window < 1:
            raise ConfigError(
                "an audit budget is a fraction above 0 up to 1, a burst of at least 0 and a window of at least 1, "
                f"got {fraction:g}, {burst} and {window}"
            )
        # as it is written: 0.1 is a tenth, so that the account is exact
        self.fraction = Fraction(str(fraction))
        self.burst, self.window = burst, window
        self.seen = self.acted = self.spent = 0
        # not to be foreseen by whoever chooses what is scored
        self._rng = rng or random.SystemRandom()
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []
        self._lock = threading.Lock()

    def decide(self, score: float) -> Call:
        """Count a score in, and say what it calls for; `act` is charged at once."""
        with self._lock:
            suspicious = self._ranks_high(score)
            self._remember(score)
            self.seen += 1
            if not suspicious:
                return "clear"
            if self.acted + 1 > self.burst + self.fraction * self.seen:
                self.spent += 1
                return "spent"
            self.acted += 1
            return "act"

    def suspicious(self, score: float) -> bool:
        """Whether a score ranks among the highest, without counting it in or charging anything."""
        with self._lock:
            return self._ranks_high(score)

    def _ranks_high(self, score: float) -> bool:
        greater = len(self._ordered) - bisect_right(self._ordered, score)
        equal = len(self._ordered) - bisect_left(self._ordered, score) - greater
        return self._rng.random() < act_probability(greater, equal, len(self._ordered), self.fraction)

    def _remember(self, score: float) -> None:
        if len(self._recent) == self.window:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        self._recent.append(score)
        insort(self._ordered, score)


def act_probability(greater: int, equal: int, seen: int, fraction: Fraction) -> Fraction:
    """P((greater + U (equal + 1)) / (seen + 1) <= fraction), U uniform on (0, 1): ties are broken by lot."""
    return min(max((fraction * (seen + 1) - greater) / (equal + 1), Fraction(0)), Fraction(1))
