"""Randomised models, and attacks that come from another model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from raysafe.robustness.attacks.attack import attack
from raysafe.robustness.attacks.settings import FGSM, PGD, Square
from raysafe.robustness.attacks.transfer import transfer
from raysafe.robustness.attacks.transformations import ExpectedLogits
from tests.robustness.attacks.models import digits, digits_network


class Noisy(nn.Module):
    """Gaussian noise on the input, in eval mode too."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma, self.model = sigma, digits_network()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + self.sigma * torch.randn_like(x))


def test_expected_logits_are_the_mean_over_draws() -> None:
    x, _ = digits()
    few, many = (ExpectedLogits(Noisy(0.3), draws)(x[:20]).detach() for draws in (4, 400))
    exact = torch.stack([Noisy(0.3)(x[:20]).detach() for _ in range(1000)]).mean(0)
    assert float((many - exact).abs().mean()) < 0.25 * float((few - exact).abs().mean())


def test_a_randomised_models_attack_is_the_same_again_and_leaves_torchs_generator_alone() -> None:
    x, y = digits()
    state = torch.get_rng_state()
    one, other = (PGD(steps=5, draws=4, seed=3)(Noisy(0.2), x[:30], y[:30], norm="linf", epsilon=0.1) for _ in range(2))
    assert torch.equal(one.adversarial, other.adversarial) and torch.equal(state, torch.get_rng_state())


def test_averaging_over_draws_breaks_more_of_a_noisy_model() -> None:
    """Judged alike: by fresh logits averaged over 64 draws."""
    x, y = digits()
    x, y = x[:100], y[:100]
    torch.manual_seed(0)
    judge = ExpectedLogits(Noisy(0.5), 64, seed=99)
    right = []
    for draws in (1, 16):
        run = PGD(steps=8, draws=draws, early_exit=False)
        found = run(Noisy(0.5), x, y, norm="linf", epsilon=0.1)
        right.append(float((judge(found.adversarial).argmax(1) == y).float().mean()))
    assert right[1] < right[0] - 0.1


def test_passes_of_a_randomised_model_count_its_draws() -> None:
    x, y = digits()
    found = FGSM(draws=5)(ExpectedLogits(digits_network(), 1), x[:10], y[:10], norm="linf", epsilon=1e-6)
    assert (found.queries[~found.success] == 5 * 4).all()


def test_a_transferred_attack_asks_the_model_twice_and_breaks_more_than_noise() -> None:
    x, y = digits()
    torch.manual_seed(1)
    surrogate = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(surrogate.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(surrogate(x[:1400]), y[:1400]).backward()
        optimizer.step()
    by = PGD(steps=10, momentum=1.0, early_exit=False)
    rows = slice(1400, 1600)
    found = attack(transfer(by, surrogate), digits_network(), x[rows], y[rows], norm="linf", epsilon=0.15)
    noise = Square(steps=1)(digits_network(), x[rows], y[rows], norm="linf", epsilon=0.15)
    white = PGD(steps=10)(digits_network(), x[rows], y[rows], norm="linf", epsilon=0.15)
    share = [float(one.success.float().mean()) for one in (noise, found, white)]
    assert share[0] < share[1] < share[2]
    wrong_B = digits_network()(x[rows]).argmax(1) != y[rows]
    assert (found.queries[~wrong_B] == 2).all()


def test_a_surrogate_is_read_from_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("raysafe.models.classifier")
    from raysafe.models.mlp import ClassifierHead, Mlp, MlpConfig, save_mlp
    from raysafe.robustness.attacks.settings import Transfer

    torch.manual_seed(0)
    model = Mlp(MlpConfig(inputs=6, head=ClassifierHead(labels=("a", "b", "c"))))
    save_mlp(model, tmp_path)
    x = torch.rand(30, 6)
    y = model(x).argmax(1)
    found = Transfer(surrogate=str(tmp_path))(model, x, y, norm="linf", epsilon=0.5)
    assert float(found.success.float().mean()) > 0.5
