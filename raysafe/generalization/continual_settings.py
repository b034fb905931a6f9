"""Settings of continual learning, apart from what does it: so that help needs no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.runtime.learner import FitConfig

Method = Literal["plain", "ewc", "rehearsal", "lwf"]


class ContinualFit(FitConfig):
    """How each task is learned."""

    epochs: int = Field(default=20, ge=1, description="Passes over the rows of each task.")
    batch_size: int = Field(default=32, ge=1, description="Rows per optimiser step, over all workers.")
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)


class Consolidation(Config):
    """Elastic weight consolidation (Kirkpatrick et al. 2017)."""

    strength: float = Field(
        default=1000.0, gt=0, allow_inf_nan=False, description="Lambda: how much earlier tasks weigh."
    )
    examples: int = Field(default=500, ge=1, description="Of each task, from which the Fisher information is taken.")


class Rehearsal(Config):
    """A memory of earlier examples, of which there are as many in each epoch as of new ones."""

    memory: int = Field(default=200, ge=1, description="Examples kept: a uniform sample of all tasks so far.")


class Distillation(Config):
    """Learning without forgetting (Li and Hoiem 2016)."""

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="Of what the old model said.")
    temperature: float = Field(default=2.0, gt=0, allow_inf_nan=False, description="By which logits are divided.")


class ContinualSettings(Config):
    """The tasks, and how what was learned is kept."""

    method: Method = Field(
        description="plain (fine-tuning, the control that forgets), ewc (stay near weights that mattered), rehearsal "
        "(examples of earlier tasks), or lwf (keep saying what the model said before)."
    )
    data: tuple[str, ...] = Field(
        min_length=1,
        description="One set of labelled data that `tasks` divides, or a set for each task: digits, mnist, a folder "
        "with a folder of images for each class, .npz (x, y), a table with a label column, or a hub id.",
    )
    tasks: tuple[str, ...] = Field(
        default=(), description="Of one set: each task's classes, with commas between: 0,1,2,3,4 5,6,7,8,9."
    )
    model: str | None = Field(
        default=None, description="Classifier to start from: a folder or a finished run. A small new one by default."
    )
    scenario: Literal["class", "task"] = Field(
        default="class",
        description="class: every class competes with all others. task: only with those of its task, which whoever "
        "asks the model must then know.",
    )
    size: tuple[int, int] | None = Field(
        default=None, description="Bring all images to this height and width first; by averaging where they shrink."
    )
    limit: int | None = Field(default=None, ge=1, description="Read this many examples of each set only.")
    validation_fraction: float = Field(
        default=0.15, gt=0, lt=1, description="Share of a task's examples that chooses the checkpoint of its training."
    )
    test_fraction: float = Field(default=0.25, gt=0, lt=1, description="Share that nothing is learned or chosen by.")
    consolidation: Consolidation | None = Field(default=None, description="Settings of ewc.")
    rehearsal: Rehearsal | None = Field(default=None, description="Settings of rehearsal.")
    distillation: Distillation | None = Field(default=None, description="Settings of lwf.")
    training: ContinualFit = ContinualFit()

    @property
    def class_groups(self) -> list[tuple[str, ...]]:
        """The classes of each task of one set."""
        return [tuple(name.strip() for name in task.split(",")) for task in self.tasks]

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        own = {"consolidation": "ewc", "rehearsal": "rehearsal", "distillation": "lwf"}
        for name, method in own.items():
            if getattr(self, name) is not None and self.method != method:
                raise ValueError(f"{name} has no effect with method {self.method}: leave it out")
        if len(self.data) == 1 and len(self.tasks) < 2:
            raise ValueError("one set of data needs tasks, two or more, each naming its classes: 0,1,2,3,4 5,6,7,8,9")
        if len(self.data) > 1 and self.tasks:
            raise ValueError("tasks divides one set of data, and several are tasks by themselves: leave one out")
        if len(set(self.data)) < len(self.data):
            raise ValueError("data names a set twice")
        named = [name for group in self.class_groups for name in group]
        if twice := {name for name in named if named.count(name) > 1}:
            raise ValueError(f"tasks names the class {min(twice)} twice")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction:g} and test_fraction {self.test_fraction:g} leave no "
                "rows to train on: their sum must be below 1"
            )
        if self.training.monitor not in ("loss", "accuracy"):
            raise ValueError(
                f"training.monitor '{self.training.monitor}' is not measured here; choose loss or accuracy"
            )
        if self.training.sharding == "fsdp":
            raise ValueError("training.sharding must be ddp: these networks are small")
        return self
