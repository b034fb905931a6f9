"""Active inverse reinforcement learning: which question to ask next, by the information that its answer is expected to
give about the reward (BALD, Houlsby et al. 2011): the entropy of the mean answer less the mean entropy of answers.

Questions are the demonstrator's action in a state (Lopes, Melo and Montesano 2009) or which of two trajectories is
better (Sadigh et al. 2017). The posterior is a cloud of weighted particles, moved by Metropolis steps when too few of
them carry the weight (resample-move, Gilks and Berzuini 2001).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from pydantic import Field
from scipy.special import log_expit, log_softmax, xlogy

from raysafe.config import Config
from raysafe.errors import ConfigError, DataError
from raysafe.irl.bayes.many import ManyValues
from raysafe.irl.bayes.priors import NormalPrior, Prior
from raysafe.irl.features import Features
from raysafe.irl.reward import Reward
from raysafe.rl.mdp import Floats, TabularMDP


class Questions(Protocol):
    """A fixed list of K questions with O answers each."""

    @property
    def features(self) -> Features: ...

    def log_probabilities(self, weights_NF: Floats) -> Floats:
        """(N, K, O): of each answer, for each particle."""
        ...


@dataclass(frozen=True, eq=False)
class ActionQuestions:
    """Question s is what the demonstrator does in state s; answers have probability proportional to exp(beta q*)."""

    mdp: TabularMDP
    features: Features
    gamma: float
    beta: float
    _values: ManyValues = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", ManyValues(self.mdp, self.gamma))

    def log_probabilities(self, weights_NF: Floats) -> Floats:
        """(N, S, A)."""
        rewards_NSA = np.stack([self.features.rewards(weights_F) for weights_F in weights_NF])
        return log_softmax(self.beta * self._values.q(rewards_NSA), axis=-1)

    def best(self, weights_NF: Floats) -> Floats:
        """(N,): what the best policy for each reward is worth by that reward, in the mean over initial states."""
        rewards_NSA = np.stack([self.features.rewards(weights_F) for weights_F in weights_NF])
        return self._values.q(rewards_NSA).max(axis=-1) @ np.where(self.mdp.ends_S, 0.0, self.mdp.initial_S)


@dataclass(frozen=True, eq=False)
class ComparisonQuestions:
    """Question k is which of two trajectories is better; the first with probability sigmoid(beta (return - return))."""

    features: Features
    differences_KF: Floats
    """Discounted features of the first less those of the second."""
    beta: float

    def log_probabilities(self, weights_NF: Floats) -> Floats:
        """(N, K, 2)."""
        margins_NK = self.beta * weights_NF @ self.differences_KF.T
        return np.stack([log_expit(margins_NK), log_expit(-margins_NK)], axis=-1)


By = Literal["information", "regret", "random"]


LEAST_GAIN = 1e-9
"""Of the expected value: below it is rounding."""


class ActiveConfig(Config):
    """The cloud of particles."""

    prior: Prior = Field(default=NormalPrior(), description="Of each weight, before any answer.")
    particles: int = Field(default=500, ge=2, description="How many reward weights stand for the posterior.")
    moves: int = Field(default=5, ge=1, description="Metropolis steps of each particle after the cloud is resampled.")
    least_share: float = Field(
        default=0.5, gt=0, le=1, description="Resample when the weights leave a smaller share of effective particles."
    )
    seed: int = Field(default=0, ge=0, description="Seed of particles and of random questions.")


class ActiveIRL:
    """Ask, take the answer, ask again; `reward` is the mean at any time."""

    def __init__(self, questions: Questions, config: ActiveConfig | None = None) -> None:
        self.questions, self.config = questions, config or ActiveConfig()
        self._rng = np.random.default_rng(self.config.seed)
        self.weights_NF = self.config.prior.draw(self._rng, (self.config.particles, questions.features.count))
        self._logps_NKO = questions.log_probabilities(self.weights_NF)
        self.answers_KO: Floats = np.zeros(self._logps_NKO.shape[1:])
        """How often each answer was given."""
        self.shares_N = np.full(self.config.particles, 1 / self.config.particles)

    def information_K(self) -> Floats:
        """Expected information of each question, in nats."""
        return information(self._logps_NKO, self.shares_N)

    def gains_K(self) -> Floats:
        """Expected fall of the regret of acting on the mean reward, by one answer to each question.

        A policy's value is linear in the reward, so that of the mean reward is Bayes-optimal: the fall is the expected
        value of the best policy given the answer, less that of the best policy now. Raises ConfigError for questions
        that know no problem to act in.
        """
        if not isinstance(self.questions, ActionQuestions):
            raise ConfigError("by must be information or random here: only questions of actions know what to act in")
        joint_NKO = self.shares_N[:, None, None] * np.exp(self._logps_NKO)
        chances_KO = joint_NKO.sum(axis=0)
        means_KOF = np.tensordot(joint_NKO, self.weights_NF, axes=(0, 0)) / np.maximum(chances_KO, 1e-300)[..., None]
        best_KO = self.questions.best(means_KOF.reshape(-1, means_KOF.shape[-1])).reshape(chances_KO.shape)
        now = self.questions.best((self.shares_N @ self.weights_NF)[None])[0]
        return (chances_KO * best_KO).sum(axis=1) - now

    def ask(self, by: By = "information") -> int:
        """The question to ask next: the most informative one, the one after which one acts best, or any.

        Where no single answer is expected to change what is done (gains_K), regret falls back on information.
        """
        if by == "random":
            return int(self._rng.integers(len(self.answers_KO)))
        if by == "regret" and (gains_K := self.gains_K()).max() > LEAST_GAIN:
            return int(np.argmax(gains_K))
        return int(np.argmax(self.information_K()))

    def answer(self, question: int, option: int) -> None:
        """Raises DataError for a question or an answer that isn't there."""
        if not (0 <= question < self.answers_KO.shape[0] and 0 <= option < self.answers_KO.shape[1]):
            raise DataError(
                f"question must be 0 to {self.answers_KO.shape[0] - 1} and its answer 0 to "
                f"{self.answers_KO.shape[1] - 1}, got {question} and {option}"
            )
        self.answers_KO[question, option] += 1
        logs_N = np.log(self.shares_N) + self._logps_NKO[:, question, option]
        shares_N = np.exp(logs_N - logs_N.max())
        self.shares_N = shares_N / shares_N.sum()
        if 1 / (self.shares_N**2).sum() < self.config.least_share * len(self.shares_N):
            self._renew()

    def run(self, expert: Callable[[int], int], questions: int, by: By = "information") -> list[Reward]:
        """Ask so many questions of one who answers; the mean reward after each."""
        found = []
        for _ in range(questions):
            question = self.ask(by)
            self.answer(question, expert(question))
            found.append(self.reward())
        return found

    def reward(self) -> Reward:
        """Of mean weights."""
        return Reward.of_features(self.questions.features, self.shares_N @ self.weights_NF, learned_by="active")

    def _renew(self) -> None:
        """Resample, then move each particle under the posterior of all answers."""
        count, dimensions = self.weights_NF.shape
        mean_F = self.shares_N @ self.weights_NF
        spread_FF = (self.weights_NF - mean_F).T * self.shares_N @ (self.weights_NF - mean_F)
        # the widest step that suits a normal posterior (Roberts, Gelman and Gilks 1997)
        factor_FF = 2.38 / np.sqrt(dimensions) * np.linalg.cholesky(spread_FF + 1e-9 * np.eye(dimensions))
        places_N = np.searchsorted(np.cumsum(self.shares_N), (self._rng.random() + np.arange(count)) / count)
        chosen_N = np.minimum(places_N, count - 1)
        weights_NF, logps_NKO = self.weights_NF[chosen_N], self._logps_NKO[chosen_N]
        densities_N = self._densities(weights_NF, logps_NKO)
        for _ in range(self.config.moves):
            moved_NF = weights_NF + self._rng.standard_normal((count, dimensions)) @ factor_FF.T
            moved_logps_NKO = self.questions.log_probabilities(moved_NF)
            moved_N = self._densities(moved_NF, moved_logps_NKO)
            taken_N = np.log(self._rng.random(count)) < moved_N - densities_N
            weights_NF[taken_N], logps_NKO[taken_N] = moved_NF[taken_N], moved_logps_NKO[taken_N]
            densities_N[taken_N] = moved_N[taken_N]
        self.weights_NF, self._logps_NKO = weights_NF, logps_NKO
        self.shares_N = np.full(count, 1 / count)

    def _densities(self, weights_NF: Floats, logps_NKO: Floats) -> Floats:
        asked = self.answers_KO.sum(axis=1) > 0
        likelihood_N = (logps_NKO[:, asked] * self.answers_KO[asked]).sum(axis=(1, 2))
        return likelihood_N + self.config.prior.log_density(weights_NF).sum(axis=1)


def information(logps_NKO: Floats, shares_N: Floats) -> Floats:
    """(K,): mutual information between answer and particle, in nats; never below 0 but for rounding."""
    probabilities_NKO = np.exp(logps_NKO)
    mean_KO = np.tensordot(shares_N, probabilities_NKO, axes=1)
    own_NK = -(probabilities_NKO * np.where(probabilities_NKO > 0, logps_NKO, 0.0)).sum(axis=-1)
    return -xlogy(mean_KO, mean_KO).sum(axis=-1) - shares_N @ own_NK
