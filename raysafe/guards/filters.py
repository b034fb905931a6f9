"""A guard's view of one streamed answer, whether it can judge piece by piece or only the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from raysafe.guards.guard import Exchange, Guard, OutputFilter, Step, StreamingGuard
from raysafe.guards.soundness import sound_replacement, sound_verdict

_STREAMS: dict[type, bool] = {}


def streams(guard: Guard) -> bool:
    """Whether a guard can judge as it streams; asked once a class, for a protocol's instance check takes 30 us."""
    kind = type(guard)
    if kind not in _STREAMS:
        _STREAMS[kind] = isinstance(guard, StreamingGuard)
    return _STREAMS[kind]


def open_filter(guard: Guard, exchange: Exchange) -> OutputFilter:
    """The guard's own filter, or one that holds the answer to its end for it."""
    return cast(StreamingGuard, guard).open(exchange) if streams(guard) else WholeText(guard, exchange)


class WholeText:
    """Holds an answer to its end for a guard that can only judge it whole."""

    def __init__(self, guard: Guard, exchange: Exchange) -> None:
        self._guard, self._exchange = guard, exchange
        self._held: list[str] = []

    def feed(self, text: str) -> Step:
        self._held.append(text)
        return Step("", 0)

    def finish(self) -> Step:
        text = "".join(self._held)
        # the guard judges what would leave: the text as the filters before it passed it on, not the model's own
        passed_on = [verdict for verdict in self._exchange.verdicts if verdict.stage != "output"]
        seen = replace(self._exchange, output=text, verdicts=passed_on)
        verdict = sound_verdict(self._guard, "output", self._guard.check(seen, "output"))
        sound_replacement(verdict, 1)
        left = verdict.replacement[0] if verdict.replacement else text
        return Step("" if verdict.stops else left, len(text), verdict)
