"""A policy's text: no key twice, and a last line that tells a whole file from part of one."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.errors import ConfigError
from raysafe.guards.policy_text import check_seal, policy_values, read_policy, seal


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2\n", "the key 'a' is given twice"),
        ("a: [{b: 1, b: 2}]\n", "the key 'b' is given twice"),
        ("a: {1: x}\n", "the key '1' is not text: put it in quotes"),
        ("yes: 1\n", "the key 'yes' is not text"),
        ("a: 1\n...\nb: 2\n", "p.yaml is not valid YAML"),
        ("- a\n", "p.yaml must hold a mapping of fields to values, found a list"),
        ("a: 2026-13-01\n", "p.yaml is not valid YAML"),
        ("a: !!python/object:os.system {}\n", "p.yaml is not valid YAML"),
        ("[" * 1_000, "p.yaml is nested too deeply"),
    ],
)
def test_what_yaml_would_take_or_choke_on_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy_values(text, "p.yaml")
    assert sentence in str(caught.value)


def test_anchors_and_merges_are_no_keys_given_twice() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b\n  <<: *a\n  x: 3\nc:\n  <<: *b\n  y: 4\n"
    assert policy_values(text, "p") == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 3, "y": 4}}


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"a: 1\n", (False, False)),
        (b"a: 1\n...\n", (True, False)),
        (b"a: 1\n...", (True, False)),
        (b"a: 1\r\n...\r\n", (True, False)),
        (b"a: 1\n....\n", (False, False)),
        (b"a: 1\n... # sha256:12\n", (False, False)),
        (b"a: 1...", (False, False)),
        (b"", (False, False)),
    ],
)
def test_the_mark_is_a_line_of_its_own_at_the_end(raw: bytes, found: tuple[bool, bool]) -> None:
    assert check_seal(raw, "p") == found


texts = st.text(alphabet="a:. \n#é\r", max_size=30)


@given(texts)
def test_a_sealed_text_is_sealed_and_sealing_it_again_changes_nothing(text: str) -> None:
    sealed = seal(text)
    assert check_seal(sealed.encode(), "p") == (True, True)
    assert seal(sealed) == sealed


def test_sealing_takes_the_place_of_a_mark() -> None:
    assert seal("a: 1\n...\n") == seal("a: 1\n")
    assert policy_values(seal("a: 1"), "p") == {"a": 1}


def test_a_text_that_was_changed_after_it_was_sealed_is_refused() -> None:
    sealed = seal("limit: 100\n").replace("100", "900").encode()
    with pytest.raises(ConfigError, match=r"p\.yaml was changed after it was sealed"):
        check_seal(sealed, "p.yaml")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="it is no file"):
            read_policy(path)
