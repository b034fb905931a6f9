"""Fast adaptive boundary attack, targeted version (FAB-T, Croce and Hein 2020a, algorithm 1).

Each step linearises z_target - z_y, goes onto the hyperplane where it is 0, and is pulled towards the step from the
sample itself onto the same hyperplane; once beyond the boundary it steps back towards the sample and comes again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raysafe.robustness.attacks.attack import Problem, Search
from raysafe.robustness.attacks.autoattack import untargeted
from raysafe.robustness.attacks.balls import column, distance
from raysafe.robustness.attacks.hyperplane import step_onto
from raysafe.robustness.attacks.losses import difference
from raysafe.robustness.attacks.settings import FABT

_BISECTIONS = 3


def fab_t(settings: FABT) -> Search:
    """With a finite epsilon a sample drops out once a point is found within it; the distance isn't lowered further."""

    def search(problem: Problem) -> None:
        untargeted(problem, "fab-t")
        nearest_B = torch.full_like(problem.found_B, torch.inf, dtype=torch.float64)
        nearest = problem.x.clone()
        for rank in range(min(settings.targets, problem.clean_BK.shape[1] - 1)):
            rows_R = problem.unbroken() if math.isfinite(problem.epsilon) else _searched(problem)
            if len(rows_R) == 0:
                return
            _towards(problem, settings, rows_R, problem.others(rows_R)[:, rank], nearest, nearest_B)
        if not math.isfinite(problem.epsilon):
            _bisect(problem, nearest, nearest_B)

    return search


def _searched(problem: Problem) -> Tensor:
    """Rows that were right to begin with, whatever was found since."""
    return (problem.clean_BK.argmax(1) == problem.y_B).nonzero().squeeze(1)


def _towards(
    problem: Problem, settings: FABT, rows_R: Tensor, target_R: Tensor, nearest: Tensor, nearest_B: Tensor
) -> None:
    points = problem.x[rows_R]
    for _ in range(settings.steps):

        def lead(logits_RK: Tensor, rows_R: Tensor, target_R: Tensor = target_R) -> Tensor:
            return difference(logits_RK, problem.y_B[rows_R], target_R)

        _, lead_R, gradient = problem.gradient(points, rows_R, lead)
        points = _step(problem, settings, rows_R, points, lead_R, gradient)
        beyond_R = problem.broken(problem.logits(points, rows_R), rows_R)
        far_R = distance(points, problem.x[rows_R], problem.norm)
        better_R = beyond_R & (far_R < nearest_B[rows_R])
        nearest_B[rows_R[better_R]] = far_R[better_R]
        nearest[rows_R[better_R]] = points[better_R]
        within_R = better_R & (far_R <= problem.epsilon)
        problem.keep(points[within_R], rows_R[within_R], True)
        x = problem.x[rows_R]
        points = torch.where(column(beyond_R, points), x + settings.backward * (points - x), points)
        if math.isfinite(problem.epsilon) and within_R.any():
            rows_R, points, target_R = rows_R[~within_R], points[~within_R], target_R[~within_R]
            if len(rows_R) == 0:
                return


def _step(problem: Problem, settings: FABT, rows_R: Tensor, points: Tensor, lead_R: Tensor, gradient: Tensor) -> Tensor:
    x, box = problem.x[rows_R], problem.box
    weight_RD = gradient.flatten(1)
    # weight · (z - points) + lead = 0, as a gap from the points and from x
    gap_R = -lead_R
    origin_gap_R = gap_R + (weight_RD * (points - x).flatten(1)).sum(1)
    steps = []
    for start, gap in ((points, gap_R), (x, origin_gap_R)):
        room = box.room(start, gradient * column(gap, gradient))
        steps.append(step_onto(weight_RD, gap, room.flatten(1), problem.norm).view_as(x))
    own, from_x = steps
    zero = torch.zeros_like(x)
    own_R, from_x_R = (distance(one, zero, problem.norm).to(x.dtype) for one in steps)
    bias_R = (own_R / (own_R + from_x_R).clamp(min=1e-12)).clamp(max=settings.most_bias)
    bias = column(bias_R, x)
    ahead = (points + settings.overshoot * own) * (1 - bias) + (x + settings.overshoot * from_x) * bias
    return box.clamp(ahead)


def _bisect(problem: Problem, nearest: Tensor, nearest_B: Tensor) -> None:
    """The last part of the way between the sample and the nearest point found is halved a few times."""
    rows_R = torch.isfinite(nearest_B).nonzero().squeeze(1)
    if len(rows_R) == 0:
        return
    x, beyond = problem.x[rows_R], nearest[rows_R]
    inner = x
    for _ in range(_BISECTIONS):
        middle = (inner + beyond) / 2
        crossed = column(problem.broken(problem.logits(middle, rows_R), rows_R), middle)
        inner, beyond = torch.where(crossed, inner, middle), torch.where(crossed, middle, beyond)
    problem.keep(beyond, rows_R, True)
