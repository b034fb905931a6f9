"""Auto-PGD (Croce and Hein 2020b, algorithm 1; its L1 version 2021, algorithm 2), untargeted and targeted.

Steps begin long. At checkpoints ever closer together a sample's step is halved, and it goes back to its best point,
where too few steps raised the loss, or neither step nor best loss changed since the last one. In L1 each step moves the
features of the largest gradient; how many follows from how many the best point has moved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from raysafe.robustness.attacks.attack import Problem, Search
from raysafe.robustness.attacks.autoattack import untargeted
from raysafe.robustness.attacks.balls import column, project, random_start, steepest
from raysafe.robustness.attacks.losses import attack_loss, difference, targeted_dlr
from raysafe.robustness.attacks.settings import APGD, APGDT

_KEPT = 0.75
_RISES = 0.75
_L1_LOOKS, _L1_SHRINK, _L1_SAME, _L1_FIRST = 0.04, 1.5, 0.95, 0.2

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits (R, K), rows (R,) and targets (R,) to what is raised (R,)."""


@dataclass
class _State:
    """Of each row still unbroken, all of length R."""

    rows: Tensor
    target: Tensor
    x: Tensor
    points: Tensor
    before: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    loss: Tensor
    step: Tensor
    rises: Tensor
    checked_loss: Tensor
    halved: Tensor
    share: Tensor
    """In L1: the part of the features that a step moves."""

    def only(self, left_R: Tensor) -> _State:
        return _State(**{field.name: getattr(self, field.name)[left_R] for field in fields(self)})


def apgd(settings: APGD) -> Search:
    def search(problem: Problem) -> None:
        problem.need_finite_epsilon(settings.attack)

        def loss(logits_RK: Tensor, rows_R: Tensor, _target_R: Tensor) -> Tensor:
            return attack_loss(settings.loss, logits_RK, problem.y_B[rows_R], problem.targets(rows_R))

        for restart in range(settings.restarts):
            rows_R = problem.unbroken()
            if len(rows_R) == 0:
                return
            _ascend(problem, settings, rows_R, problem.y_B[rows_R], loss, restart)

    return search


def apgd_t(settings: APGDT) -> Search:
    def search(problem: Problem) -> None:
        problem.need_finite_epsilon(settings.attack)
        untargeted(problem, "apgd-t")
        classes = problem.clean_BK.shape[1]

        def loss(logits_RK: Tensor, rows_R: Tensor, target_R: Tensor) -> Tensor:
            return (targeted_dlr if classes >= 4 else difference)(logits_RK, problem.y_B[rows_R], target_R)

        for restart in range(settings.restarts):
            for rank in range(min(settings.targets, classes - 1)):
                rows_R = problem.unbroken()
                if len(rows_R) == 0:
                    return
                _ascend(problem, settings, rows_R, problem.others(rows_R)[:, rank], loss, restart * classes + rank)

    return search


def checkpoints(steps: int) -> list[int]:
    """Steps at which the step is looked at: the periods shrink from 0.22 by 0.03 down to 0.06 of all steps."""
    found, period = [], 0.22
    share = period
    while share < 1:
        found.append(max(1, int(share * steps)))
        period = max(period - 0.03, 0.06)
        share += period
    return sorted(set(found))


def _ascend(
    problem: Problem, settings: APGD | APGDT, rows_R: Tensor, target_R: Tensor, loss: Loss, stream: int
) -> None:
    norm, epsilon = problem.norm, problem.epsilon
    l1 = norm == "l1"
    state = _start(problem, settings, rows_R, target_R, stream)
    period = max(1, int(_L1_LOOKS * settings.steps))
    looks = list(range(period, settings.steps, period)) if l1 else checkpoints(settings.steps)
    last = 0
    for number in range(settings.steps + 1):
        state = _evaluate(problem, state, loss, final=number == settings.steps)
        if len(state.rows) == 0:
            return
        if number == settings.steps:
            break
        if number in looks:
            _look_l1(state, epsilon) if l1 else _look(state, number - last)
            last = number
        box = problem.box
        direction = _sparse(state, problem) if l1 else steepest(state.gradient, norm, state.points, box)
        ahead = state.points + column(state.step, state.points) * direction
        ahead = project(ahead, state.x, norm, epsilon, box)
        if number and not l1:
            moved = _KEPT * (ahead - state.points) + (1 - _KEPT) * (state.points - state.before)
            ahead = project(state.points + moved, state.x, norm, epsilon, box)
        state.before, state.points = state.points, ahead
    problem.keep(state.best, state.rows, False)


