"""Recorded signals as rewards: what was measured along recorded trajectories, such as a watching person's heart rate,
is predicted from observations, and the prediction is earned, or what departs from rest is paid for.

    signals: {trajectories: demos.jsonl, file: heart.parquet, column: heart_rate, use: regulariser, weight: 0.1}

A signal's file has the columns `trajectory` (its number in the trajectories' file, from 0), `step` (from 0) and the
signal's own; a step may have several rows, of which the mean counts. Every step of every trajectory that is named must
be there: a series that is shifted or has holes would teach another thing than was measured, so it is refused. So is a
signal that observations don't tell: the prediction must explain a share of the variance in trajectories held out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from raysafe.config import Config

if TYPE_CHECKING:
    from raysafe.rl.job import RLJob
    from raysafe.rl.signal_env import Signals


class SignalsConfig(Config):
    """A recorded signal, and what is made of it."""

    trajectories: str = Field(description="Trajectories that it was recorded along: a file with observations.")
    file: str = Field(description="Parquet, Arrow or Feather file of the signal.")
    column: str = Field(min_length=1, description="The signal's column.")
    use: Literal["reward", "regulariser"] = Field(
        default="reward",
        description="reward: the predicted signal, in deviations from its mean, is earned; regulariser: the square of "
        "its distance from target is paid.",
    )
    weight: float = Field(default=0.1, gt=0, allow_inf_nan=False, description="What one deviation is worth.")
    lower_is_better: bool = Field(default=False, description="reward: the signal's opposite is earned.")
    target: float = Field(default=0.0, allow_inf_nan=False, description="regulariser: deviations from the mean.")
    ridge: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="Shrinks the prediction's weights.")
    least_explained: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the signal's variance, in held-out trajectories, to predict."
    )

    def extension(self, job: RLJob) -> Signals:
        from raysafe.rl.signal_env import Signals

        return Signals(self)
