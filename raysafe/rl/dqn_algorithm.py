"""RLlib's DQN with a memory of arrays, and many gradients a round.

RLlib's own memory draws an episode object per step, and runs its connectors over them once a gradient. That way is left
to learners whose connectors need episodes, as a learned reward's does, and to memories by priority.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.dqn import DQN
from ray.rllib.algorithms.dqn.dqn_learner import (
    QF_LOSS_KEY,
    QF_MEAN_KEY,
    QF_NEXT_PREDS,
    QF_PREDS,
    QF_TARGET_NEXT_PREDS,
    TD_ERROR_MEAN_KEY,
)
from ray.rllib.algorithms.dqn.torch.dqn_torch_learner import DQNTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    TIMERS,
)
from torch.nn import functional as F

from raysafe.rl.learner import Batch, LeanLearner
from raysafe.rl.memory import Memory

COLUMNS = {
    "obs": Columns.OBS,
    "next_obs": Columns.NEXT_OBS,
    "actions": Columns.ACTIONS,
    "rewards": Columns.REWARDS,
    "terminated": Columns.TERMINATEDS,
    "n_step": "n_step",
}


class ArrayDQN(DQN):
    """Rounds of sampling and of `gradients_per_round` gradients (in `learner_config_dict`)."""

    config: Any
    env_runner_group: Any
    learner_group: Any
    memory: Memory | None = None

    def setup(self, config: Any) -> None:
        super().setup(config)
        wanted = self.config.replay_buffer_config
        if self.config._learner_connector is None and wanted["type"] == "EpisodeReplayBuffer":
            self.memory = Memory(wanted["capacity"], n_step=self.config.n_step, gamma=self.config.gamma)
        self.random = np.random.default_rng(self.config.seed)

    def restart(self, seed: int) -> None:
        """Draws from the memory follow from the seed alone from here on."""
        self.random = np.random.default_rng(seed)

    def training_step(self) -> None:
        if self.memory is None:
            super().training_step()
            return
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            sampled: Any = synchronous_parallel_sample(
                worker_set=self.env_runner_group,
                concat=True,
                sample_timeout_s=self.config.sample_timeout_s,
                _uses_new_env_runners=True,
                _return_metrics=True,
            )
        episodes, results = sampled
        self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
        for episode in episodes:
            self.memory.add(
                np.asarray(episode.get_observations(slice(0, len(episode) + 1))),
                np.asarray(episode.get_actions(slice(0, len(episode)))),
                np.asarray(episode.get_rewards(slice(0, len(episode)))),
                terminated=episode.is_terminated,
            )
        taken = self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0)
        if taken < self.config.num_steps_sampled_before_learning_starts:
            return
        size, rounds = self.config.train_batch_size_per_learner, self.config.learner_config_dict["gradients_per_round"]
        drawn = self.memory.draw(rounds * size, self.random)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            learned = self.learner_group.update(
                batch=MultiAgentBatch(
                    {DEFAULT_MODULE_ID: SampleBatch({COLUMNS[name]: values for name, values in drawn.items()})},
                    env_steps=rounds * size,
                ),
                timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: taken},
                minibatch_size=size,
            )
        self.metrics.aggregate(learned, key=LEARNER_RESULTS)
        self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, inference_only=True)


class DQNLearner(LeanLearner, DQNTorchLearner):
    """The loss of DQNTorchLearner for a batch of arrays, less the figures that nobody reads, and with the target
    network, which stands still meanwhile, asked once an update instead of once a gradient."""

    def prepare(self, batch: Batch) -> Batch:
        module: Any = self.module[DEFAULT_MODULE_ID].unwrapped()
        if "weights" in batch or module.num_atoms > 1 or Columns.STATE_IN in batch:
            return batch
        with torch.no_grad():
            target_NA = module.forward_target({Columns.OBS: batch[Columns.NEXT_OBS]})[QF_PREDS]
        return {**batch, QF_TARGET_NEXT_PREDS: target_NA}

    def forward(self, module: Any, batch: Batch) -> dict[str, Any]:
        if QF_TARGET_NEXT_PREDS not in batch:
            return super().forward(module, batch)
        module = module.unwrapped()
        out = {QF_TARGET_NEXT_PREDS: batch[QF_TARGET_NEXT_PREDS]}
        out[QF_PREDS] = module.compute_q_values({Columns.OBS: batch[Columns.OBS]})[QF_PREDS]
        if module.uses_double_q:
            with torch.no_grad():
                out[QF_NEXT_PREDS] = module.compute_q_values({Columns.OBS: batch[Columns.NEXT_OBS]})[QF_PREDS]
        return out

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        if "weights" in batch or config.num_atoms > 1:
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        values_BA, target_BA = fwd_out[QF_PREDS], fwd_out[QF_TARGET_NEXT_PREDS]
        values_B = values_BA.gather(1, batch[Columns.ACTIONS].long()[:, None])[:, 0]
        with torch.no_grad():
            chosen_BA = fwd_out[QF_NEXT_PREDS] if config.double_q else target_BA
            best_B = target_BA.gather(1, chosen_BA.argmax(1, keepdim=True))[:, 0]
            going_B = torch.where(batch[Columns.TERMINATEDS], 0.0, config.gamma ** batch["n_step"])
            wanted_B = batch[Columns.REWARDS] + going_B * best_B
        distance = F.huber_loss if config.td_error_loss_fn == "huber" else F.mse_loss
        loss = distance(values_B, wanted_B)
        if self.told:
            figures = {
                QF_LOSS_KEY: loss,
                QF_MEAN_KEY: values_B.mean(),
                TD_ERROR_MEAN_KEY: (values_B - wanted_B).abs().mean(),
            }
            self.metrics.log_dict(figures, key=module_id, window=1)
        return loss
