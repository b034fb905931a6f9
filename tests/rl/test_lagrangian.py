"""Lagrangian PPO against the linear programme, and the pieces of it by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from raysafe.errors import ConfigError
from raysafe.rl.constrained import Constrained, constrained_optimum
from raysafe.rl.constraints import COST_METRIC, MULTIPLIER_METRIC, Constraint, ConstraintSettings
from raysafe.rl.costs import Costed
from raysafe.rl.mdp import TabularMDP
from raysafe.rl.multiplier import MultiplierSettings
from tests.rl.errands import ERRANDS, KINDS, RISKILY, RISKY, SAFE, Errands
from tests.rl.small_training import iterations, ppo_config

ERRAND, LIMIT = "tests.rl.errands:Errands", 4.0
SETTINGS = ConstraintSettings(limit=LIMIT, gamma=1.0, multiplier=MultiplierSettings(integral=0.02, proportional=0.05))


def exactly() -> Constrained:
    """Of one errand: each kind is as likely, and it is the only step."""
    transitions_SAS = np.zeros((KINDS + 1, 2, KINDS + 1))
    transitions_SAS[..., KINDS] = 1
    mdp = TabularMDP(transitions_SAS, np.array([1 / KINDS] * KINDS + [0]), np.arange(KINDS + 1) == KINDS)
    rewards_SA = np.array([[SAFE, risky] for risky in RISKY] + [[0, 0]])
    costs_SA = np.tile([0.0, 1.0], (KINDS + 1, 1))
    return constrained_optimum(mdp, rewards_SA, costs_SA, LIMIT / ERRANDS, 0.0)


@pytest.mark.slow
def test_lagrangian_ppo_comes_near_the_linear_programme() -> None:
    """Means of the last 20 of 90 batches; without the constraint all risks are taken, and more is earned."""
    best = exactly()
    assert [ERRANDS * best.reward, best.multiplier] == pytest.approx([4.933, 0.4], abs=1e-3)
    training: dict[str, Any] = {"lr": 3e-3, "entropy_coeff": 0.02}
    found: list[tuple[float, float, float]] = []
    for learner, _, episodes in iterations(ppo_config(ERRAND, Constraint(SETTINGS), **training), 90):
        found.append((earned(episodes), learner.episode_cost, learner.multiplier.value))
    reward, cost, multiplier = np.mean(found[-20:], axis=0)
    assert reward == pytest.approx(ERRANDS * best.reward, rel=0.05)
    assert cost == pytest.approx(LIMIT, rel=0.1)
    assert multiplier == pytest.approx(best.multiplier, abs=0.1)
    *_, (_, _, last) = iterations(ppo_config(ERRAND, **training), 15)
    assert earned(last) > 1.1 * reward


def earned(episodes: list[Any]) -> float:
    return float(np.mean([episode.get_return() for episode in episodes if episode.is_done]))


@pytest.mark.ray
def test_a_batch_by_hand_and_a_learner_that_goes_on() -> None:
    """One batch of whole episodes: critics that know nothing yet apart, advantages fall by the price of cost."""
    config = ppo_config(
        ERRAND,
        Constraint(SETTINGS.model_copy(update={"multiplier": MultiplierSettings(initial=7.0, integral=0.5)})),
        train_batch_size_per_learner=200,
        minibatch_size=200,
        num_epochs=1,
    )
    ((learner, runner, episodes),) = iterations(config, 1)
    costs = [sum(info["cost"] for info in episode.get_infos()) for episode in episodes]
    assert learner.episode_cost == pytest.approx(np.mean(costs))
    assert learner.multiplier.value == pytest.approx(7.0 + 0.5 * (np.mean(costs) - LIMIT))
    batch = learner._learner_connector(rl_module=learner.module, batch={}, episodes=episodes, shared_data={})[
        "default_policy"
    ]
    advantages_N, actions_N = batch["advantages"].numpy(), batch["actions"].numpy()
    assert advantages_N[actions_N == RISKILY].mean() < advantages_N[actions_N != RISKILY].mean() - 0.2
    to_come_N = np.concatenate([np.cumsum(e.get_actions()[::-1])[::-1] for e in episodes])
    assert np.corrcoef(batch["cost_targets"].numpy(), to_come_N)[0, 1] > 0.9
    again = config.learner_class(config=config, module_spec=config.get_multi_rl_module_spec(env=runner.env))
    again.build()
    again.set_state(learner.get_state())
    assert again.multiplier.state() == learner.multiplier.state()
    group = SimpleNamespace(foreach_learner=lambda func: [SimpleNamespace(get=lambda: func(learner))])
    told = Constraint(SETTINGS).after_iteration(SimpleNamespace(learner_group=group), 200)  # type: ignore[arg-type]
    assert told == {COST_METRIC: learner.episode_cost, MULTIPLIER_METRIC: learner.multiplier.value}


def test_costs_of_steps_and_of_episodes() -> None:
    env = Costed(Errands())
    env.reset(seed=0)
    infos = [env.step(step % 2)[-1] for step in range(ERRANDS)]
    assert [info["cost"] for info in infos] == [0.0, 1.0] * 5
    assert ["episode_cost" in info for info in infos] == [False] * 9 + [True]
    assert infos[-1]["episode_cost"] == 5.0


def test_a_cost_of_ones_own() -> None:
    env = Costed(Errands(), lambda seen, action, following: float(seen.argmax()) + 10 * action)
    seen, _ = env.reset(seed=0)
    assert env.step(1)[-1]["cost"] == seen.argmax() + 10


def test_an_environment_without_costs_is_refused_with_the_remedy() -> None:
    env = Costed(gym.make("CartPole-v1"))
    env.reset(seed=0)
    with pytest.raises(ConfigError, match=r"gives no cost in info\['cost'\]; name a function"):
        env.step(0)


def test_a_constraint_needs_ppo_and_one_learner() -> None:
    def job(algorithm: str, learners: int) -> Any:
        return SimpleNamespace(algorithm=algorithm, sampling=SimpleNamespace(learners=learners))

    with pytest.raises(ConfigError, match="for algorithm ppo, got dqn"):
        SETTINGS.extension(job("dqn", 0))
    with pytest.raises(ConfigError, match="needs one learner"):
        SETTINGS.extension(job("ppo", 2))


def test_a_policy_whose_episodes_cost_a_tenth_too_much_is_never_the_best() -> None:
    constraint = Constraint(SETTINGS)
    admitted = [constraint.admits()]
    for cost in (LIMIT, 1.09 * LIMIT, 1.11 * LIMIT):
        constraint.set_state({"cost": cost})
        admitted.append(constraint.admits())
    assert admitted == [False, True, True, False]
    assert constraint.state() == {"cost": 1.11 * LIMIT}
