"""Labelled examples from files: folders of images, .npz, and tables (CSV, JSON Lines, Parquet, Arrow, a hub's)."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysafe.data.files import RawRow, find_files, raw_rows
from raysafe.data.labelled import NAMED, Labelled
from raysafe.errors import ConfigError, DataError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
LABEL, IMAGE = "label", "image"


def load(data: str) -> Labelled:
    """The examples that a path or a hub id names; raises DataError."""
    path = Path(os.path.expanduser(data))
    if path.suffix == ".npz":
        return _npz(path)
    if path.is_dir() and (folders := _classes(path)):
        return _folder(path, folders)
    if not path.exists() and "/" not in data and not any(c in data for c in "*?[."):
        raise DataError(f"there are no labelled data '{data}': give {', '.join(NAMED)}, a folder, a file, or a hub id")
    return _tables(find_files(data), data)


def _npz(path: Path) -> Labelled:
    """x (N, C, H, W), (N, H, W) or (N, D), y (N,), and labels (K,) where the classes have names.

    Images of whole numbers are of 0 to 255.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("x", "y", "labels") if name in file.files}
    except FileNotFoundError:
        raise DataError(f"there is no data file {path}") from None
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise DataError(f"{path} is not an npz file ({error}): fetch it again") from None
        raise DataError(
            f"{path} holds Python objects, and pickle is never opened: save x and y as plain arrays"
        ) from None
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{path} is not a whole npz file ({error}): fetch it again") from None
    for name in ("x", "y"):
        if name not in arrays:
            raise DataError(f"{path} has no array '{name}' (found: {', '.join(arrays) or 'nothing'})")
    x, y = arrays["x"], arrays["y"]
    if x.dtype.kind not in "biuf" or x.ndim not in (2, 3, 4):
        raise DataError(f"{path}: x must be numbers (N, C, H, W), (N, H, W) or (N, D), got {x.dtype} of {x.shape}")
    if y.shape != (len(x),):
        raise DataError(f"{path}: y must have the shape ({len(x)},), got {y.shape}")
    if x.ndim > 2 and x.dtype.kind in "iu":
        x = x / 255.0
    classes, labels = named_classes(
        y.tolist(), [str(label) for label in arrays["labels"]] if "labels" in arrays else None, path
    )
    return Labelled((x[:, None] if x.ndim == 3 else x).astype(np.float32), classes, labels)


def _classes(path: Path) -> list[Path]:
    """Folders of a folder that hold images, sorted by name."""
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [folder for folder in folders if any(file.suffix.lower() in IMAGES for file in folder.iterdir())]


def _folder(path: Path, folders: list[Path]) -> Labelled:
    if len(folders) < 2:
        raise DataError(f"{path} holds images of one class, '{folders[0].name}': it needs a folder for each class")
    images, y = [], []
    for label, folder in enumerate(folders):
        for file in sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES):
            images.append(_pixels(file, str(file)))
            y.append(label)
    return Labelled(_stacked(images, str(path)), np.array(y, dtype=np.int64), tuple(folder.name for folder in folders))


def _pixels(source: Path | io.BytesIO, name: str) -> NDArray[np.float32]:
    """(C, H, W) in [0, 1]: one channel where the image is grey, three of any other."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise ConfigError("images are read by pillow: install it with `pip install 'raysafe[vision]'`") from None
    try:
        with Image.open(source) as image:
            return _channels(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} can't be read as an image ({error}): fetch it again, or take it out") from None


def _channels(image: Image) -> NDArray[np.float32]:
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"), dtype=np.float32)[None] / 255.0
    if image.mode.startswith("I;16") or image.mode == "I":
        return np.asarray(image, dtype=np.float32)[None] / 65535.0
    return np.asarray(image.convert("RGB"), dtype=np.float32).transpose(2, 0, 1) / 255.0


def _stacked(images: Sequence[NDArray[np.float32]], place: str) -> NDArray[np.float32]:
    odd = next((n for n, image in enumerate(images) if image.shape != images[0].shape), None)
    if odd is not None:
        raise DataError(
            f"the images in {place} differ: image {odd + 1} has (channels, height, width) {images[odd].shape}, the "
            f"first {images[0].shape}; bring them to one size"
        )
    return np.stack(images)


def _tables(files: list[Path], data: str) -> Labelled:
    rows = [row for file in files for row in raw_rows(file)]
    bad = next((row for row in rows if isinstance(row.value, str)), None)
    if bad is not None:
        raise DataError(f"{bad.file}:{bad.line}: {bad.value}")
    if not rows:
        raise DataError(f"{data} holds no rows")
    examples = [_labelled_row(row) for row in rows]
    names = [name for name in examples[0][1] if name != LABEL]
    images = IMAGE in names
    if not names:
        raise DataError(f"{data} has no column besides '{LABEL}'")
    x = (
        _stacked([_image(row, value.get(IMAGE)) for row, value in examples], data)
        if images
        else np.array([_features(row, value, names) for row, value in examples], dtype=np.float32)
    )
    classes, labels = named_classes([value[LABEL] for _, value in examples], _class_names(files[0]), files[0])
    return Labelled(x, classes, labels)


def _labelled_row(row: RawRow) -> tuple[RawRow, dict[str, Any]]:
    value = row.value
    assert isinstance(value, dict)
    if value.get(LABEL) in (None, ""):
        raise DataError(f"{row.file}:{row.line}: no '{LABEL}' (found: {', '.join(map(str, value))[:200] or 'nothing'})")
    return row, value


def _features(row: RawRow, value: dict[str, Any], names: list[str]) -> list[float]:
    if set(value) != {*names, LABEL}:
        odd = sorted(set(value) ^ {*names, LABEL})[0]
        raise DataError(f"{row.file}:{row.line}: the column '{odd}' is not in every row")
    try:
        return [float(value[name]) for name in names]
    except (TypeError, ValueError):
        name = next(name for name in names if not _is_number(value[name]))
        raise DataError(
            f"{row.file}:{row.line}: {name} must be a number, got {value[name]!r}"[:200]
            + ": turn categories into numbers, or leave the column out"
        ) from None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _image(row: RawRow, value: Any) -> NDArray[np.float32]:
    """As the `datasets` library writes one: {bytes, path}; or the bytes themselves."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise DataError(f"{row.file}:{row.line}: {IMAGE} must hold the bytes of an image file")
    return _pixels(io.BytesIO(content), f"{row.file}:{row.line}")


def _class_names(file: Path) -> list[str] | None:
    """The names of a Parquet file's classes, where the `datasets` library has written them."""
    if file.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    metadata = pq.read_schema(file).metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return features.get(LABEL, {}).get("names")


def named_classes(
    values: list[Any], names: list[str] | None, place: str | Path
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Classes counted from 0 and their names: values that are places in `names`, or any values, sorted."""
    if names is not None:
        if not all(isinstance(value, int) and 0 <= value < len(names) for value in values):
            raise DataError(f"{place}: classes must be whole numbers below {len(names)}, the number of their names")
        return np.array(values, dtype=np.int64), tuple(names)
    values = [str(value) for value in values]
    # numbers by size, not by their digits
    distinct = sorted(set(values), key=float) if all(map(_is_number, values)) else sorted(set(values))
    if len(distinct) < 2:
        raise DataError(f"{place}: every example is of the class '{distinct[0]}'; a classifier needs two or more")
    where = {value: place for place, value in enumerate(distinct)}
    return np.array([where[value] for value in values], dtype=np.int64), tuple(distinct)
