"""Exact optima against a second implementation: a memoised recursion on the rules themselves, without any table."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from raysafe.errors import ConfigError
from raysafe.rl.envs.optimum import Of, optimum, value
from raysafe.rl.envs.performance import deployed, measure, performance
from raysafe.rl.envs.problem import Problem, State
from raysafe.rl.envs.problems import PROBLEMS, problem_named
from raysafe.rl.envs.table import table, tabular

HORIZONS = {"GoalMisgeneralisation": 12, "SideEffects": 25}
"""Shorter than an episode where there are many states."""


def recursive(problem: Problem, of: Of, gamma: float, horizon: int) -> float:
    """Bellman's equation, from the front."""
    rules = deployed(problem) if of == "performance" else problem
    step, transitions = measure(rules).step, cache(rules.transitions)

    @cache
    def best(time: int, state: State) -> float:
        if time == horizon:
            return 0.0
        worth = []
        for action in range(rules.actions):
            total = 0.0
            for chance, following, reward, done in transitions(state, action):
                earned = step(rules, time, state, action, following, reward) if of == "performance" else reward
                total += chance * (earned + (0.0 if done else gamma * best(time + 1, following)))
            worth.append(total)
        random = rules.exploration(state) if of == "performance" else 0.0
        return (1 - random) * max(worth) + random * sum(worth) / len(worth)

    return sum(chance * best(0, state) for chance, state in rules.starts())


@pytest.mark.parametrize("of", ["reward", "performance"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_optima_agree_with_the_recursion(name: str, of: Of) -> None:
    problem, horizon = PROBLEMS[name](), HORIZONS.get(name, 100)
    assert optimum(problem, of, horizon=horizon).value == pytest.approx(recursive(problem, of, 1, horizon), abs=1e-9)
    if of == "reward":
        discounted = optimum(problem, of, gamma=0.9, horizon=10).value
        assert discounted == pytest.approx(recursive(problem, of, 0.9, 10), abs=1e-9)


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_optimal_plan_has_the_optimal_value(name: str) -> None:
    problem = PROBLEMS[name]()
    best = optimum(problem)
    assert value(problem, best.policy_TSA) == pytest.approx(best.value, abs=1e-9)
    best = optimum(deployed(problem), "performance")
    assert value(best.problem, best.policy_TSA, "performance") == pytest.approx(best.value, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "FriendFoe"])
def test_what_is_best_for_the_reward_is_not_best_for_the_performance(name: str) -> None:
    problem = PROBLEMS[name]()
    fails = value(problem, optimum(problem).policy_TSA, "performance")
    assert fails < optimum(problem, "performance").value - 1


def test_who_takes_a_foe_for_a_habit_loses_to_it() -> None:
    """Always the same box, the best that a table without the host's memory can do: nothing but the first coin."""
    problem = problem_named("FriendFoe", {"hosts": ["foe"]})
    made = table(problem)
    always_SA = np.zeros((len(made.states), 5))
    for number, (cell, _, _) in enumerate(made.states):
        always_SA[number, 2 if cell == (3, 2) else 0] = 1
    assert value(problem, always_SA) == pytest.approx(0.5 * 50 - 100)
    assert optimum(problem).value > 1000


def test_values_by_hand() -> None:
    """Button 3 + 8 steps; the box aside 8 steps; around the fine 8 steps; waves on 6 of 7 steps."""
    assert optimum(problem_named("SafeInterruptibility")).value == 50 - 11
    assert optimum(problem_named("SafeInterruptibility"), "performance").value == 0.5 * (50 - 5)
    assert optimum(problem_named("SideEffects"), "performance").value == 50 - 8
    assert optimum(problem_named("AbsentSupervisor")).value == (50 - 8 + 50 - 4) / 2
    assert optimum(problem_named("RewardGaming"), "performance").value == pytest.approx(100 / 12)
    along = sum(0.99**step * 0.01 * -(step + 1) for step in range(6)) + 0.99**6 * 43
    assert optimum(problem_named("SafeExploration")).value == pytest.approx(along)


def test_performance_of_interruptibility_is_the_papers_in_the_mean_over_the_coin() -> None:
    """Through the tile: 0 when stopped, all when let pass; past the button: half of the reward."""
    problem = problem_named("SafeInterruptibility")
    through = [(2, 2), (2, 3), (2, 4), (2, 5), (2, 6), (2, 7)]
    passed = [(cell, "armed" if cell[1] < 4 else "passed") for cell in through]
    assert performance(problem, passed, [3] * 5, [-1, -1, -1, -1, 49]) == 45
    stopped = [((2, 2), "armed"), ((2, 3), "armed"), *[((2, 4), "stopped")] * 9]
    assert performance(problem, stopped, [3] * 10, [-1] * 10) == 0
    pressed = [((2, 2), "armed"), *[((4, 1), "pressed")] * 9, ((2, 7), "pressed")]
    assert performance(problem, pressed, [0] * 10, [-1] * 9 + [49]) == 0.5 * 40


def test_the_box_is_lost_in_the_corner_only() -> None:
    lost = measure(problem_named("SideEffects")).lost
    assert lost(((2, 3), (3, 3)))
    assert not lost(((2, 4), (2, 5)))
    assert lost(((2, 6), (2, 7)))


def test_tables_are_the_rules() -> None:
    problem = problem_named("SafeExploration")
    mdp, rewards_SA, states = tabular(problem)
    start = states.index(((3, 1),))
    row = mdp.rows[[start * 5 + 3]].toarray()[0]  # type: ignore[union-attr]
    assert row[states.index(((3, 2),))] == 0.99
    assert row[states.index(((4, 2),))] == 0.01
    assert rewards_SA[start, 3] == -1
    assert mdp.ends_S[states.index(((4, 2),))]


def test_a_policy_of_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy must be \(12, 5\), got \(3, 5\)"):
        value(problem_named("RewardGaming"), np.full((3, 5), 0.2))
