"""RLlib's torch learner without what a single process doesn't need, for PPO and DQN.

RLlib converts, slices, logs and checks every minibatch by itself, which at networks of two small layers costs several
times the gradient. Here a batch is converted once, minibatches are index selections, figures are kept of the last pass.
Losses are RLlib's own, so a learner that overrides `compute_loss_for_module` works here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.policy.sample_batch import MultiAgentBatch

from raysafe.errors import TrainingError

Batch = dict[str, torch.Tensor]


class LeanLearner(TorchLearner):
    """`update()` for one module, on one learner or none of its own; with several it is RLlib's."""

    config: Any
    curr_kl_coeffs_per_module: Any
    last_update_ts_by_mid: Any

    @property
    def lean(self) -> bool:
        return self.config.num_learners <= 1 and not self.config.is_multi_agent

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Adam in one kernel: two thirds of a small network's optimiser step are calls."""
        settings: Any = config or self.config
        module: Any = self._module
        params: Any = self.get_parameters(module[module_id])
        self.register_optimizer(
            module_id=module_id,
            optimizer=torch.optim.Adam(params, eps=settings.learner_config_dict["adam_epsilon"], fused=True),
            params=params,
            lr_or_lr_schedule=settings.lr,
        )

    def update(
        self,
        batch: MultiAgentBatch | None = None,
        *,
        episodes: Any = None,
        training_data: TrainingData | None = None,
        timesteps: dict[str, Any] | None = None,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        **kwargs: Any,
    ) -> Any:
        if not self.lean:
            return super().update(
                batch=batch,
                episodes=episodes,
                training_data=training_data,
                timesteps=timesteps,
                num_epochs=num_epochs,
                minibatch_size=minibatch_size,
                shuffle_batch_per_epoch=shuffle_batch_per_epoch,
                **kwargs,
            )
        if training_data is None:
            training_data = TrainingData(batch=batch, episodes=episodes)
        training_data.validate()
        training_data.solve_refs()
        self.before_gradient_based_update(timesteps=timesteps or {})
        self._weights_seq_no += 1
        made = self._make_batch_if_necessary(training_data=training_data)
        whole: Any = dict(made.policy_batches[DEFAULT_MODULE_ID])
        # once, and not for every minibatch as forward_train does: it walks through all submodules
        own: Any = self.module[DEFAULT_MODULE_ID]
        own.train()
        whole = self.prepare(whole)
        size = len(next(iter(whole.values())))
        parts = list(minibatches(size, minibatch_size or size, num_epochs, shuffle=shuffle_batch_per_epoch))
        for number, part in enumerate(parts):
            self.told = number >= len(parts) - max(1, len(parts) // num_epochs)
            self.learn(whole if part is None else {name: values[part] for name, values in whole.items()})
        self._log_steps_trained_metrics(made)
        self.after_gradient_based_update(timesteps=timesteps or {})
        return self.metrics.reduce()

    def prepare(self, batch: Batch) -> Batch:
        """What can be computed once for all gradients of an update joins its batch."""
        return batch

    def forward(self, module: Any, batch: Batch) -> dict[str, Any]:
        """What the loss is computed from."""
        return module._forward_train(batch)

    told = True
    """Whether a loss is to log its figures."""

    def get_state(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """With what RLlib leaves out: the KL's adapted weight, and when the target network was last renewed."""
        state = super().get_state(*arguments, **options)
        state["kl_weights"] = {name: float(v) for name, v in getattr(self, "curr_kl_coeffs_per_module", {}).items()}
        state["target_renewed"] = dict(getattr(self, "last_update_ts_by_mid", {}))
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        for name, value in state.get("kl_weights", {}).items():
            self.curr_kl_coeffs_per_module[name].data.fill_(value)
        for name, step in state.get("target_renewed", {}).items():
            self.last_update_ts_by_mid[name] = step

    def learn(self, batch: Batch) -> None:
        """One optimiser step. Raises TrainingError where the gradient isn't finite, before it is taken."""
        module: Any = self.module[DEFAULT_MODULE_ID]
        out = self.forward(module, batch)
        loss: Any = self.compute_loss_for_module(
            module_id=DEFAULT_MODULE_ID,
            config=self.config.get_config_for_module(DEFAULT_MODULE_ID),
            batch=batch,
            fwd_out=out,
        )
        (_, optimizer), *_ = self.get_optimizers_for_module(DEFAULT_MODULE_ID)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.config.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], limit, foreach=True)
        if not torch.isfinite(norm):
            raise TrainingError(
                f"the loss is {loss.item():g} and its gradient's norm {norm.item():g}: lower learning_rate, "
                "normalise observations, or scale the rewards"
            )
        optimizer.step()


def minibatches(size: int, minibatch: int, epochs: int, *, shuffle: bool) -> Iterator[torch.Tensor | None]:
    """Row numbers of each step; None for all of them. What is left of a pass that is less than half a minibatch joins
    the last one."""
    count = max(1, round(size / minibatch))
    for _ in range(epochs):
        if count == 1:
            yield None
            continue
        order = torch.randperm(size) if shuffle else torch.arange(size)
        yield from torch.tensor_split(order, count)
