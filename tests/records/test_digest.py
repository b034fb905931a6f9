"""A folder's digest covers all that is read from the folder."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from raysafe.errors import ModelError, StorageError
from raysafe.records.digest import file_digest, folder_digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_text("w")
    return folder


def test_a_digest_is_that_of_names_and_contents(folder: Path) -> None:
    lines = [f"{name}\0{file_digest(folder / name)}\n" for name in ("config.json", "sub/weights")]
    assert folder_digest(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_linked_folder_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / "sub" / "more").symlink_to(tmp_path / "outside")
    with pytest.raises(ModelError, match=r"model/sub/more is a linked folder, and no digest covers"):
        folder_digest(folder)


def test_a_model_folder_may_itself_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(folder)
    assert folder_digest(tmp_path / "latest") == folder_digest(folder)


def test_a_hub_snapshot_of_linked_files_has_the_digest_of_their_contents(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "revision"
    blobs.mkdir(parents=True)
    (snapshot / "sub").mkdir(parents=True)
    for number, name in enumerate(("config.json", "sub/weights")):
        (blobs / str(number)).write_bytes((folder / name).read_bytes())
        (snapshot / name).symlink_to(os.path.relpath(blobs / str(number), (snapshot / name).parent))
    assert folder_digest(snapshot) == folder_digest(folder)
    (blobs / "1").write_text("W")
    assert folder_digest(snapshot) != folder_digest(folder)


def test_a_name_that_is_no_text_is_digested_too(folder: Path) -> None:
    before = folder_digest(folder)
    with open(os.fsencode(folder) + b"/\xff", "w"):
        pass
    assert folder_digest(folder) != before


def test_a_file_that_vanishes_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> str:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr("raysafe.records.digest.file_digest", gone)
    with pytest.raises(StorageError, match=r"can't read .*config.json: No such file"):
        folder_digest(folder)
