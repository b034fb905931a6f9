"""certify(): which inputs keep their label under every perturbation of at most epsilon, and how far.

    method      norm   what it is
    ibp         linf   interval bounds (Gowal et al. 2018)
    crown-ibp   linf   the better of IBP and of lines in its boxes (Zhang et al. 2020)
    crown       linf   the better of IBP and of lines in boxes that are tightened by lines (Zhang et al. 2018)
    lipschitz   l2     margins by Lipschitz bounds, global ones or of the ball (lipschitz.py)
    smoothing   l2     the vote under Gaussian noise (Cohen et al. 2019), right with probability 1 - alpha each

The first four are proofs about the model itself, the last about its smoothed classifier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from raysafe.errors import ConfigError, DataError, ModelError
from raysafe.models.mlp import Smoothing
from raysafe.robustness.certify.graph import Graph
from raysafe.robustness.certify.interval import Interval, box
from raysafe.robustness.certify.lipschitz import margin_lipschitz
from raysafe.robustness.certify.margins import interval_margins, linear_margins, tightened_entries
from raysafe.robustness.certify.smoothing import smooth

Method = Literal["ibp", "crown-ibp", "crown", "lipschitz", "smoothing"]
METHODS: tuple[Method, ...] = get_args(Method)
Clip = tuple[float, float] | None
Margins = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Inputs (B, …), labels (B,) and epsilons (B,) to lower bounds (B, K) on logit y minus logit k."""

NORMS: dict[str, Literal["linf", "l2"]] = {
    "ibp": "linf",
    "crown-ibp": "linf",
    "crown": "linf",
    "lipschitz": "l2",
    "smoothing": "l2",
}
"""Of the ball that epsilon and radius measure."""


@dataclass(frozen=True)
class Certificate:
    """One entry an input."""

    certified: Tensor
    """(B,) bool: no perturbation of at most epsilon makes the model predict anything but y."""
    lower_bounds: Tensor
    """(B, K): of logit y minus logit k within epsilon, 0 at y. By smoothing (B,): of the vote's probability."""
    radius: Tensor
    """(B,): y is certain within it, 0 where it isn't even at the input. By smoothing of the vote's own ball."""
    predicted: Tensor
    """(B,) int64: the model's label; by smoothing the vote's, -1 where it abstains."""


def certify(
    model: nn.Module,
    x_BCHW: Tensor,
    y_B: Tensor,
    epsilon: float,
    method: Method,
    *,
    clip: Clip = (0.0, 1.0),
    search_radius: float | None = None,
    batch: int = 100,
    smoothing: Smoothing | None = None,
    seed: int = 0,
    first: int = 0,
) -> Certificate:
    """Certificates of inputs (B, …), images or vectors, in eval mode; the modes that are found are restored.

    clip: the range that inputs have, which an L-inf ball is cut to; None for inputs without one.
    search_radius: where given, `radius` is found by bisection up to it, to a thousandth of it; else it is epsilon
        where that is certified and 0 elsewhere. Smoothing and it have their radius anyway.
    smoothing: its noise and draws; input number i draws from the seed and first + i, however inputs are shared out.
    Raises ConfigError, DataError, or ModelError for a model that has an operator without a bound.
    """
    _check(x_BCHW, y_B, epsilon, method, batch, search_radius, smoothing)
    if not isinstance(model, nn.Module):
        raise ModelError(f"certificates are of torch modules, got a {type(model).__name__}")
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        if method == "smoothing":
            assert smoothing
            votes = smooth(model, x_BCHW, smoothing, seed=seed, first=first, batch=max(batch, 256))
            certified_B = (votes.label_B == y_B.cpu()) & (votes.radius_B >= epsilon) & (votes.label_B >= 0)
            return Certificate(certified_B, votes.p_low_B, votes.radius_B, votes.label_B)
        margins = _margins(Graph(model), method, clip)
        parts = [
            _prove(model, margins, x, y, epsilon, search_radius)
            for x, y in zip(x_BCHW.split(batch), y_B.split(batch), strict=True)
        ]
    finally:
        for module in training:
            module.training = True
    return Certificate(*(torch.cat(part) for part in zip(*parts, strict=True)))


