"""Imitation in an environment from end to end, small: what a run leaves, and that its reward is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from raysafe.data.schema import to_json_lines
from raysafe.data.trajectories import Trajectory, to_table
from raysafe.irl.adversarial import AdversarialExtension
from raysafe.irl.job import IRLJob
from raysafe.irl.policy_run import Imitation
from raysafe.models.mlp import load_mlp
from raysafe.rl.checkpoint import pack, unpack
from raysafe.rl.policy import load_policy
from raysafe.runtime.run import Run

pytestmark = pytest.mark.ray


def balanced(count: int) -> list[Trajectory]:
    """Episodes of a rule that keeps the pole up for a while."""
    env, found = gym.make("CartPole-v1", max_episode_steps=120), []
    for seed in range(count):
        seen, actions, rewards, over = [env.reset(seed=seed)[0]], [], [], False
        while not over:
            actions.append(int(seen[-1][2] + 0.5 * seen[-1][3] > 0))
            observation, reward, terminated, truncated, _ = env.step(actions[-1])
            seen.append(observation)
            rewards.append(float(reward))
            over = terminated or truncated
        found.append(Trajectory(obs_T1D=np.array(seen), actions_T=actions, rewards_T=rewards, truncated=truncated))
    return found


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    rows = [{k: v for k, v in row.items() if v is not None} for row in to_table(balanced(10)).to_pylist()]
    (tmp_path / "shown.jsonl").write_text(to_json_lines(rows))
    return {
        "env": "CartPole-v1",
        "demonstrations": str(tmp_path / "shown.jsonl"),
        "storage": str(tmp_path / "runs"),
        "episodes": 4,
    }


def judged(run: Run) -> float:
    [found] = [item for item in run.evidence if item.metric == "true_return"]
    assert found.n == 4 and "True return" in run.folder.read("report.html").decode()
    return found.value


def test_cloning_leaves_a_policy_that_can_be_served(given: dict[str, Any]) -> None:
    cloning = {"training": {"epochs": 6, "batch_size": 64, "learning_rate": 0.01}}
    run = IRLJob(method="bc", cloning=cloning, **given).run()
    policy = load_policy(run.folder.local_path("model"))
    assert policy.card is not None and policy.card.env == "CartPole-v1"
    assert judged(run) > 60
    assert run.metrics[-1]["validation/accuracy"] > 0.8


def test_adversarial_imitation_leaves_the_last_policy_and_its_reward(given: dict[str, Any]) -> None:
    run = IRLJob(method="airl", steps=4096, ppo={"batch_size": 1024, "schedule": "constant"}, **given).run()
    assert load_policy(run.folder.local_path("model")).draws
    g = load_mlp(run.folder.local_path("reward") / "g")
    assert g.config.inputs == 6 and g.config.head.kind == "scalar"
    assert run.folder.exists("reward/h/config.json") and run.folder.exists("reward/adversarial.json")
    assert {"discriminator/loss", "discriminator/absorbing"} <= set().union(*map(set, run.metrics))
    assert not [event for event in run.events if event["event"] == "rolled-back"]
    assert judged(run) >= 8


def test_an_imitator_never_chooses_by_the_true_return(given: dict[str, Any]) -> None:
    inner = Imitation.of(IRLJob(method="gail", **given), balanced(2))
    assert not inner.keeps_best and inner.target is None
    assert inner.extensions == [inner.discriminating] and inner.discriminating.objective == "gail"


def test_a_checkpoint_holds_the_discriminator_and_its_optimiser(given: dict[str, Any]) -> None:
    from raysafe.rl.build import build_config

    def made() -> AdversarialExtension:
        inner = Imitation.of(IRLJob(method="airl", **given), balanced(2))
        build_config(inner, inner.extensions)
        return inner.discriminating

    before, after = made(), made()
    logps = torch.zeros(len(before.expert))
    before.fit(before.expert, logps, logps)
    before.ended.append((7, True))
    arrays: dict[str, np.ndarray] = {}
    after.set_state(unpack(pack(before.state(), arrays), arrays))
    assert list(after.ended) == [(7, True)]
    # the next fit is the same, draws and moments included
    assert before.fit(before.expert, logps, logps) == after.fit(after.expert, logps, logps)
    for one, other in zip(before.discriminator.parameters(), after.discriminator.parameters(), strict=True):
        assert torch.equal(one, other)


def test_steps_are_seen_with_their_end_and_their_likelihood() -> None:
    from ray.rllib.env.single_agent_episode import SingleAgentEpisode

    from raysafe.irl.adversarial_connector import AdversarialConnector
    from raysafe.rl.reward_connector import Actions

    seen: list[Any] = []

    def rewards(obs: Any, actions: Any, after: Any, terminated: Any, logps: Any) -> Any:
        seen.extend([terminated.tolist(), logps.tolist()])
        return logps + terminated

    box = gym.spaces.Box(-1, 1, (2,), np.float32)
    episode = SingleAgentEpisode(
        observations=[np.zeros(2, dtype=np.float32)] * 3,
        actions=[0, 1],
        rewards=[5.0, 5.0],
        extra_model_outputs={"action_logp": [-0.5, -1.5]},
        observation_space=box,
        terminated=True,
        len_lookback_buffer=0,
    ).to_numpy()
    connector = AdversarialConnector(box, Actions(gym.spaces.Discrete(2), normalised=True, clipped=False), rewards)
    batch = connector(rl_module=None, batch={}, episodes=[episode], shared_data={})
    assert seen == [[0.0, 1.0], [-0.5, -1.5]]
    assert np.concatenate(next(iter(batch["rewards"].values()))).tolist() == [-0.5, -0.5]
