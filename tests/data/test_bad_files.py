"""Damaged files, odd encodings, missing rights: a bad row where the row is to blame, else one sentence."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysafe.data.readers import read
from raysafe.errors import DataError

GOOD = {"prompt": "Is it safe?", "chosen": "Yes, quite.", "rejected": "No."}
LINE = json.dumps(GOOD).encode() + b"\n"
HEADER = b"prompt,chosen,rejected\n"
NOBODY = 65534


def bad_rows(path: Path, content: bytes | None = None, kind: str = "preferences") -> tuple[int, dict[int, str]]:
    """Good rows, and the reasons of the bad ones by line."""
    if content is not None:
        path.write_bytes(content)
    found = read(str(path), kind, skip_bad_rows=True)
    return found.table.num_rows, {bad.line: bad.reason for bad in found.bad_rows}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (rb'{"prompt": "a", "chosen": "\ud800", "rejected": "b"}', "not Unicode (half of a surrogate pair)"),
        (b"[" * 100_000, "not readable JSON (nested too deeply)"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "not readable JSON (Exceeds the limit (4300 digits)"),
        (json.dumps(GOOD).encode("utf-16"), "not UTF-8 (byte 0)"),
        (b'{"prompt": "a", "chosen": null, "rejected": "b"}', "no field 'chosen' (it is null)"),
        (b'{"prompt": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "chosen": "c", '
         b'"rejected": "d"}', "prompt has an assistant message before the user's first"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_a_row_costs_itself_only(line: bytes, reason: str, tmp_path: Path) -> None:
    good, bad = bad_rows(tmp_path / "rows.jsonl", LINE + line + b"\n" + LINE)
    assert good == 2
    assert bad[2].startswith(reason)


def test_whole_surrogate_pairs_and_a_byte_order_mark_are_text(tmp_path: Path) -> None:
    line = rb'{"prompt": "\ud83d\ude00", "chosen": "a", "rejected": "b"}'
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + line)
    [row] = read(str(tmp_path / "rows.jsonl"), "preferences").table.to_pylist()
    assert row["prompt"] == [{"role": "user", "content": "\N{GRINNING FACE}"}]


@pytest.mark.parametrize("value", [True, "1_0", "", "much", 10**400, float("nan"), float("-inf"), [1]])
def test_a_rating_is_a_finite_number(value: object, tmp_path: Path) -> None:
    lines = [json.dumps({"text": "a", "rating": v}).encode() for v in (1, value)]
    good, bad = bad_rows(tmp_path / "rows.jsonl", b"\n".join(lines), "ratings")
    assert good == 1
    assert bad[2].startswith("rating must be")


def test_csv_rows_that_are_bad_cost_themselves_only(tmp_path: Path) -> None:
    content = HEADER + b'a,"b\n\nc",d\nonly,two\na,\xff,c\n\na,b,c,d\n' + b"x," + b"y" * 200_000 + b",z\n"
    good, bad = bad_rows(tmp_path / "rows.csv", content)
    assert good == 2
    assert bad == {5: "2 cells where the header has 3", 6: "not UTF-8", 8: "4 cells where the header has 3"}


def test_csv_that_loses_its_rows_stops_even_when_bad_rows_may_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(HEADER + b'a,b,c\nx,"y"z,w\nd,e,f\n')
    with pytest.raises(DataError, match=r"rows\.csv:3: not CSV .*mend the quotes"):
        read(str(tmp_path / "rows.csv"), "preferences", skip_bad_rows=True)


def test_a_csv_header_names_each_column_once(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"prompt,chosen,chosen\na,b,c\n")
    with pytest.raises(DataError, match="distinct column names"):
        read(str(tmp_path / "rows.csv"), "preferences")


def test_messages_in_a_csv_cell_are_messages_and_not_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(HEADER + b'"[{""role"": ""user"", ""content"": ""hi""}]",b,c\n"[{\'role\': \'user\'}]",b,c\n')
    found = read(str(path), "preferences", skip_bad_rows=True)
    assert found.table["prompt"].to_pylist() == [[{"role": "user", "content": "hi"}]]
    assert found.bad_rows[0].reason.startswith("prompt looks like a list of messages but is not JSON")


def test_a_parquet_row_that_is_not_utf8_costs_itself_only(tmp_path: Path) -> None:
    raw = pa.array([b"ok", b"\xff", b"fine"], pa.binary())
    prompts = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    table = pa.table({"prompt": prompts, "chosen": ["a"] * 3, "rejected": ["b"] * 3})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert bad_rows(tmp_path / "rows.parquet") == (2, {2: "not UTF-8 (byte 0)"})


def test_damage_inside_a_gzip_or_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    rows = [GOOD | {"prompt": str(i)} for i in range(2000)]
    packed = bytearray(gzip.compress(b"".join(json.dumps(r).encode() + b"\n" for r in rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", compression="snappy")
    parquet = bytearray((tmp_path / "b.parquet").read_bytes())
    packed[40:80] = bytes([255]) * 40
    parquet[4:44] = bytes([255]) * 40
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    (tmp_path / "b.parquet").write_bytes(parquet)
    for name in ("a.jsonl.gz", "b.parquet"):
        with pytest.raises(DataError, match=f"{name} .*: fetch it again"):
            read(str(tmp_path / name), "preferences", skip_bad_rows=True)


@pytest.mark.parametrize("uri", ["", " ", "x" * 300 + ".jsonl", "~nobody-of-this-name/rows.jsonl", "a/b/c/rows"])
def test_a_name_that_can_be_no_file_is_one_sentence(uri: str) -> None:
    with pytest.raises(DataError, match="no data file"):
        read(uri, "preferences")


def test_a_folder_is_read_in_order_without_hidden_files_and_metadata(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "a.jsonl", ".cache/x.jsonl", ".a.jsonl", "dataset_infos.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(json.dumps(GOOD | {"prompt": name}).encode())
    found = read(str(tmp_path), "preferences").table["prompt"].to_pylist()
    assert [prompt[0]["content"] for prompt in found] == ["a.jsonl", "b/2.jsonl"]
    assert read(str(tmp_path / "*.jsonl"), "preferences").table.num_rows == 1


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder with a file, a Parquet file and a subfolder that this process may not read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    for name in ("open.jsonl", "closed.jsonl", "closed.parquet", "sub/rows.jsonl"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(LINE)
    for name in ("closed.jsonl", "closed.parquet", "sub"):
        (folder / name).chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(user)
        (folder / "sub").chmod(0o700)
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["closed.jsonl", "closed.parquet", "sub", "sub/rows.jsonl", ""])
def test_what_may_not_be_read_is_named_and_never_left_out(name: str, locked: Path) -> None:
    with pytest.raises(DataError, match=r"no permission to read .*(closed|sub)"):
        read(str(locked / name), "preferences", skip_bad_rows=True)


def test_a_subfolder_that_may_not_be_entered_is_not_passed_over(locked: Path) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    for name in ("closed.jsonl", "closed.parquet"):
        (locked / name).unlink()
    os.seteuid(user)
    with pytest.raises(DataError, match=r"no permission to read .*sub"):
        read(str(locked), "preferences", skip_bad_rows=True)


def test_the_first_five_bad_rows_and_their_number_are_in_the_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINE + b"{\n" * 7)
    with pytest.raises(DataError) as raised:
        read(str(path), "preferences")
    message = str(raised.value)
    assert message.startswith(f"7 bad rows in {path}: ")
    assert [f":{line}:" in message for line in range(1, 9)] == [False, *[True] * 5, False, False]
    assert "set skip_bad_rows" in message
