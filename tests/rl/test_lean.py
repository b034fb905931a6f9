"""What replaces RLlib's slower ways gives what those give: runner, batch, losses, normalisation."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from raysafe.rl.job import RLJob

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def modules() -> Any:
    """RLlib is imported here, and not where tests are collected."""
    import torch
    from ray.rllib.core import DEFAULT_MODULE_ID
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    from raysafe.rl.build import build_config
    from raysafe.rl.runner import VectorRunner

    torch.set_num_threads(1)
    return type(
        "Modules",
        (),
        {
            "torch": torch,
            "id": DEFAULT_MODULE_ID,
            "theirs": SingleAgentEnvRunner,
            "ours": VectorRunner,
            "build": staticmethod(build_config),
        },
    )


def learner_of(modules: Any, runner: Any, config: Any) -> Any:
    spec = config.get_multi_rl_module_spec(spaces=runner.get_spaces(), inference_only=False)
    learner = config.learner_class(config=config, module_spec=spec)
    learner.build()
    return learner


@pytest.fixture
def ppo(modules: Any) -> tuple[Any, Any, Any]:
    """Config, runner and learner of PPO."""
    job = RLJob.parse(
        {"env": "CartPole-v1", "sampling": {"envs": 4}, "ppo": {"kl_weight": 0.3, "entropy_weight": 0.01}}
    )
    config = modules.build(job)
    runner = modules.ours(config=config, worker_index=0)
    return config, runner, learner_of(modules, runner, config)


def test_both_runners_make_the_same_episodes_of_a_policy_without_chance(modules: Any, ppo: Any) -> None:
    config, ours, _ = ppo
    theirs = modules.theirs(config=config, worker_index=0)
    theirs.module.load_state_dict(ours.module.state_dict())
    assert ours.plain
    for _ in range(3):
        found, wanted = (runner.sample(num_timesteps=150, explore=False) for runner in (ours, theirs))
        assert len(found) == len(wanted)
        of_found, of_wanted = (sorted(part, key=lambda e: tuple(e.get_observations(0))) for part in (found, wanted))
        for one, other in zip(of_found, of_wanted, strict=True):
            assert np.allclose(one.get_observations(), other.get_observations(), atol=1e-6)
            assert np.array_equal(one.get_actions(), other.get_actions())
            assert (one.is_terminated, one.is_truncated) == (other.is_terminated, other.is_truncated)
    figures = [runner.get_metrics() for runner in (ours, theirs)]
    for name in ("episode_return_mean", "num_env_steps_sampled_lifetime", "num_episodes_lifetime"):
        found, wanted = (metrics[name].peek() for metrics in figures)
        assert found == pytest.approx(wanted), name


def test_a_policy_begins_by_choosing_all_actions_as_often(modules: Any, ppo: Any) -> None:
    from raysafe.rl.ppo_module import orthogonal

    _, runner, learner = ppo
    obs = {"obs": modules.torch.randn(100, 4)}
    for module in (runner.module, learner.module[modules.id]):
        logits = module._forward_inference(obs)["action_dist_inputs"]
        assert 0 < float(logits.detach().abs().max()) < 0.1
    layer = modules.torch.nn.Linear(4, 9)
    orthogonal(layer, 2.0)
    assert modules.torch.allclose(layer.weight.T @ layer.weight, 4 * modules.torch.eye(4), atol=1e-5)
    assert not layer.bias.any()


def test_value_targets_are_those_of_rllibs_pipeline(modules: Any, ppo: Any) -> None:
    from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

    config, runner, learner = ppo
    spec = config.get_multi_rl_module_spec(spaces=runner.get_spaces(), inference_only=False)
    theirs = PPOTorchLearner(config=config, module_spec=spec)
    theirs.build()
    theirs.module[modules.id].load_state_dict(learner.module[modules.id].state_dict())
    episodes = runner.sample(num_timesteps=200, explore=True)
    batches = [
        side._learner_connector(
            rl_module=side.module, batch={}, episodes=copy.deepcopy(episodes), shared_data={}, metrics=side.metrics
        )[modules.id]
        for side in (learner, theirs)
    ]
    ours, wanted = batches
    kept = wanted["loss_mask"]
    assert modules.torch.allclose(ours["value_targets"], wanted["value_targets"][kept], atol=1e-4)
    assert modules.torch.equal(ours["obs"], wanted["obs"][kept])


def test_ppos_loss_is_rllibs(modules: Any, ppo: Any) -> None:
    from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner

    config, runner, learner = ppo
    episodes = runner.sample(num_timesteps=200, explore=True)
    batch = dict(
        learner._learner_connector(
            rl_module=learner.module, batch={}, episodes=episodes, shared_data={}, metrics=learner.metrics
        )[modules.id]
    )
    # away from the ratio of 1, where a wrong clip would cost nothing
    batch["action_logp"] = batch["action_logp"] + 0.3 * modules.torch.randn_like(batch["action_logp"])
    out = learner.module[modules.id].forward_train(batch)
    given = {"module_id": modules.id, "config": config, "batch": batch, "fwd_out": out}
    wanted = PPOTorchLearner.compute_loss_for_module(learner, **given)
    for learner.told in (True, False):
        assert float(learner.compute_loss_for_module(**given)) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("double", [True, False])
def test_dqns_loss_is_rllibs(modules: Any, double: bool) -> None:
    job = RLJob.parse({"env": "CartPole-v1", "algorithm": "dqn", "dqn": {"double": double, "n_step": 3}})
    config = modules.build(job)
    runner = modules.ours(config=config, worker_index=0)
    learner, torch = learner_of(modules, runner, config), modules.torch
    with torch.no_grad():
        for parameter in learner.module[modules.id].parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = {
        "obs": torch.randn(32, 4),
        "new_obs": torch.randn(32, 4),
        "actions": torch.randint(0, 2, (32,)),
        "rewards": torch.randn(32),
        "terminateds": torch.rand(32) < 0.3,
        "n_step": torch.randint(1, 4, (32,)).float(),
    }
    module = learner.module[modules.id]
    given = {"module_id": modules.id, "config": config}
    prepared = learner.prepare(batch)
    ours = learner.compute_loss_for_module(batch=prepared, fwd_out=learner.forward(module, prepared), **given)
    out = module.forward_train(batch)
    theirs = learner.compute_loss_for_module(batch={**batch, "weights": torch.ones(32)}, fwd_out=out, **given)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for own, wanted in zip(*(torch.autograd.grad(loss, learned) for loss in (ours, theirs)), strict=True):
        assert torch.allclose(own, wanted, rtol=1e-4, atol=1e-6)


def test_rows_that_are_pushed_at_once_count_as_one_after_another(modules: Any) -> None:
    from ray.rllib.utils.filter import RunningStat

    from raysafe.rl.normaliser import push_rows

    rows_ND = np.random.default_rng(0).normal(3.0, 2.0, size=(50, 3))
    one, other = RunningStat((3,)), RunningStat((3,))
    for row_D in rows_ND:
        one.push(row_D)
    for part in np.split(rows_ND, [1, 7, 30]):
        push_rows(other, part)
    assert one.num_pushes == other.num_pushes
    assert other.mean == pytest.approx(one.mean)
    assert other.std == pytest.approx(one.std)
    assert other.mean_delta_array == pytest.approx(one.mean_delta_array)


def test_a_loss_that_is_not_finite_stops_before_the_step(modules: Any, ppo: Any) -> None:
    from raysafe.errors import TrainingError

    _, runner, learner = ppo
    episodes = runner.sample(num_timesteps=64, explore=True)
    episodes[0].rewards.data[0] = np.nan
    before = copy.deepcopy(learner.module[modules.id].state_dict())
    with pytest.raises(TrainingError, match="the loss is nan"):
        learner.update(episodes=episodes, timesteps={}, minibatch_size=64, num_epochs=1)
    after = learner.module[modules.id].state_dict()
    assert all(modules.torch.equal(before[name], after[name]) for name in before)


def test_rewards_that_a_connector_wrote_take_the_place_of_the_episodes(modules: Any, ppo: Any) -> None:
    from raysafe.rl.ppo_learner import rewards_of

    _, runner, learner = ppo
    episodes = [episode for _ in range(2) for episode in runner.sample(num_timesteps=40, explore=True)]
    batch: dict[str, Any] = {}
    for number, episode in enumerate(episodes):
        rewards_T = np.full(len(episode), float(number))
        learner._learner_connector.add_n_batch_items(batch, "rewards", rewards_T, len(episode), episode)
    wanted = np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes])
    assert rewards_of(batch, episodes).tolist() == wanted.tolist()
    assert rewards_of({}, episodes).tolist() == [1.0] * len(wanted)
