"""The audit log: durable before acknowledged, one chain for all threads, no tampering with anchored rows unseen."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raysafe.cli.main import main
from raysafe.errors import DataError, StorageError
from raysafe.records.audit import AuditLog, canonical, read_rows
from raysafe.records.audit_verify import verify
from tests.examples import examples
from tests.records.audited import ROWS, closed_log


def rows_of(folder: Path, writer: str = "w") -> list[dict]:
    return [row for _, row in read_rows(folder / f"{writer}.jsonl") if row is not None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return closed_log(tmp_path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("original")
    with AuditLog(base / "audit", "w") as log:
        for i in range(ROWS):
            log.append("verdict", "gateway", f"request {i}", {"score": i / 7})
    return base


def test_an_untouched_log_is_whole_and_covered(folder: Path) -> None:
    [report] = verify(folder)
    assert (report.rows, report.anchored, report.problems, report.uncovered) == (ROWS, ROWS, [], "")


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_tampering_with_anchored_rows_is_found(original: Path, tmp_path_factory, data: st.DataObject) -> None:
    base = tmp_path_factory.mktemp("copy")
    shutil.copytree(original, base, dirs_exist_ok=True)
    path = base / "audit" / "w.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    index = st.integers(0, ROWS - 1)
    how = data.draw(st.sampled_from(["change", "forge", "remove", "swap", "repeat", "cut"]))
    if how == "change":
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 127))
        path.write_bytes(bytes(content))
    else:
        i, j = data.draw(st.tuples(index, index).filter(lambda p: p[0] != p[1]))
        if how == "forge":
            # a forger who recomputes every hash that follows
            changed = [json.loads(line) for line in lines]
            changed[i]["details"] = {"score": -1}
            lines = rechained(changed)
        elif how == "remove":
            del lines[i]
        elif how == "swap":
            lines[i], lines[j] = lines[j], lines[i]
        elif how == "repeat":
            lines.insert(i, lines[j])
        else:
            lines = lines[:i]
        path.write_bytes(b"".join(lines))
    [report] = verify(base / "audit")
    assert report.problems, how


def rechained(rows: list[dict]) -> list[bytes]:
    """Lines of a chain that is consistent in itself."""
    head, lines = "0" * 64, []
    for seq, row in enumerate(rows, start=1):
        row = {k: v for k, v in row.items() if k != "hash"} | {"seq": seq, "prev": head}
        head = hashlib.sha256(canonical(row)).hexdigest()
        lines.append(canonical(row | {"hash": head}) + b"\n")
    return lines


def test_a_whole_chain_that_is_gone_is_missed(folder: Path) -> None:
    (folder / "w.jsonl").unlink()
    assert "the chain is gone" in verify(folder)[0].problems[0]


def test_a_chain_that_was_cut_off_is_not_gone_on_with(folder: Path) -> None:
    path = folder / "w.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(StorageError, match=f"ends at row {ROWS - 1}"):
        AuditLog(folder, "w")
    path.unlink()
    with pytest.raises(StorageError, match="ends at row 0"):
        AuditLog(folder, "w", unique=True)
    assert "were cut off" in verify(folder)[0].problems[0]


def test_a_row_has_one_spelling(folder: Path) -> None:
    # the last of two equal keys wins in Python, the first one elsewhere
    path = folder / "w.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"actor"', b'{"actor":"someone else","actor"', 1))
    assert verify(folder)[0].problems == ["line 1 is no audit row"]


@settings(max_examples=examples(40), deadline=None)
@given(
    details=st.dictionaries(
        st.one_of(st.integers(), st.text(st.characters())),
        st.recursive(st.one_of(st.none(), st.floats(), st.text(st.characters())), st.lists, max_leaves=4),
        max_size=4,
    )
)
def test_whatever_was_recorded_verifies_and_reads_back(tmp_path_factory, details: dict) -> None:
    folder = tmp_path_factory.mktemp("any") / "audit"
    with AuditLog(folder, "w") as log:
        row = log.append("verdict", "a", "b", details)
    assert not verify(folder)[0].problems
    # nan is not equal to itself, its spelling is
    assert [canonical(r) for r in rows_of(folder)] == [canonical(row._asdict())]


def test_details_changed_after_submit_change_no_row(tmp_path: Path) -> None:
    details = {"action": "allow"}
    with AuditLog(tmp_path / "audit", "w") as log:
        futures = []
        for _ in range(50):
            details["action"] = "allow"
            futures.append(log.submit("verdict", "a", "b", details))
            details["action"] = "block"
        assert {future.result().details["action"] for future in futures} == {"allow"}
    assert {row["details"]["action"] for row in rows_of(tmp_path / "audit")} == {"allow"}


def test_a_row_that_is_no_json_fails_alone(tmp_path: Path) -> None:
    circular: dict = {}
    circular["self"] = circular
    with AuditLog(tmp_path / "audit", "w") as log:
        with pytest.raises(DataError, match="can't be written as JSON"):
            log.append("verdict", "a", "b", circular)
        assert log.append("verdict", "a", "b", {}).seq == 1


def test_a_row_that_was_handed_over_cannot_be_cancelled(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", "w") as log:
        future = log.submit("verdict", "a", "b", {})
        assert not future.cancel()
        assert (future.result(5).seq, log.append("verdict", "a", "c", {}).seq) == (1, 2)


def test_a_writer_is_a_name_and_no_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="names no audit writer"):
        AuditLog(tmp_path / "audit", "../elsewhere")


def test_threads_form_one_chain_with_every_acknowledged_row(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    with AuditLog(tmp_path / "audit", "w") as log:

        def write(thread: int) -> None:
            for i in range(100):
                acknowledged.append(log.append("verdict", f"t{thread}", str(i), {}).hash)

        threads = [threading.Thread(target=write, args=(t,)) for t in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = rows_of(tmp_path / "audit")
    assert {row["hash"] for row in rows} == set(acknowledged)
    for t in range(8):
        assert [r["subject"] for r in rows if r["actor"] == f"t{t}"] == [str(i) for i in range(100)]
    assert not verify(tmp_path / "audit")[0].problems


WRITER = """
import sys
from raysafe.records.audit import AuditLog
log = AuditLog(sys.argv[1], "w")
i = 0
while True:
    log.append("verdict", "a", str(i), {"padding": "x" * 200})
    print(i, flush=True)
    i += 1
