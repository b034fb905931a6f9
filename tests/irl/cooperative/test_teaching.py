"""Lessons against all that a human could do, and that teaching pays."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from raysafe.errors import ConfigError, DataError
from raysafe.irl.cooperative.teaching import Apprenticeship
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.planning import evaluate, optimal
from tests.irl.cooperative.problems import apprenticeship


def total(problem: Apprenticeship, human, values_LK: np.ndarray) -> float:
    found = problem.outcome(human, values_LK)
    return float(problem.prior_K @ (found.lesson_K + found.task_K))


def test_a_pedagogic_demonstration_is_the_best_of_all() -> None:
    """Each of the 5^2 lessons from one cell, its posterior and the robot's plan computed one by one."""
    problem = apprenticeship(3, size=3, steps=2, parameters=3)
    values_LK = problem.deploy(problem.literal())
    found = problem.outcome(problem.pedagogic(values_LK), values_LK)
    goes_SAS, gamma = np.asarray(problem.lesson.transitions), problem.gamma
    q_KSA = np.array([optimal(problem.lesson, rewards_SA, gamma).q for rewards_SA in problem.rewards_KSA])
    logps_KSA = problem.beta * q_KSA - np.logaddexp.reduce(problem.beta * q_KSA, axis=2, keepdims=True)
    best_K = np.full(3, -np.inf)
    for lesson in itertools.product(range(5), repeat=2):
        state, earned_K, logs_K = int(problem.lesson.initial_S.argmax()), np.zeros(3), np.log(problem.prior_K)
        for time, action in enumerate(lesson):
            earned_K += gamma**time * problem.rewards_KSA[:, state, action]
            logs_K += logps_KSA[:, state, action]
            state = int(goes_SAS[state, action].argmax())
        belief_K = np.exp(logs_K - np.logaddexp.reduce(logs_K))
        policy_SA = optimal(problem.task, np.tensordot(belief_K, problem.rewards_KSA, axes=1), gamma).policy
        for parameter in range(3):
            values_S = evaluate(problem.task, policy_SA, problem.rewards_KSA[parameter], gamma)
            earned_K[parameter] += problem.task.initial_S @ values_S
        best_K = np.maximum(best_K, earned_K)
    assert found.lesson_K + found.task_K == pytest.approx(best_K, abs=1e-9)


@pytest.mark.parametrize("slips", [False, True])
def test_each_best_response_earns_no_less(slips: bool) -> None:
    for seed in range(3):
        problem = apprenticeship(seed, size=3, steps=2 if slips else 4, slips=slips)
        believed_LK = problem.literal()
        human, values_LK = problem.expert(), problem.deploy(believed_LK)
        last = total(problem, human, values_LK)
        for _ in range(2):
            human = problem.pedagogic(values_LK)
            assert (now := total(problem, human, values_LK)) >= last - 1e-9
            believed_LK = problem.pragmatic(human, believed_LK)
            values_LK = problem.deploy(believed_LK)
            assert (last := total(problem, human, values_LK)) >= now - 1e-9


def test_pedagogic_demonstrations_leave_less_regret_than_an_experts() -> None:
    regrets_N2 = []
    for seed in range(8):
        problem = apprenticeship(seed, size=3, steps=4)
        values_LK = problem.deploy(problem.literal())
        outcomes = [problem.outcome(human, values_LK) for human in (problem.expert(), problem.pedagogic(values_LK))]
        assert all((one.regret_K > -1e-9).all() for one in outcomes)
        regrets_N2.append([problem.prior_K @ one.regret_K for one in outcomes])
    expert, pedagogic = np.mean(regrets_N2, axis=0)
    assert pedagogic < 0.7 * expert


def test_beliefs_are_distributions_and_ones_own_expert_is_believed() -> None:
    problem = apprenticeship(0, size=3, steps=3)
    believed_LK = problem.literal()
    assert believed_LK.sum(axis=1) == pytest.approx(1)
    certain_LK = problem.pragmatic(problem.pedagogic(problem.deploy(believed_LK)), believed_LK)
    assert certain_LK.sum(axis=1) == pytest.approx(1)


def test_a_lesson_may_end_early() -> None:
    problem = apprenticeship(1, size=3, steps=4, parameters=3)
    lesson = TabularMDP(problem.lesson.transitions, problem.lesson.initial_S, np.arange(9) == 4)
    problem = replace(problem, lesson=lesson)
    values_LK = problem.deploy(problem.literal())
    for human in (problem.expert(), problem.pedagogic(values_LK)):
        known = np.ones_like(values_LK)
        assert problem.outcome(human, known).task_K == pytest.approx(1)


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = apprenticeship(0, size=3, steps=2)
    with pytest.raises(DataError, match="5 probabilities"):
        replace(problem, prior_K=np.full(3, 1 / 3))
    with pytest.raises(DataError, match="the same states and actions"):
        replace(problem, rewards_KSA=problem.rewards_KSA[:, :, :2])
    monkeypatch.setattr("raysafe.irl.cooperative.teaching.MOST_LEAVES", 10)
    with pytest.raises(ConfigError, match="more than 10 different lessons"):
        replace(problem, steps=3).literal()