def _start(problem: Problem, settings: APGD | APGDT, rows_R: Tensor, target_R: Tensor, stream: int) -> _State:
    x, epsilon = problem.x[rows_R], problem.epsilon
    points = random_start(x, problem.norm, epsilon, problem.box, settings.seed, problem.sample_B[rows_R], stream)
    size_R = x.new_ones(len(x))
    return _State(
        rows=rows_R,
        target=target_R,
        x=x,
        points=points,
        before=points,
        gradient=torch.zeros_like(x),
        best=points.clone(),
        best_gradient=torch.zeros_like(x),
        best_loss=-torch.inf * size_R,
        loss=torch.inf * size_R,
        step=(epsilon if problem.norm == "l1" else 2 * epsilon) * size_R,
        rises=0 * size_R,
        checked_loss=-torch.inf * size_R,
        halved=torch.ones_like(rows_R, dtype=torch.bool),
        share=_L1_FIRST * size_R,
    )


def _evaluate(problem: Problem, state: _State, loss: Loss, final: bool) -> _State:
    """Loss, gradient (unless final) and best point at the points; broken rows are kept in the problem and leave."""
    rows_R = state.rows
    if final:
        logits_RK = problem.logits(state.points, rows_R)
        loss_R, gradient = loss(logits_RK, rows_R, state.target), state.gradient
    else:
        logits_RK, loss_R, gradient = problem.gradient(
            state.points, rows_R, lambda logits_RK, rows_R: loss(logits_RK, rows_R, state.target)
        )
    state.rises = state.rises + (loss_R > state.loss)
    state.loss, state.gradient = loss_R, gradient
    better_R = loss_R > state.best_loss
    state.best_loss = torch.where(better_R, loss_R, state.best_loss)
    better = column(better_R, state.points)
    state.best = torch.where(better, state.points, state.best)
    state.best_gradient = torch.where(better, gradient, state.best_gradient)
    broken_R = problem.broken(logits_RK, rows_R)
    if not broken_R.any():
        return state
    problem.keep(state.points[broken_R], rows_R[broken_R], True)
    return state.only(~broken_R)


def _look(state: _State, period: int) -> None:
    """Halve the steps of the rows that don't get on, which go back to their best points."""
    stuck_R = state.rises < _RISES * period
    still_R = ~state.halved & (state.checked_loss >= state.best_loss)
    state.halved = stuck_R | still_R
    state.checked_loss = state.best_loss.clone()
    state.rises = torch.zeros_like(state.rises)
    state.step = torch.where(state.halved, state.step / 2, state.step)
    _back(state, state.halved)


def _look_l1(state: _State, epsilon: float) -> None:
    """The share that moves follows the best point's; the step shrinks while that share stays, else begins anew."""
    moved_R = ((state.best - state.x).flatten(1).abs() > 1e-6).float().mean(1)
    share_R = (moved_R / _L1_SHRINK).clamp(min=1 / state.x[0].numel())
    same_R = share_R / state.share >= _L1_SAME
    state.step = torch.where(same_R, (state.step / _L1_SHRINK).clamp(min=epsilon / 10), epsilon)
    state.share = share_R
    _back(state, ~same_R)


def _back(state: _State, rows: Tensor) -> None:
    chosen = column(rows, state.points)
    state.points = torch.where(chosen, state.best, state.points)
    state.gradient = torch.where(chosen, state.best_gradient, state.gradient)
    state.loss = torch.where(rows, state.best_loss, state.loss)


def _sparse(state: _State, problem: Problem) -> Tensor:
    """The signs of each row's largest gradients, as many as its share says, scaled to length 1 in L1."""
    room = problem.box.room(state.points, state.gradient)
    size_RD = (state.gradient.abs() * (room > 0)).flatten(1)
    rank_RD = size_RD.argsort(1, descending=True).argsort(1)
    moved_RD = rank_RD < (state.share[:, None] * size_RD.shape[1]).round().clamp(min=1)
    direction_RD = state.gradient.flatten(1).sign() * moved_RD
    return (direction_RD / direction_RD.abs().sum(1, keepdim=True).clamp(min=1)).view_as(state.x)
