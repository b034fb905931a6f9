"""DQN (Mnih et al. 2015) with double, duelling, n-step and prioritised variants, by RLlib: settings and config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.rl.settings import NetworkSettings

if TYPE_CHECKING:
    from ray.rllib.algorithms.dqn import DQNConfig

    from raysafe.rl.job import RLJob


class DQNSettings(Config):
    """Q-learning from a memory of past steps; actions are discrete."""

    network: NetworkSettings = NetworkSettings(hidden=(256, 256), activation="relu")
    learning_rate: float = Field(default=2.3e-3, gt=0, allow_inf_nan=False, description="Of Adam.")
    batch_size: int = Field(default=64, ge=1, description="Steps of one gradient, drawn from the memory.")
    memory: int = Field(default=100_000, ge=1, description="Steps that are remembered.")
    prioritised: bool = Field(default=False, description="Draw steps with large errors more often.")
    warm_up: int = Field(default=1000, ge=0, description="Steps before the first gradient.")
    sample_steps: int = Field(default=256, ge=1, description="Environment steps between rounds of gradients.")
    gradients: int = Field(default=128, ge=1, description="Gradients of each round.")
    gamma: float = Field(default=0.99, gt=0, le=1, description="Discount.")
    n_step: int = Field(default=1, ge=1, description="Rewards that are summed before the bootstrap.")
    double: bool = Field(default=True, description="Choose by the network, value by its target (van Hasselt 2016).")
    duelling: bool = Field(default=False, description="Value and advantages apart (Wang et al. 2016).")
    target_every: int = Field(default=10, ge=1, description="Steps between copies of the network to its target.")
    epsilon: float = Field(default=1.0, ge=0, le=1, description="Share of random actions at the start …")
    final_epsilon: float = Field(default=0.04, ge=0, le=1, description="… and at the end …")
    epsilon_fraction: float = Field(default=0.16, gt=0, le=1, description="… of this share of all steps.")
    clip_norm: float | None = Field(default=10.0, gt=0, allow_inf_nan=False, description="Largest gradient norm.")

    @model_validator(mode="after")
    def _remembered(self) -> Self:
        if self.memory < max(self.batch_size, self.warm_up):
            raise ValueError(
                f"memory {self.memory} must hold batch_size {self.batch_size} and warm_up {self.warm_up}: raise it"
            )
        return self

    def config(self, job: RLJob) -> DQNConfig:
        """RLlib's config on its new API stack, less what every algorithm has."""
        from ray.rllib.algorithms.dqn import DQNConfig

        from raysafe.rl.dqn_algorithm import ArrayDQN, DQNLearner

        config: Any = DQNConfig(algo_class=ArrayDQN)
        config.learners(
            learner_class=DQNLearner,
            learner_config_dict={"adam_epsilon": 1e-8, "gradients_per_round": self.gradients},
        )
        config.training(
            train_batch_size_per_learner=self.batch_size,
            lr=self.learning_rate,
            gamma=self.gamma,
            n_step=self.n_step,
            double_q=self.double,
            dueling=self.duelling,
            target_network_update_freq=self.target_every,
            num_steps_sampled_before_learning_starts=self.warm_up,
            epsilon=[[0, self.epsilon], [max(1, round(self.epsilon_fraction * job.steps)), self.final_epsilon]],
            grad_clip=self.clip_norm,
            # what RLlib's own way of learning needs to come to as many gradients
            training_intensity=self.gradients * self.batch_size / self.sample_steps,
            replay_buffer_config={
                "type": "PrioritizedEpisodeReplayBuffer" if self.prioritised else "EpisodeReplayBuffer",
                "capacity": self.memory,
            },
        )
        config.rl_module(
            model_config={
                "fcnet_hiddens": list(self.network.hidden),
                "fcnet_activation": self.network.activation,
            }
        )
        envs = job.sampling.envs or self.envs
        config.env_runners(rollout_fragment_length=max(1, self.sample_steps // (envs * max(1, job.sampling.runners))))
        return config

    @property
    def envs(self) -> int:
        """Environments side by side, where the job says nothing: each round steps them a few times."""
        return min(16, self.sample_steps)
