"""`raysafe rl`: an agent learns in an environment. RLlib trains; extensions say what is rewarded and what forbidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Job
from raysafe.rl.constraints import ConstraintSettings
from raysafe.rl.dqn import DQNSettings
from raysafe.rl.judge_reward import JudgeRewardConfig
from raysafe.rl.learned_reward import LearnedReward
from raysafe.rl.masking import MaskingSettings
from raysafe.rl.ppo import PPOSettings
from raysafe.rl.q_learning import QLearningSettings
from raysafe.rl.settings import EvaluationSettings, SamplingSettings
from raysafe.rl.shaping_settings import ShapingSettings
from raysafe.rl.side_effect_penalty import SideEffectsSettings
from raysafe.rl.signals import SignalsConfig
from raysafe.runtime.report import write_report
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.rl.agent import Agent
    from raysafe.rl.extension import Extension

Algorithm = Literal["ppo", "dqn", "q-learning"]
EXTENSIONS: tuple[str, ...] = (
    "shaping",
    "judge_reward",
    "signals",
    "learned_reward",
    "side_effects",
    "constraint",
    "masking",
)
"""Fields of RLJob whose configs, where they are set, have a method `extension(job)`; in the order of application."""


class RLJob(Job):
    """Train an agent in an environment: PPO or DQN by RLlib, or tabular Q-learning."""

    job: ClassVar[str] = "rl"
    keeps_best: ClassVar[bool] = True
    """Whether the policy of the best evaluation is the result, or the last."""

    env: str = Field(description="A gymnasium id (CartPole-v1, raysafe/SideEffects-v0), or module:Class of your own.")
    env_config: dict[str, Any] = Field(default_factory=dict, description="What the environment is made with.")
    algorithm: Algorithm = Field(default="ppo", description="How it learns.")
    steps: int = Field(default=100_000, ge=1, description="Environment steps to learn from.")
    target: float | None = Field(
        default=None, allow_inf_nan=False, description="Stop as soon as an evaluation's mean return reaches it."
    )
    ppo: PPOSettings | None = Field(default=None, description="Settings of PPO; its preset by default.")
    dqn: DQNSettings | None = Field(default=None, description="Settings of DQN; its preset by default.")
    q_learning: QLearningSettings | None = Field(default=None, description="Settings of q-learning; its preset.")
    sampling: SamplingSettings = SamplingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    shaping: ShapingSettings | None = Field(default=None, description="Something is added to the reward in training.")
    learned_reward: LearnedReward | None = Field(
        default=None, description="Learn the reward from comparisons of what the agent does."
    )
    side_effects: SideEffectsSettings | None = Field(default=None, description="Side effects are charged in training.")
    constraint: ConstraintSettings | None = Field(default=None, description="A limit on what episodes cost.")
    masking: MaskingSettings | None = Field(default=None, description="Actions that are forbidden, and never taken.")
    judge_reward: JudgeRewardConfig | None = Field(
        default=None, description="Reward what a vision model sees in the environment's frames."
    )
    signals: SignalsConfig | None = Field(
        default=None, description="Reward, or keep near rest, a signal that was recorded along trajectories."
    )
    checkpoint_every: int | None = Field(
        default=None,
        ge=1,
        description="Environment steps between checkpoints, at each of which episodes begin anew; by default there is "
        "one at each evaluation. The best policy is kept in between, too.",
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="Latest checkpoints kept, besides the best.")

    @model_validator(mode="after")
    def _settings_of_the_algorithm(self) -> Self:
        for name in ("ppo", "dqn", "q_learning"):
            if name != self.algorithm.replace("-", "_") and getattr(self, name) is not None:
                raise ValueError(f"{name} does nothing with algorithm {self.algorithm}: leave its settings out")
        return self

    @model_validator(mode="after")
    def _a_table_learns_alone(self) -> Self:
        if self.algorithm != "q-learning":
            return self
        for name in EXTENSIONS:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} does nothing with algorithm q-learning: leave it out, or choose ppo")
        if self.sampling != SamplingSettings():
            raise ValueError("sampling does nothing with algorithm q-learning: q_learning.copies is its number")
        return self

    @property
    def learned_by(self) -> str:
        """What a policy's card says of where it comes from."""
        return self.algorithm.upper()

    @property
    def extensions(self) -> list[Extension]:
        """New ones, in the order in which they are applied."""
        return [config.extension(self) for name in EXTENSIONS if (config := getattr(self, name)) is not None]

    @property
    def settings(self) -> PPOSettings | DQNSettings:
        """Those of RLlib's algorithm."""
        return (self.ppo or PPOSettings()) if self.algorithm == "ppo" else (self.dqn or DQNSettings())

    def agent(self, run: Run | None = None) -> Agent:
        """What learns, and may write into a run; raises ConfigError."""
        if self.algorithm == "q-learning":
            from raysafe.rl.tabular_agent import TabularAgent

            return TabularAgent(self)
        from raysafe.rl.rllib_agent import RLlibAgent

        return RLlibAgent(self, run)

    def run(self, resume: Run | None = None) -> Run:
        """Train; leaves checkpoints and report.html in the run. Raises ConfigError before Ray is started."""
        from raysafe.rl.build import check_env, check_room

        check_env(self)
        check_room(self)
        run = resume or Run.create(self)
        extensions = self.extensions
        with run.active():
            from raysafe.rl.training import train

            train(self, run)
        from raysafe.rl.report import sections

        write_report(run, sections=[*sections(run), *(part for e in extensions for part in e.sections(run))])
        return run
