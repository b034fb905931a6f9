"""Taking results: a folder as hostile code may leave it, and nothing but plain files comes back."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.control.sandbox.harvest import MAX_BREACHES, MAX_DEPTH, MAX_REFUSED, Harvest, harvest


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "home").mkdir()
    yield tmp_path / "home"


def taken(home: Path, most_bytes: int = 1000, given: dict[str, bytes] | None = None) -> Harvest:
    descriptor = os.open(home, os.O_RDONLY)
    try:
        return harvest(descriptor, most_bytes=most_bytes, given=given or {})
    finally:
        os.close(descriptor)


def test_plain_files_come_back_by_their_paths(home: Path) -> None:
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "b" / "c.txt").write_bytes(b"\x00\xff")
    (home / "été.txt").write_text("")
    assert taken(home) == Harvest({"a/b/c.txt": b"\x00\xff", "été.txt": b""}, {}, [])


def test_what_was_given_comes_back_only_where_it_was_changed(home: Path) -> None:
    (home / "same").write_text("x")
    (home / "changed").write_text("y")
    assert taken(home, given={"same": b"x", "changed": b"x"}).files == {"changed": b"y"}


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "a/../../secret", "/tmp/sandbox/../x"])
def test_a_link_that_leads_out_is_a_breach(home: Path, target: str) -> None:
    (home / "link").symlink_to(target)
    found = taken(home)
    assert (found.files, found.refused) == ({}, {"link": "a link"})
    assert [breach.what for breach in found.breaches] == ["result"]


@pytest.mark.parametrize("target", ["other", "./a/../other", "/tmp/sandbox/other"])
def test_a_link_that_stays_is_left_and_no_breach(home: Path, target: str) -> None:
    (home / "link").symlink_to(target)
    assert taken(home) == Harvest({}, {"link": "a link"}, [])


def test_a_linked_folder_is_not_entered(home: Path) -> None:
    (home / "folder").symlink_to(home.parent)
    assert taken(home).files == {}


def test_a_file_of_two_names_is_left(home: Path) -> None:
    os.link(home.parent / "secret", home / "mine")
    assert taken(home) == Harvest({}, {"mine": "a file of several names"}, [])


def test_a_pipe_is_left_and_blocks_nobody(home: Path) -> None:
    os.mkfifo(home / "pipe")
    assert taken(home).refused == {"pipe": "a pipe"}


def test_a_socket_is_left(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "s"))
        assert taken(home).refused == {"s": "a socket"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_a_breach(home: Path) -> None:
    os.mknod(home / "zero", 0o20666, os.makedev(1, 5))
    found = taken(home)
    assert (found.files, found.refused, len(found.breaches)) == ({}, {"zero": "a device"}, 1)


def test_a_sparse_file_is_judged_by_what_it_would_be_when_read(home: Path) -> None:
    with (home / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    found = taken(home)
    assert found.files == {}
    assert "sparse" in found.refused


def test_bytes_are_bounded_together(home: Path) -> None:
    for name in "abc":
        (home / name).write_bytes(b"x" * 400)
    found = taken(home, most_bytes=1000)
    assert sorted(found.files) == ["a", "b"]
    assert list(found.refused) == ["c"]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\u202eb", "a\\b", "\udcff"])
def test_a_name_that_is_no_plain_text_is_left(home: Path, name: str) -> None:
    (home / name).write_text("x")
    found = taken(home)
    assert found.files == {}
    assert list(found.refused) == [ascii(name)]


def test_folders_are_entered_to_a_bounded_depth(home: Path) -> None:
    place = home
    for _ in range(MAX_DEPTH + 5):
        place = place / "d"
        place.mkdir()
    (place / "deep").write_text("x")
    found = taken(home)
    assert found.files == {}
    assert len(found.refused) == 1


def test_refusals_and_breaches_are_listed_to_a_bounded_number(home: Path) -> None:
    for i in range(MAX_REFUSED + 50):
        (home / str(i)).symlink_to("../x")
    found = taken(home)
    assert (len(found.refused), len(found.breaches)) == (MAX_REFUSED, MAX_BREACHES)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=50), max_size=6))
def test_what_is_written_is_what_comes_back(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    home = tmp_path_factory.mktemp("home")
    for name, content in files.items():
        (home / name).write_bytes(content)
    assert taken(home).files == files
