"""A trained policy: a small network with its normalisation, how actions come of its outputs, and where it comes from.

    config.json, model.safetensors   the network (models/mlp.py)
    policy.json                      the fields of PolicyCard
    policy.onnx                      the same network for other runtimes, where it was exported

The network reads observations as flat vectors: a Box row by row, a Discrete one as a one-hot vector.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from raysafe.config import Config
from raysafe.errors import ConfigError, ModelError
from raysafe.models.mlp import (
    FORBIDDEN,
    ClassifierHead,
    DiscreteHead,
    GaussianHead,
    Mlp,
    ScalarHead,
    load_mlp,
    save_mlp,
)

CARD = "policy.json"
LOG_STD_LIMIT = 20.0
"""Logarithms of standard deviations are kept within it, as RLlib's heads do."""
Floats = NDArray[np.float32]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class BoxSpace(Config):
    """Vectors within bounds; a bound of null is none."""

    kind: Literal["box"] = "box"
    shape: tuple[int, ...] = Field(description="Of one observation or action, before it is made flat.")
    low: tuple[Finite | None, ...] = Field(description="Least value of each number, flat.")
    high: tuple[Finite | None, ...] = Field(description="Greatest value of each number, flat.")

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    def fault(self, values: Sequence[float]) -> str | None:
        """What is wrong with a flat vector of this width, as a clause; None where it is within the bounds."""
        for place, (value, low, high) in enumerate(zip(values, self.low, self.high, strict=True)):
            # of observations that were float32 once
            slack = 1e-6 * max(1.0, abs(value))
            if (low is not None and value < low - slack) or (high is not None and value > high + slack):
                bounds = f"{'no bound' if low is None else f'{low:g}'} to {'no bound' if high is None else f'{high:g}'}"
                return f"number {place} is {value:g}, outside {bounds}"
        return None


class DiscreteSpace(Config):
    """The numbers 0 to n - 1."""

    kind: Literal["discrete"] = "discrete"
    n: int = Field(ge=1)

    @property
    def width(self) -> int:
        return self.n

    def fault(self, values: Sequence[float]) -> str | None:
        """What is wrong with a vector of n numbers, as a clause; None where it is one-hot."""
        return (
            None if sorted(values) == [0.0] * (self.n - 1) + [1.0] else f"it is not one-hot, a single 1 among {self.n}"
        )


Space = Annotated[BoxSpace | DiscreteSpace, Field(discriminator="kind")]


class ObservedRange(Config):
    """The least and the greatest of each number of the observations that a policy was run on, flat."""

    low: tuple[Finite, ...]
    high: tuple[Finite, ...]
    observations: int = Field(ge=1, description="How many they were.")


class PolicyCard(Config):
    """Where a policy comes from, and what it is made for."""

    env: str = Field(min_length=1, description="Id of the environment that it was trained in.")
    algorithm: str = Field(min_length=1, description="What trained it, such as PPO or DQN.")
    observations: Space
    actions: Space
    distribution: Literal["categorical", "greedy", "gaussian", "deterministic"] = Field(
        description="categorical: drawn by the softmax of logits; greedy: the best of values; gaussian: drawn around "
        "a mean; deterministic: the mean."
    )
    run: str | None = Field(default=None, description="Id of the run that trained it.")
    steps: int | None = Field(default=None, ge=0, description="Environment steps of its training.")
    mean_return: Finite | None = Field(default=None, description="Of its last evaluation.")
    observed: ObservedRange | None = Field(
        default=None, description="What it has seen; guards can hold it to that range."
    )


@dataclass(frozen=True)
class Actions:
    """One action an observation. `probabilities_BA` are a categorical policy's, `values_BA` a greedy one's."""

    actions: NDArray[np.int64] | Floats
    probabilities_BA: NDArray[np.float64] | None = None
    values_BA: NDArray[np.float64] | None = None


