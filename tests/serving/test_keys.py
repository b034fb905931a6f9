"""API keys: shown once, kept as digests, in a file for its owner only."""

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
