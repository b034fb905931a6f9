from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from raysafe.robustness.attacks.balls import Box, Norm, distance, inside, project, random_start, steepest

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def cases(seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_BD = torch.rand(8, 7, generator=generator)
    x_BD[0, :3] = 0.0
    x_BD[1, 3:] = 1.0
    return x_BD, x_BD + spread * torch.randn(8, 7, generator=generator)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS), epsilon=st.floats(1e-3, 3), spread=st.floats(0.01, 5))
def test_a_projection_lies_in_ball_and_box(seed: int, norm: Norm, epsilon: float, spread: float) -> None:
    x, points = cases(seed, spread)
    found = project(points, x, norm, epsilon, Box())
    assert (distance(found, x, norm) <= epsilon * (1 + 1e-5) + 1e-6).all()
    assert found.min() >= 0 and found.max() <= 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS), epsilon=st.floats(1e-3, 3))
def test_a_projection_stays_where_it_is(seed: int, norm: Norm, epsilon: float) -> None:
    x, points = cases(seed)
    found = project(points, x, norm, epsilon, Box())
    assert torch.allclose(project(found, x, norm, epsilon, Box()), found, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [0.05, 0.4, 1.5])
def test_a_projection_is_the_nearest_point(norm: Norm, epsilon: float) -> None:
    """Oracle: SLSQP on min |z - u|^2 within box and ball, the moves split into their positive and negative parts."""
    x, points = cases(3)
    found = project(points, x, norm, epsilon, Box()).double()
    for row in range(len(x)):
        origin, wanted = x[row].double().numpy(), points[row].double().numpy()
        size = abs(wanted - origin)
        sign = 2.0 * (wanted >= origin) - 1
        room = (1 - origin) * (sign > 0) + origin * (sign < 0)
        ball = {
            "linf": lambda move: epsilon - move.max(),
            "l2": lambda move: epsilon**2 - (move**2).sum(),
            "l1": lambda move: epsilon - move.sum(),
        }[norm]
        best = minimize(
            lambda move, size=size: ((move - size) ** 2).sum(),
            0 * size,
            jac=lambda move, size=size: 2 * (move - size),
            bounds=[(0, min(one, epsilon)) for one in room],
            constraints={"type": "ineq", "fun": ball},
            options={"ftol": 1e-12, "maxiter": 500},
        )
        oracle = torch.from_numpy(origin + sign * best.x)
        mine, theirs = (float((one - points[row].double()).norm()) for one in (found[row], oracle))
        assert mine <= theirs + 1e-4
        assert torch.allclose(found[row], oracle, atol=2e-3)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), norm=st.sampled_from(NORMS), epsilon=st.floats(1e-4, 3))
def test_rounding_leaves_no_point_outside_and_moves_none_far(seed: int, norm: Norm, epsilon: float) -> None:
    x, points = cases(seed)
    projected = project(points, x, norm, epsilon, Box())
    found = inside(projected, x, norm, epsilon, Box())
    assert (distance(found, x, norm) <= epsilon).all()
    assert float((found - projected).abs().max()) < 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_starts_belong_to_the_sample_whatever_the_batch(norm: Norm) -> None:
    x, _ = cases(0)
    numbers = torch.arange(8)
    whole = random_start(x, norm, 0.3, Box(), 1, numbers, 0)
    parts = [random_start(x[rows], norm, 0.3, Box(), 1, numbers[rows], 0) for rows in (numbers[:3], numbers[3:])]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_direction_has_length_one(norm: Norm) -> None:
    x = torch.full((4, 30), 0.5)
    direction = steepest(torch.randn(4, 30, generator=torch.Generator().manual_seed(0)), norm, x, Box())
    assert torch.allclose(distance(direction, torch.zeros_like(x), norm), torch.ones(4, dtype=torch.float64))


def test_uniform_starts_fill_the_l1_ball() -> None:
    """The L1 radius of a uniform point of a ball in D dimensions has mean D / (D + 1)."""
    x = torch.full((4000, 3), 0.5)
    points = random_start(x, "l1", 0.4, Box(), 0, torch.arange(4000), 0)
    assert float(distance(points, x, "l1").mean()) == pytest.approx(0.4 * 0.75, rel=0.02)
