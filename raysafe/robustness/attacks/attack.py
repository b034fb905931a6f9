"""What every attack shares: the problem it searches, what its passes cost, and the check of what it found.

`attack(model, x, y, norm=…, epsilon=…)` gives an AttackResult. The model is any callable from (B, …) to logits (B, K).
A module runs in eval mode and gets the modes back that it was found in. A sample that the model already gets wrong is a
success at distance 0 after one forward pass; one that is broken is left alone from then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysafe.errors import ConfigError, DataError, ModelError
from raysafe.robustness.attacks.balls import Box, Norm, distance, inside

Model = Callable[[Tensor], Tensor]
"""Inputs (B, …) to logits (B, K), such as a torch module."""


@dataclass(frozen=True)
class AttackResult:
    """One entry a sample. Where `success` is False, `adversarial` is the attack's last try, or x itself."""

    adversarial: Tensor
    """(B, …), in the box and the ball."""
    success: Tensor
    """(B,) bool: adversarial was predicted again, and is not y; or is the target, where there is one."""
    distance: Tensor
    """(B,) float64, of adversarial from x in the attack's norm."""
    queries: Tensor
    """(B,) int64: forward and backward passes that the sample took part in."""


class Problem:
    """The samples under attack: their goal, what was found, and the passes spent on each.

    Searches take and give `rows_R`, int64 places among the B samples, beside points (R, …) of those rows.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y_B: Tensor,
        norm: Norm,
        epsilon: float,
        target_B: Tensor | None,
        sample_B: Tensor | None,
        box: Box,
    ) -> None:
        _check(x, y_B, epsilon, target_B, sample_B, box)
        self.model, self.x, self.y_B = model, x, y_B
        self.norm: Norm = norm
        self.epsilon, self.box, self.target_B = epsilon, box, target_B
        self.sample_B = torch.arange(len(x), device=x.device) if sample_B is None else sample_B.to(x.device)
        self.found_B = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.claimed_B = torch.zeros_like(self.found_B)
        """Whose kept point has yet to be predicted."""
        self.queries_B = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        self.adversarial = x.clone()
        self.clean_BK = x.new_zeros(0)
        """Logits of x itself, once `attack` has them."""
        self.cost = int(getattr(model, "passes", 1))
        """Passes of the underlying model in one of `model`."""

    def unbroken(self) -> Tensor:
        """Rows that are still predicted as they shouldn't be for the attack; claims are predicted first."""
        rows_R = self.claimed_B.nonzero().squeeze(1)
        if len(rows_R):
            points = self.adversarial[rows_R]
            self.keep(points, rows_R, self.broken(self.logits(points, rows_R), rows_R))
        return (~self.found_B).nonzero().squeeze(1)

    def logits(self, points: Tensor, rows_R: Tensor) -> Tensor:
        """(R, K), one forward pass each."""
        with torch.no_grad():
            logits_RK = self.model(points)
        self.queries_B[rows_R] += self.cost
        return logits_RK

    def gradient(
        self, points: Tensor, rows_R: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (R, K), loss(logits, rows) (R,), and its gradient at the points; a forward and a backward pass."""
        points = points.detach().requires_grad_(True)
        with torch.enable_grad():
            logits_RK = self.model(points)
            loss_R = loss(logits_RK, rows_R)
            (gradient,) = torch.autograd.grad(loss_R.sum(), points)
        self.queries_B[rows_R] += 2 * self.cost
        return logits_RK.detach(), loss_R.detach(), gradient

    def broken(self, logits_RK: Tensor, rows_R: Tensor) -> Tensor:
        """(R,) bool: whether the goal is met."""
        predicted_R = logits_RK.argmax(1)
        if self.target_B is None:
            return predicted_R != self.y_B[rows_R]
        return predicted_R == self.target_B[rows_R]

    def targets(self, rows_R: Tensor) -> Tensor | None:
        return None if self.target_B is None else self.target_B[rows_R]

    def others(self, rows_R: Tensor) -> Tensor:
        """(R, K - 1): the classes but y, the likeliest at x itself first."""
        logits_RK = self.clean_BK[rows_R].scatter(1, self.y_B[rows_R][:, None], torch.inf)
        return logits_RK.argsort(dim=1, descending=True, stable=True)[:, 1:]

    def keep(self, points: Tensor, rows_R: Tensor, found_R: Tensor | bool) -> None:
        """The points are what is known of these rows; found_R: and reach the goal."""
        self.adversarial[rows_R] = points.detach()
        self.found_B[rows_R] = found_R  # type: ignore[assignment]
        self.claimed_B[rows_R] = False

    def claim(self, points: Tensor, rows_R: Tensor) -> None:
        """The points may reach the goal: whether they do is predicted where it is needed, and once."""
        self.keep(points, rows_R, False)
        self.claimed_B[rows_R] = True

    def need_finite_epsilon(self, name: str) -> None:
        if not math.isfinite(self.epsilon):
            raise ConfigError(f"{name} searches a ball of radius epsilon, which must be finite, got {self.epsilon:g}")


Search = Callable[[Problem], None]
"""Looks for adversarial points of the rows not yet broken, and keeps what it finds in the problem."""


def attack(
    search: Search,
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    epsilon: float,
    target: Tensor | None = None,
    sample: Tensor | None = None,
    box: Box | None = None,
) -> AttackResult:
    """Run a search on the samples that the model gets right, and predict again what it claims.

    x: (B, …) float, in the box; y: (B,) int64; target: (B,) classes to be reached, in place of any but y.
    sample: (B,) the samples' numbers in the whole data, by which random draws are theirs whatever the batch.
    Raises DataError or ConfigError for inputs that don't fit, ModelError for logits that aren't (B, K) and finite.
    """
    problem = Problem(model, x, y, norm, epsilon, target, sample, box or Box())
    with evaluating(model):
        everything = torch.arange(len(x), device=x.device)
        clean_BK = problem.logits(x, everything)
        _check_logits(clean_BK, len(x))
        problem.clean_BK = clean_BK
        already_B = problem.broken(clean_BK, everything)
        problem.keep(x, everything, already_B)
        if epsilon > 0 and not already_B.all():
            search(problem)
        return _settle(problem, already_B)


def _settle(problem: Problem, already_B: Tensor) -> AttackResult:
    """Bring what was found within the ball to the last bit, and predict it again."""
    x, norm = problem.x, problem.norm
    adversarial = inside(problem.adversarial, x, norm, problem.epsilon, problem.box)
    rows_R = ((problem.found_B | problem.claimed_B) & ~already_B).nonzero().squeeze(1)
    success_B = already_B.clone()
    if len(rows_R):
        logits_RK = problem.logits(adversarial[rows_R], rows_R)
        _check_logits(logits_RK, len(rows_R))
        success_B[rows_R] = problem.broken(logits_RK, rows_R)
    return AttackResult(adversarial, success_B, distance(adversarial, x, norm), problem.queries_B)


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Every module in eval mode inside, and in the mode that it was found in afterwards."""
    if not isinstance(model, nn.Module):
        yield
        return
    trained = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in trained:
            part.training = True


def _check(x: Tensor, y_B: Tensor, epsilon: float, target_B: Tensor | None, sample_B: Tensor | None, box: Box) -> None:
    if x.dim() < 2 or not x.is_floating_point() or len(x) == 0:
        raise DataError(f"x must be floats of shape (B, …) with B at least 1, found {x.dtype} of {tuple(x.shape)}")
    for name, value_B in (("y", y_B), ("target", target_B), ("sample", sample_B)):
        if value_B is not None and (value_B.dtype != torch.int64 or value_B.shape != (len(x),)):
            found = f"{value_B.dtype} of {tuple(value_B.shape)}"
            raise DataError(f"{name} must be int64 of shape ({len(x)},), one for each row of x; found {found}")
    if not epsilon >= 0:
        raise ConfigError(f"epsilon must be 0 or above, got {epsilon:g}")
    low, high = box.edges(x)
    outside_B = ~((x >= low) & (x <= high)).flatten(1).all(1)
    if outside_B.any():
        row = int(outside_B.nonzero()[0])
        raise DataError(
            f"x must lie in the box of the inputs, and row {row} doesn't (its values are from "
            f"{float(x[row].min()):g} to {float(x[row].max()):g}): scale x, or give the box that it lives in"
        )


def _check_logits(logits_BK: Tensor, size: int) -> None:
    if logits_BK.dim() != 2 or logits_BK.shape[0] != size or logits_BK.shape[1] < 2:
        shape = tuple(logits_BK.shape)
        raise ModelError(f"the model must give logits (B, K) of two or more classes; for {size} inputs it gave {shape}")
    if not torch.isfinite(logits_BK).all():
        raise ModelError("the model's logits are not finite on these inputs: no attack can judge it")
