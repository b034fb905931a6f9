"""Rewards from a judge that looks: frames of the environment, scored by a vision model behind an OpenAI-compatible
endpoint, at stated intervals.

Answers are cached by the frame's content, so that a frame that was seen before costs nothing; what isn't in the cache
is paid from a budget. A judge that fails, or answers no score, ends the training: a reward that silently becomes 0
would be learned from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.judges.spec import JudgeConfig

if TYPE_CHECKING:
    from raysafe.rl.job import RLJob
    from raysafe.rl.judged_env import JudgeReward


class JudgeRewardConfig(Config):
    """Reward what a judge sees. A local model reads no images here: serve one, and name its endpoint."""

    judge: JudgeConfig = Field(description="A vision model behind an endpoint, or a function (kind scripted).")
    question: str = Field(min_length=1, description="What a frame is scored by, such as: how near is the goal?")
    every: int = Field(default=16, ge=1, description="Environment steps from one judged frame to the next.")
    budget: int = Field(ge=1, description="Most frames that the judge is asked about, over the whole training.")
    weight: float = Field(default=1.0, allow_inf_nan=False, description="What the full score is worth.")
    replaces: bool = Field(default=False, description="The judge's reward alone, in place of the environment's.")
    top: int = Field(default=10, ge=1, description="The best score that the judge can give.")
    when_spent: Literal["stop", "zero"] = Field(
        default="stop", description="Once the budget is spent: stop the training, or give no more rewards of this kind."
    )

    @model_validator(mode="after")
    def _can_see(self) -> Self:
        if self.judge.kind == "local":
            raise ValueError(
                "judge: a local model reads no frames; serve a vision model, and give its endpoint (openai)"
            )
        if self.weight == 0:
            raise ValueError("weight 0 pays for scores that change nothing: leave judge_reward out")
        return self

    def extension(self, job: RLJob) -> JudgeReward:
        from raysafe.rl.judged_env import JudgeReward

        return JudgeReward(self, runners=max(1, job.sampling.runners))
