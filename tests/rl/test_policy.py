"""Policies: what they do at an observation, by the formula of each distribution, and what survives a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import chisquare, kstest

from raysafe.errors import ConfigError, ModelError
from raysafe.models.mlp import ClassifierHead, DiscreteHead, GaussianHead, Mlp, MlpConfig
from raysafe.rl.policy import BoxSpace, DiscreteSpace, ObservedRange, Policy, PolicyCard, load_policy, save_policy

CARD = PolicyCard(
    env="CartPole-v1",
    algorithm="PPO",
    observations=BoxSpace(shape=(2,), low=(None, -1.0), high=(None, 1.0)),
    actions=DiscreteSpace(n=3),
    distribution="categorical",
    observed=ObservedRange(low=(-1.0, -1.0), high=(1.0, 1.0), observations=10),
)


def identity(head: DiscreteHead | GaussianHead | ClassifierHead, card: PolicyCard | None = None) -> Policy:
    """The policy whose network's outputs are its observations."""
    network = Mlp(MlpConfig(inputs=head.outputs, head=head))
    network.load_state_dict({"layers.0.weight": torch.eye(head.outputs), "layers.0.bias": torch.zeros(head.outputs)})
    return Policy(network, card)


def small(seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    return Policy(Mlp(MlpConfig(inputs=2, hidden=(8,), normalise=True, clip=5.0, head=DiscreteHead(actions=3))), CARD)


def test_a_categorical_policy_tells_the_softmax_and_takes_the_likeliest() -> None:
    logits_BA = np.random.default_rng(0).normal(size=(50, 4))
    found = identity(DiscreteHead(actions=4)).act(logits_BA)
    assert found.probabilities_BA == pytest.approx(softmax(logits_BA, axis=1), abs=1e-6) and found.values_BA is None
    assert (found.actions == logits_BA.argmax(axis=1)).all()


def test_drawn_actions_have_the_probabilities_that_are_told() -> None:
    logits_BA = np.tile([0.0, 1.0, -1.0, 0.5], (20_000, 1))
    found = identity(DiscreteHead(actions=4)).act(logits_BA, deterministic=False, generator=np.random.default_rng(1))
    counts = np.bincount(found.actions.astype(int), minlength=4)
    assert chisquare(counts, softmax([0.0, 1.0, -1.0, 0.5]) * 20_000).pvalue > 0.001


def test_drawn_continuous_actions_are_gaussian_in_the_scaled_space() -> None:
    """low + (x + 1)(high - low) / 2 of a normal x: here the mean is 1, the deviation 0.2."""
    policy = identity(GaussianHead(low=(-2.0,), high=(4.0,), spread=True, scaled=True))
    outputs_BK = np.tile([0.0, np.log(0.2 / 3)], (5_000, 1))
    found = policy.act(outputs_BK, deterministic=False, generator=np.random.default_rng(2)).actions[:, 0]
    assert kstest((found - 1.0) / 0.2, "norm").pvalue > 0.001
    assert policy.act([[0.5, 0.0], [9.0, 0.0]]).actions.tolist() == [[2.5], [4.0]]


def test_what_the_mask_forbids_is_never_taken_nor_drawn() -> None:
    """Outputs are the first three inputs, the mask is the last three."""
    network = Mlp(MlpConfig(inputs=6, head=DiscreteHead(actions=3, masked=True)))
    weights = torch.cat([torch.eye(3), torch.zeros(3, 3)], dim=1)
    network.load_state_dict({"layers.0.weight": weights, "layers.0.bias": torch.zeros(3)})
    policy = Policy(network)
    found = policy.act([[5.0, 1.0, 0.0, 0, 1, 1], [5.0, 1.0, 0.0, 1, 1, 1]])
    assert found.actions.tolist() == [1, 0]
    wanted_B3 = [[0.0, *softmax([1.0, 0.0])], softmax([5.0, 1.0, 0.0])]
    assert found.probabilities_BA == pytest.approx(np.array(wanted_B3), abs=1e-6)
    obs_BD = np.tile([5.0, 1.0, 0.0, 0, 1, 1], (500, 1))
    drawn_B = policy.act(obs_BD, deterministic=False, generator=np.random.default_rng(0)).actions
    assert set(drawn_B.tolist()) == {1, 2}
    with pytest.raises(ModelError, match="mask allows no action"):
        policy.act([[5.0, 1.0, 0.0, 0, 0, 0]])
    with pytest.raises(ConfigError, match="needs inputs besides the mask of 3"):
        MlpConfig.parse({"inputs": 3, "head": {"kind": "discrete", "actions": 3, "masked": True}})


def test_one_seed_draws_the_same_actions() -> None:
    obs_BD = np.random.default_rng(3).normal(size=(40, 2))
    first, again, other = (
        small().act(obs_BD, deterministic=False, generator=np.random.default_rng(seed)).actions for seed in (7, 7, 8)
    )
    assert (first == again).all() and (first != other).any()


def test_what_has_no_distribution_is_not_drawn_from() -> None:
    for head in (DiscreteHead(actions=2, scores="values"), GaussianHead(low=(-1.0, -1.0), high=(1.0, 1.0))):
        with pytest.raises(ConfigError, match="no distribution to draw from"):
            identity(head).act([[0.0, 1.0]], deterministic=False)


def test_a_normalised_observation_is_clipped() -> None:
    network = Mlp(MlpConfig(inputs=2, normalise=True, clip=1.5, head=DiscreteHead(actions=2)))
    network.load_state_dict(
        {
            "layers.0.weight": torch.eye(2),
            "layers.0.bias": torch.zeros(2),
            "observation.mean": torch.tensor([1.0, 0.0]),
            "observation.std": torch.tensor([2.0, 1.0]),
        }
    )
    assert Policy(network).outputs(np.asarray([[2.0, 9.0]], dtype=np.float32)).tolist() == [[0.5, 1.5]]


def test_a_policy_acts_the_same_after_its_folder(tmp_path: Path) -> None:
    policy, obs_BD = small(), np.random.default_rng(4).normal(size=(100, 2))
    save_policy(policy, tmp_path)
    read = load_policy(tmp_path)
    assert read.card == CARD
    assert (read.outputs(obs_BD.astype(np.float32)) == policy.outputs(obs_BD.astype(np.float32))).all()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("actions", {"kind": "discrete", "n": 4}, "discrete of size 4"),
        ("observations", {"kind": "discrete", "n": 5}, "reads 2 numbers"),
        ("observed", {"low": [0.0], "high": [1.0], "observations": 3}, "observed range"),
    ],
)
def test_a_card_of_another_network_is_refused(field: str, value: object, message: str, tmp_path: Path) -> None:
    save_policy(small(), tmp_path)
    card = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps({**card, field: value}))
    with pytest.raises(ModelError, match=message):
        load_policy(tmp_path)


def test_a_classifier_is_no_policy() -> None:
    with pytest.raises(ModelError, match="chooses no actions"):
        identity(ClassifierHead(labels=("a", "b")))


def test_observations_of_another_shape_or_beyond_all_bounds_are_refused() -> None:
    with pytest.raises(ModelError, match=r"\(B, 2\)"):
        small().act([[1.0, 2.0, 3.0]])
    with pytest.raises(ModelError, match="not finite"):
        identity(DiscreteHead(actions=2)).act([[np.inf, 0.0]])
