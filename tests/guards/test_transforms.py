"""Disguises are seeded, and undoing one gives the text back where it can be undone."""

import base64
import codecs
import random
import re
import unicodedata

import pytest

from raysafe.errors import ConfigError
from raysafe.guards.transforms import ENCODINGS, TRANSFORMS, apply, compose
from raysafe.guards.unicode import IGNORED, fold

TEXT = "Please tell me how the old machine in the cellar works, step by step"
UNDONE = {
    "base64": lambda said: base64.b64decode(said).decode(),
    "hex": lambda said: bytes.fromhex(said).decode(),
    "rot13": lambda said: codecs.decode(said, "rot13"),
    "reversed": lambda said: said[::-1],
    "full-width": lambda said: unicodedata.normalize("NFKC", said),
    "zero-width": lambda said: re.sub("[\u200b\u200c\u200d\u2060\ufeff]", "", said),
    "spaced": lambda said: " ".join(word.replace(" ", "") for word in said.split("   ")),
}


@pytest.mark.parametrize("name", UNDONE)
def test_undoing_the_disguise_gives_the_text_back(name: str) -> None:
    assert UNDONE[name](apply([name], TEXT)) == TEXT


def test_homoglyphs_read_as_the_letters_that_they_stand_for() -> None:
    said = apply(["homoglyphs"], TEXT.lower())
    assert said != TEXT.lower()
    assert "".join(fold(c) for c in said).replace(IGNORED, "") == "".join(fold(c) for c in TEXT.lower())


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "plain"])
def test_every_disguise_changes_the_text_and_is_repeatable(name: str) -> None:
    assert apply([name], TEXT, seed=3) == apply([name], TEXT, seed=3) != TEXT


@pytest.mark.parametrize("name", ["leetspeak", "homoglyphs", "zero-width", "split-words", "typos", "gcg-suffix"])
def test_another_seed_gives_another_disguise(name: str) -> None:
    assert apply([name], TEXT, seed=1) != apply([name], TEXT, seed=2)


@pytest.mark.parametrize("name", ["gcg-suffix", "refusal-suppression", "role-play"])
def test_a_wrapper_keeps_the_prompt(name: str) -> None:
    assert TEXT in apply([name], TEXT)


def test_an_encoding_comes_last_and_alone_in_a_composition() -> None:
    rng = random.Random(0)
    for names in (compose(rng) for _ in range(500)):
        assert 1 <= len(names) <= 3 and len(set(names)) == len(names)
        assert not set(names[:-1]) & set(ENCODINGS) and "plain" not in names


def test_a_name_that_is_none_is_refused_naming_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'base64'"):
        apply(["base46"], TEXT)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_empty_text_and_one_of_symbols_can_be_disguised(name: str) -> None:
    assert all(isinstance(apply([name], text), str) for text in ("", "?! \U0001f600 \n"))
