"""A linear text guard: a model that `raysafe guards train` made, or a packaged one, over hashed n-grams.

- kind: linear
  name: jailbreaks
  model: jailbreak        # packaged; or a folder of your own
  threshold: 0.9          # the model's own where it is left out
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysafe.guards.linear_model import PACKAGED, load_linear
from raysafe.guards.readings import readings
from raysafe.guards.scored import ScoredConfig, ScoredGuard
from raysafe.guards.settings import NOTHING, Resources


class LinearConfig(ScoredConfig):
    """`kind: linear` of a policy."""

    kind: Literal["linear"] = "linear"
    name: str = Field(default="linear", min_length=1)
    model: str = Field(
        description=f"Folder that `raysafe guards train` wrote, or a packaged model: {', '.join(PACKAGED)}."
    )
    threshold: float | None = Field(
        default=None, gt=0, le=1, description="Score from which the guard acts; the model's own by default."
    )
    decode: bool = Field(default=True, description="Judge what the text reads as once codes and disguises are undone.")

    def build(self, resources: Resources = NOTHING) -> LinearGuard:
        return LinearGuard(self)


class LinearGuard(ScoredGuard):
    """Raises ConfigError or ModelError where its model can't be loaded."""

    def __init__(self, config: LinearConfig) -> None:
        self.model = load_linear(config.model)
        settings = self.model.settings
        threshold = settings.threshold if config.threshold is None else config.threshold
        super().__init__(config, threshold, f"reads as '{settings.positive}'")
        self._decode = config.decode

    def score(self, text: str) -> float:
        if not self._decode:
            return self.model.score(text)
        return max(self.model.score(reading) for reading in readings(text))
