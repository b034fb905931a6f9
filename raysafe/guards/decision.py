"""The decision that a stage's verdicts add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raysafe.guards.guard import Action, Stage, Verdict

_BY_SEVERITY: tuple[Action, ...] = ("block", "hold", "modify")

STOPPED = "an earlier guard stopped it"
UNFINISHED = "the answer was stopped before its end"
NOT_SAMPLED = "not sampled"
WAITING = "runs beside the model"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided at one stage: the verdicts of the guards that ran, in the policy's order, and the names of those
    that have none, with the reason why."""

    stage: Stage
    verdicts: tuple[Verdict, ...]
    not_run: Mapping[str, str] = field(default_factory=dict)

    @property
    def action(self) -> Action:
        """The severest of the verdicts' actions."""
        taken = {verdict.action for verdict in self.verdicts}
        for action in _BY_SEVERITY:
            if action in taken:
                return action
        return "allow"

    @property
    def stopped_by(self) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.stops), None)
