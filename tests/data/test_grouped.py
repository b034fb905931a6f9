"""Tables with groups: what becomes an input, what is kept out, and rows that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysafe.data.grouped import load_grouped, read_features, split_grouped, write_features
from raysafe.errors import DataError, ModelError

TEXT = """age,job,sex,hired
30,clerk,f,yes
41,cook,m,no
52,clerk,m,yes
23,driver,f,no
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "people.csv"
    path.write_text(TEXT)
    return str(path)


def test_categories_are_one_hot_and_groups_are_kept_out(table: str) -> None:
    found = load_grouped(table, label="hired", groups=["sex"])
    assert found.features.inputs == ("age", "job=clerk", "job=cook", "job=driver")
    assert found.labelled.x.tolist() == [[30, 1, 0, 0], [41, 0, 1, 0], [52, 1, 0, 0], [23, 0, 0, 1]]
    assert found.labelled.labels == ("no", "yes") and found.labelled.y.tolist() == [1, 0, 1, 0]
    assert found.groups["sex"].tolist() == ["f", "m", "m", "f"]


def test_groups_may_be_features_and_columns_may_be_dropped(table: str) -> None:
    found = load_grouped(table, label="hired", groups=["sex"], keep_groups=True, drop=["job"])
    assert found.features.inputs == ("age", "sex=f", "sex=m")


def test_other_rows_are_read_as_the_model_reads_them(table: str, tmp_path: Path) -> None:
    first = load_grouped(table, label="hired", groups=["sex"])
    write_features(first.features, tmp_path)
    rows = {"sex": ["f"], "job": ["cook"], "hired": ["no"], "age": [50], "unused": [1]}
    pq.write_table(pa.table(rows), tmp_path / "other.parquet")
    found = load_grouped(
        str(tmp_path / "other.parquet"),
        label="hired", groups=["sex"], features=read_features(tmp_path), labels=("no", "yes"),
    )  # fmt: skip
    assert found.labelled.x.tolist() == [[50, 0, 1, 0]] and found.labelled.y.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        (TEXT.replace("41", ""), {}, r"people.csv:3: 'age' is empty"),
        (TEXT, {"label": "wage"}, "has no column 'wage'; its columns are age, job, sex, hired"),
        (TEXT, {"groups": ["hired"]}, "'hired' is named twice"),
        (TEXT, {"drop": ["age", "job"]}, "no column left to be a feature"),
        ("age,job,sex,hired\n", {}, "holds no rows"),
        (TEXT.replace(",no", ",yes"), {}, "every example is of the class 'yes'"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, text: str, settings: dict[str, object], message: str) -> None:
    path = tmp_path / "people.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_grouped(str(path), **({"label": "hired", "groups": ["sex"]} | settings))  # type: ignore[arg-type]


def test_a_category_that_the_model_has_never_seen_is_refused(table: str, tmp_path: Path) -> None:
    first = load_grouped(table, label="hired")
    other = tmp_path / "other.csv"
    other.write_text(TEXT.replace("cook", "judge"))
    with pytest.raises(DataError, match=r"other.csv:3: 'job' is 'judge', a category that the model has never"):
        load_grouped(str(other), label="hired", features=first.features, labels=("no", "yes"))


def test_a_model_without_features_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="train the model by raysafe classifier"):
        read_features(tmp_path)


def test_a_split_keeps_shares_of_classes_within_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {"x": rng.random(3000), "group": rng.choice(["a", "b"], 3000, p=[0.9, 0.1]), "y": rng.integers(0, 2, 3000)}
    pq.write_table(pa.table(rows), tmp_path / "t.parquet")
    whole = load_grouped(str(tmp_path / "t.parquet"), label="y", groups=["group"])
    parts = split_grouped(whole, {"train": 0.6, "validation": 0.1, "test": 0.3}, seed=1)
    assert sum(map(len, parts.values())) == 3000
    for name, share in {"train": 0.6, "validation": 0.1, "test": 0.3}.items():
        for group in ("a", "b"):
            for label in (0, 1):
                cell = (whole.groups["group"] == group) & (whole.labelled.y == label)
                part = parts[name]
                mine = (part.groups["group"] == group) & (part.labelled.y == label)
                assert abs(mine.sum() - share * cell.sum()) <= 3
    again = split_grouped(whole, {"train": 0.6, "validation": 0.1, "test": 0.3}, seed=1)
    assert again["test"].labelled.digest == parts["test"].labelled.digest
