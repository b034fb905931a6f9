"""Readers: every format and form gives the same rows, and every bad row is named with file, line and reason."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysafe.data.places import name_rows
from raysafe.data.readers import read
from raysafe.errors import DataError
from tests.real_data import HH_RLHF

PROMPT = [{"role": "user", "content": "Is it safe?"}]
GOOD = {"prompt": "Is it safe?", "chosen": "Yes, quite.", "rejected": "No."}


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return str(path)


def only(path: Path, row: dict[str, Any], kind: str = "preferences") -> dict[str, Any]:
    return read(write(path / "one.jsonl", [row]), kind).table.to_pylist()[0]


FORMS = {
    "text with a prompt": GOOD,
    "messages with a prompt": {
        "prompt": PROMPT,
        "chosen": [{"role": "assistant", "content": "Yes, quite."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    },
    "whole conversations": {
        "chosen": [*PROMPT, {"role": "assistant", "content": "Yes, quite."}],
        "rejected": [*PROMPT, {"role": "assistant", "content": "No."}],
    },
    "whole conversations beside the prompt": {
        "prompt": PROMPT,
        "chosen": [*PROMPT, {"role": "assistant", "content": "Yes, quite."}],
        "rejected": [*PROMPT, {"role": "assistant", "content": "No."}],
    },
    "Anthropic's form": {
        "chosen": "\n\nHuman: Is it safe?\n\nAssistant: Yes, quite.",
        "rejected": "\n\nHuman: Is it safe?\n\nAssistant: No.",
    },
    "Anthropic's form with a prompt": {
        "prompt": "\n\nHuman: Is it safe?\n\nAssistant:",
        "chosen": " Yes, quite.",
        "rejected": " No.",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_preference_gives_the_same_row(form: str, tmp_path: Path) -> None:
    row = only(tmp_path, FORMS[form])
    assert row == {"prompt": PROMPT, "chosen": "Yes, quite.", "rejected": "No.", "margin": None, "row": 1}


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    rows = [GOOD, GOOD | {"prompt": "Sure?", "margin": 1.5}]
    plain = read(write(tmp_path / "a.jsonl", rows), "preferences").table
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(r) + "\n" for r in rows)
    pq.write_table(pa.Table.from_pylist([r | {"margin": r.get("margin")} for r in rows]), tmp_path / "c.parquet")
    with open(tmp_path / "d.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "chosen", "rejected", "margin"])
        writer.writeheader()
        writer.writerows(rows)
    for name in ("b.jsonl.gz", "c.parquet", "d.csv"):
        # lines differ: CSV has a header
        found = read(str(tmp_path / name), "preferences").table
        assert found.drop_columns("row").equals(plain.drop_columns("row")), name


BAD = {
    "not JSON": "{oops",
    "a JSON list, not an object": "[1]",
    "chosen equals rejected": GOOD | {"rejected": "Yes, quite."},
    "no field 'rejected'": {"prompt": "a", "chosen": "b"},
    "empty answer": GOOD | {"chosen": "   "},
    "must be text or a list": GOOD | {"chosen": 7},
    "role 'robot'": GOOD | {"prompt": [{"role": "robot", "content": "a"}]},
    "two user messages in a row": GOOD | {"prompt": PROMPT * 2},
    "share no prompt": {
        "chosen": "\n\nHuman: a\n\nAssistant: b",
        "rejected": "\n\nHuman: c\n\nAssistant: b",
    },
    "no field 'prompt'": {"chosen": "plain", "rejected": "other"},
    "margin must be finite": GOOD | {"margin": "nan"},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_named_with_file_line_and_reason(reason: str, tmp_path: Path) -> None:
    uri = write(tmp_path / "rows.jsonl", [GOOD, BAD[reason], GOOD])
    with pytest.raises(DataError) as raised:
        read(uri, "preferences")
    assert f"{uri}:2: " in str(raised.value)
    assert reason in str(raised.value)
    kept = read(uri, "preferences", skip_bad_rows=True)
    assert kept.table["row"].to_pylist() == [1, 3]
    assert [(b.line, reason in b.reason) for b in kept.bad_rows] == [(2, True)]


def test_a_line_that_is_not_utf8_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"prompt": "\xff"}\n')
    [bad] = read(str(path), "preferences", skip_bad_rows=True).bad_rows
    assert (bad.line, bad.reason) == (2, "not UTF-8 (byte 12)")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.jsonl", None, "there is no data file"),
        ("empty.jsonl", b"", "holds no preferences"),
        ("cut.jsonl.gz", gzip.compress(b"{}\n" * 100, mtime=0)[:-9], "not a whole gzip"),
        ("fake.parquet", b"nothing", "not a Parquet file"),
        ("rows.docx", b"x", "can't tell the format"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(str(tmp_path / name), "preferences")


def test_all_rows_bad_is_an_error_even_when_they_may_be_skipped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 1 rows are bad"):
        read(write(tmp_path / "a.jsonl", ["{oops"]), "preferences", skip_bad_rows=True)


def test_the_digest_follows_the_content_not_the_name(tmp_path: Path) -> None:
    a, b = (read(write(tmp_path / n, [GOOD]), "preferences").digest for n in ("a.jsonl", "b.jsonl"))
    c = read(write(tmp_path / "c.jsonl", [GOOD | {"chosen": "Well."}]), "preferences").digest
    assert a == b != c


def test_demonstrations_prompts_and_ratings_are_read(tmp_path: Path) -> None:
    whole = {"messages": [*PROMPT, {"role": "assistant", "content": "Yes."}]}
    assert only(tmp_path, whole, "demonstrations") == {"prompt": PROMPT, "completion": "Yes.", "row": 1}
    assert only(tmp_path, {"prompt": "Is it safe?", "label": "safe"}, "prompts")["label"] == "safe"
    assert only(tmp_path, {"text": "fine", "rating": "2.5"}, "ratings") == {"text": "fine", "rating": 2.5, "row": 1}


def test_rows_are_named_by_file_and_line_across_files_and_past_bad_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [GOOD, "{oops", "", GOOD])
    (tmp_path / "b.csv").write_text("prompt,chosen,rejected\nq,yes,no\n")
    write(tmp_path / "c.jsonl", [GOOD])
    table = read(str(tmp_path), "preferences", skip_bad_rows=True).table
    assert len(set(table["row"].to_pylist())) == 4
    assert name_rows(table) == f"{tmp_path}/a.jsonl:1, 4; {tmp_path}/b.csv:2; {tmp_path}/c.jsonl:1"
    assert name_rows(table.slice(2, 1)) == f"{tmp_path}/b.csv:2"


@pytest.mark.skipif(not HH_RLHF.exists(), reason="the hh-rlhf sample is not beside the checkout")
def test_real_preferences_parse_but_for_thirteen_degenerate_rows() -> None:
    found = read(str(HH_RLHF), "preferences", skip_bad_rows=True)
    assert (found.table.num_rows, len(found.bad_rows)) == (2299, 13)
    bad = {b.line for b in found.bad_rows}
    with gzip.open(HH_RLHF, "rt", encoding="utf-8") as file:
        raw = [json.loads(line) for number, line in enumerate(file, start=1) if number not in bad]
    names = {"user": "Human", "assistant": "Assistant"}
    for row, source in zip(found.table.to_pylist(), raw, strict=True):
        turns = [f"{names[m['role']]}: {m['content']}" for m in row["prompt"]]
        for side in ("chosen", "rejected"):
            whole = "\n\n".join([*turns, f"Assistant: {row[side]}"])
            assert whole.split() == source[side].split()