@torch.no_grad()
def _prove(
    model: nn.Module, margins: Margins, x: Tensor, y_B: Tensor, epsilon: float, search_radius: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Certified, lower bounds, radius and predicted of one batch."""
    logits_BK = model(x)
    found_BK = margins(x, y_B, x.new_full((len(x),), epsilon))
    clean_BK = logits_BK.gather(1, y_B[:, None]) - logits_BK
    if not (clean_BK >= found_BK).all():
        raise ModelError(
            "the model's logits lie outside their own bounds: its forward isn't the same each time, or its weights or "
            "inputs aren't finite"
        )
    predicted_B = logits_BK.argmax(1)
    certified_B = _positive(found_BK, y_B)
    radius_B = certified_B.to(x.dtype) * epsilon
    if search_radius is not None:
        low_B, high_B = radius_B, torch.full_like(radius_B, search_radius)
        for _ in range(10):
            middle_B = (low_B + high_B) / 2
            held_B = _positive(margins(x, y_B, middle_B), y_B)
            low_B, high_B = torch.where(held_B, middle_B, low_B), torch.where(held_B, high_B, middle_B)
        radius_B = torch.maximum(low_B, radius_B)
    return certified_B, found_BK, radius_B, predicted_B


def _margins(graph: Graph, method: Method, clip: Clip) -> Margins:
    def intervals(inputs: Interval, y_B: Tensor) -> Tensor:
        return interval_margins(graph.entries(inputs), y_B)

    def by_intervals(x: Tensor, y_B: Tensor, epsilon_B: Tensor) -> Tensor:
        return intervals(box(x, epsilon_B, clip), y_B)

    def by_lines(x: Tensor, y_B: Tensor, epsilon_B: Tensor) -> Tensor:
        inputs = box(x, epsilon_B, clip)
        entries = graph.entries(inputs)
        plain_BK = interval_margins(entries, y_B)
        if method == "crown":
            entries = tightened_entries(graph, inputs)
            plain_BK = torch.maximum(plain_BK, interval_margins(entries, y_B))
        return torch.maximum(plain_BK, linear_margins(entries, y_B))

    def by_lipschitz(x: Tensor, y_B: Tensor, epsilon_B: Tensor) -> Tensor:
        """At the input itself, less the steepest way down; intervals of no width know of the rounding."""
        point = graph.entries(box(x, 0.0, clip))
        here_BK = interval_margins(point, y_B)
        logits_BK = point[-1].output.centre
        rounded_BK = logits_BK.gather(1, y_B[:, None]) - logits_BK - here_BK
        near = graph.entries(box(x, epsilon_B, clip))
        steep_BK = torch.minimum(margin_lipschitz(near, y_B, local=False), margin_lipschitz(near, y_B, local=True))
        return (here_BK - rounded_BK - epsilon_B.unsqueeze(1) * steep_BK).to(x.dtype)

    return {"ibp": by_intervals, "crown-ibp": by_lines, "crown": by_lines, "lipschitz": by_lipschitz}[method]


def _positive(margins_BK: Tensor, y_B: Tensor) -> Tensor:
    """Whether y is above every other class."""
    own_BK = torch.nn.functional.one_hot(y_B, margins_BK.shape[1]).bool()
    return ((margins_BK > 0) | own_BK).all(1)


def _check(
    x: Tensor,
    y_B: Tensor,
    epsilon: float,
    method: str,
    batch: int,
    search_radius: float | None,
    smoothing: Smoothing | None,
) -> None:
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if not (math.isfinite(epsilon) and epsilon >= 0) or batch < 1:
        raise ConfigError(f"epsilon must be at least 0 and batch at least 1, got {epsilon:g} and {batch}")
    if search_radius is not None and not search_radius > epsilon:
        raise ConfigError(f"search_radius must be above epsilon, got {search_radius:g} beside {epsilon:g}")
    if (method == "smoothing") != (smoothing is not None):
        raise ConfigError(
            "smoothing needs its settings: smoothing=Smoothing(sigma=…)"
            if smoothing is None
            else f"smoothing's settings have no effect on {method}: leave them out"
        )
    if x.ndim < 2 or len(x) == 0 or not x.is_floating_point() or not torch.isfinite(x).all():
        raise DataError(f"inputs must be one or more rows of finite numbers, (B, …), found {x.dtype} {tuple(x.shape)}")
    if y_B.shape != x.shape[:1] or y_B.is_floating_point():
        raise DataError(f"labels must be one whole number for each of {len(x)} inputs, found shape {tuple(y_B.shape)}")
