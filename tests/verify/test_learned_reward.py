"""An agent that learns its reward from 500 comparisons does as well as one that sees the true reward."""

from __future__ import annotations

import pytest

from tests.bench.learned_reward import COMPARISONS, GRIDWORLD, PLANNED, TASKS, measure, table
from tests.verify.readme import publish


@pytest.mark.slow
def test_agents_learn_what_a_rater_prefers() -> None:
    """Recovery, with a control that must fail: a constant reward teaches nothing on the same task."""
    outcomes = [measure(task) for task in TASKS]
    block = table(outcomes)
    for found in outcomes:
        assert found.comparisons == COMPARISONS, found
        assert found.share(found.learned) >= 0.95, found
        assert found.share(found.constant) <= 0.5, found
    distances = {found.task: found.epic for found in outcomes if found.epic is not None}
    assert len(distances) == 2 and max(distances.values()) <= 0.2, distances
    publish(
        "learned-reward",
        f"{block}\n\n"
        "Mean true return of 100 episodes of PPO's last policy; the planned gridworld is the same as a table, with "
        f"exact plans\nand returns. A rater with Boltzmann's noise answers {COMPARISONS} comparisons. Share: 0 is "
        "random, 1 the agent that saw the\ntrue reward. Held out: comparisons that the learned reward orders as the "
        f"rater did. EPIC distance of the gridworld's learned\nreward to the true one: {distances[GRIDWORLD]:.2f} "
        f"by PPO's, {distances[PLANNED]:.2f} by the planner's (`python -m tests.bench.learned_reward`).",
    )
