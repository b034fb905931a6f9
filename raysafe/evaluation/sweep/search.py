"""What Ray Tune is told to try: the plan of trials, the searcher and the scheduler of each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from raysafe.errors import ConfigError
from raysafe.evaluation.sweep.ledger import Trial
from raysafe.evaluation.sweep.space import Dimension, Range, Settings
from raysafe.evaluation.sweep.trial import NUMBER, SEED

if TYPE_CHECKING:
    from raysafe.evaluation.sweep.job import SweepJob


class Planned(NamedTuple):
    """A trial before it began."""

    settings: Settings
    seed: int


@dataclass(frozen=True)
class Plan:
    """Tune's parameter space and number of samples; `left`: the trials that aren't finished, of `total`."""

    space: dict[str, Any]
    samples: int
    left: frozenset[int]
    total: int


def planned(job: SweepJob) -> list[Planned]:
    """All trials in their order: every point with every seed."""
    return [Planned(settings, seed) for settings in job.points() for seed in job.seeds]


def plan(job: SweepJob, before: Mapping[int, Trial]) -> Plan:
    """What is left to do, given what earlier starts of the sweep left."""
    done = {number for number, trial in before.items() if trial.state in ("finished", "stopped")}
    if job.method == "optuna":
        left = frozenset(range(job.trials)) - done
        return Plan({}, len(left), left, job.trials)
    trials = planned(job)
    left = frozenset(range(len(trials))) - done
    # a scheduler that compares trials is told again what the finished ones came to
    told = range(len(trials)) if job.method == "asha" else sorted(left)
    return Plan(_space(job, trials, list(told)), 1, left, len(trials))


def _space(job: SweepJob, trials: list[Planned], numbers: list[int]) -> dict[str, Any]:
    from ray import tune

    def planned(spec: Any) -> Planned:
        return trials[spec.config[NUMBER]]

    def setting(name: str) -> Any:
        return tune.sample_from(lambda spec: planned(spec).settings[name])

    return {
        NUMBER: tune.grid_search(numbers),
        SEED: tune.sample_from(lambda spec: planned(spec).seed),
        **{name: setting(name) for name in job.space},
    }


def domain(dimension: Dimension) -> Any:
    """A dimension as Tune draws from it."""
    from ray import tune

    if not isinstance(dimension, Range):
        return tune.choice(list(dimension))
    low, high = dimension.low, dimension.high
    if dimension.whole:
        draw = tune.lograndint if dimension.scale == "log" else tune.randint
        return draw(int(low), int(high) + 1)
    return (tune.loguniform if dimension.scale == "log" else tune.uniform)(low, high)


def scheduler_of(job: SweepJob) -> Any:
    """Tune's scheduler; None, first come first served, where trials aren't compared while they train."""
    from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

    if job.asha is not None:
        return ASHAScheduler(
            time_attr="step",
            grace_period=job.asha.first_step,
            max_t=job.asha.last_step,
            reduction_factor=job.asha.reduction,
        )
    if job.population is None:
        return None
    shared: dict[str, Any] = {
        "time_attr": "step",
        "perturbation_interval": job.population.every_steps,
        "quantile_fraction": job.population.quantile,
        "custom_explore_fn": _within(job.space),
        "log_config": False,
    }
    if job.method == "pbt":
        mutations = {n: domain(d) if isinstance(d, Range) else list(d) for n, d in job.space.items()}
        return PopulationBasedTraining(hyperparam_mutations=mutations, **shared)
    try:
        from ray.tune.schedulers.pb2 import PB2

        return PB2(
            hyperparam_bounds={n: [d.low, d.high] for n, d in job.space.items() if isinstance(d, Range)}, **shared
        )
    except (ImportError, RuntimeError):
        raise ConfigError("method pb2 needs scikit-learn: pip install 'raysafe[vision]'") from None


def _within(space: Mapping[str, Dimension]) -> Any:
    """What a scheduler made of settings, brought back into the space: PBT multiplies, PB2 knows no whole numbers."""

    def explore(settings: dict[str, Any]) -> dict[str, Any]:
        kept = dict(settings)
        for name, dimension in space.items():
            if isinstance(dimension, Range):
                value = min(dimension.high, max(dimension.low, float(kept[name])))
                kept[name] = round(value) if dimension.whole else value
        return kept

    return explore


def searcher_of(job: SweepJob, before: Mapping[int, Trial]) -> Any:
    """Optuna's sampler, told what is known already; None for the other methods, whose points are planned."""
    if job.method != "optuna":
        return None
    try:
        import optuna
    except ImportError:
        raise ConfigError("method optuna needs the package optuna: pip install 'raysafe[sweep]'") from None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    left = [trial for trial in before.values() if trial.state != "finished"]
    numbers = [trial.number for trial in left]
    numbers += sorted(set(range(job.trials)) - set(before))

    class Numbered(OptunaSearch):
        """Gives each suggestion the number of its trial."""

        def suggest(self, trial_id: str) -> Any:
            found = super().suggest(trial_id)
            return (
                found
                if not isinstance(found, dict) or not numbers
                else {**found, NUMBER: numbers.pop(0), SEED: job.seeds[0]}
            )

    search = Numbered(
        space=OptunaSearch.convert_search_space({name: domain(d) for name, d in job.space.items()}),
        metric=job.metric,
        mode=job.mode,
        points_to_evaluate=[trial.settings for trial in left] or None,
        # with the same seed, a second start would draw the first points again
        seed=job.seed + len(before),
    )
    for trial in before.values():
        if trial.state == "finished":
            search.add_evaluated_point(trial.settings, trial.figures[job.metric])
    return search
