"""Evidence: what one examination says of one model, in the form that reviewers and gates read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from raysafe.config import Config


class Evidence(Config):
    """One figure of one suite on one model version. `passed` is None where no threshold was set."""

    suite: str = Field(description="Suite that measured it, such as 'safety-prompts'.")
    metric: str = Field(description="Name of the figure, such as 'unsafe_rate'.")
    value: float
    n: int = Field(ge=0, description="How many cases the figure rests on.")
    interval: tuple[float, float] | None = Field(
        default=None, description="95% confidence interval, where one can be stated."
    )
    threshold: float | None = None
    better: Literal["higher", "lower"] = "higher"
    model_digest: str = Field(description="sha256 of the model folder (records.digest.folder_digest).")
    data_digest: str | None = Field(default=None, description="sha256 of the data it was measured on.")
    settings: dict[str, str] = Field(
        default_factory=dict, description="What else decides the figure: settings of the suite, other models by digest."
    )
    run: str | None = Field(default=None, description="URI of the run that measured it.")
    artifacts: dict[str, str] = Field(default_factory=dict, description="Named files beside it, relative to the run.")
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def passed(self) -> bool | None:
        return self.met_by(self.value)

    def met_by(self, value: float) -> bool | None:
        """Whether a value reaches this evidence's threshold; None where there is none."""
        if self.threshold is None:
            return None
        return value >= self.threshold if self.better == "higher" else value <= self.threshold

    @property
    def measurement(self) -> tuple[object, ...]:
        """What was measured and how: the same for the same figure of the model measured again."""
        return self.suite, self.metric, self.better, self.data_digest, tuple(sorted(self.settings.items()))


def unmet(evidence: Iterable[Evidence]) -> list[Evidence]:
    """The evidence that failed and hasn't been made good, in its order.

    A failure stands until the same measurement (suite, figure, data, settings, other models) is taken again against a
    threshold, and its value reaches the threshold that was missed. Nothing else takes it away: no run without a
    threshold or with an easier one, no easier data, no weaker opponent.
    """
    failed: list[Evidence] = []
    for item in evidence:
        if item.threshold is None:
            continue
        failed = [old for old in failed if old.measurement != item.measurement or not old.met_by(item.value)]
        if not item.passed:
            failed.append(item)
    return failed


def evidence_digest(evidence: Iterable[Evidence]) -> str:
    """sha256 over evidence in its order: what a decision is based on."""
    *_, last = evidence_digests(evidence)
    return last


def evidence_digests(evidence: Iterable[Evidence]) -> Iterator[str]:
    """sha256 over no evidence, over the first piece, the first two, and so on.

    Fields that say nothing are left out, so that a field that a later version adds changes no digest.
    """
    digest = hashlib.sha256()
    yield digest.hexdigest()
    for item in evidence:
        said = {name: value for name, value in item.model_dump(mode="json").items() if value not in (None, {}, [])}
        digest.update(json.dumps(said, sort_keys=True, separators=(",", ":")).encode() + b"\n")
        yield digest.hexdigest()
