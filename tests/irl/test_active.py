"""Information against its definition, the cloud of particles against enumeration, and what asking well saves."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.errors import ConfigError, DataError
from raysafe.irl.active import ActionQuestions, ActiveConfig, ActiveIRL, ComparisonQuestions, information
from raysafe.irl.bayes.enumerated import enumerate_posterior
from raysafe.irl.bayes.likelihood import Likelihood
from raysafe.irl.bayes.many import ManyValues
from raysafe.irl.bayes.policy_walk import axis
from raysafe.irl.bayes.priors import UniformPrior
from raysafe.irl.bayes.target import Target
from raysafe.irl.features import Features
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import evaluate, occupancy, optimal
from tests.irl.bayes.problems import ACTIONS, BETA, GAMMA, STATES, problem


def test_information_is_what_an_answer_and_the_particle_share() -> None:
    rng = np.random.default_rng(0)
    chances_NKO, shares_N = rng.dirichlet(np.ones(4), (6, 3)), rng.dirichlet(np.ones(6))
    for question in range(3):
        joint_NO = shares_N[:, None] * chances_NKO[:, question]
        expected = (joint_NO * np.log(joint_NO / joint_NO.sum(axis=0) / shares_N[:, None])).sum()
        assert information(np.log(chances_NKO), shares_N)[question] == pytest.approx(expected)


def test_a_question_that_all_particles_answer_alike_tells_nothing() -> None:
    certain_NKO = np.log(np.array([[[0.9, 0.1], [1.0, 1e-300]], [[0.9, 0.1], [1e-300, 1.0]]]))
    assert information(certain_NKO, np.full(2, 0.5)) == pytest.approx([0, np.log(2)], abs=1e-9)


@pytest.mark.parametrize("terminal", [False, True])
def test_many_rewards_are_planned_as_one(terminal: bool) -> None:
    mdp, _ = problem()
    mdp = TabularMDP(mdp.transitions, mdp.initial_S, np.arange(STATES) == 2 if terminal else None)
    rewards_NSA = np.random.default_rng(0).normal(size=(20, STATES, ACTIONS))
    many = ManyValues(mdp, GAMMA)
    q_NSA = many.q(rewards_NSA)
    for rewards_SA, q_SA in zip(rewards_NSA, q_NSA, strict=True):
        plan = optimal(mdp, rewards_SA, GAMMA)
        assert q_SA == pytest.approx(plan.q, abs=1e-9)
        visits_SA = many.occupancies(plan.policy.argmax(axis=1)[None])[0]
        assert visits_SA == pytest.approx(occupancy(mdp, plan.policy, GAMMA), abs=1e-9)


def test_the_cloud_is_the_posterior_that_is_enumerated() -> None:
    mdp, features = problem()
    prior, rng = UniformPrior(), np.random.default_rng(0)
    active = ActiveIRL(ActionQuestions(mdp, features, GAMMA, BETA), ActiveConfig(prior=prior, particles=1500, moves=4))
    for _ in range(15):
        active.answer(int(rng.integers(STATES)), int(rng.integers(ACTIONS)))
    target = Target(Likelihood(mdp, features, active.answers_KO, beta=BETA, gamma=GAMMA), prior)
    expected = enumerate_posterior(target, axis(prior, 0.5), within=3)
    drawn_NF = active.weights_NF[rng.choice(1500, size=20_000, p=active.shares_N)]
    assert expected.total_variation(drawn_NF) < 0.06
    assert active.reward().weights_F == pytest.approx(expected.mean_F(), abs=0.06)


def regret(mdp: TabularMDP, features: Features, weights_F: np.ndarray, policy_SA: np.ndarray) -> float:
    rewards_SA = features.rewards(weights_F)
    return float((optimal(mdp, rewards_SA, GAMMA).values - evaluate(mdp, policy_SA, rewards_SA, GAMMA)).mean())


def test_comparisons_that_inform_most_beat_random_ones() -> None:
    rng = np.random.default_rng(0)
    features = Features(np.eye(6), 6, 1)
    # most pairs are nearly alike
    differences_KF = rng.normal(size=(80, 6)) * np.where(rng.random(80) < 0.25, 3.0, 0.1)[:, None]
    errors = {"information": 0.0, "random": 0.0}
    for seed in range(4):
        weights_F = np.random.default_rng(seed).normal(size=6)
        margins_K = differences_KF @ weights_F
        config = ActiveConfig(seed=seed, particles=150, moves=2)
        for by in errors:
            active = ActiveIRL(ComparisonQuestions(features, differences_KF, 5.0), config)
            found = active.run(lambda question, margins_K=margins_K: int(margins_K[question] < 0), 15, by)[-1].weights_F
            assert found is not None
            errors[by] += 1 - found @ weights_F / np.linalg.norm(found) / np.linalg.norm(weights_F)
    assert errors["information"] < 0.5 * errors["random"]


def test_the_expected_fall_of_regret_is_that_of_acting_on_what_each_answer_would_leave() -> None:
    mdp, features = problem()
    active = ActiveIRL(ActionQuestions(mdp, features, GAMMA, BETA), ActiveConfig(particles=12, seed=3))
    active.answer(0, 1)
    gains_K = active.gains_K()
    now = features.rewards(active.shares_N @ active.weights_NF)
    chances_NKO = np.exp(active.questions.log_probabilities(active.weights_NF))
    for question in range(STATES):
        expected = 0.0
        for option in range(ACTIONS):
            joint_N = active.shares_N * chances_NKO[:, question, option]
            mean_F = joint_N @ active.weights_NF / joint_N.sum()
            acting_SA = optimal(mdp, features.rewards(mean_F), GAMMA).policy
            values_N = np.array(
                [mdp.initial_S @ evaluate(mdp, acting_SA, features.rewards(w), GAMMA) for w in active.weights_NF]
            )
            expected += joint_N @ values_N
        worth_now = mdp.initial_S @ optimal(mdp, now, GAMMA).values
        assert gains_K[question] == pytest.approx(expected - worth_now, abs=1e-9)
    assert gains_K.min() > -1e-9 and active.ask("regret") == gains_K.argmax()


def test_what_is_never_acted_on_has_no_regret_to_ask_about() -> None:
    comparisons = ComparisonQuestions(Features(np.eye(2), 2, 1), np.array([[1.0, -1.0]]), 1.0)
    with pytest.raises(ConfigError, match="by must be information or random here"):
        ActiveIRL(comparisons, ActiveConfig(particles=5)).ask("regret")


def test_answers_that_are_not_there_are_refused() -> None:
    mdp, features = problem()
    active = ActiveIRL(ActionQuestions(mdp, features, GAMMA, BETA), ActiveConfig(particles=10))
    with pytest.raises(DataError, match="question must be 0 to 5 and its answer 0 to 2, got 6 and 0"):
        active.answer(6, 0)
