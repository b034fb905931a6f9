"""Carlini and Wagner 2017 in L2: min |x' - x|^2 + c max(z_y - z_other + confidence, 0), c by binary search.

x' is the image of a free variable under tanh, so the box needs no clipping. Adam's state is each sample's own: a sample
whose loss has stopped falling leaves the search of its c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raysafe.errors import ConfigError
from raysafe.robustness.attacks.attack import Problem, Search
from raysafe.robustness.attacks.balls import Box, column, distance
from raysafe.robustness.attacks.losses import margin
from raysafe.robustness.attacks.settings import CarliniWagner

_EDGE = 1 - 1e-6
_MOST_C = 1e10
_LOOKS = 10
_FALL = 0.9999


def carlini_wagner(settings: CarliniWagner) -> Search:
    def search(problem: Problem) -> None:
        if problem.norm != "l2":
            raise ConfigError(f"carlini-wagner is an attack in l2, got norm '{problem.norm}': take fab-t or apgd")
        rows_R = problem.unbroken()
        c_R = torch.full((len(rows_R),), settings.initial_c, device=problem.x.device)
        low_R, high_R = torch.zeros_like(c_R), torch.full_like(c_R, _MOST_C)
        nearest = problem.x[rows_R]
        nearest_R = torch.full((len(rows_R),), math.inf, dtype=torch.float64, device=problem.x.device)
        for _ in range(settings.searches):
            crossed_R = _minimise(problem, settings, rows_R, c_R, nearest, nearest_R)
            high_R = torch.where(crossed_R, torch.minimum(high_R, c_R), high_R)
            low_R = torch.where(crossed_R, low_R, torch.maximum(low_R, c_R))
            c_R = torch.where(high_R < _MOST_C, (low_R + high_R) / 2, c_R * 10)
        within_R = nearest_R <= problem.epsilon
        problem.keep(nearest[within_R], rows_R[within_R], True)

    return search


def _minimise(
    problem: Problem, settings: CarliniWagner, all_R: Tensor, c_R: Tensor, nearest: Tensor, nearest_R: Tensor
) -> Tensor:
    """Descend for every row with its c; what comes nearer is written into nearest. Returns (R,) bool: has crossed."""
    crossed_R = torch.zeros_like(c_R, dtype=torch.bool)
    place_N = torch.arange(len(all_R), device=all_R.device)
    free = _free(problem.x[all_R], problem.box)
    first, second = torch.zeros_like(free), torch.zeros_like(free)
    before_N = torch.full_like(c_R, math.inf)
    look = max(1, settings.steps // _LOOKS)
    for step in range(settings.steps):
        rows_N = all_R[place_N]
        x, box = problem.x[rows_N], problem.box
        points, slope = _image(free, box)

        def short(logits_NK: Tensor, rows_N: Tensor) -> Tensor:
            target_N = problem.targets(rows_N)
            ahead_N = -margin(logits_NK, problem.y_B[rows_N]) if target_N is None else margin(logits_NK, target_N)
            return (ahead_N + settings.confidence).clamp(min=0)

        logits_NK, short_N, gradient = problem.gradient(points, rows_N, short)
        far_N = distance(points, x, "l2")
        # with a confidence the margin must be reached; at 0 a tie is no success
        beyond_N = problem.broken(logits_NK, rows_N) & (short_N <= 0)
        crossed_R[place_N[beyond_N]] = True
        better_N = beyond_N & (far_N < nearest_R[place_N])
        nearest_R[place_N[better_N]] = far_N[better_N]
        nearest[place_N[better_N]] = points[better_N]
        loss_N = far_N.square().to(c_R.dtype) + c_R[place_N] * short_N
        gradient = (2 * (points - x) + column(c_R[place_N], x) * gradient) * slope
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient.square()
        rate = settings.learning_rate * math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        free = free - rate * first / (second.sqrt() + 1e-8)
        if (step + 1) % look == 0:
            left_N = loss_N < _FALL * before_N
            place_N, free, first, second = place_N[left_N], free[left_N], first[left_N], second[left_N]
            before_N = loss_N[left_N]
            if len(place_N) == 0:
                break
    return crossed_R


def _free(x: Tensor, box: Box) -> Tensor:
    low, high = box.edges(x)
    return torch.atanh(((2 * x - low - high) / (high - low)) * _EDGE)


def _image(free: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Points in the box, and their derivative."""
    low, high = box.edges(free)
    bent = torch.tanh(free)
    half = (high - low) / 2
    return box.clamp((high + low) / 2 + half * bent), half * (1 - bent.square())
