"""Storage that can't be used is one sentence with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysafe.errors import StorageError
from raysafe.runtime.storage import Folder

REMEDY = "give a folder that can be made: --storage"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("")
    return path


@pytest.mark.parametrize("inside", ["", "run", "a/deep/run"])
def test_storage_on_a_file_is_one_sentence_with_the_remedy(file: Path, inside: str) -> None:
    with pytest.raises(StorageError) as refused:
        Folder(file / inside).create()
    reason = "Not a directory" if inside else "File exists"
    assert str(refused.value) == f"can't make {(file / inside)} ({reason}): {REMEDY}"


def test_storage_where_no_folder_can_be_made_is_one_sentence_with_the_remedy() -> None:
    with pytest.raises(StorageError) as refused:
        Folder("/proc/runs").create()
    assert str(refused.value) == f"can't make /proc/runs (No such file or directory): {REMEDY}"


def test_listing_a_file_is_one_sentence(file: Path) -> None:
    with pytest.raises(StorageError, match="is not a folder: give one that is"):
        Folder(file).list()
