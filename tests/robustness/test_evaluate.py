"""The robustness of planted models, and whether an evaluation says that it can't be believed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from raysafe.data.labelled import Labelled, first, load_labelled
from raysafe.errors import ConfigError
from raysafe.robustness.attacks.settings import FGSM, PGD
from raysafe.robustness.evaluate import SURVIVED, RobustnessSettings, measure
from raysafe.robustness.hygiene import checks

SETTINGS = RobustnessSettings(epsilon=0.2, epsilons=(0.05, 0.1), attacks=(FGSM(), PGD(steps=10)))


def tensors(labelled: Labelled):
    return torch.tensor(labelled.x), torch.tensor(labelled.y), torch.arange(len(labelled))


def measured(model: nn.Module, labelled: Labelled, settings: RobustnessSettings = SETTINGS, checked: int = 0):
    x, y_B, sample_B = tensors(labelled)
    return measure(model, x, y_B, sample_B, settings, sample_B < checked)


@pytest.fixture(scope="module")
def digits() -> Labelled:
    return first(load_labelled("digits"), 120)


@pytest.fixture(scope="module")
def honest(digits: Labelled) -> nn.Module:
    """A small network trained for a second on the same digits."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x, y_B, _ = tensors(digits)
    for _ in range(120):
        loss = nn.functional.cross_entropy(model(x), y_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


class Saturated(nn.Module):
    """The same decisions, but logits so large that the loss is flat in float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) * 1e6


class Rounded(Saturated):
    """Nearly the same decisions, and no slope anywhere."""

    def forward(self, x):
        return torch.round(self.model(x) * 4) / 4


def test_an_honest_model_raises_no_warning(honest, digits) -> None:
    found = checks(measured(honest, digits, checked=120), SETTINGS)
    assert len(found) == 8 and [check for check in found if check.warning] == []


@pytest.mark.parametrize("masked", [Saturated, Rounded])
def test_masked_gradients_raise_warnings(masked, honest, digits) -> None:
    columns = measured(masked(honest), digits, checked=120)
    warned = {check.name for check in checks(columns, SETTINGS) if check.warning}
    assert {"a huge epsilon leaves nothing right", "the loss has a slope at every sample"} <= warned
    # the figures alone would say that it is robust, more so than the same decisions with their gradients
    assert np.mean(columns["broken"]) < np.mean(measured(honest, digits)["broken"]) - 0.2


def test_a_linear_model_breaks_at_its_margin_over_the_norm_of_its_weights() -> None:
    # logits (w x, 0): within epsilon in L-inf the first is changed by epsilon |w|_1 at most, which PGD reaches
    generator = torch.Generator().manual_seed(3)
    w_D = torch.randn(12, generator=generator) * 0.3
    model = nn.Linear(12, 2, bias=False)
    model.weight.data = torch.stack([w_D, torch.zeros(12)])
    x = torch.rand(40, 12, generator=generator) * 0.2 + 0.4
    y_B = (x @ w_D <= 0).long()
    radius_B = (x @ w_D).abs() / w_D.abs().sum()
    curve = (0.02, 0.05, 0.1, 0.15)
    settings = RobustnessSettings(epsilon=0.1, epsilons=curve, attacks=(PGD(steps=20),), hygiene=0)
    sample_B = torch.arange(40)
    found = measure(model, x, y_B, sample_B, settings, sample_B < 0)["smallest"]
    expected = [next((e for e in curve if e > float(r)), SURVIVED) for r in radius_B]
    assert len(set(expected)) == 3 and found == expected


def test_chunks_of_samples_give_what_all_together_give(honest, digits) -> None:
    whole = measured(honest, digits, checked=60)
    x, y_B, sample_B = tensors(digits)
    parts = [
        measure(honest, x[at], y_B[at], sample_B[at], SETTINGS, sample_B[at] < 60)
        for at in (slice(0, 50), slice(50, 120))
    ]
    same = [name for name in whole if whole[name] == parts[0][name] + parts[1][name]]
    assert set(whole) - set(same) <= {"confidence", "adversarial_confidence", "adversarial"}
    for name in set(whole) - set(same):
        assert np.allclose(whole[name], parts[0][name] + parts[1][name], atol=1e-5)


def test_what_a_weaker_ball_broke_is_left_alone_in_larger_ones(honest, digits) -> None:
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return honest(x)

    def cost(epsilons) -> int:
        calls.clear()
        settings = RobustnessSettings(epsilon=0.02, epsilons=epsilons, attacks=(PGD(steps=10),))
        measured(Counting(), digits, settings)
        return sum(calls)

    alone, broken = cost((0.3,)), cost((0.2, 0.3))
    # at 0.2 nearly everything is broken, so that 0.3 costs next to nothing behind it
    assert broken < 1.3 * alone


def test_accuracies_never_rise_with_epsilon(honest, digits) -> None:
    smallest_N = np.asarray(measured(honest, digits)["smallest"])
    curve = [(smallest_N > epsilon).mean() for epsilon in SETTINGS.curve]
    assert curve == sorted(curve, reverse=True) and curve[0] > curve[-1]


def test_attacks_of_a_kind_are_numbered() -> None:
    settings = RobustnessSettings(attacks=(FGSM(), PGD(steps=5), PGD(steps=9)), epsilons=(0.2,))
    assert settings.names == ("fgsm", "pgd", "pgd-2") and settings.curve == (0.1, 0.2)


def test_attacks_are_checked_by_name() -> None:
    with pytest.raises(ConfigError, match="attacks"):
        RobustnessSettings.parse({"attacks": [{"attack": "pdg"}]})
