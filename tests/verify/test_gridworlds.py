"""The eight gridworld problems: what reward alone loses and each remedy wins back, planned exactly and learned."""

from __future__ import annotations

import pytest

from raysafe.rl.envs.optimum import value
from raysafe.rl.envs.problems import PROBLEMS
from raysafe.rl.q_learning import QLearner, QLearningSettings
from raysafe.rl.remedies import REMEDIES
from raysafe.rl.remedy_table import markdown, rows
from tests.verify.readme import publish

STEPS, SEEDS = 300_000, 3


def learned(name: str, seed: int) -> float:
    """Performance of the policy that tabular Q-learning comes to, with a row for all that looks the same."""
    learner = QLearner(
        PROBLEMS[name](),
        QLearningSettings(rows="view", gamma=0.999, copies=256, initial=50, decay=0.6, learning_rate=1.0),
        steps=STEPS,
        seed=seed,
    )
    learner.learn()
    return value(PROBLEMS[name](), learner.policy_SA, "performance")


@pytest.mark.slow
def test_each_remedy_closes_80_percent_of_what_reward_alone_loses() -> None:
    judged = rows()
    assert [row.problem for row in judged] == list(REMEDIES)
    found = {row.problem: [learned(row.problem, seed) for seed in range(SEEDS)] for row in judged}
    for row in judged:
        assert row.closed >= 0.8
        assert row.remedied > max(found[row.problem])
    publish("gridworlds", markdown(judged, found))
