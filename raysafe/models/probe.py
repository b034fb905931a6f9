"""A linear probe of a language model's activations: one safetensors file, and what it says of a text.

The file holds weights, mean and scale (D,), float64, and in its metadata, under `probe`, the fields of ProbeCard as
JSON. With x the hidden state after `layer` blocks (0: the embeddings), a token's logit is
weights . ((x - mean) / scale) + bias; `position` says which tokens of a text count: the last, all by their mean
activation, or the one with the highest logit. The probability is sigmoid(slope * logit + offset) (Platt 1999).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from raysafe.config import Config
from raysafe.data.cache import written_whole
from raysafe.errors import ModelError

Position = Literal["last", "mean", "max"]
FORMAT = "raysafe-probe-1"
_ARRAYS = ("weights", "mean", "scale")


class Controls(Config):
    """How well the probe tells held-out texts apart, and what would do so without the thing that it claims to read.

    Areas under the ROC curve, each text scored by a fit that saw none of its group; 0.5 is chance. Of controls that are
    drawn several times it is the 95th percentile over the draws.
    """

    held_out: float = Field(ge=0, le=1, description="The probe.")
    held_out_low: float = Field(ge=0, le=1, description="Lower end of its 95% bootstrap interval.")
    shuffled_labels: float = Field(ge=0, le=1, description="Probes fitted to labels in random order.")
    random_direction: float = Field(ge=0, le=1, description="Random weights, turned so that training texts fit best.")
    untrained: float = Field(ge=0, le=1, description="The same probe of the same architecture with random weights.")
    above_untrained: float = Field(
        ge=-1, le=1, description="Lower end of the 95% bootstrap interval of the probe's area less the untrained one's."
    )
    examples: int = Field(ge=2, description="Held-out texts.")
    groups: int = Field(ge=1, description="Held-out groups.")

    @property
    def beaten(self) -> bool:
        """Whether the probe is better than every control, with 95% confidence."""
        return self.held_out_low > max(self.shuffled_labels, self.random_direction) and self.above_untrained > 0


class ProbeCard(Config):
    """What a probe's numbers mean, and which model they are for."""

    format: Literal["raysafe-probe-1"] = FORMAT
    concept: str = Field(min_length=1, description="What a probability near 1 speaks for.")
    model_digest: str = Field(pattern="^[0-9a-f]{64}$", description="sha256 of the files of the model it reads.")
    architecture: str = Field(min_length=1, description="Class of the model, such as LlamaForCausalLM.")
    hidden_size: int = Field(ge=1, description="Features of a hidden state.")
    layers: int = Field(ge=1, description="Blocks of the model.")
    layer: int = Field(ge=0, description="Blocks before the hidden state that is read.")
    position: Position
    text: Literal["prompt", "answer"] = Field(description="Whose tokens are read; an answer's follow their prompt.")
    template: str = Field(pattern="^[0-9a-f]{64}$", description="Digest of tokenizer and chat template.")
    bias: float = Field(allow_inf_nan=False)
    slope: float = Field(gt=0, allow_inf_nan=False, description="Calibration.")
    offset: float = Field(allow_inf_nan=False, description="Calibration.")
    threshold: float = Field(gt=0, lt=1, description="Probability from which a text counts as of the concept.")
    false_positives: float = Field(ge=0, lt=1, description="Rate that the threshold was set for.")
    controls: Controls

    @model_validator(mode="after")
    def _layer_is_there(self) -> Self:
        if self.layer > self.layers:
            raise ValueError(f"layer {self.layer} is beyond the model's {self.layers} blocks")
        return self


@dataclass(frozen=True)
class Probe:
    """weights_D, mean_D, scale_D: float64, finite, scale above 0."""

    card: ProbeCard
    weights_D: np.ndarray
    mean_D: np.ndarray
    scale_D: np.ndarray

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            values = getattr(self, f"{name}_D")
            if values.shape != (self.card.hidden_size,) or not np.isfinite(values).all():
                raise ModelError(
                    f"a probe's {name} must be {self.card.hidden_size} finite numbers, as hidden_size says, "
                    f"got shape {values.shape}"
                )
        if (self.scale_D <= 0).any():
            raise ModelError("a probe's scale must be above 0 for each feature")

    def logit(self, states_TD: np.ndarray) -> float:
        """Of one text's hidden states, in the order of its tokens."""
        return float(read_position(token_logits(self, states_TD), self.card.position))

    def probability(self, states_TD: np.ndarray) -> float:
        return float(expit(self.card.slope * self.logit(states_TD) + self.card.offset))

    def save(self, path: str | Path) -> None:
        """Write the file whole."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(getattr(self, f"{name}_D"), dtype=np.float64) for name in _ARRAYS}
        with written_whole(Path(path)) as unfinished:
            unfinished.write_bytes(save(arrays, {"probe": self.card.model_dump_json()}))


def token_logits(probe: Probe, states_TD: np.ndarray) -> np.ndarray:
    """Each token's logit, (T,)."""
    if states_TD.ndim != 2 or states_TD.shape[1] != probe.card.hidden_size or not len(states_TD):
        raise ModelError(
            f"a probe of {probe.card.hidden_size} features reads hidden states of that size for one or more tokens, "
            f"got shape {states_TD.shape}"
        )
    return ((states_TD - probe.mean_D) / probe.scale_D) @ probe.weights_D + probe.card.bias


def read_position(logits_T: np.ndarray, position: Position) -> np.floating:
    """A text's logit from its tokens'; the mean of logits is the logit of the mean activation."""
    if position == "last":
        return logits_T[-1]
    return logits_T.mean() if position == "mean" else logits_T.max()


def load_probe(path: str | Path) -> Probe:
    """The probe in a file, all of it checked; raises ModelError where it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            arrays = {name: file.get_tensor(name) for name in _ARRAYS if name in names}
    except OSError as error:
        raise ModelError(f"can't read the probe {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise ModelError(f"{path} is no safetensors file ({error}): train a probe and give its file") from None
    if "probe" not in metadata or names != set(_ARRAYS):
        raise ModelError(f"{path} is no probe: expected the arrays {', '.join(_ARRAYS)} and the metadata `probe`")
    try:
        values = json.loads(metadata["probe"])
    except ValueError:
        raise ModelError(f"the metadata `probe` of {path} is not JSON") from None
    if not isinstance(values, dict):
        raise ModelError(f"the metadata `probe` of {path} must hold a mapping, found a {type(values).__name__}")
    card = ProbeCard.parse(values, str(path))
    return Probe(card, *(arrays[name].astype(np.float64) for name in _ARRAYS))
