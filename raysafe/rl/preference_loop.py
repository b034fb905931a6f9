"""The loop around a training whose reward is learned: gather, ask, fit, hand the new reward to the learners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysafe.data.comparisons import Comparison, read_comparisons, write_comparisons
from raysafe.data.trajectories import Trajectory
from raysafe.errors import ConfigError
from raysafe.rl.comparison_state import packed, unpacked
from raysafe.rl.extension import Extension, add_callback, add_learner_connector
from raysafe.rl.fragments import FragmentPool
from raysafe.rl.human_rater import HumanRater
from raysafe.rl.learned_reward import LearnedReward
from raysafe.rl.preference_model import PreferenceModel
from raysafe.rl.preference_report import PREFIX, audit_section
from raysafe.rl.queries import choose
from raysafe.rl.transitions import TransitionShape, flatten_observations, shape_of

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from raysafe.rl.environment import EnvMaker
    from raysafe.rl.watching import Look, Watched
    from raysafe.runtime.report import Section
    from raysafe.runtime.run import Run

AUDITED_FRAGMENTS = 200
"""The latest ones, on which true and learned return are compared at each iteration."""
WATCHED = 2
"""Fragments that are drawn for people, for each pair that they compare."""


class LearnedRewardExtension(Extension):
    """Lives in the driver; its learners have copies of the reward."""

    def __init__(self, settings: LearnedReward, steps: int, seed: int) -> None:
        self.settings, self.steps, self.seed = settings, steps, seed
        self.pool = FragmentPool(settings.fragment_length, settings.pool)
        self.comparisons: list[Comparison] = []
        self.asked = 0
        self.rounds = 0
        self.figures: dict[str, float] = {}
        """Of the last fit."""
        self._model: PreferenceModel | None = None

    @property
    def model(self) -> PreferenceModel:
        assert self._model is not None, "the extension hasn't been applied"
        return self._model

    def apply(self, config: AlgorithmConfig) -> None:
        from raysafe.rl.reward_connector import Actions, GatherSteps, RewardConnector

        self._maker: EnvMaker = config.env_config["maker"]
        env = self._maker.make()
        self._observations, actions = env.observation_space, env.action_space
        env.close()
        shape = shape_of(self._observations, actions, self.settings.model.sees)
        self._model = PreferenceModel(self.settings.model, shape, seed=self.seed)
        self._actions = Actions(actions, normalised=bool(config.normalize_actions), clipped=bool(config.clip_actions))
        if self.settings.recorded is not None:
            self.comparisons = read_comparisons(self.settings.recorded)
            self._fit([side for found in self.comparisons for side in (found.a, found.b)])
        keep = 1.0 if self.settings.mode == "add" else 0.0
        observations, to_env, weight, model = self._observations, self._actions, self.settings.weight, self._model
        add_learner_connector(
            config,
            lambda *_: RewardConnector(observations, to_env, LearnedSteps(model), keep=keep, weight=weight),
        )
        add_callback(config, GatherSteps)

    def after_iteration(self, algorithm: Algorithm, step: int) -> Mapping[str, float]:
        self._gather(algorithm)
        due = self.settings.wanted(step / self.steps) - self.asked
        if due > 0 and len(self.pool.fragments) > 1:
            self.ask(due, algorithm)
            self._hand_over(algorithm)
        return {f"{PREFIX}{name}": value for name, value in (self.figures | self.audit()).items()}

    def ask(self, count: int, algorithm: Algorithm) -> None:
        """Have pairs compared, and fit to all comparisons so far."""
        draw = np.random.default_rng((self.seed, self.rounds))
        fitted = self.model if self.model.fits else None
        rater, queries = self.settings.rater, self.settings.queries
        if isinstance(rater, HumanRater):
            watched = self._watch(algorithm, WATCHED * count, rater.look)
            views = {id(one.fragment): one for one in watched}
            pairs = choose(queries, [one.fragment for one in watched], count, fitted, draw)
            self.comparisons += rater.compare([(views[id(a)], views[id(b)]) for a, b in pairs])
        else:
            pairs = choose(queries, list(self.pool.fragments), count, fitted, draw)
            self.comparisons += rater.compare(pairs, draw)
        self.asked += len(pairs)
        self.rounds += 1
        if self.settings.keep_in is not None:
            write_comparisons(self.comparisons, self.settings.keep_in)
        self._fit(self.pool.fragments)

    def audit(self) -> dict[str, float]:
        """True against learned return over the latest fragments: what the agent is paid, and what it is worth."""
        latest = [found for found in list(self.pool.fragments)[-AUDITED_FRAGMENTS:] if found.rewards_T is not None]
        if len(latest) < 2 or not self.model.fits:
            return {}
        true_N = np.array([found.rewards_T.sum() for found in latest if found.rewards_T is not None])
        steps = [self.model.shape.encode_trajectory(found) for found in latest]
        starts = np.cumsum([0, *(len(part) for part in steps[:-1])])
        learned_N = np.add.reduceat(self.model.rewards(np.concatenate(steps)), starts)
        return {
            "true_fragment_return": float(true_N.mean()),
            "learned_fragment_return": float(learned_N.mean()),
            "correlation": _correlation(true_N, learned_N),
            "ended_early": float(self.pool.ended_early),
        }

    def state(self) -> dict[str, Any]:
        return {
            "shape": self.model.shape.model_dump(),
            "model": self.model.state(),
            "comparisons": packed(self.comparisons),
            "asked": self.asked,
            "rounds": self.rounds,
            "figures": dict(self.figures),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.comparisons = unpacked(state["comparisons"])
        self.asked, self.rounds = int(state["asked"]), int(state["rounds"])
        self.figures = {name: float(value) for name, value in state["figures"].items()}
        self.model.set_state(state["model"])

    def restored(self, algorithm: Algorithm) -> None:
        self._hand_over(algorithm)

    def sections(self, run: Run) -> list[Section]:
        return [section for section in [audit_section(run)] if section is not None]

    def _watch(self, algorithm: Algorithm, count: int, look: Look) -> list[Watched]:
        """Fragments of the policy as it explores now, with what people are shown of them."""
        from raysafe.rl.evaluation import Evaluator
        from raysafe.rl.settings import EvaluationSettings
        from raysafe.rl.watching import watch

        evaluator = Evaluator(algorithm.env_runner, self._maker, EvaluationSettings(explore=True), self.seed)
        seed = int(np.random.SeedSequence([self.seed, 41, self.rounds]).generate_state(1)[0])
        length = self.settings.fragment_length
        return watch(self._maker, evaluator.act, length=length, count=count, look=look, seed=seed)

    def _fit(self, seen: Sequence[Trajectory] | Any) -> None:
        fit = self.model.fit(self.comparisons, list(seen))
        self.figures = {
            "comparisons": float(len(self.comparisons)),
            "loss": fit.loss,
            "accuracy": fit.accuracy,
            "held_out_loss": fit.held_out_loss,
            "held_out_accuracy": fit.held_out_accuracy,
        }

    def _gather(self, algorithm: Algorithm) -> None:
        from raysafe.rl.reward_connector import take_chunks

        group = algorithm.env_runner_group
        assert group is not None
        going: set[str] = set()
        for chunks in group.foreach_env_runner(take_chunks):
            for episode, obs, actions, rewards, terminated, truncated in chunks or []:
                going.add(episode)
                obs_T1D = flatten_observations(self._observations, obs)
                self.pool.add(
                    episode, obs_T1D, self._actions(actions), rewards, terminated=terminated, truncated=truncated
                )

        self.pool.keep_open(going)

    def _hand_over(self, algorithm: Algorithm) -> None:
        """The same reward for every learner."""
        group = algorithm.learner_group
        assert group is not None
        group.foreach_learner(_Update(self.model.state()))


class LearnedSteps:
    """The step rewards of a preference model; 0 until it has been fitted."""

    def __init__(self, model: PreferenceModel) -> None:
        self.model = model

    def __call__(
        self, obs_TD: NDArray[np.float32], actions_T: NDArray[Any], next_obs_TD: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        if not self.model.fits:
            return np.zeros(len(actions_T))
        return self.model.rewards(self.model.shape.encode(obs_TD, actions_T, next_obs_TD))


class _Update:
    """Puts a model's arrays into a learner's connector."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.arrays = arrays

    def __call__(self, learner: Any, _: Any = None) -> None:
        from raysafe.rl.reward_connector import RewardConnector

        for connector in learner._learner_connector.connectors:
            if isinstance(connector, RewardConnector) and isinstance(connector.step_rewards, LearnedSteps):
                connector.step_rewards.model.set_state(self.arrays)


