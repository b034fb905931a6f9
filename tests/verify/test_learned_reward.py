"""An agent that learns its reward from 500 comparisons does as well as one that sees the true reward."""

from __future__ import annotations

import pytest

from tests.bench.learned_reward import COMPARISONS, TASKS, measure, table
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
    (gridworld,) = [found for found in outcomes if found.epic is not None]
    assert gridworld.epic is not None and gridworld.epic <= 0.2, gridworld
    publish(
        "learned-reward",
        f"{block}\n\n"
        "Mean true return of 100 episodes of PPO's last policy, exact in the gridworld, whose agents plan; a "
        f"rater with\nBoltzmann's noise answers {COMPARISONS} comparisons. Share: 0 is random, 1 the agent that saw "
        "the true reward. Held out:\ncomparisons that the learned reward orders as the rater did. EPIC distance of "
        f"the gridworld's learned reward to the\ntrue one: {gridworld.epic:.2f} "
        "(`python -m tests.bench.learned_reward`).",
    )
