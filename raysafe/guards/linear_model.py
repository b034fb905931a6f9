"""A linear text classifier over hashed n-grams: a folder with weights.safetensors and linear.json, and its scores.

The logit of a window of text is bias + sum of its features' weights / sqrt(number of features). A long text is judged
by its worst window, so that a paragraph of attack isn't diluted by pages of other text.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.special import expit

from raysafe.config import Config
from raysafe.errors import ConfigError, ModelError
from raysafe.guards.features import BITS, LONGEST_WORD, ORDERS, folded, hashed, windows

WEIGHTS, SETTINGS = "weights.safetensors", "linear.json"
PACKAGED = ("jailbreak",)


class LinearSettings(Config):
    """linear.json: what the weights mean. A model of other features than this program's is refused."""

    format: Literal["raysafe-linear-1"] = "raysafe-linear-1"
    bits: int = Field(default=BITS, description="Features are hashed to 2^bits buckets.")
    orders: tuple[int, ...] = Field(default=ORDERS, description="Lengths of the character n-grams.")
    longest_word: int = Field(default=LONGEST_WORD, description="Bytes of a word that count.")
    window: int = Field(default=1200, ge=64, le=65536, description="Bytes of folded text that are judged together.")
    bias: float = Field(description="Logit of a text without features.", allow_inf_nan=False)
    slope: float = Field(
        gt=0, description="Platt scaling: score = sigmoid(slope * logit + offset).", allow_inf_nan=False
    )
    offset: float = Field(description="The other half of the scaling.", allow_inf_nan=False)
    threshold: float = Field(gt=0, le=1, description="Score from which a guard acts, where its policy names none.")
    positive: str = Field(min_length=1, description="The label that a score near 1 speaks for.")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="Digest of the weights.")
    trained_on: str = Field(default="", description="What the model was trained on, for people.")


@dataclass(frozen=True)
class LinearModel:
    """weights_D: float32, D = 2^bits."""

    settings: LinearSettings
    weights_D: np.ndarray

    def logit(self, text: str) -> float:
        """The worst window's logit."""
        return worst_logit(text, self.weights_D, self.settings.bias, self.settings.window)

    def score(self, text: str) -> float:
        """The probability, as calibrated on held-out texts, that the text is of the positive label."""
        return float(expit(self.settings.slope * self.logit(text) + self.settings.offset))

    def save(self, folder: str | Path) -> None:
        """Write the folder; settings.sha256 must be `digest` of the weights."""
        from safetensors.numpy import save

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / WEIGHTS).write_bytes(save({"weights": self.weights_D.astype(np.float16)}))
        (path / SETTINGS).write_text(self.settings.model_dump_json(indent=2) + "\n", encoding="utf-8")


def worst_logit(text: str, weights_D: np.ndarray, bias: float, window: int) -> float:
    """max over windows of bias + sum of weights / sqrt(features)."""
    bytes_N = folded(text)
    if bytes_N.size <= window:
        total, features = 0.0, 0
        for _, buckets_F in hashed(bytes_N):
            total += float(weights_D.take(buckets_F).sum(dtype=np.float64))
            features += buckets_F.size
        return bias + total / max(1.0, features) ** 0.5
    sums_N = np.zeros(bytes_N.size + 1)
    counts_N = np.zeros(bytes_N.size + 1)
    for positions_F, buckets_F in hashed(bytes_N):
        sums_N[positions_F + 1] += weights_D[buckets_F]
        counts_N[positions_F + 1] += 1
    sums_N, counts_N = sums_N.cumsum(), counts_N.cumsum()
    spans = np.array(windows(bytes_N.size, window))
    totals_W = sums_N[spans[:, 1]] - sums_N[spans[:, 0]]
    features_W = counts_N[spans[:, 1]] - counts_N[spans[:, 0]]
    return bias + float((totals_W / np.sqrt(np.maximum(features_W, 1))).max())


def digest(weights_D: np.ndarray) -> str:
    """sha256 of the weights as they are stored."""
    return hashlib.sha256(weights_D.astype("<f2").tobytes()).hexdigest()


def load_linear(model: str | Path) -> LinearModel:
    """The model in a folder, or a packaged one by its name; raises ConfigError or ModelError for any flaw."""
    if str(model) in PACKAGED:
        folder = Path(str(files("raysafe.guards").joinpath("data", str(model))))
    else:
        folder = Path(model).expanduser()
    if not (folder / SETTINGS).is_file() or not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"model: {model} holds no linear text model: give a folder with {SETTINGS} and {WEIGHTS}, as `raysafe "
            f"guards train` writes it, or a packaged one: {', '.join(PACKAGED)}"
        )
    settings = _settings(folder / SETTINGS)
    return LinearModel(settings, _weights(folder / WEIGHTS, settings))


def _settings(path: Path) -> LinearSettings:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}; train the model again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} must hold a mapping, found a {type(values).__name__}; train the model again")
    settings = LinearSettings.parse(values, str(path))
    if (settings.bits, settings.orders, settings.longest_word) != (BITS, ORDERS, LONGEST_WORD):
        raise ModelError(f"{path} is of a model with other features than this version's; train it again")
    return settings


def _weights(path: Path, settings: LinearSettings) -> np.ndarray:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file ({error}); train the model again") from None
    found = tensors.get("weights")
    if set(tensors) != {"weights"} or found is None or found.dtype != np.float16 or found.shape != (1 << BITS,):
        raise ModelError(f"{path} must hold one float16 tensor 'weights' of {1 << BITS} numbers; train the model again")
    if digest(found) != settings.sha256:
        raise ModelError(f"{path} doesn't hold the weights that {SETTINGS} names; one of the two was changed")
    weights_D = found.astype(np.float32)
    if not np.isfinite(weights_D).all():
        raise ModelError(f"{path} holds weights that are not finite; train the model again")
    return weights_D
