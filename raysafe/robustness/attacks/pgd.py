"""Projected gradient ascent (Madry et al. 2018) in L-inf, L2 and L1, with momentum after Dong et al. 2018."""

from __future__ import annotations

import torch
from torch import Tensor

from raysafe.robustness.attacks.attack import Problem, Search
from raysafe.robustness.attacks.balls import project, random_start, steepest
from raysafe.robustness.attacks.losses import attack_loss
from raysafe.robustness.attacks.settings import PGD


def pgd(settings: PGD) -> Search:
    """Each restart goes on with the samples that no earlier one broke; each step with those that no earlier one did."""

    def search(problem: Problem) -> None:
        problem.need_finite_epsilon(settings.attack)
        for restart in range(settings.restarts):
            rows_R = problem.unbroken()
            if len(rows_R) == 0:
                return
            _ascend(problem, settings, rows_R, restart)

    return search


def _ascend(problem: Problem, settings: PGD, rows_R: Tensor, restart: int) -> None:
    norm, epsilon, box = problem.norm, problem.epsilon, problem.box
    step = epsilon * (settings.step_size or 2.5 / settings.steps)
    x = points = problem.x[rows_R]
    if settings.random_start:
        points = random_start(x, norm, epsilon, box, settings.seed, problem.sample_B[rows_R], restart)
    velocity = torch.zeros_like(x)

    def loss(logits_RK: Tensor, rows_R: Tensor) -> Tensor:
        return attack_loss(settings.loss, logits_RK, problem.y_B[rows_R], problem.targets(rows_R))

    for _ in range(settings.steps):
        logits_RK, _, gradient = problem.gradient(points, rows_R, loss)
        broken_R = problem.broken(logits_RK, rows_R)
        if settings.early_exit and broken_R.any():
            problem.keep(points[broken_R], rows_R[broken_R], True)
            left_R = ~broken_R
            rows_R, points, x = rows_R[left_R], points[left_R], x[left_R]
            gradient, velocity = gradient[left_R], velocity[left_R]
            if len(rows_R) == 0:
                return
        if settings.momentum:
            size_R = gradient.flatten(1).abs().sum(1).clamp(min=1e-30).view(-1, *[1] * (x.dim() - 1))
            gradient = velocity = settings.momentum * velocity + gradient / size_R
        direction = steepest(gradient, norm, points, box, settings.sparsity)
        points = project(points + step * direction, x, norm, epsilon, box)
    problem.claim(points, rows_R)
