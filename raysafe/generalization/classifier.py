"""`raysafe classifier`: a small network on a table's rows, regularised, and fair between groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from raysafe.config import Job
from raysafe.errors import ConfigError
from raysafe.generalization.settings import Activation, ClassifierFit, FairTraining, Front, Regularisation
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.data.grouped import Grouped
    from raysafe.runtime.report import Section

HELD_OUT = "held-out.parquet"


class ClassifierJob(Job):
    """Train a classifier on a table (CSV, Parquet, JSON Lines): regularised, and fair between groups of people.

    Columns of text become categories. The groups that fairness is about are columns of the data, kept out of the
    features unless keep_groups; of several columns the intersections are compared. `fair` says what is equalised and
    how (a penalty, or a constraint by its tolerance), `front` trains a whole front of models and keeps one by a rule.
    The report shows demographic parity and equalised odds, as the one can cost the other, on held-out rows.
    """

    job: ClassVar[str] = "classifier"

    data: str = Field(description="CSV, JSON Lines, Parquet or Arrow file, a folder of them, or a hub id.")
    label: str = Field(default="label", description="Column of the class.")
    groups: tuple[str, ...] = Field(default=(), description="Columns of the groups that fairness is between.")
    favourable: str | None = Field(default=None, description="The class that it is good to be in; needed with groups.")
    keep_groups: bool = Field(default=False, description="Let the model see the columns of groups.")
    drop: tuple[str, ...] = Field(default=(), description="Columns to leave out.")
    limit: int | None = Field(default=None, ge=1, description="Read this many rows only.")
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the rows that choose checkpoint and model."
    )
    test_fraction: float = Field(
        default=0.3, gt=0, lt=1, description="Share of the rows kept away, as held-out.parquet in the run."
    )
    hidden: tuple[int, ...] = Field(default=(32,), description="Features of each hidden layer; none: linear.")
    activation: Activation = Field(default="relu", description="After each hidden layer.")
    regularisation: Regularisation = Regularisation()
    fair: FairTraining = FairTraining()
    front: Front | None = Field(default=None, description="Train several, from unconstrained to strict, and keep one.")
    smallest_group: int = Field(default=20, ge=1, description="Held-out rows below which a group counts for no gap.")
    permutations: int = Field(default=39, ge=1, description="Shufflings of the groups that leakage is compared with.")
    training: ClassifierFit = ClassifierFit()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction:g} and test_fraction {self.test_fraction:g} leave no "
                "rows to train on: their sum must be below 1"
            )
        if self.groups and self.favourable is None:
            raise ValueError("groups need favourable, the class that it is good to be in: fairness is about who is")
        if not self.groups and (self.fair.active or self.front or self.favourable or self.keep_groups):
            raise ValueError("fair, front, favourable and keep_groups need groups: name the columns of groups")
        if self.front and self.fair.active:
            raise ValueError("front has penalties and tolerances of its own: leave fair.penalty and fair.tolerance out")
        if self.training.sharding == "fsdp":
            raise ValueError("these networks are small and aren't sharded: set training.sharding to ddp")
        return self

    def run(self, resume: Run | None = None) -> Run:
        """Train; leaves the model in model/, the rows kept away in held-out.parquet, and report.html in the run."""
        from raysafe.runtime.cluster import preflight
        from raysafe.runtime.report import write_report

        grouped, digest = self.read()
        self.check_monitor()
        preflight(self.address, self.training.needs)
        run = resume or Run.create(self)
        with run.locked(), run.active():
            sections = self._work(run, grouped, digest)
        write_report(run, sections=sections)
        return run

    def read(self) -> tuple[Grouped, str]:
        """The rows and their digest; raises DataError, or ConfigError for a favourable class that there isn't."""
        from raysafe.data.grouped import load_grouped
        from raysafe.generalization.predictions import place_of

        grouped = load_grouped(
            self.data,
            label=self.label,
            groups=self.groups,
            drop=self.drop,
            keep_groups=self.keep_groups,
            limit=self.limit,
        )
        if self.favourable is not None:
            place_of(self.favourable, grouped.labelled.labels)
        return grouped, grouped.digest

    def check_monitor(self) -> None:
        """Raise ConfigError for a figure that isn't measured."""
        from raysafe.generalization.classifier_learner import ClassifierLearner

        known = ("loss", *ClassifierLearner.measures)
        if self.training.monitor not in known:
            raise ConfigError(
                f"training.monitor '{self.training.monitor}' is not measured here; choose one of {', '.join(known)}"
            )

    def _work(self, run: Run, grouped: Grouped, digest: str) -> list[Section]:
        from raysafe.generalization.classifier_run import judge, train

        run.record_input("data", self.data, digest)
        models, parts = train(self, run, grouped)
        return judge(self, run, models, parts, digest)
