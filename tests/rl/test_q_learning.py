"""Tabular learners against exact planning, and against themselves when they are interrupted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raysafe.errors import DataError
from raysafe.rl.envs.problem import Outcome, Problem, State
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.table import tabular
from raysafe.rl.planning import backup, evaluate, optimal
from raysafe.rl.q_learning import QLearner, QLearningSettings


class Walk(Problem):
    """Five states in a ring, five ways to go on, all of them by chance; the last state ends the episode."""

    def starts(self) -> list[tuple[float, State]]:
        return [(0.5, (0,)), (0.5, (1,))]

    def transitions(self, state: State, action: int) -> list[Outcome]:
        chances = np.random.default_rng([state[0], action]).dirichlet(np.ones(5)).tolist()
        return [Outcome(p, (to,), float(to - action % 3), to == 4) for to, p in enumerate(chances)]

    def board(self, state: State) -> tuple[str, ...]:
        return ("".join("A" if place == state[0] else " " for place in range(5)),)

    tiles = " A"


def learned(problem: Problem, steps: int, seed: int = 0, **settings: Any) -> QLearner:
    learner = QLearner(problem, QLearningSettings.model_validate(settings), steps=steps, seed=seed)
    learner.learn()
    return learner


def test_q_learning_converges_to_the_optimal_values() -> None:
    """Behaviour is random throughout, so only what is off-policy finds the optimum."""
    settings = {"gamma": 0.9, "epsilon": 1, "last_epsilon": 1, "learning_rate": 1, "decay": 0.7, "copies": 256}
    problem = Walk()
    mdp, rewards_SA, _ = tabular(problem)
    q_SA = optimal(mdp, rewards_SA, 0.9).q
    goes_on_S = ~mdp.ends_S
    error = {
        update: np.abs(learned(problem, 250_000, update=update, **settings).q_SA - q_SA)[goes_on_S].max()
        for update in ("q-learning", "sarsa")
    }
    assert error["q-learning"] < 0.03 * np.ptp(q_SA)
    assert error["sarsa"] > 5 * error["q-learning"]


@pytest.mark.parametrize("update", ["sarsa", "expected-sarsa"])
def test_sarsa_converges_to_the_values_of_what_it_does(update: str) -> None:
    problem = Walk()
    settings = {"gamma": 0.9, "epsilon": 1, "last_epsilon": 1, "learning_rate": 1, "decay": 0.7, "copies": 256}
    mdp, rewards_SA, _ = tabular(problem)
    even_SA = np.full(rewards_SA.shape, 1 / 5)
    q_SA = backup(mdp, rewards_SA, 0.9, evaluate(mdp, even_SA, rewards_SA, 0.9))
    learner = learned(problem, 250_000, update=update, **settings)
    assert learner.q_SA[~mdp.ends_S] == pytest.approx(q_SA[~mdp.ends_S], abs=0.03 * np.ptp(q_SA))


def test_off_policy_learning_drinks_and_on_policy_learning_does_not() -> None:
    """As Leike et al. 2017 found (section 4.2): only who values what it will really do leaves the whisky alone."""
    problem = problem_named("SelfModification")
    _, _, states = tabular(problem)
    drinks = {}
    for update in ("q-learning", "sarsa", "expected-sarsa"):
        learner = learned(problem, 150_000, update=update, learning_rate=0.1, epsilon=0.3, last_epsilon=0.02)
        policy_SA = learner.policy_SA
        state: State = problem.starts()[0][1]
        for _ in range(12):
            action = int(policy_SA[states.index(state)].argmax())
            ((_, state, _, done),) = problem.transitions(state, action)
            if done:
                break
        assert done
        drinks[update] = state[1]
    assert drinks == {"q-learning": True, "sarsa": False, "expected-sarsa": False}


def test_an_interrupted_learner_goes_on_as_if_it_had_not_been() -> None:
    problem, settings = problem_named("SafeExploration"), QLearningSettings(copies=8, update="sarsa")
    whole, first = (QLearner(problem, settings, steps=6_000, seed=3) for _ in range(2))
    for _ in range(2):
        whole.learn(3_000)
    first.learn(3_000)
    second = QLearner(problem, settings, steps=6_000, seed=99)
    second.set_state(first.state())
    second.learn(3_000)
    assert (second.q_RA == whole.q_RA).all()
    assert second.curve == whole.curve
    with pytest.raises(DataError, match="same problem"):
        QLearner(problem_named("FriendFoe"), settings).set_state(first.state())


def test_seeds_are_what_a_learner_depends_on() -> None:
    problem = problem_named("FriendFoe")
    one, same, other = (learned(problem, 4_000, seed=seed).q_RA for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_rows_by_view_leave_out_what_is_not_seen() -> None:
    problem = problem_named("FriendFoe")
    assert learned(problem, 100, rows="state").q_RA.shape == (105, 5)
    assert learned(problem, 100, rows="view").q_RA.shape == (21, 5)


def test_optimism_explores_without_random_actions() -> None:
    """No random action at all: with first values of 0 the start is never left for good, with 60 the goal is found."""
    problem, settings = problem_named("AbsentSupervisor"), {"epsilon": 0, "last_epsilon": 0, "copies": 4}
    hopeful = learned(problem, 12_000, initial=60.0, **settings)
    assert hopeful.curve[-1][1] > 20
    mdp, rewards_SA, _ = tabular(problem)
    found = evaluate(mdp, hopeful.policy_SA, rewards_SA, 1.0, 100)[0] @ mdp.initial_S
    assert found == pytest.approx(44)
