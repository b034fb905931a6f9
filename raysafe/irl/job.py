"""`raysafe irl`: learn what somebody wants, or how they act, from demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Job
from raysafe.irl.bayesian import BayesianConfig
from raysafe.irl.maxent import MaxEntSettings
from raysafe.irl.settings import AdversarialSettings, CloningSettings, DeepMaxEntSettings
from raysafe.rl.ppo import PPOSettings
from raysafe.rl.settings import SamplingSettings
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.irl.problem import TabularProblem
    from raysafe.runtime.report import Section

Method = Literal["maxent", "deep-maxent", "bayesian", "airl", "gail", "bc"]
_SETTINGS = {
    "maxent": {"maxent", "horizon", "gamma", "mdp"},
    "deep-maxent": {"deep_maxent", "horizon", "gamma", "mdp"},
    "bayesian": {"bayesian", "horizon", "gamma", "mdp"},
    "bc": {"cloning", "episodes", "mdp", "gamma", "horizon"},
    "airl": {"adversarial", "ppo", "sampling", "steps", "episodes"},
    "gail": {"adversarial", "ppo", "sampling", "steps", "episodes"},
}
"""Settings that only some methods read."""


class IRLJob(Job):
    """Learn a reward, or a policy, from demonstrations.

    maxent, deep-maxent (by a network) and bayesian learn a reward in a problem whose transitions are known: a
    gridworld of RaySafe's, or a file of arrays. airl and gail learn reward and policy together in any environment,
    by acting in it; bc copies the actions alone. What is found is compared with the true reward where that is known.
    """

    job: ClassVar[str] = "irl"

    method: Method = Field(
        description="maxent, deep-maxent, bayesian (in a table), airl, gail (in an environment), or bc (in either)."
    )
    demonstrations: str = Field(
        description="Trajectories: JSON Lines, Parquet or Arrow rows, an npz of `imitation`, or a minari dataset."
    )
    env: str | None = Field(
        default=None, description="Where they were made: a gymnasium id (CartPole-v1, raysafe/SideEffects-v0)."
    )
    env_config: dict[str, Any] = Field(default_factory=dict, description="What the environment is made with.")
    mdp: str | None = Field(
        default=None, description="In place of env: npz or safetensors of transitions, initial, features and so on."
    )
    gamma: float | None = Field(default=None, ge=0, le=1, description="Discount in a table; 0.95 by default.")
    horizon: int | None = Field(default=None, ge=1, description="Steps of an episode in a table; endless by default.")
    validation_fraction: float = Field(
        default=0.2, ge=0, lt=1, description="Share of the demonstrations that is only measured on."
    )
    limit: int | None = Field(default=None, ge=1, description="Read this many demonstrations only.")
    skip_bad_rows: bool = Field(default=False, description="Leave out bad demonstrations instead of stopping at them.")
    maxent: MaxEntSettings | None = Field(default=None, description="Settings of maxent.")
    deep_maxent: DeepMaxEntSettings | None = Field(default=None, description="Settings of deep-maxent.")
    bayesian: BayesianConfig | None = Field(default=None, description="Settings of bayesian.")
    cloning: CloningSettings | None = Field(default=None, description="Settings of bc of a network.")
    adversarial: AdversarialSettings | None = Field(default=None, description="Settings of airl's discriminator.")
    ppo: PPOSettings | None = Field(default=None, description="Settings of PPO, by which airl and gail act.")
    sampling: SamplingSettings = SamplingSettings()
    steps: int = Field(default=100_000, ge=1, description="Environment steps of airl and gail.")
    episodes: int = Field(default=100, ge=2, description="Episodes in the environment that judge a policy.")

    @model_validator(mode="after")
    def _settings_of_the_method(self) -> Self:
        optional = frozenset[str]().union(*_SETTINGS.values())
        idle = sorted(
            name
            for name in (optional - _SETTINGS[self.method]) & self.model_fields_set
            if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True)
        )
        if idle:
            raise ValueError(f"{', '.join(idle)} has no effect with method {self.method}: leave it out")
        if (self.env is None) == (self.mdp is None):
            wanted = "env" if self.method in ("airl", "gail") else "env or mdp"
            raise ValueError(
                f"method {self.method} needs {wanted}, and no more: say where the demonstrations were made"
            )
        if self.method in ("airl", "gail") and self.sampling.normalise:
            raise ValueError(
                f"sampling.normalise must be false with method {self.method}: the expert's observations aren't brought "
                "to the agent's scale"
            )
        if self.horizon is None and self.gamma == 1:
            raise ValueError("gamma 1 needs a horizon: set horizon, or a gamma below 1")
        return self

    @property
    def discount(self) -> float:
        return 0.95 if self.gamma is None else self.gamma

    @property
    def tabular(self) -> bool:
        """Whether states are numbers of a table."""
        if self.method == "bc":
            return self.mdp is not None or str(self.env).startswith("raysafe/")
        return self.method not in ("airl", "gail")

    def run(self, resume: Run | None = None) -> Run:
        """Learn; leaves the reward in reward/, a policy in model/, evidence and report.html in the run."""
        from raysafe.runtime.report import write_report

        self.check()
        run = resume or Run.create(self)
        with run.active():
            sections = self._work(run)
        write_report(run, sections=sections)
        return run

    def check(self) -> None:
        """Raise ConfigError or DataError for a problem that isn't one, before a run is made."""
        if self.tabular:
            self._problem()
        else:
            from raysafe.rl.environment import EnvMaker

            EnvMaker(str(self.env), self.env_config).make().close()

    def _problem(self) -> TabularProblem:
        from raysafe.irl.problem import problem_of

        return problem_of(self.env, self.env_config, self.mdp)

    def _work(self, run: Run) -> list[Section]:
        from raysafe.data.trajectory_files import read_trajectories
        from raysafe.irl.behavioural_cloning import split

        found = read_trajectories(self.demonstrations, skip_bad_rows=self.skip_bad_rows, limit=self.limit)
        run.record_input("data", self.demonstrations, found.digest)
        for bad in found.bad_rows:
            run.event("bad-row", why=str(bad))
        if self.tabular:
            from raysafe.irl.table_run import learn_table

            problem = self._problem()
            trajectories = problem.numbered(found.trajectories)
            train, held = split(trajectories, self.validation_fraction, self.seed)
            return learn_table(self, run, problem, train, held, found.digest)
        train, held = split(found.trajectories, self.validation_fraction, self.seed)
        from raysafe.irl.policy_run import clone, imitate

        return (clone if self.method == "bc" else imitate)(self, run, train, held, found.digest)