def reward_model_of(run: Run, step: int | None = None) -> PreferenceModel:
    """The reward that a run has learned, by its latest checkpoint or that of a step; raises ConfigError where it is of
    a job that learned none."""
    from raysafe.rl import checkpoint as checkpoints
    from raysafe.rl.job import EXTENSIONS, RLJob

    job = RLJob.parse({name: value for name, value in run.config.items() if name != "job"}, run.uri)
    if job.learned_reward is None:
        raise ConfigError(f"{run.uri} learned no reward: its learned_reward is empty")
    place = [name for name in EXTENSIONS if getattr(job, name) is not None].index("learned_reward")
    _, kept = checkpoints.read(run, checkpoints.complete_steps(run)[-1] if step is None else step)
    state = kept["extensions"][place]
    model = PreferenceModel(job.learned_reward.model, TransitionShape(**state["shape"]), seed=job.seed)
    model.set_state(state["model"])
    return model


def reward_table(model: PreferenceModel, obs_SD: NDArray[np.float32]) -> NDArray[np.float64]:
    """(S, A): the learned reward of each discrete action in each state that is listed; raises ConfigError for a
    reward that depends on the next state, of which there is more than one."""
    shape: TransitionShape = model.shape
    if shape.actions is None or shape.sees == "transition":
        raise ConfigError(f"a table needs discrete actions and rewards of state or state-action, not of {shape.sees}")
    states, actions = len(obs_SD), shape.actions
    obs_ND = np.repeat(obs_SD, actions, axis=0)
    steps_NF = shape.encode(obs_ND, np.tile(np.arange(actions), states), obs_ND)
    return model.rewards(steps_NF).reshape(states, actions)


def _correlation(a_N: NDArray[np.float64], b_N: NDArray[np.float64]) -> float:
    """Pearson's; nan where one of both doesn't vary."""
    if min(a_N.std(), b_N.std()) < 1e-12:
        return float("nan")
    return float(np.corrcoef(a_N, b_N)[0, 1])
