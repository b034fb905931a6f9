"""Words are read as people see them: through invisible characters, thin spaces and letters that look alike."""

import unicodedata

import pytest

from raysafe.guards.patterns import PatternsConfig, Rule
from raysafe.guards.pipeline import Pipeline
from raysafe.guards.unicode import CIRCLE, IGNORED, POINT, SPACE, fold


def finds(phrase: str, text: str) -> bool:
    guard = PatternsConfig(rules=(Rule(name="r", phrases=(phrase,)),)).build()
    return Pipeline([guard]).check_text(text).action == "block"


PLAIN = " \t\n\r\u00a0"
SPACES = [chr(code) for code in range(0x20000) if chr(code).isspace()]


@pytest.mark.parametrize("space", [space for space in SPACES if space not in PLAIN], ids=ascii)
def test_a_space_that_nobody_types_hides_no_word_and_parts_words(space: str) -> None:
    assert fold(space) == POINT
    assert finds("make a bomb", f"make a bo{space}mb")
    assert finds("make a bomb", f"make{space}a{space}bomb")


@pytest.mark.parametrize("space", PLAIN, ids=ascii)
def test_a_plain_space_parts_words(space: str) -> None:
    assert fold(space) == SPACE
    assert not finds("make a bomb", f"make a bo{space}mb")


def test_nothing_but_a_plain_space_reads_as_one() -> None:
    """An accent that stands alone decomposes to a space and a mark."""
    assert [c for c in map(chr, range(0x20000)) if SPACE in fold(c)] == sorted(PLAIN)


@pytest.mark.parametrize(
    "mark", ["\u02d0", "\u02cf", "\u02c8", "\u0640", "\ua4f8", "\u00a8", "\u02dd", "\u00b4"], ids=ascii
)
def test_a_mark_inside_a_word_hides_nothing(mark: str) -> None:
    assert finds("make a bomb", f"make a bo{mark}mb")


@pytest.mark.parametrize(
    "word",
    [
        "\u15f7O\u15f0\u15f7",  # Canadian syllabics
        "\u0e3f\u00d8\u20a5\u0e3f",  # currency signs
        "\u026e\u0585\u028d\u026e",
        "\u00dfom\u00df",
        "\U00010301o\U0001030c\U00010301",  # Old Italic
        "\u00feomb",
        "\u0431omb",  # Cyrillic be
        "6om6",
        "b\u101dmb",
        "b\u0d20mb",
        "b\u05e1mb",
        "b\u0647mb",
        "b\U0001042cmb",
        "b\U00010b2cmb",
        "b\u25cfmb",
        "b\u25cbmb",
        "b\u25efmb",
        "b\u25e6mb",
        "b\u00b0mb",
        "b\u02damb",
        "b\u2b55mb",
        "b\U0001f534mb",
        "\u2803\u2815\u280d\u2803",  # Braille
        "\U0001f1e7 \U0001f1f4 \U0001f1f2 \U0001f1e7",  # regional indicators
        "b\no\nm\nb",  # one letter a line
        "b-o-m-b",
        "b**om**b",
        "\u0431\u043e\u043cb",  # Cyrillic and Latin within a word
    ],
    ids=ascii,
)
def test_a_letter_that_looks_like_another_is_read_as_it(word: str) -> None:
    assert finds("make a bomb", f"make a {word}")


def test_a_lunate_sigma_reads_as_the_letter_that_it_looks_like() -> None:
    assert (fold("\u03f2"), fold("\u03f9"), fold("\u03c3")) == ("c", "c", "o")
    assert finds("cook poison", "\u03f2ook poison")


def test_a_bullet_before_a_phrase_is_no_letter_of_it() -> None:
    assert fold("\u25cf") == CIRCLE
    assert finds("make a bomb", "\u25cfmake a bomb\u25cf")


@pytest.mark.parametrize(
    "text", ["gro\u00dfe Stra\u00dfe", "grosse STRASSE", "GRO\u1e9eE STRA\u1e9eE", "gros.s.e stra$$e"]
)
@pytest.mark.parametrize("phrase", ["gro\u00dfe stra\u00dfe", "grosse strasse"])
def test_a_sharp_s_is_a_double_s_still(phrase: str, text: str) -> None:
    assert finds(phrase, text)
    assert not finds(phrase, "grobe strabe")


@pytest.mark.parametrize(
    ("phrase", "other"),
    [
        ("\u30b5\u30fc\u30d0\u30fc", "\u30b5\u30d0"),  # server, mackerel
        ("\u4eba\u3005", "\u4eba"),
        ("\u0431\u043e\u0440", "\u0432\u043e\u0440"),  # forest, thief
        ("\u101d\u1010\u103a", "o\u1010\u103a"),
        ("\u05e1\u05d5\u05d3", "o\u05d5\u05d3"),
        ("\u00feing", "bing"),
    ],
    ids=ascii,
)
def test_letters_that_another_script_needs_stay_apart_in_it(phrase: str, other: str) -> None:
    assert finds(phrase, phrase)
    assert not finds(phrase, other)


@pytest.mark.parametrize(
    "text",
    [
        "make 6 omelettes",
        "it is 20\u00b0 outside, make a plan",
        "\u25cf make a list \u25cf buy milk",
        "we make a b\u00f6rek",
        "make a 6 month plan",
        "make a boss",
    ],
)
def test_harmless_text_with_such_characters_passes(text: str) -> None:
    assert not finds("make a bomb", text)


def test_every_character_folds_to_something() -> None:
    for code in range(0x20000):
        if unicodedata.category(chr(code)) not in ("Cs", "Cn"):
            symbols = fold(chr(code))
            assert symbols
            assert symbols == IGNORED or IGNORED not in symbols
