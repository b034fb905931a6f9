"""PPO (Schulman et al. 2017) by RLlib: the settings, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.rl.settings import NetworkSettings

if TYPE_CHECKING:
    from ray.rllib.algorithms.ppo import PPOConfig

    from raysafe.rl.job import RLJob


class PPOSettings(Config):
    """Clipped policy gradients on batches that the policy itself just sampled."""

    network: NetworkSettings = NetworkSettings()
    batch_size: int = Field(default=2048, ge=1, description="Steps of each batch, over all environments.")
    minibatch_size: int = Field(default=256, ge=1, description="Steps of one gradient.")
    epochs: int = Field(default=10, ge=1, description="Passes over each batch.")
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False, description="Of Adam.")
    schedule: Literal["constant", "linear"] = Field(
        default="linear", description="Learning rate: the same throughout, or down to 0 at the last step."
    )
    gamma: float = Field(default=0.99, gt=0, le=1, description="Discount.")
    lam: float = Field(default=0.95, ge=0, le=1, description="GAE's lambda.")
    clip: float = Field(default=0.2, gt=0, allow_inf_nan=False, description="How far a probability ratio counts.")
    value_weight: float = Field(default=0.5, ge=0, allow_inf_nan=False, description="Weight of the critic's loss.")
    value_clip: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Largest squared error that counts; none for all."
    )
    entropy_weight: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Weight of the policy's entropy.")
    kl_weight: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="First weight of the KL to the last policy; 0 for none."
    )
    kl_target: float = Field(default=0.01, gt=0, allow_inf_nan=False, description="What kl_weight adapts to.")
    clip_norm: float | None = Field(default=0.5, gt=0, allow_inf_nan=False, description="Largest gradient norm.")
    shared: bool = Field(default=False, description="One network for policy and critic, with a head each.")

    @model_validator(mode="after")
    def _divided(self) -> Self:
        if self.minibatch_size > self.batch_size:
            raise ValueError(
                f"minibatch_size {self.minibatch_size} is larger than batch_size {self.batch_size}: lower it"
            )
        return self

    def config(self, job: RLJob) -> PPOConfig:
        """RLlib's config on its new API stack, less what every algorithm has."""
        from ray.rllib.algorithms.ppo import PPOConfig
        from ray.rllib.core.rl_module.rl_module import RLModuleSpec

        from raysafe.rl.ppo_learner import PPOLearner
        from raysafe.rl.ppo_module import PPOModule

        rate = self.learning_rate
        config = PPOConfig()
        config.learners(learner_class=PPOLearner, learner_config_dict={"adam_epsilon": 1e-5})
        config.training(
            train_batch_size_per_learner=self.batch_size // max(1, job.sampling.learners),
            minibatch_size=self.minibatch_size,
            num_epochs=self.epochs,
            lr=rate if self.schedule == "constant" else [[0, rate], [job.steps, 0.0]],
            gamma=self.gamma,
            lambda_=self.lam,
            clip_param=self.clip,
            vf_loss_coeff=self.value_weight,
            vf_clip_param=self.value_clip or float("inf"),
            entropy_coeff=self.entropy_weight,
            use_kl_loss=self.kl_weight > 0,
            kl_coeff=self.kl_weight,
            kl_target=self.kl_target,
            grad_clip=self.clip_norm,
            grad_clip_by="global_norm",
        )
        config.rl_module(
            rl_module_spec=RLModuleSpec(module_class=PPOModule),
            model_config={
                "fcnet_hiddens": list(self.network.hidden),
                "fcnet_activation": self.network.activation,
                "vf_share_layers": self.shared,
            },
        )
        return config

    @property
    def envs(self) -> int:
        """Environments side by side, where the job says nothing."""
        return min(32, self.batch_size)
