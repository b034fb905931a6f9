"""A limit on what episodes cost: settings, and what they change in a training by PPO."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError
from raysafe.rl.extension import Extension, wrap_env
from raysafe.rl.multiplier import MultiplierSettings
from raysafe.runtime.functions import load_function

if TYPE_CHECKING:
    import gymnasium as gym
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.rllib.core.learner.learner import Learner

    from raysafe.rl.job import RLJob
    from raysafe.runtime.report import Section
    from raysafe.runtime.run import Run

COST_METRIC, MULTIPLIER_METRIC = "constraint/episode_cost", "constraint/multiplier"


class ConstraintSettings(Config):
    """Lagrangian PPO: the most reward among policies whose episodes' mean cost keeps a limit."""

    limit: float = Field(ge=0, allow_inf_nan=False, description="Largest mean cost of an episode, without discount.")
    function: str | None = Field(
        default=None,
        description="module:function of (observation, action, next observation) that returns a step's cost; by default "
        "the environment tells it in info['cost'].",
    )
    gamma: float = Field(default=0.99, gt=0, le=1, description="Discount of the cost critic.")
    lam: float = Field(default=0.95, ge=0, le=1, description="GAE's lambda for costs.")
    value_weight: float = Field(default=0.5, gt=0, allow_inf_nan=False, description="Weight of the cost critic's loss.")
    multiplier: MultiplierSettings = MultiplierSettings()

    def extension(self, job: RLJob) -> Constraint:
        if job.algorithm != "ppo":
            raise ConfigError(f"constraint is for algorithm ppo, got {job.algorithm}: its critic of costs is PPO's")
        if job.sampling.learners > 1:
            raise ConfigError(
                f"constraint needs one learner, which sees the costs of all episodes, got {job.sampling.learners}"
            )
        return Constraint(self)


class Constraint(Extension):
    """The learner and the network are those of `lagrangian.py`; the multiplier is part of the learner's state."""

    def __init__(self, settings: ConstraintSettings) -> None:
        if settings.function is not None:
            load_function(settings.function, "constraint.function")
        self.settings = settings
        self.cost: float | None = None
        """Mean of the episodes of the last batch in which some ended."""

    def admits(self) -> bool:
        """A policy whose episodes cost more than a tenth above the limit is no solution, whatever it earns."""
        return self.cost is not None and self.cost <= 1.1 * self.settings.limit

    def apply(self, config: AlgorithmConfig) -> None:
        from ray.rllib.core.rl_module.rl_module import RLModuleSpec

        from raysafe.rl.lagrangian import CostCritic, LagrangianLearner

        wrap_env(config, partial(costed, function=self.settings.function), evaluated=True)
        told = self.settings.model_dump(exclude={"function"})
        config.learners(
            learner_class=LagrangianLearner,
            learner_config_dict={**config.learner_config_dict, "constraint": told},
        )
        config.rl_module(rl_module_spec=RLModuleSpec(module_class=CostCritic))

    def after_iteration(self, algorithm: Algorithm, step: int) -> Mapping[str, float]:
        (found,) = cast(Any, algorithm.learner_group).foreach_learner(func=_figures)
        figures = found.get()
        self.cost = figures.get(COST_METRIC)
        return figures

    def state(self) -> dict[str, Any]:
        return {} if self.cost is None else {"cost": self.cost}

    def set_state(self, state: dict[str, Any]) -> None:
        self.cost = state.get("cost")

    def sections(self, run: Run) -> list[Section]:
        from raysafe.runtime.plots import Series
        from raysafe.runtime.report import Section

        rows = [row for row in run.metrics if COST_METRIC in row]
        steps = [row["step"] for row in rows]
        plots = {
            "cost of an episode": [
                Series("mean", steps, [row[COST_METRIC] for row in rows]),
                Series("limit", steps, [self.settings.limit] * len(steps)),
            ],
            "multiplier": [Series("reward per cost", steps, [row[MULTIPLIER_METRIC] for row in rows])],
        }
        text = f"Mean cost of an episode: at most {self.settings.limit:g}."
        trained = next((event for event in reversed(run.events) if event["event"] == "trained"), None)
        if trained is not None and trained["best_step"] is None:
            text += " No policy that was evaluated had kept it in the batch before: the last one is left."
        return [Section("Constraint", text, plots=plots)]


def costed(env: gym.Env, function: str | None) -> gym.Env:
    """The environment with its costs in `info`."""
    from raysafe.rl.costs import Costed

    return Costed(env, load_function(function, "constraint.function") if function else None)


def _figures(learner: Learner, **kwargs: object) -> dict[str, float]:
    from raysafe.rl.lagrangian import LagrangianLearner

    assert isinstance(learner, LagrangianLearner)
    figures = {MULTIPLIER_METRIC: learner.multiplier.value}
    if learner.episode_cost is not None:
        figures[COST_METRIC] = learner.episode_cost
    return figures
