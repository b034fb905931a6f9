"""RaySafe's own model folders: config.json, which names the format and the shape, and model.safetensors.

Nothing in one is code, and nothing is read that its config doesn't name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from raysafe.config import Config
from raysafe.errors import ModelError

C = TypeVar("C", bound=Config)
CONFIG, TENSORS = "config.json", "model.safetensors"


def write_folder(folder: str | Path, model_type: str, config: Config, tensors: Mapping[str, Tensor]) -> None:
    """Write both files. tensors: contiguous, on the CPU."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / TENSORS, metadata={"format": "pt"})
    text = json.dumps({"model_type": model_type, **config.model_dump(mode="json")}, indent=2)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def read_config(folder: str | Path, model_type: str, config: type[C], what: str) -> C:
    """The settings in config.json, which must be of `model_type`; raises ModelError or ConfigError.

    what: what such a model is, for messages.
    """
    path = Path(folder) / CONFIG
    values = read_values(path)
    if values.pop("model_type", None) != model_type:
        raise ModelError(f"{path} is not of {what}: its model_type must be {model_type}")
    return config.parse(values, str(path))


def read_values(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises ModelError."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"can't read {path}: {str(error) or type(error).__name__}") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} must hold a JSON object, found a {type(values).__name__}")
    return values


def read_tensors(folder: str | Path) -> dict[str, Tensor]:
    """The tensors in model.safetensors; raises ModelError."""
    path = Path(folder) / TENSORS
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"can't read {path}: {error}") from None


def check_tensors(
    folder: str | Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
) -> None:
    """Raise ModelError unless the tensors are exactly those of `shapes` (shape and dtype by name), and finite."""
    strange = sorted(set(tensors) ^ set(shapes))
    if strange:
        kind = "lacks" if strange[0] in shapes else "holds, against its config,"
        raise ModelError(f"{folder} {kind} the tensor {strange[0]}")
    for name, tensor in tensors.items():
        shape, dtype = shapes[name]
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ModelError(
                f"{folder}: {name} must be {_short(dtype)} of shape {shape}, "
                f"found {_short(tensor.dtype)} of {tuple(tensor.shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{folder}: {name} holds values that are not finite")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
