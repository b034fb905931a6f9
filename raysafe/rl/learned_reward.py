"""A reward learned from comparisons of what the agent does, in place of the environment's or beside it: the settings.

After Christiano et al. (2017) and PEBBLE (Lee et al. 2021): train, cut fragments out of what the agent did, ask which
of two is better where the reward ensemble disagrees, fit it anew, go on (preference_loop.py). The agent's loss sees the
learned reward alone; metrics and evaluations keep the environment's own, which makes each a test of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.rl.human_rater import HumanRater
from raysafe.rl.raters import SyntheticRater
from raysafe.rl.transitions import Sees

if TYPE_CHECKING:
    from raysafe.rl.job import RLJob
    from raysafe.rl.preference_loop import LearnedRewardExtension


class PreferenceModelConfig(Config):
    """The ensemble and how it is fitted."""

    members: int = Field(default=3, ge=1, le=64, description="Networks in the ensemble.")
    hidden: tuple[int, ...] = Field(default=(64, 64), description="Features of each hidden layer.")
    activation: Literal["relu", "tanh", "silu", "gelu", "elu"] = Field(
        default="silu", description="After each hidden layer."
    )
    sees: Sees = Field(default="state-action", description="What a step's reward depends on.")
    learning_rate: float = Field(default=3e-3, gt=0, description="Of AdamW, falling to 0 along a cosine.")
    weight_decay: float = Field(default=1e-2, ge=0, description="Of AdamW.")
    epochs: int = Field(default=30, ge=1, description="Passes over the comparisons at each fit, from fresh weights.")
    batch_size: int = Field(default=64, ge=1, description="Comparisons a step.")
    label_smoothing: float = Field(
        default=0.02, ge=0, lt=0.5, description="Share of answers taken to be wrong, whatever they say."
    )
    held_out: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the comparisons that are measured on and not learned from."
    )
    bootstrap: bool = Field(default=True, description="Each member draws its own comparisons, with replacement.")
    normalise: Literal["standard", "scale"] = Field(
        default="standard",
        description="Rewards of mean 0 and deviation 1 over what the agent does, or only the deviation. Where episodes "
        "end by themselves a shift changes the task: use scale there.",
    )


class QueryConfig(Config):
    """How the next questions are chosen."""

    choice: Literal["random", "spread", "bald"] = Field(
        default="spread", description="At random, or by the ensemble's disagreement: spread of the gap, or information."
    )
    candidates: int = Field(default=10, ge=1, description="Random pairs looked at, for each that is asked about.")
    diverse: bool = Field(
        default=True,
        description="Of the most uncertain pairs, twice as many as wanted, take those far from each other.",
    )


class LearnedReward(Config):
    """Learn the reward from comparisons of the agent's own behaviour."""

    rater: Annotated[SyntheticRater | HumanRater, Field(discriminator="kind")] = Field(
        default=SyntheticRater(), description="Who compares."
    )
    comparisons: int = Field(default=500, ge=0, description="Comparisons asked for in all.")
    first: float = Field(
        default=0.25, gt=0, le=1, description="Share of them that is asked after the first iteration, …"
    )
    rounds: int = Field(default=5, ge=1, description="… the rest in so many equal rounds …")
    until: float = Field(default=0.6, gt=0, le=1, description="… until this share of the job's steps.")
    recorded: str | None = Field(
        default=None,
        description="Parquet file of earlier comparisons to start from; with comparisons 0, from them alone.",
    )
    keep_in: str | None = Field(
        default=None, description="Parquet file where all comparisons are kept, to be given as recorded later."
    )
    fragment_length: int = Field(default=25, ge=1, description="Steps of a fragment.")
    pool: int = Field(default=1000, ge=2, description="Latest fragments that are asked about.")
    model: PreferenceModelConfig = PreferenceModelConfig()
    queries: QueryConfig = QueryConfig()
    mode: Literal["replace", "add"] = Field(
        default="replace", description="The learned reward alone, or added to the environment's."
    )
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="What the learned reward is times.")

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> Self:
        if not self.comparisons and self.recorded is None:
            raise ValueError("comparisons is 0 and nothing is recorded: there is nothing to learn a reward from")
        if self.queries.choice != "random" and self.model.members < 2:
            raise ValueError(
                f"queries.choice {self.queries.choice} needs an ensemble that can disagree, model.members is "
                f"{self.model.members}: raise it, or set queries.choice to random"
            )
        return self

    def wanted(self, share: float) -> int:
        """Comparisons that are due when this share of the job's steps is done."""
        rounds = int(self.rounds * min(1.0, share / self.until) + 1e-9)
        return round(self.comparisons * (self.first + (1 - self.first) * rounds / self.rounds))

    def extension(self, job: RLJob) -> LearnedRewardExtension:
        """Raises ConfigError for a job whose rewards can't be learned."""
        if job.dqn is not None and job.dqn.n_step != 1:
            raise ConfigError(
                f"dqn.n_step must be 1 with learned_reward, got {job.dqn.n_step}: the memory adds up rewards of "
                "several steps before they can be replaced"
            )
        if job.sampling.normalise:
            raise ConfigError(
                "sampling.normalise must be false with learned_reward: a reward of observations whose scale drifts "
                "would drift with it"
            )
        from raysafe.rl.preference_loop import LearnedRewardExtension

        return LearnedRewardExtension(self, job.steps, job.seed)
