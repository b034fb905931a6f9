"""`raysafe sweep`: one job over a space of its settings, as many runs, scheduled by Ray Tune.

Each trial is a run of its own in the sweep's trials/, resumable by itself. A second start of a killed sweep reads what
there is from these runs: finished trials are not repeated, the others go on from their own checkpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from raysafe.config import Config, Job, explain, read_yaml
from raysafe.errors import ConfigError, TrainingError
from raysafe.evaluation.job import EvaluateJob
from raysafe.evaluation.sweep.space import Dimension, Settings, corners, draws, grid, with_settings
from raysafe.jobs_table import load_job
from raysafe.runtime.cluster import Needs
from raysafe.runtime.learner import FitConfig
from raysafe.runtime.pareto import Mode
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.ledger import Trial

Method = Literal["grid", "random", "asha", "pbt", "pb2", "optuna"]
_SETTINGS = {
    "grid": set(),
    "random": {"trials"},
    "asha": {"trials", "asha"},
    "pbt": {"trials", "population"},
    "pb2": {"trials", "population"},
    "optuna": {"trials"},
}
"""Settings that only some methods read."""
_OWN = ("storage", "name", "address", "seed")
"""Fields of a trial that the sweep sets."""


class AshaSettings(Config):
    """Asynchronous successive halving (Li et al. 2020): at each rung, only the best trials so far go on."""

    first_step: int = Field(default=1, ge=1, description="No trial is stopped before it has trained so many steps.")
    last_step: int = Field(ge=1, description="Steps of a whole training; a trial that comes so far is never stopped.")
    reduction: float = Field(default=3, gt=1, description="One of so many trials goes on at each rung.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.first_step >= self.last_step:
            raise ValueError(f"first_step must be below last_step, got {self.first_step} and {self.last_step}")
        return self


class PopulationSettings(Config):
    """Population-based training (Jaderberg et al. 2017; PB2: Parker-Holder et al. 2020).

    The worst trials take over the weights of the best, with settings moved away from theirs.
    """

    every_steps: int = Field(ge=1, description="Training steps between two comparisons; a checkpoint is due at each.")
    quantile: float = Field(default=0.25, gt=0, le=0.5, description="Share of trials that give way, and that give.")


class Figure(Config):
    """A figure of a trial and which way it is better."""

    figure: str = Field(description="Name of the figure: of a run's metrics, or SUITE/METRIC of its evidence.")
    mode: Mode = Field(default="max", description="Whether more of it is better, or less.")


class BestRule(Config):
    """Which trial's model is registered: of those that meet the bounds, the one with the best mean of `metric`.

    With several seeds the means over them are compared, and the run registered is the best of the chosen settings.
    """

    name: str = Field(min_length=1, description="Name in the registry.")
    at_least: dict[str, float] = Field(default_factory=dict, description="figure: the least that is accepted.")
    at_most: dict[str, float] = Field(default_factory=dict, description="figure: the most that is accepted.")


def _base(value: Any) -> Any:
    """The settings in a preset, where a file is named: a sweep must be resumable from its own directory."""
    if not isinstance(value, str):
        return value
    from raysafe.config import job_named

    return {"job": job_named(value), **read_yaml(value)}


class SweepJob(Job):
    """Try a job with many settings, compare the results, and register the best model.

    The file's base is any job's settings (or a preset that holds them); its space says what each of some fields may
    be, a list of values or a range:

        base: jobs/presets/dpo_tiny.yaml
        space:
          beta: [0.05, 0.1, 0.5]
          training.learning_rate: {low: 0.0001, high: 0.01, scale: log, points: 3}
        metric: validation/accuracy

    Every trial is a run in the sweep's trials/. examine adds suites of `raysafe evaluate`, so that models which were
    trained differently are judged alike; pareto draws two figures against each other; best registers a model.
    """

    job: ClassVar[str] = "sweep"

    base: Annotated[dict[str, Any], BeforeValidator(_base)] = Field(
        default_factory=dict,
        description="The job that is tried, as `job: NAME` and its settings, or a preset that holds them.",
    )
    space: dict[str, Dimension] = Field(
        default_factory=dict,
        description="field (training.learning_rate): a list of values, or a range: low, high, scale, whole, points.",
    )
    method: Method = Field(
        default="grid",
        description="grid: every combination; random; asha: random, bad ones stopped early; pbt, pb2: settings change "
        "in training; optuna: what was found so far says what is tried next (pip install 'raysafe[sweep]').",
    )
    metric: str = Field(description="Figure that trials are compared by, of a run's metrics or SUITE/METRIC.")
    mode: Mode = Field(default="max", description="Whether more of it is better, or less.")
    trials: int = Field(default=16, ge=1, le=10_000, description="Points of the space; a grid has its own number.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="Each point is tried with each of these seeds of the job."
    )
    asha: AshaSettings | None = Field(default=None, description="Settings of asha.")
    population: PopulationSettings | None = Field(default=None, description="Settings of pbt and pb2.")
    examine: tuple[dict[str, Any], ...] = Field(
        default=(),
        description="Suites that judge each trial's model: settings of `raysafe evaluate`, less the model; {run}: the "
        "trial's run, as in data: '{run}/held-out.npz'.",
    )
    pareto: tuple[Figure, Figure] | None = Field(
        default=None,
        description="Two figures to weigh against each other: drawn, with the points of the front.",
    )
    best: BestRule | None = Field(default=None, description="Register the best model in the store, and by which rule.")
    concurrent: int | None = Field(
        default=None, ge=1, description="Trials at a time; by default as many as there is room for."
    )
    cpus_per_trial: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="CPUs of a trial; by default what its job asks for."
    )
    gpus_per_trial: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="GPUs, or share of one, of a trial; likewise."
    )
    max_failures: int = Field(default=3, ge=0, description="Times that a trial whose process died is started again.")
    store: str | None = Field(None, description="URL of the store; by default RAYSAFE_STORE or the one in ./runs.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        """What can be known before anything starts: each planned trial is a job that its own class accepts."""
        if not self.space:
            raise ValueError("space names no field: give at least one, with the values that are tried")
        self._check_method()
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names a seed twice, got {self.seeds}: name each once")
        own = [f"base.{name}" for name in _OWN if name in self.base]
        own += [f"space.{name}" for name in self.space if name.partition(".")[0] in (*_OWN, "job")]
        if own:
            raise ValueError(f"{own[0]} is set by the sweep itself: leave it out (its seeds are the field seeds)")
        if self.base.get("job") in (None, "sweep", "quickstart"):
            raise ValueError("base.job must name the job that is tried (dpo, adversarial, …), not a sweep")
        for settings in self._examples():
            self._refused(lambda settings=settings: self.trial_job(settings, self.seeds[0], "."))
        for values in self.examine:
            if "model" in values:
                raise ValueError("examine takes no model: it is the trial's")
            self._refused(lambda values=values: EvaluateJob.parse({"model": ".", **values}, "examine"), "examine")
        return self

    def _check_method(self) -> None:
        optional = set[str]().union(*_SETTINGS.values())
        idle = sorted(
            name
            for name in optional - _SETTINGS[self.method]
            if getattr(self, name) != type(self).model_fields[name].get_default()
        )
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect with method {self.method}: leave it out")
        if self.method == "asha" and self.asha is None:
            raise ValueError("method asha needs asha.last_step: how many steps a whole training has")
        if self.method in ("pbt", "pb2"):
            self._check_population()
        if self.method == "optuna" and len(self.seeds) > 1:
            raise ValueError("method optuna learns from each trial at once and takes one seed: give seeds one value")

    def _check_population(self) -> None:
        from raysafe.evaluation.sweep.space import Range

        if self.population is None:
            raise ValueError(f"method {self.method} needs population.every_steps: the steps between two comparisons")
        if len(self.seeds) > 1 or self.trials < 2:
            raise ValueError(f"method {self.method} needs one seed and two trials or more, its population")
        kinds = [field.annotation for field in load_job(str(self.base.get("job"))).model_fields.values()]
        if not any(isinstance(kind, type) and issubclass(kind, FitConfig) for kind in kinds):
            raise ValueError(
                f"method {self.method} hands checkpoints from trial to trial, which only jobs trained by fit() have "
                f"(their settings have `training`), got job '{self.base.get('job')}': use asha, random or optuna"
            )
        listed = next((n for n, d in self.space.items() if self.method == "pb2" and not isinstance(d, Range)), None)
        if listed is not None:
            raise ValueError(f"pb2 models numbers: space.{listed} must be a range with low and high")

    def _examples(self) -> list[Settings]:
        try:
            return corners(self.space) if self.method in ("optuna", "pbt", "pb2") else self.points()
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def _refused(self, make: Any, source: str = "base and space") -> None:
        """Raise ValueError with the sentence for what an inner job refuses."""
        try:
            make()
        except ValidationError as error:
            inner = EvaluateJob if source == "examine" else load_job(self.base["job"])
            raise ValueError(explain(inner, error, source)) from None
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def points(self) -> list[Settings]:
        """What is tried, in order, where that is known before the first trial; each point once."""
        found = grid(self.space) if self.method == "grid" else draws(self.space, self.trials, self.seed)
        return [point for index, point in enumerate(found) if point not in found[:index]]

    def trial_job(self, settings: Settings, seed: int, storage: str) -> Job:
        """The job of one trial; raises ConfigError."""
        values = with_settings(self.base, settings)
        job = load_job(values.pop("job"))
        return job.parse({**values, "seed": seed, "storage": storage}, "base and space")

    def trial_needs(self) -> Needs | None:
        """What a trial takes at the same time; None where its job doesn't tell and the sweep doesn't say."""
        job = self.trial_job(self._examples()[0], self.seeds[0], ".")
        own = next((v for v in dict(job).values() if isinstance(v, FitConfig)), job)
        asked: Needs | None = getattr(own, "needs", None)
        if self.cpus_per_trial is None and asked is None:
            return None
        cpus = self.cpus_per_trial or (asked.workers * asked.cpus if asked else 0)
        gpus = self.gpus_per_trial if self.gpus_per_trial is not None else asked.workers * asked.gpus if asked else 0
        return Needs(workers=1, cpus=cpus, gpus=gpus)

    def run(self, resume: Run | None = None) -> Run:
        """Try everything; leaves trials/, sweep.parquet, sweep.csv and report.html in the run."""
        from raysafe.evaluation.sweep.ledger import read_trials
        from raysafe.evaluation.sweep.outcome import finish
        from raysafe.evaluation.sweep.report import write_sweep_report
        from raysafe.evaluation.sweep.tuning import tune_trials

        run = resume or Run.create(self)
        with run.active():
            tune_trials(self, run)
            trials = read_trials(self, run)
            self._check(run, trials)
            finish(self, run, trials)
        write_sweep_report(self, run, read_trials(self, run))
        return run

    def table(self, run: Run) -> list[list[Any]]:
        from raysafe.evaluation.sweep.ledger import read_trials
        from raysafe.evaluation.sweep.report import trial_rows

        return trial_rows(self, read_trials(self, run))

    def _check(self, run: Run, trials: list[Trial]) -> None:
        """Raise TrainingError where there is nothing to compare, or where trials are left that Tune gave up."""
        again = f"go on with: raysafe runs resume {run.uri}"
        if all(trial.state == "failed" for trial in trials):
            raise TrainingError(f"every trial failed, the first with {trials[0].error}; after mending it, {again}")
        left = [str(trial.number) for trial in trials if trial.state == "unfinished"]
        if left:
            raise TrainingError(f"trials {', '.join(left)} did not come to their end: their processes died; {again}")
