"""Square attack (Andriushchenko et al. 2020): random search for a lower margin by predictions alone.

In L-inf a square of the image gets, in each channel, a corner of the ball (algorithm 2). In L2 and L1 a bump moves into
a square, and another square gives its part of the ball to it (algorithm 3; L1 likewise, as Croce and Hein 2021 do).
Features (B, D) are an image of height 1, whose squares are runs of features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raysafe.robustness.attacks import draws
from raysafe.robustness.attacks.attack import Problem, Search
from raysafe.robustness.attacks.balls import Norm, column, project
from raysafe.robustness.attacks.losses import margin
from raysafe.robustness.attacks.settings import Square

_TINY = 1e-12
# parts of 10,000 steps after which the share of the image halves, as in the paper
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_STREAMS = 1 << 32


def square(settings: Square) -> Search:
    def search(problem: Problem) -> None:
        problem.need_finite_epsilon(settings.attack)
        for restart in range(settings.restarts):
            rows_R = problem.unbroken()
            if len(rows_R) == 0:
                return
            _descend(problem, settings, rows_R, restart * _STREAMS)

    return search


def share_at(step: int, steps: int, first: float) -> float:
    """The part of the image that a square covers."""
    return first / 2 ** sum(step * 10_000 // steps > halving for halving in _HALVINGS)


def _descend(problem: Problem, settings: Square, rows_R: Tensor, stream: int) -> None:
    norm, epsilon, seed = problem.norm, problem.epsilon, settings.seed
    shape = problem.x.shape
    image = shape[1:] if len(shape) == 4 else (1, 1, problem.x[0].numel())
    sample_R = problem.sample_B[rows_R]
    x = problem.x[rows_R]
    first = _stripes if norm == "linf" else _tiles
    apart = first(seed, sample_R, stream, image, x.dtype)
    points = _within(x, apart.view_as(x), norm, epsilon, problem)
    best_R = torch.full((len(rows_R),), torch.inf, dtype=x.dtype, device=x.device)
    candidate = points
    for step in range(settings.steps):
        logits_RK = problem.logits(candidate, rows_R)
        broken_R = problem.broken(logits_RK, rows_R)
        target_R = problem.targets(rows_R)
        loss_R = -margin(logits_RK, problem.y_B[rows_R]) if target_R is None else margin(logits_RK, target_R)
        better_R = loss_R < best_R
        best_R = torch.where(better_R, loss_R, best_R)
        points = torch.where(column(better_R, points), candidate, points)
        if broken_R.any():
            problem.keep(candidate[broken_R], rows_R[broken_R], True)
            left_R = ~broken_R
            rows_R, sample_R, x, points, best_R = (one[left_R] for one in (rows_R, sample_R, x, points, best_R))
            if len(rows_R) == 0:
                return
        if step == settings.steps - 1:
            break
        share = share_at(step, settings.steps, settings.first_share)
        apart = (points - x).view(len(x), *image)
        chosen = draws.uniform(seed, sample_R, stream + step + 1, 5 + image[0]).to(x.dtype)
        if norm == "linf":
            apart = _corner(apart, chosen, share, epsilon)
        else:
            apart = _bump(apart, chosen, share, epsilon, 2 if norm == "l2" else 1)
        candidate = _within(x, apart.view_as(x), norm, epsilon, problem)
    problem.keep(points, rows_R, False)


def _within(x: Tensor, apart: Tensor, norm: Norm, epsilon: float, problem: Problem) -> Tensor:
    if norm == "linf":
        return project(x + epsilon * apart.sign() * (apart != 0), x, norm, epsilon, problem.box)
    size_R = torch.linalg.vector_norm(apart.flatten(1), 2 if norm == "l2" else 1, dim=1)
    # the whole radius is used, as far as the box allows
    return project(x + apart * column(epsilon / size_R.clamp(min=_TINY), apart), x, norm, epsilon, problem.box)


def _stripes(seed: int, sample_R: Tensor, stream: int, image: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """(R, C, H, W): vertical stripes of 1 and -1."""
    channels, _, width = image
    coins = draws.uniform(seed, sample_R, stream, channels * width) < 0.5
    return torch.where(coins.view(-1, channels, 1, width), 1.0, -1.0).to(dtype).expand(-1, *image).contiguous()


def _tiles(seed: int, sample_R: Tensor, stream: int, image: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """(R, C, H, W): a grid of bumps of random signs."""
    channels, height, width = image
    side = max(1, max(height, width) // 5)
    down, across = math.ceil(height / side), math.ceil(width / side)
    coins = draws.uniform(seed, sample_R, stream, channels * down * across) < 0.5
    signs = torch.where(coins.view(-1, channels, down, across), 1.0, -1.0).to(dtype)
    tile = bump(side, side, sample_R.device, dtype).repeat(down, across)
    spread = signs.repeat_interleave(side, 2).repeat_interleave(side, 3)
    return (spread * tile)[:, :, :height, :width].contiguous()


def _size(share: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of a square that covers a share of the image; its side is less than the image's."""
    if height == 1:
        return 1, min(max(1, round(share * width)), max(1, width - 1))
    side = max(1, round(math.sqrt(share * height * width)))
    return min(side, height - 1), min(side, width - 1)


