"""The learner of one task after others: cross-entropy on its rows, and what keeps the earlier tasks.

Everything it needs of them it reads from the run's folder: a worker may be on another machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from raysafe.data.labelled import Labelled
from raysafe.data.labelled_rows import inputs_of, numbers_of
from raysafe.generalization.continual_settings import Consolidation, ContinualSettings, Distillation
from raysafe.generalization.distillation import distillation_loss
from raysafe.generalization.fine_tuning import Batch, Metrics, Start, hits, table
from raysafe.generalization.fisher import Importance, ewc_penalty
from raysafe.generalization.layers import Classifier
from raysafe.models.classifier import load_classifier, save_classifier
from raysafe.runtime.learner import Learner
from raysafe.runtime.storage import Folder

IMPORTANCE = "importance.safetensors"


@dataclass(frozen=True)
class Earlier:
    """Where the run keeps what it has learned: folders of the tasks so far, in their order."""

    run_uri: str
    tasks: tuple[str, ...]

    def model(self) -> Classifier:
        """The network after the last of them."""
        with self._downloaded(self.tasks[-1]) as folder:
            return load_classifier(folder)

    def importances(self) -> list[Importance]:
        """What each of them needs of the weights."""
        found = []
        for task in self.tasks:
            with self._downloaded(task) as folder:
                found.append(read_importance(folder / IMPORTANCE))
        return found

    @contextmanager
    def _downloaded(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="raysafe-task-") as folder:
            Folder(self.run_uri).download(name, folder)
            yield Path(folder)


def write_importance(importance: Importance, path: Path) -> None:
    """As safetensors: weights/NAME and fisher/NAME of each parameter."""
    parts = {"weights": importance.weights, "fisher": importance.fisher}
    save_file({f"{part}/{name}": t.contiguous() for part, values in parts.items() for name, t in values.items()}, path)


def read_importance(path: Path) -> Importance:
    found: dict[str, dict[str, Tensor]] = {"weights": {}, "fisher": {}}
    for key, tensor in load_file(path).items():
        part, name = key.split("/", 1)
        found[part][name] = tensor
    return Importance(found["weights"], found["fisher"])


class Continued(nn.Module):
    """The network in training, beside what binds it to earlier tasks."""

    def __init__(
        self, network: Classifier, earlier: Sequence[Importance] = (), teacher: Classifier | None = None
    ) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher
        if teacher is not None:
            teacher.requires_grad_(False)
        self._places: list[tuple[str, str, str]] = []
        for number, task in enumerate(earlier):
            for place, (name, fisher) in enumerate(task.fisher.items()):
                # buffers move with the module; no checkpoint needs them
                names = (name, f"weights_{number}_{place}", f"fisher_{number}_{place}")
                self.register_buffer(names[1], task.weights[name].clone(), persistent=False)
                self.register_buffer(names[2], fisher.clone(), persistent=False)
                self._places.append(names)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Logits (B, K), the teacher's, and the penalty of moving away; None where there is none."""
        teacher_BK = None
        if self.teacher is not None:
            with torch.no_grad():
                teacher_BK = self.teacher(x)
        return self.network(x), teacher_BK, self._penalty()

    def _penalty(self) -> Tensor | None:
        if not self._places:
            return None
        parameters = dict(self.network.named_parameters())
        tasks = [
            Importance({name: self.get_buffer(weights)}, {name: self.get_buffer(fisher)})
            for name, weights, fisher in self._places
        ]
        return ewc_penalty(parameters, tasks)


class Continuing(Learner):
    """plain and rehearsal differ in their rows alone; ewc adds a penalty, lwf the old model's word."""

    measures = ("accuracy",)

    def __init__(
        self, settings: ContinualSettings, start: Start, groups: Sequence[Sequence[int]], earlier: Earlier
    ) -> None:
        """groups: the classes of each task before this one, and of this one."""
        self.method, self.start, self.shape = settings.method, start, start.shape
        self.apart, self.earlier = settings.scenario == "task", earlier
        self.groups = [list(group) for group in groups]
        self.strength = (settings.consolidation or Consolidation()).strength
        self.distillation = settings.distillation or Distillation()

    def build(self) -> nn.Module:
        if not self.earlier.tasks:
            return Continued(self.start.network().train())
        importances = self.earlier.importances() if self.method == "ewc" else []
        teacher = self.earlier.model() if self.method == "lwf" else None
        return Continued(self.earlier.model().train(), importances, teacher)

    def collate(self, rows: pa.Table) -> Batch:
        return Batch(inputs_of(rows, "x", self.shape), numbers_of(rows, "y"))

    def loss(self, module: nn.Module, batch: Batch) -> tuple[Tensor, Metrics]:
        logits_BK, teacher_BK, penalty = module(batch.x)
        competing_BK = self._within_tasks(logits_BK, batch.y_B) if self.apart else logits_BK
        loss, rows = cross_entropy(competing_BK, batch.y_B, reduction="sum"), batch.weight
        figures: Metrics = {"accuracy": hits(competing_BK, batch.y_B)}
        if penalty is not None:
            figures["penalty"] = (float(penalty.detach()) * rows, rows)
            loss = loss + rows * self.strength * penalty
        if teacher_BK is not None:
            before = self.groups[:-1]
            old = before if self.apart else [sorted({number for group in before for number in group})]
            kept_OB = [
                distillation_loss(logits_BK, teacher_BK, classes, temperature=self.distillation.temperature)
                for classes in old
            ]
            kept = torch.stack(kept_OB).sum()
            figures["distillation"] = (kept.detach(), rows)
            loss = loss + self.distillation.weight * kept
        return loss, figures

    def _within_tasks(self, logits_BK: Tensor, y_B: Tensor) -> Tensor:
        """Logits of which only those compete that are of a task with the row's class."""
        competes_KK = torch.zeros(logits_BK.shape[1], logits_BK.shape[1], dtype=torch.bool)
        for group in self.groups:
            competes_KK[torch.tensor(group)[:, None], torch.tensor(group)] = True
        return logits_BK.masked_fill(~competes_KK.to(logits_BK.device)[y_B], float("-inf"))

    def save(self, module: nn.Module, folder: Path) -> None:
        assert isinstance(module, Continued)
        save_classifier(module.network, folder)


def with_memory(task: Labelled, remembered: Sequence[tuple[np.ndarray, int]]) -> pa.Table:
    """Rows of a task, and as many of the memory, each of which comes as often as any other, within one."""
    if not remembered:
        return table(task)
    places = np.resize(np.arange(len(remembered)), len(task)).tolist()
    x = np.concatenate([task.x, np.stack([remembered[place][0] for place in places])])
    y = np.concatenate([task.y, np.array([remembered[place][1] for place in places], dtype=np.int64)])
    return table(Labelled(x, y, task.labels))
