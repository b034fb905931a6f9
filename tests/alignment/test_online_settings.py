"""PPO's and GRPO's settings: what is refused and how, what advantages and rows come out of them, who hosts what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysafe.alignment.experience import Samples
from raysafe.alignment.grpo import GRPOJob, flat_groups
from raysafe.alignment.online_data import Prompts
from raysafe.alignment.placing import group_specs, pools_of
from raysafe.alignment.ppo import PPOJob
from raysafe.alignment.rewards import EnsembleOptions
from raysafe.alignment.roles import ReferenceFactory, RewardFactory, RolloutFactory, Written
from raysafe.alignment.rollouts import _Begun, _in_order, shares_of
from raysafe.errors import ConfigError
from raysafe.runtime.placement import Pool
from tests.alignment.online_parts import make_samples


def job(family: Any = PPOJob, **fields: Any) -> Any:
    return family(**{"model": "preset:tiny", "data": "prompts.jsonl", "rewards": ("check:exact",)} | fields)


@pytest.mark.parametrize(
    ("family", "fields", "told"),
    [
        (PPOJob, {"rewards": ()}, "rewards: Tuple should have at least 1 item"),
        (PPOJob, {"reward_weights": (1.0, 2.0)}, "reward_weights has 2 weights for 1 rewards: give one each"),
        (PPOJob, {"monitor": "gold"}, "monitor 'gold' needs a gold score: set gold, or monitor the reward"),
        (PPOJob, {"watch": {"stop_on_parting": True}}, "stop_on_parting compares with a gold score: set gold"),
        (PPOJob, {"validation_fraction": 0.0}, "validation_fraction must be above 0: the best checkpoint"),
        (PPOJob, {"kl_in": "loss"}, "kl_kind k1 in the loss has a gradient of zero expectation: choose k2 or k3"),
        (GRPOJob, {"kl_kind": "k1"}, "kl_kind k1 in the loss has a gradient of zero expectation"),
        (PPOJob, {"kl_target": 0.1, "kl_coefficient": 0.0}, "kl_target adapts kl_coefficient, which is 0"),
        (PPOJob, {"kl_target": 0.1, "kl_horizon": 63}, "kl_horizon 63 is shorter than a batch of 64 answers"),
        (PPOJob, {"overlap": True}, "overlap needs the rollout engines in a pool of their own: set placement to split"),
        (PPOJob, {"overlap": True, "placement": "split"}, "set loss.importance_cap .2 is usual."),
        (GRPOJob, {"answers_per_prompt": 1}, "grpo compares answers to one prompt: set answers_per_prompt to 2"),
        (GRPOJob, {"kind": "rloo", "answers_per_prompt": 1}, "rloo compares answers to one prompt"),
        (PPOJob, {"gamma": 1.5}, "gamma: Input should be less than or equal to 1, got 1.5"),
        (PPOJob, {"loss": {"clip_low": 1.0}}, "loss.clip_low: Input should be less than 1, got 1.0"),
        (PPOJob, {"loss": {"dual_clip": 1.0}}, "loss.dual_clip: Input should be greater than 1, got 1.0"),
        (PPOJob, {"loss": {"importance_cap": 0.5}}, "loss.importance_cap: Input should be greater than or equal to 1"),
        (PPOJob, {"kl_coefficient": float("nan")}, "kl_coefficient: Input should be"),
        (PPOJob, {"pools": {"policy": {}}}, "there is no pool 'policy' when colocated: name all"),
        (PPOJob, {"kl_coeficient": 0.1}, "unknown field 'kl_coeficient' in settings; did you mean 'kl_coefficient'"),
    ],
)
def test_what_can_not_be_is_refused_by_a_sentence(family: Any, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        job(family, **fields)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        (PPOJob, {"kl_in": "loss", "kl_kind": "k2"}),
        (GRPOJob, {"kind": "reinforce_plus_plus", "answers_per_prompt": 1}),
        (PPOJob, {"overlap": True, "placement": "split", "loss": {"importance_cap": 2.0}}),
        (PPOJob, {"monitor": "gold", "gold": "check:contains"}),
        (PPOJob, {"kl_target": 0.1, "kl_horizon": 64}),
    ],
)
def test_what_can_be_is_taken(family: Any, fields: dict[str, Any]) -> None:
    job(family, **fields)


ROLES = ("policy", "critic", "rollout", "reference", "reward")


def test_pools_host_all_roles_one_each_or_as_their_names_say() -> None:
    default = Pool()
    assert pools_of("colocated", {}, ROLES, default) == {"all": ROLES}
    assert pools_of("split", {}, ROLES, default) == {role: (role,) for role in ROLES}
    mixed = {"policy+critic": default, "rollout": default, "reference+reward": default}
    assert pools_of("mixed", mixed, ROLES, default) == {
        "policy+critic": ("policy", "critic"), "rollout": ("rollout",), "reference+reward": ("reference", "reward"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["policy+critic", "rollout", "reference"], "'reward' is missing or there twice"),
        (["policy+critic", "rollout", "reference+reward+policy"], "'policy' is missing or there twice"),
        (["policy+critic", "rollout", "reference+reward", "judge"], "'judge' is no role; roles: policy, critic"),
        ([], "'critic' is missing"),
    ],
)
def test_mixed_pools_that_are_not_the_roles_are_refused(names: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        job(placement="mixed", pools={name: {} for name in names})


def test_pools_that_are_named_have_their_own_settings_and_the_others_the_jobs() -> None:
    found = job(placement="split", pools={"rollout": {"workers": 3, "gpus": 0.5}}, workers=2, cpus_per_worker=0.5)
    pools = {name: (pool.workers, pool.cpus, pool.gpus) for name, (pool, _) in found.role_pools.items()}
    assert pools == {role: (3, 1, 0.5) if role == "rollout" else (2, 0.5, 0) for role in ROLES}


def test_the_critic_may_learn_at_a_rate_of_its_own() -> None:
    found = job(critic_learning_rate=0.5, training={"learning_rate": 0.1})
    assert (found.optim("policy").learning_rate, found.optim("critic").learning_rate) == (0.1, 0.5)


def small() -> Samples:
    """Two groups of two answers: lengths 2, 1, 3, 1; the third was cut."""
    samples = make_samples(2, 2)
    samples.answers = [np.arange(3, 3 + n) for n in (2, 1, 3, 1)]
    samples.complete_C = np.array([True, True, False, True])
    samples.rollout_logps_N = np.full(7, -1.0)
    samples.tokens = {"old_logps": np.array([-1.0, -2, -1, -1, -3, -1, -2]), "ref_logps": np.full(7, -2.0)}
    samples.scores = {"reward": np.array([1.0, 3.0, 2.0, 2.0])}
    return samples


# k1 of each token: (1, 0 | 1 | 1, -1, 1 | 0); answers: 1, 1, 1, 0


def test_group_advantages_count_the_kl_of_the_whole_answer_in_the_reward() -> None:
    samples = small()
    job(GRPOJob, kind="dr_grpo", kl_in="reward", kl_kind="k1").advantages(samples, 0.5)
    # rewards 0.5, 2.5 | 1.5, 2: means 1.5 and 1.75
    assert samples.tokens["advantages"].tolist() == pytest.approx([-1, -1, 1, -0.25, -0.25, -0.25, 0.25])


def test_kl_in_the_loss_leaves_the_reward_alone_and_the_rows_carry_it() -> None:
    samples = small()
    found = job(GRPOJob, kind="rloo")
    found.advantages(samples, 0.5)
    assert samples.tokens["advantages"].tolist() == [-2, -2, 2, 0, 0, 0, 0]
    assert samples.scores["flat_groups"].tolist() == [0, 0, 1, 1]
    rows = found.experience(samples, 0.5, old=False).to_pylist()
    assert [row["kl_coefficient"] for row in rows] == [[0.5] * n for n in (2, 1, 3, 1)]
    assert rows[2]["ref_logps"] == [-2.0, -2.0, -2.0]
    assert "old_logps" not in rows[0]
    kept = job(GRPOJob, kl_in="reward").experience(samples, 0.5, old=True).column_names
    assert {"old_logps", "ref_logps", "kl_coefficient"} & set(kept) == {"old_logps"}


def test_grpo_divides_by_the_groups_deviation() -> None:
    samples = small()
    job(GRPOJob).advantages(samples, 0.5)
    half = 1 / np.sqrt(2)
    assert samples.tokens["advantages"].tolist() == pytest.approx([-half, -half, half, 0, 0, 0, 0], rel=1e-5)


def test_reinforce_plus_plus_is_the_whitened_reward_to_go_of_the_batch() -> None:
    samples = small()
    job(GRPOJob, kind="reinforce_plus_plus", kl_in="reward", kl_kind="k1").advantages(samples, 0.5)
    # to go: (1 - 0.5, 1), (3 - 0.5), (2 - 0.5, 2, 2 - 0.5), (2)
    to_go = np.array([0.5, 1.0, 2.5, 1.5, 2.0, 1.5, 2.0])
    expected = (to_go - to_go.mean()) / to_go.std(ddof=1)
    np.testing.assert_allclose(samples.tokens["advantages"], expected, rtol=1e-6)


def test_ppo_makes_advantages_and_returns_by_gae_and_whitens_the_advantages_alone() -> None:
    samples = small()
    samples.tokens["values"] = np.zeros(7)
    job(lam=1.0, whiten=False).advantages(samples, 0.5)
    to_go = [0.5, 1.0, 2.5, 1.5, 2.0, 1.5, 2.0]
    assert samples.tokens["advantages"].tolist() == pytest.approx(to_go)
    job(lam=1.0).advantages(samples, 0.5)
    assert samples.tokens["returns"].tolist() == pytest.approx(to_go)
    assert samples.tokens["advantages"].mean() == pytest.approx(0)
    assert samples.tokens["advantages"].std(ddof=1) == pytest.approx(1)


def test_ppo_takes_its_discounts_the_critics_values_and_the_kls_kind_from_the_settings() -> None:
    samples = small()
    samples.tokens["values"] = np.array([1.0, 2, 0, 1, 1, 0, 4])
    job(gamma=0.5, lam=0.5, whiten=False, kl_kind="k2").advantages(samples, 0.5)
    # rewards (-0.25, 1 | 2.75 | -0.25, -0.25, 1.75 | 2): k2 is a half where k1 is 1 or -1
    expected = [-0.25 + 1 - 1 + 0.25 * -1, 1 - 2, 2.75, -0.75 + 0.25 * -0.8125, -1.25 + 0.25 * 1.75, 1.75, 2 - 4]
    assert samples.tokens["advantages"].tolist() == pytest.approx(expected)
    assert samples.tokens["returns"].tolist() == pytest.approx((expected + samples.tokens["values"]).tolist())
    job(gamma=0.5, lam=0.5, whiten=False, kl_kind="k2", kl_in="loss").advantages(samples, 0.5)
    assert samples.tokens["advantages"][[1, 2, 5, 6]].tolist() == [-1.0, 3.0, 2.0, -2.0]


def test_group_advantages_take_the_kls_kind_from_the_settings() -> None:
    samples = small()
    job(GRPOJob, kind="dr_grpo", kl_in="reward", kl_kind="k2").advantages(samples, 1.0)
    # rewards 0.5, 2.5 | 0.5, 2
    assert samples.tokens["advantages"].tolist() == pytest.approx([-1, -1, 1, -0.75, -0.75, -0.75, 0.75])


def test_processes_are_made_as_the_settings_say() -> None:
    found = job(
        tokenizer="runs/words", chat_template="plain", reference="runs/sft", critic="runs/rm", value_clip=0.5,
        rewards=("check:exact", "check:number"), reward_weights=(2.0, -1.0), gold="check:contains",
        ensemble="penalised", ensemble_penalty=0.5, reward_sees="answer", engine="vllm", placement="split",
        training={"precision": "float64", "micro_tokens": 64},
    )  # fmt: skip
    made: Any = {role: factory for spec in group_specs(found) for role, factory in spec.roles.items()}
    assert made["reference"] == ReferenceFactory("runs/sft", found.layout, 64, "float64")
    assert made["rollout"] == RolloutFactory("preset:tiny", "runs/words", "plain", "vllm", "float64")
    weights, options = {"check:exact": 2.0, "check:number": -1.0}, EnsembleOptions("penalised", 0.5, "answer", "plain")
    assert made["reward"] == RewardFactory(weights, "check:contains", options)
    assert (made["critic"].learner.model, made["critic"].learner.value_clip) == ("runs/rm", 0.5)
    unset: Any = {role: factory for spec in group_specs(job()) for role, factory in spec.roles.items()}
    assert unset["reference"].model == unset["critic"].learner.model == "preset:tiny"


def test_long_answers_pay_their_share_of_the_length_penalty() -> None:
    scores = job(max_tokens=4, length_penalty=2.0).scores_C(small())
    assert scores.tolist() == [1.0 - 1.0, 3.0 - 0.5, 2.0 - 1.5, 2.0 - 0.5]


@pytest.mark.parametrize(
    ("average", "units", "weights"),
    [
        ("token", [2, 1, 3, 1], [1, 1, 1, 1]),
        ("sequence", [1, 1, 1, 1], [1 / 2, 1, 1 / 3, 1]),
        ("constant", [8, 8, 8, 8], [1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("overlong", [False, True])
def test_rows_weigh_tokens_so_that_the_loss_is_the_average_asked_for(
    average: str, units: list[int], weights: list[float], overlong: bool
) -> None:
    samples = small()
    samples.tokens["advantages"] = np.arange(7.0)
    rows = job(GRPOJob, average=average, mask_overlong=overlong, max_tokens=8).experience(samples, 0.1, old=True)
    counts = [1, 1, 0 if overlong else 1, 1]
    assert rows["units"].to_pylist() == [n * c for n, c in zip(units, counts, strict=True)]
    expected = [[w * c] * n for w, c, n in zip(weights, counts, (2, 1, 3, 1), strict=True)]
    assert rows["weights"].to_pylist() == expected
    loss = np.concatenate(rows["weights"].to_pylist()) @ samples.tokens["advantages"] / sum(rows["units"].to_pylist())
    answers = [part for part, c in zip(([0, 1], [2], [3, 4, 5], [6]), counts, strict=True) if c]
    expected_loss = {
        "token": np.mean(np.concatenate(answers)),
        "sequence": np.mean([np.mean(part) for part in answers]),
        "constant": np.sum(np.concatenate(answers)) / (8 * len(answers)),
    }[average]
    assert loss == pytest.approx(expected_loss)


def test_groups_that_scored_alike_are_flat() -> None:
    samples = small()
    samples.scores["reward"] = np.array([1.0, 1.0, 0.0, 1e-9])
    assert flat_groups(samples).tolist() == [1.0, 1.0, 0.0, 0.0]


prompts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), min_size=1, max_size=12)


@given(prompts, st.integers(1, 5))
def test_shares_hold_every_prompt_once_with_equal_ones_together_in_order(ids: list[list[int]], count: int) -> None:
    shares = shares_of(ids, count)
    assert sorted(place for share in shares for place in share) == list(range(len(ids)))
    assert 1 <= len(shares) <= count and all(share == sorted(share) and share for share in shares)
    for share in shares:
        for other in shares:
            assert other is share or not {tuple(ids[i]) for i in share} & {tuple(ids[i]) for i in other}


@given(prompts, st.integers(1, 4), st.integers(1, 3))
def test_answers_come_back_in_the_order_of_their_prompts(ids: list[list[int]], count: int, n: int) -> None:
    shares = shares_of(ids, count)
    begun = _Begun(0, Prompts([[] for _ in ids], [None] * len(ids), ids), shares, n, SimpleNamespace())  # type: ignore[arg-type]
    written = []
    for share in shares:
        names = [place * 10 + sample for place in share for sample in range(n)]
        lengths = np.array([1 + name % 3 for name in names])
        tokens = np.repeat(names, lengths)
        texts = [str(name) for name in names]
        complete = np.array([name % 2 == 0 for name in names])
        written.append(Written(tokens, lengths, -tokens.astype(float), texts, complete, 4))
    samples = _in_order(begun, written)
    expected = [place * 10 + sample for place in range(len(ids)) for sample in range(n)]
    assert samples.texts == [str(name) for name in expected]
    assert [answer.tolist() for answer in samples.answers] == [[name] * (1 + name % 3) for name in expected]
    assert samples.rollout_logps_N.tolist() == [-name for name in expected for _ in range(1 + name % 3)]
    assert samples.complete_C.tolist() == [name % 2 == 0 for name in expected]
    assert samples.group_C.tolist() == [place for place in range(len(ids)) for _ in range(n)]
    assert samples.version == 4


def test_learners_know_whether_the_kl_is_in_their_loss() -> None:
    assert job(GRPOJob).learners()["policy"].kl_kind == "k3"
    assert job(GRPOJob, kl_in="reward", kl_kind="k1").learners()["policy"].kl_kind is None
    assert set(job().learners()) == {"policy", "critic"}


def test_scores_are_taken_in_float64() -> None:
    assert job().scores_C(small()).dtype == torch.float64
