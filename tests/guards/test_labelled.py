"""Labelled texts are read from JSONL and CSV, and the first bad row is named."""

import gzip
import json
from pathlib import Path

import pytest

from raysafe.errors import DataError
from raysafe.guards.labelled import read_labelled


def test_jsonl_and_csv_and_gzip_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [("a line\u2028with a separator", "attack", "x"), ('quoted, "text"', "benign", "")]
    lines = "\n".join(json.dumps({"text": t, "label": label, "group": g}, ensure_ascii=False) for t, label, g in rows)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.csv").write_text(
        'prompt,label,group\na line\u2028with a separator,1,x\n"quoted, ""text""",safe,\n', encoding="utf-8"
    )
    read = [read_labelled(tmp_path / name) for name in ("a.jsonl", "a.jsonl.gz", "a.csv")]
    assert read[0] == read[1] == read[2]
    assert [(row.text, row.attack, row.group) for row in read[0]] == [(t, n == "attack", g) for t, n, g in rows]


def test_rows_without_a_label_take_the_one_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"text": "hello there"}\n')
    assert not read_labelled(tmp_path / "b.jsonl", label="benign")[0].attack


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"text": "a", "label": "perhaps"}', "line 2: label is 'perhaps'"),
        ('{"text": "a"}', "label is None"),
        ('{"words": "a", "label": 1}', "--text-field"),
        ('{"text": " ", "label": 1}', "no text"),
        ("[1]", "must be a mapping"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "c.jsonl").write_text('{"text": "fine", "label": 0}\n' + line + "\n")
    with pytest.raises(DataError, match=complaint):
        read_labelled(tmp_path / "c.jsonl")


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe bad"])
def test_a_file_without_rows_or_of_another_encoding_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(raw)
    with pytest.raises(DataError):
        read_labelled(tmp_path / "d.jsonl")
