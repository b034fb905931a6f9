"""The robustness of a classifier, sample by sample: every attack, a curve over epsilon, and what tells masking.

Samples are dealt to an actor pool in chunks that don't depend on the number of actors, and each sample's random draws
are its own, so that 1, 2 and 4 actors find the same. Finished chunks are kept by content: a second start repeats none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from raysafe.config import Config
from raysafe.robustness.attacks.settings import FGSM, PGD, AnyAttack, Attack

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

    from raysafe.data.labelled import Labelled
    from raysafe.runtime.cluster import Needs

Radius = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SURVIVED = float("inf")
"""The smallest epsilon that breaks a sample which none of the curve's does."""
_STRONG = PGD(steps=40)
_LARGE = {"linf": 1.0, "l2": 0.5, "l1": 0.25}
"""A ball that reaches any image or nearly so, as a share of the box's diameter in the norm."""
NOISE_DRAWS = 50


class RobustnessSettings(Config):
    """What a model is attacked with, and how the result is checked."""

    norm: Literal["linf", "l2", "l1"] = Field(default="linf", description="Norm of the ball of changed inputs.")
    epsilon: Radius = Field(default=0.1, description="Radius at which each attack is reported by itself.")
    epsilons: tuple[Radius, ...] = Field(
        default=(0.025, 0.05, 0.1, 0.15, 0.2), description="Radii of the curve; epsilon is always one of them."
    )
    attacks: tuple[AnyAttack, ...] = Field(
        default=(FGSM(), PGD(steps=40, restarts=2), PGD(steps=40, loss="margin")),
        min_length=1,
        description="Attacks, each by its name and settings; a sample is robust where none breaks it.",
    )
    hygiene: int = Field(
        default=128, ge=0, description="Samples on which the evaluation itself is checked for gradient masking."
    )
    examples: int = Field(default=8, ge=0, le=64, description="Broken samples that the report shows, worst first.")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"attacks holds the same one twice: {', '.join(self.names)}")
        return self

    @property
    def curve(self) -> tuple[float, ...]:
        """All radii, ascending."""
        return tuple(sorted({*self.epsilons, self.epsilon}))

    @property
    def names(self) -> tuple[str, ...]:
        """What each attack is called: its name, with a number from the second of a kind on."""
        kinds = [attack.attack for attack in self.attacks]
        return tuple(
            kind if kinds[:index].count(kind) == 0 else f"{kind}-{kinds[: index + 1].count(kind)}"
            for index, kind in enumerate(kinds)
        )


def large_epsilon(norm: str, width: int) -> float:
    """A radius at which any classifier of inputs in [0, 1] must fall, width: values of one input."""
    diameter = {"linf": 1.0, "l2": width**0.5, "l1": float(width)}[norm]
    return _LARGE[norm] * diameter


