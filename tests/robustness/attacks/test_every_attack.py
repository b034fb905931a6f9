"""What holds of every attack, on networks drawn at random: features and images alike."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from raysafe.errors import ConfigError
from raysafe.robustness.attacks.balls import Norm, distance
from raysafe.robustness.attacks.settings import (
    APGD,
    APGDT,
    ATTACKS,
    FABT,
    FGSM,
    PGD,
    Attack,
    AutoAttack,
    CarliniWagner,
    Square,
)
from tests.robustness.attacks.models import digits, digits_network

SHORT: list[Attack] = [
    FGSM(),
    PGD(steps=4, restarts=2),
    PGD(steps=3, momentum=0.9, loss="margin", early_exit=False),
    APGD(steps=8),
    APGD(steps=8, loss="dlr"),
    APGDT(steps=6, targets=2),
    FABT(steps=4, targets=2),
    Square(steps=12),
    AutoAttack(steps=4, targets=1, square_steps=6),
    CarliniWagner(steps=12, searches=3, learning_rate=0.1, initial_c=1.0),
]
NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


class Network(nn.Module):
    """Random weights; dropout and batch norm make training mode's predictions another matter."""

    def __init__(self, features: int, classes: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, 12),
            nn.BatchNorm1d(12),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Linear(12, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@settings(max_examples=40, deadline=None)
@given(
    attack=st.sampled_from(SHORT),
    norm=st.sampled_from(NORMS),
    epsilon=st.floats(0, 2),
    shape=st.sampled_from([(5,), (1, 4, 4), (3, 3, 3)]),
    seed=st.integers(0, 1000),
)
def test_what_every_attack_gives(attack: Attack, norm: Norm, epsilon: float, shape: tuple[int, ...], seed: int) -> None:
    """In the box and the ball, predicted again in eval mode, the mode as it was found, distance as it is."""
    if isinstance(attack, CarliniWagner):
        norm = "l2"
    model = Network(math.prod(shape), 5, seed)
    model.layers[2].eval()
    modes = [part.training for part in model.modules()]
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(seed))
    y = torch.randint(0, 5, (6,), generator=torch.Generator().manual_seed(seed))
    found = attack(model, x, y, norm=norm, epsilon=epsilon)
    assert [part.training for part in model.modules()] == modes
    assert found.adversarial.min() >= 0 and found.adversarial.max() <= 1
    assert torch.equal(found.distance, distance(found.adversarial, x, norm))
    assert (found.distance <= epsilon).all()
    clean_BK, logits_BK = model.eval()(x), model(found.adversarial)
    wrong_B = clean_BK.argmax(1) != y
    assert found.success[wrong_B].all() and (found.distance[wrong_B] == 0).all() and (found.queries[wrong_B] == 1).all()
    # a point on the boundary itself may be predicted otherwise in a batch of another size
    top_B2 = logits_BK.topk(2, dim=1).values
    clear_B = top_B2[:, 0] - top_B2[:, 1] > 1e-5
    assert torch.equal((logits_BK.argmax(1) != y)[clear_B], found.success[clear_B])


@pytest.mark.parametrize("attack", SHORT, ids=lambda one: one.attack)
def test_epsilon_zero_changes_nothing(attack: Attack) -> None:
    x, y = digits()
    found = attack(digits_network(), x[:30], y[:30], norm="l2", epsilon=0.0)
    assert torch.equal(found.adversarial, x[:30])
    assert torch.equal(found.success, digits_network()(x[:30]).argmax(1) != y[:30])


@pytest.mark.parametrize("attack", [PGD(steps=5), APGD(steps=6), Square(steps=20), APGDT(steps=5, targets=2)])
def test_a_sample_gets_the_same_alone_and_among_others(attack: Attack) -> None:
    x, y = digits()
    rows = torch.arange(40)
    whole = attack(digits_network(), x[:40], y[:40], norm="l2", epsilon=0.5)
    part = attack(digits_network(), x[20:40], y[20:40], norm="l2", epsilon=0.5, sample=rows[20:])
    assert torch.allclose(whole.adversarial[20:], part.adversarial, atol=1e-4)
    assert torch.equal(whole.success[20:], part.success)


def test_every_attack_is_named_in_the_table() -> None:
    assert all(ATTACKS[attack.attack] is type(attack) for attack in SHORT)  # type: ignore[attr-defined]
    assert all(kind.model_fields["attack"].default == name for name, kind in ATTACKS.items())


@pytest.mark.parametrize("attack", [APGDT(), FABT(), AutoAttack(steps=2, square_steps=1)])
def test_an_attack_that_chooses_targets_takes_none(attack: Attack) -> None:
    x, y = digits()
    with pytest.raises(ConfigError, match="takes none"):
        attack(digits_network(), x[:5], y[:5], norm="linf", epsilon=0.01, target=(y[:5] + 1) % 10)


def test_carlini_wagner_is_in_l2_alone() -> None:
    x, y = digits()
    with pytest.raises(ConfigError, match="l2"):
        CarliniWagner()(digits_network(), x[:5], y[:5], norm="linf", epsilon=0.1)