def _window(at_R2: Tensor, size: tuple[int, int], height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a square placed by two numbers in [0, 1): (R, 1, H, W) bool, and each pixel's row and column in the square."""
    top_R, left_R = (
        (at_R2[:, axis] * (full - side + 1)).floor().long().clamp(max=full - side)
        for axis, (full, side) in enumerate(zip((height, width), size, strict=True))
    )
    down = torch.arange(height, device=at_R2.device).view(1, 1, -1, 1) - top_R.view(-1, 1, 1, 1)
    across = torch.arange(width, device=at_R2.device).view(1, 1, 1, -1) - left_R.view(-1, 1, 1, 1)
    within = (down >= 0) & (down < size[0]) & (across >= 0) & (across < size[1])
    return within, down.clamp(0, size[0] - 1), across.clamp(0, size[1] - 1)


def _corner(apart: Tensor, chosen: Tensor, share: float, epsilon: float) -> Tensor:
    height, width = apart.shape[2:]
    within, _, _ = _window(chosen[:, :2], _size(share, height, width), height, width)
    sign = torch.where(chosen[:, 5:] < 0.5, -1.0, 1.0)[:, :, None, None].to(apart.dtype)
    return torch.where(within, sign * epsilon, apart)


def _bump(apart: Tensor, chosen: Tensor, share: float, epsilon: float, power: int) -> Tensor:
    """Zero one square, and add a bump to the direction of another, with what norm both had and the ball has left."""
    channels, height, width = apart.shape[1:]
    size = _size(share, height, width)
    taker, down, across = _window(chosen[:, :2], size, height, width)
    giver, _, _ = _window(chosen[:, 2:4], size, height, width)
    tall, wide = bump(size[0], size[1], apart.device, apart.dtype), bump(size[1], size[0], apart.device, apart.dtype).T
    shaped = torch.where(chosen[:, 4].view(-1, 1, 1, 1) < 0.5, tall[down, across], wide[down, across])
    sign = torch.where(chosen[:, 5:] < 0.5, -1.0, 1.0)[:, :, None, None].to(apart.dtype)
    mass = apart.abs() ** power
    held_RC = (mass * (taker | giver)).sum((2, 3))
    left_R1 = (epsilon**power - mass.sum((1, 2, 3))).clamp(min=0)[:, None]
    old = apart * taker
    old_size = _length(old, power)[:, :, None, None]
    fresh = (old / old_size.clamp(min=_TINY) + sign * shaped) * taker
    budget_RC = (held_RC + left_R1 / channels) ** (1 / power)
    fresh = fresh / _length(fresh, power)[:, :, None, None].clamp(min=_TINY) * budget_RC[:, :, None, None]
    return torch.where(taker, fresh, apart * ~giver)


def bump(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(H, W) of L2 norm 1: two halves of opposite signs, each falling off from its middle (equation 4)."""
    half = height // 2
    halves = [_rings(half, width), -_rings(height - half, width)] if half else [_rings(height, width)]
    shape = torch.cat(halves)
    return (shape / shape.norm()).to(device=device, dtype=dtype)


def _rings(height: int, width: int) -> Tensor:
    """Pixel (r, s) is the sum of 1 / (n + 1 - k)^2 over k = 0 … n - d, d its Chebyshev distance from the middle."""
    middle_r, middle_s = (height - 1) / 2, (width - 1) / 2
    steps = max(1, math.ceil(max(height, width) / 2))
    down = (torch.arange(height) - middle_r).abs() * (steps / max(1.0, height / 2))
    across = (torch.arange(width) - middle_s).abs() * (steps / max(1.0, width / 2))
    ring = torch.maximum(down[:, None], across[None]).floor().long().clamp(max=steps - 1)
    sums = (1 / torch.arange(steps, 0, -1, dtype=torch.float64) ** 2).cumsum(0)
    return sums[steps - 1 - ring].float()


def _length(value: Tensor, power: int) -> Tensor:
    """(R, C): norms over each channel."""
    return torch.linalg.vector_norm(value.flatten(2), power, dim=2)
