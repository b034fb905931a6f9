"""Reward: what inverse reinforcement learning finds, and the file that keeps it.

A reward is linear in features, or a table. The file is one safetensors file whose metadata, under `reward`, holds the
fields of RewardCard as JSON; its arrays are `values` (S, A), or `weights` (F,) with `features`, or with
`features.data`, `features.indices` and `features.indptr` where they are sparse.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field
from scipy import sparse

from raysafe.config import Config
from raysafe.data.cache import written_whole
from raysafe.errors import DataError, ModelError
from raysafe.irl.features import Features
from raysafe.rl.mdp import Floats

FORMAT = "raysafe-reward-1"
_SPARSE = ("features.data", "features.indices", "features.indptr")
_NAMES = ({"values"}, {"weights", "features"}, {"weights", *_SPARSE})


class RewardCard(Config):
    """What a reward is of, and how it was found."""

    format: Literal["raysafe-reward-1"] = FORMAT
    states: int = Field(ge=1, description="States of the MDP.")
    actions: int = Field(ge=1, description="Actions of the MDP.")
    learned_by: str = Field(default="", description="The method that found it; empty for one that was given.")
    gamma: float | None = Field(default=None, ge=0, le=1, description="Discount that it was learned with.")
    horizon: int | None = Field(default=None, ge=1, description="Steps of an episode that it was learned with.")
    feature_names: tuple[str, ...] = Field(default=(), description="What each weight is of, where that has names.")


@dataclass(frozen=True, eq=False)
class Reward:
    """Either values_SA, or features and weights_F; made by `of_table` and `of_features`.

    Raises DataError where shapes don't agree or a number isn't finite.
    """

    card: RewardCard
    values_SA: Floats | None = None
    features: Features | None = None
    weights_F: Floats | None = None

    def __post_init__(self) -> None:
        size = (self.card.states, self.card.actions)
        if self.values_SA is not None and (self.features is None and self.weights_F is None):
            found, expected, name = self.values_SA, size, "values_SA"
        elif self.features is not None and self.weights_F is not None and self.values_SA is None:
            found, expected, name = self.weights_F, (self.features.count,), "weights_F"
            if (self.features.states, self.features.actions) != size:
                raise DataError(f"features must be of {size[0]} states and {size[1]} actions, as the reward is")
        else:
            raise DataError("a reward is a table, values_SA, or features with weights_F: give one of the two")
        if found.shape != expected or not np.isfinite(found).all():
            raise DataError(f"{name} must be finite numbers {expected}, got shape {found.shape}")
        if self.card.feature_names and (self.weights_F is None or len(self.card.feature_names) != len(self.weights_F)):
            raise DataError(f"feature_names has {len(self.card.feature_names)} names, which is not one for each weight")

    @classmethod
    def of_table(cls, values_SA: Floats, **card: Any) -> Self:
        """card: further fields of RewardCard."""
        if values_SA.ndim != 2:
            raise DataError(f"values_SA must be (S, A), got shape {values_SA.shape}")
        values_SA = np.asarray(values_SA, dtype=np.float64)
        return cls(RewardCard(states=values_SA.shape[0], actions=values_SA.shape[1], **card), values_SA=values_SA)

    @classmethod
    def of_features(cls, features: Features, weights_F: Floats, **card: Any) -> Self:
        """card: further fields of RewardCard."""
        made = RewardCard(states=features.states, actions=features.actions, **card)
        return cls(made, features=features, weights_F=np.asarray(weights_F, dtype=np.float64))

    def table_SA(self) -> Floats:
        """(S, A): the reward of each action in each state."""
        if self.values_SA is not None:
            return self.values_SA
        assert self.features is not None and self.weights_F is not None
        return self.features.rewards(self.weights_F)

    def save(self, path: str | Path) -> None:
        """Write the file whole."""
        from safetensors.numpy import save

        arrays: dict[str, np.ndarray] = {}
        if self.values_SA is not None:
            arrays["values"] = np.ascontiguousarray(self.values_SA)
        else:
            assert self.features is not None and self.weights_F is not None
            arrays["weights"] = np.ascontiguousarray(self.weights_F)
            array = self.features.array
            if isinstance(array, sparse.csr_array):
                parts = (array.data.astype(np.float64), array.indices.astype(np.int64), array.indptr.astype(np.int64))
                arrays |= dict(zip(_SPARSE, parts, strict=True))
            else:
                arrays["features"] = np.ascontiguousarray(array, dtype=np.float64)
        with written_whole(Path(path)) as unfinished:
            unfinished.write_bytes(save(arrays, {"reward": self.card.model_dump_json()}))


def load_reward(path: str | Path) -> Reward:
    """The reward in a file, all of it checked; raises ModelError where it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except OSError as error:
        raise ModelError(f"can't read the reward {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file ({error}): give a reward's file") from None
    if "reward" not in metadata or set(arrays) not in _NAMES:
        raise ModelError(f"{path} is no reward: expected the array `values`, or `weights` and `features`")
    try:
        values = json.loads(metadata["reward"])
    except ValueError:
        raise ModelError(f"the metadata `reward` of {path} is not JSON") from None
    if not isinstance(values, dict):
        raise ModelError(f"the metadata `reward` of {path} must hold a mapping, found a {type(values).__name__}")
    card = RewardCard.parse(values, str(path))
    try:
        if "values" in arrays:
            return Reward(card, values_SA=arrays["values"].astype(np.float64))
        features = Features(_features(arrays, card), card.states, card.actions)
        return Reward(card, features=features, weights_F=arrays["weights"].astype(np.float64))
    except DataError as error:
        raise ModelError(f"{path}: {error}") from None


def _features(arrays: dict[str, np.ndarray], card: RewardCard) -> np.ndarray | sparse.csr_array:
    """Raises DataError where the indices of sparse features point outside them."""
    if "features" in arrays:
        return arrays["features"].astype(np.float64)
    data, indices, indptr = (arrays[name] for name in _SPARSE)
    rows, columns = len(indptr) - 1, arrays["weights"].size
    lists = all(array.ndim == 1 for array in arrays.values()) and indices.dtype == indptr.dtype == np.int64
    if not lists or rows not in (card.states, card.states * card.actions) or len(data) != len(indices):
        raise DataError("sparse features must be three lists that agree, the last of one more number than rows")
    inside = not indices.size or (indices.min() >= 0 and indices.max() < columns)
    if not inside or indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise DataError("sparse features have indices outside of their rows and columns")
    return sparse.csr_array((data.astype(np.float64), indices, indptr), shape=(rows, columns))
