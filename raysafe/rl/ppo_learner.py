"""PPO's side of the lean learner: episodes become a batch in one connector, and the loss has no needless terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.ppo.ppo import LEARNER_RESULTS_KL_KEY, LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.learner import (
    AddObservationsFromEpisodesToBatch,
    AddOneTsToEpisodesAndTruncate,
    LearnerConnectorPipeline,
)
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.learner import ENTROPY_KEY, POLICY_LOSS_KEY, VF_LOSS_KEY
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.torch_utils import explained_variance

from raysafe.rl.advantages import gae
from raysafe.rl.learner import LeanLearner

COPIED = (Columns.ACTION_LOGP, Columns.ACTION_DIST_INPUTS)


class PPOLearner(LeanLearner, PPOTorchLearner):
    """Clipped policy gradients, the critic, and an optional KL to the last policy."""

    def build(self) -> None:
        super().build()
        pipeline = self._learner_connector
        if pipeline is None or not self.lean or self.module[DEFAULT_MODULE_ID].is_stateful():
            return
        # RLlib's own begin with the one that lengthens episodes, and go on where observations are added
        kept = [type(piece) for piece in pipeline.connectors].index(AddObservationsFromEpisodesToBatch)
        custom = [piece for piece in pipeline.connectors[:kept] if not isinstance(piece, AddOneTsToEpisodesAndTruncate)]
        assemble = Assemble(self.config.gamma, self.config.lambda_, self._device)
        self._learner_connector = LearnerConnectorPipeline(connectors=[*custom, assemble])

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        if not self.lean or Columns.LOSS_MASK in batch:
            return super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        module: Any = self.module[module_id].unwrapped()
        now = module.get_train_action_dist_cls().from_logits(fwd_out[Columns.ACTION_DIST_INPUTS])
        ratio_B = torch.exp(now.logp(batch[Columns.ACTIONS]) - batch[Columns.ACTION_LOGP])
        advantages_B = batch[Postprocessing.ADVANTAGES]
        clipped_B = ratio_B.clamp(1 - config.clip_param, 1 + config.clip_param)
        policy_loss = -torch.minimum(advantages_B * ratio_B, advantages_B * clipped_B).mean()
        targets_B = batch[Postprocessing.VALUE_TARGETS]
        values_B = module.compute_values(batch, embeddings=fwd_out.get(Columns.EMBEDDINGS))
        errors_B = (values_B - targets_B).square()
        if config.vf_clip_param < float("inf"):
            errors_B = errors_B.clamp(max=config.vf_clip_param)
        value_loss = errors_B.mean()
        loss = policy_loss + config.vf_loss_coeff * value_loss
        entropy_weight: Any = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        if entropy_weight or self.told:
            entropy = now.entropy().mean()
            loss = loss - entropy_weight * entropy
        if config.use_kl_loss or self.told:
            kind = module.get_exploration_action_dist_cls()
            kl = kind.from_logits(batch[Columns.ACTION_DIST_INPUTS]).kl(now).mean()
            if config.use_kl_loss:
                loss = loss + kl * self.curr_kl_coeffs_per_module[module_id]
        if self.told:
            figures = {
                POLICY_LOSS_KEY: policy_loss,
                VF_LOSS_KEY: value_loss,
                ENTROPY_KEY: entropy,
                LEARNER_RESULTS_KL_KEY: kl,
                LEARNER_RESULTS_VF_EXPLAINED_VAR_KEY: explained_variance(targets_B, values_B),
            }
            self.metrics.log_dict(figures, key=module_id, window=1)
        return loss


class Assemble(ConnectorV2):
    """All steps of all episodes as tensors, with advantages and value targets.

    Rewards that a connector before has put into the batch take the place of the episodes' own.
    """

    def __init__(self, gamma: float, lam: float, device: Any) -> None:
        super().__init__()
        self.gamma, self.lam, self.device = gamma, lam, device

    def __call__(
        self, *, rl_module: Any, batch: dict[str, Any], episodes: list[Any], **kwargs: Any
    ) -> dict[str, dict[str, torch.Tensor]]:
        module = rl_module[DEFAULT_MODULE_ID]
        lengths = np.array([len(episode) for episode in episodes])
        ends = np.cumsum(lengths)
        obs = np.concatenate([episode.get_observations(slice(0, len(episode) + 1)) for episode in episodes])
        # the observations of a chunk are one more than its steps
        places = np.delete(np.arange(len(obs)), ends + np.arange(len(episodes)))
        last_N = np.zeros(len(places), dtype=bool)
        last_N[ends - 1] = True
        terminated_N = np.zeros(len(places), dtype=bool)
        terminated_N[ends - 1] = [episode.is_terminated for episode in episodes]
        obs_tensor = torch.from_numpy(obs).to(self.device)
        with torch.no_grad():
            values = module.unwrapped().compute_values({Columns.OBS: obs_tensor}).cpu().numpy()
        values_N = values[places]
        next_values_N = np.where(terminated_N, 0.0, values[places + 1])
        advantages_N = gae(rewards_of(batch, episodes), values_N, next_values_N, last_N, gamma=self.gamma, lam=self.lam)
        spread = max(1e-4, float(advantages_N.std()))
        columns = {
            Columns.ACTIONS: np.concatenate([episode.actions.data for episode in episodes]),
            Postprocessing.ADVANTAGES: (advantages_N - advantages_N.mean()) / spread,
            Postprocessing.VALUE_TARGETS: advantages_N + values_N,
        }
        for name in COPIED:
            columns[name] = np.concatenate([episode.extra_model_outputs[name].data for episode in episodes])
        tensors = {name: torch.from_numpy(np.ascontiguousarray(c)).to(self.device) for name, c in columns.items()}
        return {DEFAULT_MODULE_ID: {Columns.OBS: obs_tensor[torch.from_numpy(places)], **tensors}}


def rewards_of(batch: dict[str, Any], episodes: list[Any]) -> np.ndarray:
    """Rewards of all steps (N,): those in the batch, by episode, or else the episodes'."""
    written = batch.get(Columns.REWARDS)
    if written is None:
        return np.concatenate([episode.rewards.data for episode in episodes])
    rest = {key[0]: np.concatenate([np.atleast_1d(part) for part in parts]) for key, parts in written.items()}
    found = []
    for episode in episodes:
        # chunks of one episode share its name and lie in their order
        found.append(rest[episode.id_][: len(episode)])
        rest[episode.id_] = rest[episode.id_][len(episode) :]
    return np.concatenate(found).astype(np.float32)
