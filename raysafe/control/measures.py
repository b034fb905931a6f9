"""What the interventions in force mean for one gateway: a few settings that a request is answered under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from raysafe.control.intervention import Intervention


@dataclass(frozen=True)
class Measures:
    """Without any intervention, all are off."""

    requests_per_minute: float | None = None
    """The lowest of the throttles, over all gateways of the service."""
    review: bool = False
    enforce_shadows: bool = False
    degraded: bool = False
    quarantined: bool = False
    rolled_back: bool = False
    in_force: tuple[str, ...] = ()
    """Ids of the interventions, for the audit rows of what is answered under them."""

    @classmethod
    def of(cls, standing: Iterable[Intervention], names: frozenset[str], now: datetime) -> Measures:
        """Those of the gateway that goes by `names`, at `now` by the store's clock."""
        mine = [each for each in standing if each.concerns(names) and each.holds(now)]
        # a version that is served already isn't rolled back from
        mine = [each for each in mine if each.kind != "roll_back" or each.options.get("away_from") in names]
        kinds = {each.kind for each in mine}
        rates = [float(each.options["requests_per_minute"]) for each in mine if each.kind == "throttle"]
        return cls(
            min(rates, default=None),
            "require_review" in kinds,
            "shadow_block" in kinds,
            "degrade" in kinds,
            "quarantine" in kinds,
            "roll_back" in kinds,
            tuple(sorted(each.id for each in mine)),
        )

    def stricter_than(self, other: Measures) -> bool:
        """Whether an answer that was begun under `other` may not leave under these. A throttle stops no answer."""
        return any(
            getattr(self, name) and not getattr(other, name)
            for name in ("review", "enforce_shadows", "degraded", "quarantined", "rolled_back")
        )


NONE = Measures()
