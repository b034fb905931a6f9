"""API keys: shown once, kept as digests, in a file for its owner only."""

import os
import threading
from pathlib import Path

import pytest

from raysafe.errors import StorageError
from raysafe.serving.keys import KeyFile, KeyRing, new_key


def test_a_secret_finds_its_own_key_and_no_other() -> None:
    (first, one), (second, two) = new_key("first"), new_key("second")
    ring = KeyRing([first, second])
    assert [ring.identify(secret) for secret in (one, two, one + "x", "")] == ["first", "second", None, None]


def test_the_secret_is_not_in_the_file_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys" / "api-keys.json")
    key, secret = keys.make("default")
    keys.keep(key)
    assert secret not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert KeyRing(keys.read()).identify(secret) == "default"


def test_a_second_key_keeps_the_first_and_a_used_name_is_refused(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "api-keys.json")
    (first, one), (second, _) = keys.make("a"), keys.make("b")
    keys.keep(first)
    keys.keep(second)
    assert KeyRing(keys.read()).identify(one) == "a"
    with pytest.raises(StorageError, match="a key called 'a'"):
        keys.make("a")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "api-keys.json"
    path.write_text('{"id": 3}')
    with pytest.raises(StorageError, match=r"api-keys\.json holds no API keys"):
        KeyFile(path).read()


def test_two_starts_that_keep_at_once_keep_both_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins when the first has read the file and is about to replace it."""
    (first, one), (second, two) = new_key("a"), new_key("b")
    path, replace, others = tmp_path / "api-keys.json", os.replace, list[threading.Thread]()

    def replace_later(*names: Path) -> None:
        if not others:
            others.append(threading.Thread(target=KeyFile(path).keep, args=(second,)))
            others[0].start()
            others[0].join(0.3)
        replace(*names)

    monkeypatch.setattr(os, "replace", replace_later)
    KeyFile(path).keep(first)
    others[0].join()
    ring = KeyRing(KeyFile(path).read())
    assert [ring.identify(secret) for secret in (one, two)] == ["a", "b"]


def test_a_name_that_was_taken_in_the_meantime_is_refused(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "api-keys.json")
    (first, one), (second, _) = keys.make("default"), keys.make("default")
    keys.keep(first)
    with pytest.raises(StorageError, match="a key called 'default'"):
        keys.keep(second)
    assert KeyRing(keys.read()).identify(one) == "default"


def test_the_lock_is_for_its_owner_only(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "api-keys.json")
    keys.keep(keys.make("a")[0])
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600, 0o600]
