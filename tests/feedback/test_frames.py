"""Frames come from below their folder, follow no link, and are pictures by their bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysafe.errors import DataError
from raysafe.feedback import frames
from raysafe.feedback.frames import read_frame
from tests.feedback.conftest import png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "0.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    return inside


def test_a_picture_is_read_with_its_type(folder: Path) -> None:
    assert read_frame(folder, "deep/0.png") == (png(), "image/png")
    (folder / "x.png").write_bytes(b"\xff\xd8\xff\xe0rest")
    assert read_frame(folder, "x.png").media_type == "image/jpeg"


@pytest.mark.parametrize("name", ["../secret.png", "deep/../../secret.png", "/etc/passwd", "", ".", "a\0b", "deep/.."])
def test_a_path_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(DataError, match="must be a path below the folder"):
        read_frame(folder, name)


def test_no_link_is_followed_to_a_file_or_a_folder(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "elsewhere").symlink_to(folder.parent)
    for name in ("link.png", "elsewhere/secret.png"):
        with pytest.raises(DataError, match="no link on the way"):
            read_frame(folder, name)


def test_what_is_no_file_is_refused_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    for name in ("pipe.png", "deep"):
        with pytest.raises(DataError, match="must be a file"):
            read_frame(folder, name)


def test_what_is_no_picture_is_refused_whatever_its_name(folder: Path) -> None:
    (folder / "x.png").write_text("<svg onload=alert(1)>")
    with pytest.raises(DataError, match="neither PNG nor JPEG"):
        read_frame(folder, "x.png")


def test_a_picture_over_the_limit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAME_BYTES", 20)
    with pytest.raises(DataError, match="at most"):
        read_frame(folder, "deep/0.png")


def test_no_descriptor_is_left_open(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("deep/0.png", "deep/gone.png", "gone/0.png", "deep"):
        for _ in range(3):
            try:
                read_frame(folder, name)
            except DataError:
                continue
    assert len(os.listdir("/proc/self/fd")) == before
