"""Losses on numbers worked by hand, schedules of the papers, and the ensemble."""

from __future__ import annotations

import pytest
import torch

from raysafe.robustness.attacks.apgd import checkpoints
from raysafe.robustness.attacks.draws import laplace, normal, uniform
from raysafe.robustness.attacks.losses import dlr, margin, targeted_dlr
from raysafe.robustness.attacks.settings import APGD, FABT, AutoAttack
from raysafe.robustness.attacks.square import bump, share_at
from tests.robustness.attacks.models import digits, digits_network

LOGITS = torch.tensor([[5.0, 3.0, 2.0, 0.0, -1.0]])
FIRST, SECOND = torch.tensor([0]), torch.tensor([1])


def test_the_margin_is_the_best_other_logits_lead() -> None:
    assert float(margin(LOGITS, FIRST)) == -2.0 and float(margin(LOGITS, SECOND)) == 2.0


def test_dlr_is_in_units_of_the_lead_on_the_third() -> None:
    """-(5 - 3) / (5 - 2), and -(3 - 5) / (5 - 2)."""
    assert float(dlr(LOGITS, FIRST)) == pytest.approx(-2 / 3)
    assert float(dlr(LOGITS, SECOND)) == pytest.approx(2 / 3)


def test_targeted_dlr_is_in_units_of_the_lead_on_the_third_and_fourth() -> None:
    """-(5 - 3) / (5 - (2 + 0) / 2)."""
    assert float(targeted_dlr(LOGITS, FIRST, SECOND)) == pytest.approx(-2 / 4)


def test_apgd_looks_at_the_papers_steps() -> None:
    """Periods of 22, 19, 16, 13, 10, 7 and then 6 of 100 steps (section 3.1)."""
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_squares_halve_by_the_papers_schedule() -> None:
    shares = [share_at(step, 10_000, 0.8) for step in (0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)]
    assert shares == [0.8 / 2**halvings for halvings in range(10)]


@pytest.mark.parametrize("size", [(5, 5), (4, 6), (1, 7), (1, 1)])
def test_a_bump_has_norm_one_and_two_opposite_halves(size: tuple[int, int]) -> None:
    shape = bump(*size, torch.device("cpu"), torch.float32)
    assert shape.shape == size and float(shape.norm()) == pytest.approx(1)
    if size[0] > 1:
        assert (shape[: size[0] // 2] > 0).all() and (shape[size[0] // 2 :] < 0).all()


def test_autoattack_is_no_weaker_than_its_parts() -> None:
    x, y = digits()
    x, y = x[1400:1440], y[1400:1440]
    whole = AutoAttack(steps=8, targets=2, square_steps=20)
    broken = whole(digits_network(), x, y, norm="linf", epsilon=0.06).success
    for part in (APGD(steps=8), FABT(steps=8, targets=2)):
        assert not (part(digits_network(), x, y, norm="linf", epsilon=0.06).success & ~broken).any()


def test_draws_have_their_distributions_moments() -> None:
    numbers = torch.arange(2000)
    for draw, mean, variance in ((uniform, 0.5, 1 / 12), (normal, 0.0, 1.0), (laplace, 0.0, 2.0)):
        values = draw(3, numbers, 1, 50)
        assert float(values.mean()) == pytest.approx(mean, abs=0.02)
        assert float(values.var()) == pytest.approx(variance, rel=0.03)


def test_streams_and_samples_draw_other_numbers() -> None:
    one = uniform(0, torch.arange(100), 0, 20)
    for other in (uniform(0, torch.arange(100), 1, 20), uniform(1, torch.arange(100), 0, 20), one.roll(1, 0)):
        assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.08
