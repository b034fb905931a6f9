"""One rank of a model that is trained online: updates from experience, figures of tokens, checkpoints, its weights.

A plain class: the same update runs in one process or on the ranks of an actor group, and N ranks do together what one
would do alone.
"""

from __future__ import annotations

import math
import tempfile
import time
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from raysafe.alignment.experience import ExperienceBatch, plan
from raysafe.errors import TrainingError
from raysafe.models.lora import LoraConfig, merged_weights, transposed_layers
from raysafe.models.packing import Layout
from raysafe.runtime import checkpoint as checkpoints
from raysafe.runtime import parallel
from raysafe.runtime.gradient import accumulate
from raysafe.runtime.learner import Learner, OptimConfig
from raysafe.runtime.storage import Folder
from raysafe.runtime.weights import WeightVersion, publish


class OnlineLearner(Learner):
    """A learner that is also asked for a figure of every token."""

    layout: Layout
    lora: LoraConfig | None

    @abstractmethod
    def forward(self, module: nn.Module, batch: ExperienceBatch) -> Tensor:
        """The figure of each token, (N,)."""


class OnlineTrainer:
    """Holds the module and its optimiser."""

    def __init__(
        self, learner: OnlineLearner, config: OptimConfig, *, seed: int, rank: int = 0, device: str = "cpu"
    ) -> None:
        self.learner, self.config, self.rank, self.ranks = learner, config, rank, parallel.ranks()
        self.device = torch.device(device)
        checkpoints.seed_everything(seed, rank)
        self.dtype = parallel.compute_dtype(config.precision, self.device)
        self.module = parallel.wrap(learner.build(), config, self.device)
        self.optimizer = parallel.make_optimizer(self.module, config)

    def update(self, rows: pa.Table, parts: list[np.ndarray], *, step: int, total_steps: int) -> dict[str, float]:
        """An optimiser step for each part (places of rows), the first being number `step`; mean figures over the parts.

        Raises TrainingError, before the step is taken, where loss or gradient isn't finite.
        """
        started = time.perf_counter()
        self.module.train()
        totals: dict[str, list[float]] = {}
        for index, part in enumerate(parts):
            rate = self.config.rate(step + index, total_steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            figures = self._step(rows.take(pa.array(part)), step + index)
            for name, value in (figures | {"learning_rate": rate}).items():
                totals.setdefault(name, []).append(value)
        figures = {name: float(np.mean(values)) for name, values in totals.items()}
        return figures | {"update_s": time.perf_counter() - started}

    def _step(self, rows: pa.Table, step: int) -> dict[str, float]:
        batches = self._batches(rows)
        # answers that are all masked leave nothing to divide by, and no gradient
        weight = float(np.sum(rows["units"].to_numpy())) or 1.0
        sums = accumulate(
            self.module,
            self.learner.loss,
            [(batch.to(self.device), active) for batch, active in batches],
            weight=weight,
            ranks=self.ranks,
            dtype=self.dtype,
            device=self.device,
        )
        norm = parallel.clip(self.module, self.config.clip_norm)
        figures = sums.over_ranks(weight, self.device)
        if not math.isfinite(figures["loss"]) or not math.isfinite(norm):
            raise TrainingError(
                f"update {step + 1}: loss {figures['loss']:g} and gradient norm {norm:g} are not both finite: "
                "lower training.learning_rate or training.clip_norm"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return figures | {"gradient_norm": norm}

    def figures(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """`forward` of this rank's share: places of rows and, end to end, the figures of their tokens."""
        self.module.eval()
        places, values = [], []
        with torch.no_grad(), parallel.autocast(self.dtype, self.device):
            for micro, active in self._plan(rows):
                batch = self.learner.collate(rows.take(pa.array(micro))).to(self.device)
                figure_N = self.learner.forward(self.module, batch)
                if active:
                    places.append(micro)
                    values.append(figure_N.double().cpu().numpy())
        if not places:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        return np.concatenate(places), np.concatenate(values)

    def publish(self, version: int) -> WeightVersion | None:
        """The weights as a plain policy's, adapters merged in; every rank must be asked, rank 0 answers."""
        weights = checkpoints.gather_model(self.module)
        if self.rank:
            return None
        if self.learner.lora:
            transposed = transposed_layers(parallel.unwrapped(self.module))
            weights = merged_weights(weights, self.learner.lora, transposed=transposed)
        return publish(weights, version)

    def save(self, uri: str, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint to folder `name` of a run; every rank must be asked."""
        gathered = checkpoints.gather(self.module, self.optimizer, self.device)
        if self.rank == 0:
            with tempfile.TemporaryDirectory(prefix="raysafe-checkpoint-") as folder:
                checkpoints.write(Path(folder), gathered, state)
                Folder(uri).upload(folder, name)

    def restore(self, uri: str, name: str) -> dict[str, Any]:
        """Load a checkpoint that `save` wrote; returns its state."""
        with tempfile.TemporaryDirectory(prefix="raysafe-checkpoint-") as folder:
            Folder(uri).download(name, folder)
            state, _ = checkpoints.restore(
                Path(folder), self.module, self.optimizer, rank=self.rank, device=self.device
            )
        return state

    def export(self, uri: str, target: str) -> None:
        """Write the model as a model folder to `target` of a run; every rank must be asked."""
        plain = checkpoints.plain_module(self.module, self.learner.build, rank=self.rank)
        if plain is None:
            return
        with tempfile.TemporaryDirectory(prefix="raysafe-model-") as folder:
            # training goes on in this module: what is saved is a view of it, moved nowhere
            self.learner.save(plain, Path(folder))
            Folder(uri).upload(folder, target)

    def offload(self) -> None:
        """Make room on the GPU."""
        self._move(torch.device("cpu"))

    def onload(self) -> None:
        self._move(self.device)

    def _move(self, device: torch.device) -> None:
        self.module.to(device)
        for state in self.optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    state[key] = value.to(device)

    def _plan(self, rows: pa.Table) -> list[tuple[np.ndarray, bool]]:
        """This rank's micro-batches; the flag is False for one that only keeps the ranks in step."""
        plans = plan(rows, ranks=self.ranks, budget=self.config.micro_tokens, layout=self.learner.layout)
        mine = [(micro, True) for micro in plans[self.rank]]
        wanted = max(map(len, plans)) if self.config.sharding == "fsdp" else 1
        return mine + [(np.zeros(1, dtype=np.int64), False)] * (wanted - len(mine))

    def _batches(self, rows: pa.Table) -> list[tuple[ExperienceBatch, bool]]:
        return [(self.learner.collate(rows.take(pa.array(micro))), active) for micro, active in self._plan(rows)]
