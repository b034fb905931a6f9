"""The cache of tables: whole files only, memory-mapped, keyed by content and not by layout."""

from __future__ import annotations

import errno
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.data.cache import TableCache, cache_key
from raysafe.errors import StorageError

untimed = settings(deadline=None)  # the first call also loads pyarrow.compute: 0.5 s on a busy machine
TABLE = pa.table({"ids": pa.array([[1, 2], [3]] * 1000, pa.list_(pa.int32()))})


def never() -> pa.Table:
    raise AssertionError("made again")


def test_a_hit_is_memory_mapped(tmp_path: Path) -> None:
    cache = TableCache(tmp_path)
    cache.get("a", lambda: TABLE)
    before = pa.total_allocated_bytes()
    assert cache.get("a", never).equals(TABLE)
    assert pa.total_allocated_bytes() == before


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_a_file_that_is_not_whole_is_made_again(keep: int, tmp_path: Path) -> None:
    cache = TableCache(tmp_path)
    cache.get("a", lambda: TABLE)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert cache.get("a", lambda: TABLE).equals(TABLE)
    assert cache.get("a", never).equals(TABLE)


def test_what_fails_while_it_is_made_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> pa.Table:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TableCache(tmp_path).get("a", stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"No space left on device\): make room or set RAYSAFE_CACHE"):
        TableCache(tmp_path).get("a", lambda: TABLE)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Not a directory"):
        TableCache(tmp_path / "file").get("a", lambda: TABLE)


@untimed
@given(st.lists(st.text(max_size=3), min_size=1, max_size=8), st.integers(0, 8))
def test_the_key_follows_values_and_not_how_they_lie_in_memory(texts: list[str], cut: int) -> None:
    whole = pa.table({"a": texts})
    cut = min(cut, len(texts))
    pieces = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    padded = pa.table({"a": ["before", *texts]}).slice(1)
    assert cache_key(whole, "x") == cache_key(pieces, "x") == cache_key(padded, "x")
    assert cache_key(whole, "x") != cache_key(whole, "y")
    assert cache_key(whole, "x") != cache_key(pa.table({"a": [*texts, "more"]}), "x")


def test_parts_of_a_key_do_not_run_into_each_other() -> None:
    assert cache_key(TABLE, "ab", "c") != cache_key(TABLE, "a", "bc")