def evaluate_robustness(
    model: str,
    labelled: Labelled,
    settings: RobustnessSettings,
    *,
    key: str,
    needs: Needs,
    surrogate: str | None = None,
    address: str | None = None,
) -> pa.Table:
    """One row a sample (see `measure`), in the order of the data.

    model, surrogate: classifier folders; key: what identifies their weights, under which finished chunks are kept.
    """
    import numpy as np
    import pyarrow as pa

    from raysafe.data.cache import TableCache, cache_key
    from raysafe.runtime.pool import parallel_map

    class Kept:
        """Chunks by their content, the models' and the settings."""

        def __init__(self) -> None:
            self.cache, self.parts = TableCache(), ("robustness", key, settings.to_yaml())

        def find(self, chunk: pa.Table) -> pa.Table | None:
            return self.cache.find(cache_key(chunk, *self.parts))

        def keep(self, chunk: pa.Table, result: pa.Table) -> None:
            self.cache.keep(cache_key(chunk, *self.parts), result)

    numbers = np.arange(len(labelled))
    flat_ND = labelled.x.reshape(len(labelled), -1)
    samples = pa.table(
        {
            "sample": numbers,
            # spread over the data, which may be sorted by class
            "checked": numbers % max(1, len(labelled) // max(1, settings.hygiene)) == (0 if settings.hygiene else -1),
            "label": labelled.y,
            "x": pa.FixedSizeListArray.from_arrays(pa.array(flat_ND.reshape(-1)), flat_ND.shape[1]),
        }
    )
    make = partial(_measurer, model, surrogate, settings, labelled.x.shape[1:], needs.gpus > 0)
    return parallel_map(make, samples, needs=needs, description="robustness", address=address, keeper=Kept())


def _measurer(
    folder: str, surrogate: str | None, settings: RobustnessSettings, shape: tuple[int, ...], gpu: bool
) -> Callable[[pa.Table], pa.Table]:
    """What an actor makes once: the models, loaded."""
    import numpy as np
    import pyarrow as pa
    import torch

    from raysafe.models.classifier import load_classifier

    device = torch.device("cuda" if gpu else "cpu")
    model = load_classifier(folder).to(device)
    other = load_classifier(surrogate).to(device) if surrogate else None

    def function(rows: pa.Table) -> pa.Table:
        flat = np.asarray(rows["x"].combine_chunks().flatten(), dtype=np.float32)
        x = torch.tensor(flat.reshape(rows.num_rows, *shape), device=device)
        y_B, sample_B = (torch.tensor(rows[name].to_numpy(), device=device) for name in ("label", "sample"))
        checked_B = torch.tensor(rows["checked"].to_numpy(), device=device)
        return pa.table(measure(model, x, y_B, sample_B, settings, checked_B, other))

    return function


def measure(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    sample_B: Tensor,
    settings: RobustnessSettings,
    checked_B: Tensor,
    surrogate: nn.Module | None = None,
) -> dict[str, list[Any]]:
    """Columns, one entry a sample.

    predicted and confidence without an attack; `broken/NAME`, `distance/NAME`, `queries/NAME` of each attack at epsilon
    by itself; broken: by any of them or at a smaller radius of the curve; smallest: the first radius of the curve at
    which any attack succeeds (0 where the prediction is wrong anyway); adversarial: what broke it, and its prediction;
    `check/…` of the samples in checked_B, for hygiene.

    A sample that is broken at one radius is left alone at the larger ones: what was found lies in their balls too.
    """
    import torch

    with torch.no_grad():
        probability_BK = model(x).softmax(dim=1)
    confidence_B, predicted_B = probability_BK.max(dim=1)
    columns: dict[str, Tensor] = {
        "sample": sample_B,
        "label": y_B,
        "predicted": predicted_B,
        "confidence": confidence_B,
    }
    right_B = predicted_B == y_B
    # float64: 0.15 in float32 lies above 0.15, and would count as unbroken there
    smallest_B = torch.where(right_B, SURVIVED, 0.0).double()
    adversarial = x.clone()
    for epsilon in settings.curve:
        whole = epsilon == settings.epsilon
        for name, attack in zip(settings.names, settings.attacks, strict=True):
            # at the radius that is reported, each attack tries every sample that is right
            rows_R = (right_B if whole else smallest_B == SURVIVED).nonzero().squeeze(1)
            if whole:
                columns |= {
                    f"broken/{name}": ~right_B,
                    f"distance/{name}": torch.zeros(len(x), dtype=torch.float64),
                    f"queries/{name}": torch.zeros(len(x), dtype=torch.int64),
                }
            if not len(rows_R):
                continue
            found = attack(model, x[rows_R], y_B[rows_R], norm=settings.norm, epsilon=epsilon, sample=sample_B[rows_R])
            if whole:
                for what, value_R in (
                    ("broken", found.success),
                    ("distance", found.distance),
                    ("queries", found.queries),
                ):
                    columns[f"{what}/{name}"][rows_R] = value_R
            fresh_R = found.success & (smallest_B[rows_R] == SURVIVED)
            smallest_B[rows_R[fresh_R]] = epsilon
            adversarial[rows_R[fresh_R]] = found.adversarial[fresh_R]
    with torch.no_grad():
        changed_BK = model(adversarial).softmax(dim=1)
    columns["smallest"] = smallest_B
    columns["broken"] = smallest_B <= settings.epsilon
    columns["adversarial_confidence"], columns["adversarial_prediction"] = changed_BK.max(dim=1)
    columns |= _checks(model, x, y_B, sample_B, settings, checked_B, surrogate)
    told: dict[str, list[Any]] = {name: values.cpu().tolist() for name, values in columns.items()}
    told["adversarial"] = adversarial.flatten(1).cpu().tolist()
    return told


def _checks(
    model: nn.Module,
    x: Tensor,
    y_B: Tensor,
    sample_B: Tensor,
    settings: RobustnessSettings,
    checked_B: Tensor,
    surrogate: nn.Module | None,
) -> dict[str, Tensor]:
    """For the samples that count for hygiene, whether each of its attacks breaks them (see hygiene.py)."""
    import torch

    norm, curve = settings.norm, settings.curve
    strong: dict[str, tuple[Attack, float]] = {
        "zero": (_STRONG, 0.0),
        "one_step": (FGSM(), settings.epsilon),
        "more_steps": (PGD(steps=4 * _STRONG.steps), settings.epsilon),
        "large": (_STRONG, large_epsilon(norm, x[0].numel())),
        **{f"at {epsilon:g}": (_STRONG, epsilon) for epsilon in curve},
    }
    names = ["checked", *(f"check/{name}" for name in strong), "check/noise", "check/flat"]
    names += ["check/transfer"] if surrogate is not None else []
    columns = {name: torch.zeros(len(x), dtype=torch.bool, device=x.device) for name in names}
    columns["checked"] = checked_B
    rows_R = checked_B.nonzero().squeeze(1)
    if not len(rows_R):
        return columns
    inputs, y_R, sample_R = x[rows_R], y_B[rows_R], sample_B[rows_R]
    for name, (attack, epsilon) in strong.items():
        found = attack(model, inputs, y_R, norm=norm, epsilon=epsilon, sample=sample_R)
        columns[f"check/{name}"][rows_R] = found.success
    columns["check/noise"][rows_R] = _noise(model, inputs, y_R, sample_R, settings)
    columns["check/flat"][rows_R] = flat(model, inputs, y_R)
    if surrogate is not None:
        found = _STRONG(surrogate, inputs, y_R, norm=norm, epsilon=settings.epsilon, sample=sample_R)
        with torch.no_grad():
            columns["check/transfer"][rows_R] = model(found.adversarial).argmax(dim=1) != y_R
    return columns


def flat(model: nn.Module, x: Tensor, y_B: Tensor) -> Tensor:
    """(B,) whether the loss has no slope at all at a sample: its gradient is exactly zero."""
    import torch

    points = x.detach().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model(points), y_B, reduction="sum")
    if not loss.requires_grad:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    (gradient,) = torch.autograd.grad(loss, points, allow_unused=True)
    if gradient is None:
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    return (gradient == 0).flatten(1).all(dim=1)


def _noise(model: nn.Module, x: Tensor, y_B: Tensor, sample_B: Tensor, settings: RobustnessSettings) -> Tensor:
    """(B,) whether any of some random points of the ball is predicted wrongly: an attack that sees no gradient."""
    import torch

    from raysafe.robustness.attacks.balls import Box, random_start

    broken_B = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for draw in range(NOISE_DRAWS):
        points = random_start(x, settings.norm, settings.epsilon, Box(), 1, sample_B, draw)
        with torch.no_grad():
            broken_B |= model(points).argmax(dim=1) != y_B
    return broken_B
