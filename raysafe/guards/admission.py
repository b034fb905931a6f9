"""Admission: the guards of one stage over whole texts, in two parts, so that slow ones may run beside the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raysafe.guards.decision import STOPPED, WAITING, Decision
from raysafe.guards.entry import Entry
from raysafe.guards.guard import Exchange, Stage, Verdict


class Admission:
    """`first` runs the guards that come before the model, `rest` those that may run beside it (`beside: true`).

    Nothing of the answer may leave before `rest` has returned a decision that doesn't stop the exchange.
    """

    def __init__(
        self,
        exchange: Exchange,
        stage: Stage,
        first: Sequence[Entry],
        beside: Sequence[Entry],
        order: Sequence[str],
        not_run: Mapping[str, str],
    ) -> None:
        """order: the names of the stage's guards in the policy's order; not_run: those that aren't asked, and why."""
        self._exchange = exchange
        self._stage: Stage = stage
        self._first, self._beside = first, beside
        self._order, self._not_run = order, not_run
        self._verdicts: list[Verdict] = []
        self._stopped = False

    @property
    def waits(self) -> bool:
        """Whether guards are still to be asked, by `rest`."""
        return bool(self._beside) and not self._stopped

    @property
    def inline(self) -> bool:
        """Whether `first` may run on an event loop. `rest` never may."""
        return all(entry.guard.inline for entry in self._first)

    def first(self) -> Decision:
        """The decision of the guards before the model, up to the first that stops the exchange."""
        verdicts, exchange, stage = self._verdicts, self._exchange, self._stage
        for index, entry in enumerate(self._first):
            verdict = entry.check(exchange, stage)
            exchange.verdicts.append(verdict)
            verdicts.append(verdict)
            if verdict.action == "block" or verdict.action == "hold":
                self._stopped = True
                left = (*self._first[index + 1 :], *self._beside)
                return self._decision({each.guard.name: STOPPED for each in left})
        return self._decision({entry.guard.name: WAITING for entry in self._beside})

    def rest(self) -> Decision:
        """The decision of all the stage's guards, once those beside the model have answered or run out of time.

        They run at the same time, over the texts as `first` left them. Call it once, after `first`.
        """
        if self.waits:
            under_way = [entry.begin_beside(self._exchange) for entry in self._beside]
            for end in under_way:
                verdict = end()
                self._exchange.verdicts.append(verdict)
                self._verdicts.append(verdict)
        return self._decision({})

    def _decision(self, left: Mapping[str, str]) -> Decision:
        if not self._not_run and not self._beside:
            return Decision(self._stage, tuple(self._verdicts), left)
        place = {name: index for index, name in enumerate(self._order)}
        verdicts = sorted(self._verdicts, key=lambda verdict: place[verdict.guard])
        not_run = {**self._not_run, **left}
        return Decision(self._stage, tuple(verdicts), {name: not_run[name] for name in place if name in not_run})
