"""The weights of a linear reward that explain demonstrations: minimising sum(starts * v) - sum(visits * r).

L-BFGS (Byrd et al. 1995) comes near; it stops where the objective's digits end, half of the weights' digits. Newton's
method with conjugate gradients and exact second derivatives goes on from there by the gradient alone. Weights are
scaled by the features' expected squares, since a state that is rarely visited moves the objective little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from scipy import optimize

from raysafe.config import Config
from raysafe.irl.demonstrations import Demonstrated
from raysafe.irl.features import Features
from raysafe.irl.soft import SoftPlan, soft_plan
from raysafe.rl.mdp import Floats, TabularMDP
from raysafe.runtime.bar import Bar

LEAST = 1e-12
"""Of features' expected sizes, relative to the largest: one that is smaller is treated as if it were that large."""


class DualSettings(Config):
    """How the weights are found."""

    l2: float = Field(
        default=0.1,
        ge=0,
        allow_inf_nan=False,
        description="Precision of the weights' Gaussian prior: l2 / 2 times their squares counts against the "
        "log-likelihood of all trajectories together, and nothing against a population's.",
    )
    tolerance: float = Field(
        default=1e-8,
        gt=0,
        description="Largest difference of expected features, relative to their size, that counts as converged.",
    )
    iterations: int = Field(default=1000, ge=1, description="Most iterations of L-BFGS.")
    newton_steps: int = Field(default=10, ge=0, description="Most steps of Newton's method after it.")


@dataclass(frozen=True)
class DualReport:
    """How the search ended.

    gap: the largest difference between the policy's expected features, with the prior's share, and the demonstrated
    ones, relative to the expected size of the feature; it is 0 at the optimum.
    """

    converged: bool
    gap: float
    objective: float
    iterations: int
    newton_steps: int
    plans: int

    def __str__(self) -> str:
        found = "converged" if self.converged else "NOT converged: raise iterations, l2 or tolerance"
        return (
            f"{found}; features differ by {self.gap:.1e} of their size at most after {self.iterations} L-BFGS "
            f"iterations and {self.newton_steps} Newton steps ({self.plans} plans); objective {self.objective:.6g}"
        )


class _Dual:
    """The objective of one problem; plans start from the last one's."""

    def __init__(
        self,
        mdp: TabularMDP,
        features: Features,
        gamma: float,
        horizon: int | None,
        shown: Demonstrated,
        settings: DualSettings,
    ) -> None:
        self.mdp, self.features, self.gamma, self.horizon = mdp, features, gamma, horizon
        self.starts, self.target_F = shown.starts, features.expected(shown.visits_SA)
        self.l2 = settings.l2 / shown.number
        self.plans, self._near = 0, None
        first = self.plan(np.zeros(features.count))
        visits_SA = (np.abs(first.visits(shown.starts)) + shown.visits_SA) / 2
        squares_F = _floored(features.mapped(np.square).expected(visits_SA) + self.l2)
        self.scale_F = 1 / np.sqrt(squares_F)
        self.size_F = _floored(features.mapped(np.abs).expected(visits_SA))

    def plan(self, weights_F: Floats) -> SoftPlan:
        self.plans += 1
        self._near = soft_plan(self.mdp, self.features.rewards(weights_F), self.gamma, self.horizon, self._near)
        return self._near

    def value(self, weights_F: Floats, plan: SoftPlan) -> float:
        could_have = float((self.starts * plan.values).sum())
        return could_have - float(weights_F @ self.target_F) + self.l2 / 2 * float(weights_F @ weights_F)

    def gradient(self, weights_F: Floats, plan: SoftPlan) -> Floats:
        return self.features.expected(plan.visits(self.starts)) - self.target_F + self.l2 * weights_F

    def gap(self, gradient_F: Floats) -> float:
        return float((np.abs(gradient_F) / self.size_F).max())

    def curvature(self, plan: SoftPlan, direction_F: Floats) -> Floats:
        """The Hessian times a direction."""
        change_SA = plan.visits_change(self.starts, self.features.rewards(direction_F))
        return self.features.expected(change_SA) + self.l2 * direction_F


