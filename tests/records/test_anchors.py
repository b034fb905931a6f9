"""Anchors: signed heads in a second place, by which rows that are gone or forged are found out, and their keys."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import fs

from raysafe.cli.main import main
from raysafe.errors import StorageError
from raysafe.records.anchor_place import RemotePlace
from raysafe.records.anchors import Anchors
from raysafe.records.audit import AuditLog
from raysafe.records.audit_verify import verify
from tests.records.audited import ROWS, closed_log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return closed_log(tmp_path)


def test_a_forged_anchor_is_found(folder: Path) -> None:
    [anchor] = (folder.parent / "audit-anchors" / "w").iterdir()
    anchor.write_text(anchor.read_text().replace('"seq": 12', '"seq": 2'))
    assert "forged or damaged" in verify(folder)[0].problems[0]


def test_another_published_key_is_no_trust(folder: Path, tmp_path: Path) -> None:
    with AuditLog(tmp_path / "other" / "audit", "w") as log:
        log.append("verdict", "a", "b", {})
    shutil.copy(tmp_path / "other" / "audit-anchors" / "public-key.pem", folder.parent / "audit-anchors")
    assert "not the log's own" in verify(folder)[0].problems[0]
    # without the private key at hand the published one is all there is, and the anchors aren't its
    (folder.parent / "audit-key.pem").unlink()
    assert "forged or damaged" in verify(folder)[0].problems[0]


def test_a_missing_public_key_is_said(folder: Path) -> None:
    (folder.parent / "audit-anchors" / "public-key.pem").unlink()
    assert "missing" in verify(folder)[0].problems[0]


def test_a_lost_private_key_is_not_replaced_in_silence(folder: Path) -> None:
    (folder.parent / "audit-key.pem").unlink()
    with AuditLog(folder, "w") as log:
        log.append("verdict", "a", "b", {})
        with pytest.raises(StorageError, match="a key that is gone"):
            log.anchor_now()
    [report] = verify(folder)
    assert (report.problems, report.uncovered) == ([], f"{ROWS + 1} to {ROWS + 1}")


def test_an_anchor_taken_from_among_the_others_is_missed(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit", "w") as log:
        for i in range(3):
            log.append("verdict", "a", str(i), {})
            log.anchor_now()
    assert not verify(tmp_path / "audit")[0].problems
    (tmp_path / "audit-anchors" / "w" / "000000000002.json").unlink()
    assert "was removed or replaced" in verify(tmp_path / "audit")[0].problems[0]


def test_an_anchor_is_never_rewritten(folder: Path) -> None:
    with pytest.raises(StorageError, match="another anchor of row 12"):
        Anchors(folder).add("w", ROWS, "f" * 64)
    assert not verify(folder)[0].problems


def test_an_idle_chain_is_anchored_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysafe.records.audit.ANCHOR_INTERVAL_S", 0.05)
    with AuditLog(tmp_path / "audit", "w") as log:
        log.append("verdict", "a", "b", {})
        deadline = time.monotonic() + 5
        while verify(tmp_path / "audit")[0].uncovered and time.monotonic() < deadline:
            time.sleep(0.02)
        assert verify(tmp_path / "audit")[0].anchored == 1


def test_a_slow_second_place_delays_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        reached.set()
        assert go_on.wait(10)

    monkeypatch.setattr("raysafe.records.audit.ANCHOR_ROWS", 1)
    with AuditLog(tmp_path / "audit", "w") as log:
        monkeypatch.setattr(log._anchors, "add", slow)
        log.append("verdict", "a", "b", {})
        assert reached.wait(5)
        for i in range(20):
            log.submit("verdict", "a", str(i), {}).result(timeout=5)
        go_on.set()


def test_rows_that_a_crash_left_uncovered_are_anchored_by_the_next_writer(tmp_path: Path) -> None:
    code = "import os, sys; from raysafe.records.audit import AuditLog as L; L(sys.argv[1], 'w').append(*'vas', {});"
    subprocess.run([sys.executable, "-c", code + "os._exit(1)", str(tmp_path / "audit")], check=False)
    assert verify(tmp_path / "audit")[0].uncovered == "1 to 1"
    AuditLog(tmp_path / "audit", "w").close()
    assert verify(tmp_path / "audit")[0].uncovered == ""


def test_anchors_go_to_any_filesystem(tmp_path: Path) -> None:
    # pyarrow's own local filesystem stands for an object store
    place = RemotePlace(fs.LocalFileSystem(), str(tmp_path / "remote"))
    assert (place.read("w/1.json"), place.list("w"), place.list()) == (None, [], [])
    assert place.create("w/1.json", b"one")
    assert not place.create("w/1.json", b"two")
    assert (place.read("w/1.json"), place.list("w"), place.list()) == (b"one", [("1.json", False)], [("w", True)])
    with AuditLog(tmp_path / "audit", "w", anchors=f"file://{tmp_path}/elsewhere") as log:
        log.append("verdict", "a", "b", {})
    assert verify(tmp_path / "audit", f"file://{tmp_path}/elsewhere")[0].anchored == 1


def test_rows_that_no_anchor_covers_are_named(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", "w")
    for i in range(5):
        log.append("verdict", "a", str(i), {})
    log.anchor_now()
    log.append("verdict", "a", "late", {})
    [report] = verify(tmp_path / "audit")
    assert (report.problems, report.anchored, report.uncovered) == ([], 5, "6 to 6")
    log.close()


def test_the_private_key_is_for_its_owner_alone(folder: Path) -> None:
    assert (folder.parent / "audit-key.pem").stat().st_mode & 0o777 == 0o600


def test_chains_that_begin_at_once_share_one_key(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / str(number) / "audit"
        begin = threading.Barrier(4)

        def write(folder: Path = folder, begin: threading.Barrier = begin) -> None:
            with AuditLog(folder, "w", unique=True) as log:
                log.append("verdict", "a", "b", {})
                begin.wait(30)
                log.anchor_now()

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(write) for _ in range(4)]:
                done.result()
        assert [(report.anchored, report.problems) for report in verify(folder)] == [(1, [])] * 4


def test_anchor_covers_what_no_process_holds_and_names_what_it_skips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with AuditLog(tmp_path / "audit", "idle") as log:
        log.append("verdict", "a", "b", {})
    shutil.rmtree(tmp_path / "audit-anchors")
    with AuditLog(tmp_path / "audit", "busy"):
        assert main(["audit", "anchor", "--folder", str(tmp_path / "audit")]) == 0
    out = capsys.readouterr().out
    assert "busy: skipped, another process writes" in out
    assert "idle: anchored to row 1" in out
    assert {r.writer: r.anchored for r in verify(tmp_path / "audit")} == {"busy": 0, "idle": 1}
