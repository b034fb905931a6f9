"""Evidence: what one examination says of one model, in the form that reviewers and gates read."""

from __future__ import annotations

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
    run: str | None = Field(default=None, description="URI of the run that measured it.")
    artifacts: dict[str, str] = Field(default_factory=dict, description="Named files beside it, relative to the run.")
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def passed(self) -> bool | None:
        if self.threshold is None:
            return None
        return self.value >= self.threshold if self.better == "higher" else self.value <= self.threshold