def minimise(
    mdp: TabularMDP,
    features: Features,
    gamma: float,
    horizon: int | None,
    shown: Demonstrated,
    settings: DualSettings,
) -> tuple[Floats, SoftPlan, DualReport]:
    """weights_F, the soft plan under them, and how the search ended."""
    dual = _Dual(mdp, features, gamma, horizon, shown, settings)
    with Bar("maximum entropy", total=settings.iterations + settings.newton_steps, unit="iteration") as bar:
        weights_F, iterations = _lbfgs(dual, settings, bar)
        plan = dual.plan(weights_F)
        gradient_F, steps = dual.gradient(weights_F, plan), 0
        while dual.gap(gradient_F) > settings.tolerance and steps < settings.newton_steps:
            better = _newton(dual, weights_F, plan, gradient_F)
            if better is None:
                break
            (weights_F, plan, gradient_F), steps = better, steps + 1
            bar.show(iterations + steps, f"features differ by {dual.gap(gradient_F):.1e}")
        gap = dual.gap(gradient_F)
        bar.show(settings.iterations + settings.newton_steps, f"features differ by {gap:.1e}")
    value = dual.value(weights_F, plan)
    return weights_F, plan, DualReport(gap <= settings.tolerance, gap, value, iterations, steps, dual.plans)


def _lbfgs(dual: _Dual, settings: DualSettings, bar: Bar) -> tuple[Floats, int]:
    """weights_F, and the number of iterations."""
    gaps: list[float] = []

    def scaled(scaled_F: Floats) -> tuple[float, Floats]:
        weights_F = scaled_F * dual.scale_F
        plan = dual.plan(weights_F)
        gradient_F = dual.gradient(weights_F, plan)
        gaps.append(dual.gap(gradient_F))
        return dual.value(weights_F, plan), gradient_F * dual.scale_F

    iterations = 0

    def shown(_: Floats) -> None:
        nonlocal iterations
        iterations += 1
        bar.show(iterations, f"features differ by {gaps[-1]:.1e}")

    found = optimize.minimize(
        scaled,
        np.zeros(dual.features.count),
        jac=True,
        method="L-BFGS-B",
        callback=shown,
        options={
            "maxiter": settings.iterations,
            "maxfun": 20 * settings.iterations,
            "maxcor": 20,
            "ftol": 1e-14,
            "gtol": 0.0,
        },
    )
    return found.x * dual.scale_F, iterations


def _newton(
    dual: _Dual, weights_F: Floats, plan: SoftPlan, gradient_F: Floats
) -> tuple[Floats, SoftPlan, Floats] | None:
    """Weights, plan and gradient after a step that makes the scaled gradient smaller; None where none does."""
    scale_F = dual.scale_F
    step_F = scale_F * _solve(lambda way_F: scale_F * dual.curvature(plan, scale_F * way_F), -scale_F * gradient_F)
    before = np.linalg.norm(scale_F * gradient_F)
    for part in (1.0, 0.5, 0.25, 0.125):
        next_F = weights_F + part * step_F
        next_plan = dual.plan(next_F)
        next_gradient_F = dual.gradient(next_F, next_plan)
        if np.linalg.norm(scale_F * next_gradient_F) < before:
            return next_F, next_plan, next_gradient_F
    return None


def _solve(times: Callable[[Floats], Floats], right_F: Floats, accuracy: float = 1e-3, most: int = 300) -> Floats:
    """Conjugate gradients, which stop early where the curvature isn't positive."""
    found_F, rest_F = np.zeros_like(right_F), right_F.copy()
    way_F, rest = rest_F.copy(), float(right_F @ right_F)
    enough = accuracy**2 * rest
    for _ in range(most):
        if rest <= enough:
            break
        bent_F = times(way_F)
        curved = float(way_F @ bent_F)
        if curved <= 0:
            break
        found_F += rest / curved * way_F
        rest_F -= rest / curved * bent_F
        rest, before = float(rest_F @ rest_F), rest
        way_F = rest_F + rest / before * way_F
    return found_F


def _floored(sizes_F: Floats) -> Floats:
    top = float(sizes_F.max())
    return np.maximum(sizes_F, LEAST * top if top > 0 else 1.0)