"""


def test_a_killed_writer_loses_no_acknowledged_row(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "audit")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().splitlines()
    process.wait(10)
    last = max(seen + [int(line) for line in rest if line])
    subjects = [row["subject"] for row in rows_of(tmp_path / "audit")]
    assert subjects[: last + 1] == [str(i) for i in range(last + 1)]


def test_a_torn_last_line_is_cut_off_and_the_repair_recorded(folder: Path) -> None:
    path = folder / "w.jsonl"
    with open(path, "ab") as file:
        file.write(b'{"seq": 13, "kind": "ver')
    [before] = verify(folder)
    assert (before.problems, before.note) == ([], "line 13 is unfinished: a write under way, or a crash")
    AuditLog(folder, "w").close()
    rows = rows_of(folder)
    assert len(rows) == ROWS + 1
    assert rows[-1]["kind"] == "repaired"
    assert rows[-1]["details"] == {"bytes": 24, "sha256": hashlib.sha256(b'{"seq": 13, "kind": "ver').hexdigest()}
    assert not verify(folder)[0].problems


def test_a_second_writer_is_refused_or_takes_the_next_name(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", "w"):
        with pytest.raises(StorageError, match="another process writes the audit chain 'w'"):
            AuditLog(tmp_path / "audit", "w")
        with AuditLog(tmp_path / "audit", "w", unique=True) as second:
            assert second.writer == "w-2"


def test_what_is_not_durable_is_never_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "audit", "w")
    log.append("verdict", "a", "good", {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"):
        log.append("verdict", "a", "lost", {})
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        log.append("verdict", "a", "after", {})
    log.close()
    assert [row["subject"] for row in rows_of(tmp_path / "audit")] == ["good"]
    with AuditLog(tmp_path / "audit", "w") as log:
        assert log.append("verdict", "a", "reopened", {}).seq == 2
    assert not verify(tmp_path / "audit")[0].problems


def test_verify_exits_1_for_tampering_and_0_without(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", "--folder", str(folder)]) == 0
    lines = (folder / "w.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "w.jsonl").write_bytes(b"".join(lines[:-2]))
    assert main(["audit", "verify", "--folder", str(folder), "--json"]) == 1
    assert "cut off the end" in capsys.readouterr().out


def test_show_prints_the_latest_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "show", "--folder", str(folder), "--last", "2", "--json"]) == 0
    assert [r["subject"] for r in json.loads(capsys.readouterr().out)] == ["request 10", "request 11"]
