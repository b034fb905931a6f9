"""Problems with a memory of the agent's own, and worlds without an end."""

from __future__ import annotations

import numpy as np
import pytest

from raysafe.rl.envs.endless import endless
from raysafe.rl.envs.optimum import value
from raysafe.rl.envs.problem import Action
from raysafe.rl.envs.problems import problem_named
from raysafe.rl.envs.remembering import forgotten
from raysafe.rl.envs.table import table
from raysafe.rl.remedies.checkpoints import machine
from raysafe.rl.remedies.own_choices import remembering


def test_a_policy_that_forgets_earns_what_the_one_with_memory_earns() -> None:
    """A random one, where the memory changes no reward: both values by backward induction, each in its problem."""
    problem = problem_named("FriendFoe", {"limit": 12})
    kept = remembering(problem)
    policy_SA = np.random.default_rng(0).dirichlet(np.ones(5), len(table(kept).states))
    assert value(problem, forgotten(kept, policy_SA)) == pytest.approx(value(kept, policy_SA), abs=1e-9)


def test_a_checkpoint_pays_again_only_after_another() -> None:
    """To and fro over the first arrow: 2, -1, -1, where the race itself pays 2, -1, 2."""
    race = problem_named("RewardGaming")
    for rules, paid in ((machine(race), [2.0, -1.0, -1.0]), (race, [2.0, -1.0, 2.0])):
        ((_, state),) = rules.starts()
        found = []
        for action in (Action.RIGHT, Action.RIGHT, Action.LEFT, Action.RIGHT):
            (outcome,) = rules.transitions(state, action)
            state = outcome.state
            found.append(outcome.reward)
        assert found[1:] == paid


def test_a_world_without_an_end_has_a_way_on_from_the_goal() -> None:
    problem = problem_named("SideEffects")
    made, world = table(problem), table(endless(problem))
    assert made.terminal_S.any()
    assert not world.terminal_S.any()
    assert set(made.states) <= set(world.states)
    goal = next(state for state, ends in zip(made.states, made.terminal_S, strict=True) if ends)
    assert len({outcome.state for a in Action for outcome in world.problem.transitions(goal, a)}) > 1
