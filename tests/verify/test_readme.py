"""Every figure that the README shows has a test that measures it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.verify.readme import README, blocks, replaced

SAMPLE = "a\n<!-- measured: one -->\nold\n<!-- /measured -->\nb\n<!-- measured: two -->\nkept\n<!-- /measured -->\n"


def test_every_block_is_published_by_one_test_and_every_test_has_its_block() -> None:
    sources = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    published = re.findall(r"publish\(\s*\"([\w-]+)\"", sources)
    assert sorted(published) == sorted(blocks(README.read_text(encoding="utf-8")))


def test_marks_come_in_pairs() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count("<!-- measured: ") == text.count("<!-- /measured -->") == len(blocks(text))


def test_one_block_is_replaced_and_nothing_else() -> None:
    assert replaced(SAMPLE, "one", "new\n") == SAMPLE.replace("old", "new")


def test_a_block_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="no block 'measured: three'"):
        replaced(SAMPLE, "three", "new")