class Policy:
    """A network that acts, and its card, which a network of another origin may lack."""

    def __init__(self, network: Mlp, card: PolicyCard | None = None) -> None:
        """Raises ModelError where the network classifies, or isn't one for the card's spaces."""
        head = network.config.head
        if isinstance(head, ClassifierHead | ScalarHead):
            raise ModelError("this network chooses no actions: its head must be discrete or gaussian")
        if card is not None:
            _check_fits(network, head, card)
        self.network, self.head, self.card = network.eval(), head, card

    @property
    def draws(self) -> bool:
        """Whether it has a distribution to draw actions from."""
        return self.head.spread if isinstance(self.head, GaussianHead) else self.head.scores == "logits"

    def act(
        self, obs_BD: ArrayLike, *, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> Actions:
        """The likeliest, best or mean action at each observation, or one drawn from the policy's distribution.

        Raises ModelError for observations of another shape or without a finite answer, ConfigError where there is no
        distribution to draw from.
        """
        obs_BD = np.asarray(obs_BD, dtype=np.float32)
        if obs_BD.ndim != 2 or obs_BD.shape[1] != self.network.config.inputs:
            raise ModelError(f"observations must be (B, {self.network.config.inputs}), got {obs_BD.shape}")
        return self.decide(self.outputs(obs_BD), deterministic=deterministic, generator=generator)

    @torch.inference_mode()
    def outputs(self, obs_BD: Floats) -> Floats:
        """(B, K): the network's own outputs, of which `decide` makes actions."""
        device = next(self.network.parameters()).device
        return self.network.raw(torch.as_tensor(obs_BD, device=device)).cpu().numpy()

    def decide(
        self, outputs_BK: Floats, *, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> Actions:
        """Actions of the network's outputs; the same outputs and a generator of the same seed give the same."""
        if not np.isfinite(outputs_BK).all():
            raise ModelError("the policy's output is not finite: an observation was too large for it")
        if not deterministic and not self.draws:
            raise ConfigError("this policy has no distribution to draw from: ask with deterministic set to true")
        draw = np.random.default_rng() if generator is None else generator
        if isinstance(self.head, GaussianHead):
            return Actions(self._continuous(self.head, outputs_BK, None if deterministic else draw))
        scores_BA = outputs_BK.astype(np.float64)
        best_B = scores_BA.argmax(axis=1)
        if self.head.masked and (scores_BA.max(axis=1) <= FORBIDDEN).any():
            raise ModelError("an observation's mask allows no action: its last numbers are 1 for each that is allowed")
        if self.head.scores == "values":
            return Actions(best_B, values_BA=scores_BA)
        weights_BA = np.exp(scores_BA - scores_BA.max(axis=1, keepdims=True))
        probabilities_BA = weights_BA / weights_BA.sum(axis=1, keepdims=True)
        if not deterministic:
            # inverse of the distribution function; the last action takes what rounding leaves
            bounds_BA = probabilities_BA.cumsum(axis=1)[:, :-1]
            best_B = (draw.random((len(scores_BA), 1)) >= bounds_BA).sum(axis=1)
        return Actions(best_B, probabilities_BA=probabilities_BA)

    def _continuous(self, head: GaussianHead, outputs_BK: Floats, draw: np.random.Generator | None) -> Floats:
        parts = len(head.low)
        raw_BK = outputs_BK[:, :parts].astype(np.float64)
        if draw is not None:
            log_std_BK = outputs_BK[:, parts:].astype(np.float64).clip(-LOG_STD_LIMIT, LOG_STD_LIMIT)
            raw_BK = raw_BK + np.exp(log_std_BK) * draw.standard_normal(raw_BK.shape)
        return head.action(torch.from_numpy(raw_BK)).numpy().astype(np.float32)


def apart(found_BK: Floats, wanted_BK: Floats) -> tuple[float, float]:
    """The largest difference of two networks' outputs, and the largest of those wanted; what both forbid aside."""
    if found_BK.shape != wanted_BK.shape:
        return math.inf, 0.0
    forbidden_BK = (found_BK <= FORBIDDEN) & (wanted_BK <= FORBIDDEN)
    differences_BK = np.where(forbidden_BK, 0.0, np.abs(found_BK - wanted_BK))
    return float(differences_BK.max()), float(np.where(forbidden_BK, 0.0, np.abs(wanted_BK)).max())


def save_policy(policy: Policy, folder: str | Path) -> None:
    """Write the network, and the card where there is one; raises ModelError where weights aren't finite."""
    save_mlp(policy.network, folder)
    if policy.card is not None:
        text = json.dumps(policy.card.model_dump(mode="json"), indent=2)
        (Path(folder) / CARD).write_text(text + "\n", encoding="utf-8")


def load_policy(folder: str | Path) -> Policy:
    """The policy in a folder; raises ModelError or ConfigError where it isn't exactly what it says."""
    return Policy(load_mlp(folder), read_card(folder) if (Path(folder) / CARD).exists() else None)


def read_card(folder: str | Path) -> PolicyCard:
    """The card of a policy's folder; raises ModelError, or ConfigError for a field that is wrong."""
    path = Path(folder) / CARD
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"can't read {path}: {str(error) or type(error).__name__}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} must hold a JSON object, found a {type(values).__name__}")
    return PolicyCard.parse(values, str(path))


def _check_fits(network: Mlp, head: DiscreteHead | GaussianHead, card: PolicyCard) -> None:
    parts = len(head.low) if isinstance(head, GaussianHead) else head.actions
    kind = "box" if isinstance(head, GaussianHead) else "discrete"
    if card.actions.kind != kind or card.actions.width != parts:
        raise ModelError(
            f"the network chooses {kind} actions of size {parts}, and its card says {card.actions.kind} of size "
            f"{card.actions.width}"
        )
    if card.observations.width != network.config.inputs:
        raise ModelError(
            f"the network reads {network.config.inputs} numbers, and an observation of its card has "
            f"{card.observations.width}"
        )
    for name, space in (("observations", card.observations), ("actions", card.actions)):
        if isinstance(space, BoxSpace) and not len(space.low) == len(space.high) == space.width:
            raise ModelError(f"the card's {name} need a lower and an upper bound for each of {space.width} numbers")
    if card.observed is not None and not len(card.observed.low) == len(card.observed.high) == card.observations.width:
        raise ModelError(f"the card's observed range must have {card.observations.width} numbers on each side")
