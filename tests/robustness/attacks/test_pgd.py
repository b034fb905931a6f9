from __future__ import annotations

import pytest
import torch
from torch import nn

from raysafe.errors import ConfigError, DataError, ModelError
from raysafe.robustness.attacks.balls import Norm, distance
from raysafe.robustness.attacks.settings import FGSM, PGD
from tests.robustness.attacks.models import digits, digits_network, linear_network

EPSILONS: dict[Norm, float] = {"linf": 0.1, "l2": 0.6, "l1": 3.0}


@pytest.mark.parametrize("norm", EPSILONS)
def test_pgd_breaks_a_network_that_random_noise_does_not(norm: Norm) -> None:
    x, y = digits()
    x, y = x[1400:1500], y[1400:1500]
    found = PGD(steps=20)(digits_network(), x, y, norm=norm, epsilon=EPSILONS[norm])
    noise = PGD(steps=1, step_size=1e-9)(digits_network(), x, y, norm=norm, epsilon=EPSILONS[norm])
    assert float(found.success.float().mean()) > float(noise.success.float().mean()) + 0.2


@pytest.mark.parametrize("norm", EPSILONS)
def test_a_linear_network_breaks_exactly_beyond_its_margin(norm: Norm) -> None:
    """Two classes, the box far away: the margin over the dual norm of the weights' difference is the distance."""
    torch.manual_seed(0)
    model = nn.Linear(6, 2)
    x = torch.full((1, 6), 0.5)
    weight = (model.weight[1] - model.weight[0]).detach()
    y = model(x).argmax(1)
    gap = float((model(x)[0, 0] - model(x)[0, 1]).detach().abs())
    dual = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}[norm]
    with torch.no_grad():
        model.bias[y] += 0.02 * float(torch.linalg.vector_norm(weight, dual)) - gap
    attack = PGD(steps=100, sparsity=0.01)
    assert not attack(model, x, y, norm=norm, epsilon=0.0199).success.any()
    assert attack(model, x, y, norm=norm, epsilon=0.0205).success.all()


def test_what_is_already_wrong_costs_one_forward_pass() -> None:
    x, y = digits()
    found = PGD()(digits_network(), x[:20], (y[:20] + 1) % 10, norm="linf", epsilon=0.1)
    assert found.success.all() and (found.queries == 1).all() and (found.distance == 0).all()


def test_an_unbroken_sample_costs_its_steps_and_two_checks() -> None:
    x, y = digits()
    found = PGD(steps=7, restarts=3)(digits_network(), x[:20], y[:20], norm="linf", epsilon=1e-6)
    assert (found.queries[~found.success] == 1 + 3 * (2 * 7 + 1)).all() and not found.success.all()


def test_fgsm_costs_two_predictions_and_one_gradient() -> None:
    x = digits()[0][:100]
    found = FGSM()(digits_network(), x, digits_network()(x).argmax(1), norm="linf", epsilon=0.1)
    assert found.success.any() and not found.success.all() and (found.queries == 4).all()


def test_an_infinite_ball_is_refused() -> None:
    x, y = digits()
    with pytest.raises(ConfigError, match="must be finite"):
        PGD()(digits_network(), x[:5], y[:5], norm="l2", epsilon=float("inf"))


def test_a_broken_sample_drops_out() -> None:
    x, y = digits()
    found = PGD(steps=40, restarts=5)(digits_network(), x[:50], y[:50], norm="linf", epsilon=0.4)
    assert found.success.all() and float(found.queries.float().mean()) < 40


def test_a_target_is_reached_or_it_is_no_success() -> None:
    x, y = digits()
    target = (y[:60] + 3) % 10
    found = PGD(steps=30)(digits_network(), x[:60], y[:60], norm="linf", epsilon=0.2, target=target)
    assert found.success.any()
    predicted = digits_network()(found.adversarial).argmax(1)
    assert torch.equal(predicted == target, found.success)


@pytest.mark.parametrize("loss", ["dlr", "margin"])
def test_every_loss_breaks_the_network(loss: str) -> None:
    x, y = digits()
    found = PGD.parse({"loss": loss})(digits_network(), x[:50], y[:50], norm="linf", epsilon=0.2)
    assert float(found.success.float().mean()) > 0.8


def test_restarts_break_no_fewer() -> None:
    x, y = digits()
    one, many = (
        PGD(steps=3, restarts=restarts)(digits_network(), x[:200], y[:200], norm="linf", epsilon=0.08).success
        for restarts in (1, 6)
    )
    assert int(many.sum()) > int(one.sum()) and not (one & ~many).any()


def test_two_halves_give_what_the_whole_gives() -> None:
    x, y = digits()
    numbers = torch.arange(100)
    run = PGD(steps=5)
    whole = run(digits_network(), x[:100], y[:100], norm="l2", epsilon=0.4)
    halves = [
        run(digits_network(), x[rows], y[rows], norm="l2", epsilon=0.4, sample=rows)
        for rows in (numbers[:40], numbers[40:])
    ]
    assert torch.allclose(whole.adversarial, torch.cat([one.adversarial for one in halves]), atol=1e-5)
    assert torch.equal(whole.success, torch.cat([one.success for one in halves]))


def test_features_are_attacked_like_images() -> None:
    x = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    model = linear_network()
    found = PGD()(model, x, model(x).argmax(1), norm="linf", epsilon=0.3)
    assert found.success.any() and float(distance(found.adversarial, x, "linf").max()) <= 0.3


def test_fgsm_moves_every_feature_by_epsilon() -> None:
    x = digits()[0][:20].clamp(0.3, 0.7)
    found = FGSM()(digits_network(), x, digits_network()(x).argmax(1), norm="linf", epsilon=0.1)
    apart = (found.adversarial - x).abs()
    assert ((apart - 0.1).abs() < 1e-5)[apart > 0].all() and float((apart > 0).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("x", "y", "epsilon", "error"),
    [
        (torch.full((2, 6), 1.5), torch.zeros(2, dtype=torch.int64), 0.1, DataError),
        (torch.full((2, 6), 0.5), torch.zeros(2), 0.1, DataError),
        (torch.full((2, 6), 0.5), torch.zeros(2, dtype=torch.int64), -0.1, ConfigError),
        (torch.full((2, 6), float("nan")), torch.zeros(2, dtype=torch.int64), 0.1, DataError),
    ],
)
def test_input_that_does_not_fit_is_refused(x: torch.Tensor, y: torch.Tensor, epsilon: float, error: type) -> None:
    with pytest.raises(error):
        PGD()(linear_network(), x, y, norm="linf", epsilon=epsilon)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        PGD()(lambda x: x * torch.inf, torch.full((1, 3), 0.5), torch.tensor([0]), norm="linf", epsilon=0.1)


def test_dlr_with_two_classes_says_what_to_take() -> None:
    x = torch.full((1, 6), 0.5)
    model = linear_network(classes=2)
    with pytest.raises(ConfigError, match="needs at least 3 classes"):
        PGD(loss="dlr")(model, x, model(x).argmax(1), norm="linf", epsilon=0.1)
