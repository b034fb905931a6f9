"""Word by word, the same phrases are found as by the pattern guard's matcher."""

import random

import pytest

from raysafe.guards.matcher import Matcher
from raysafe.guards.signs import SignFinder

PHRASES = {
    "first": ("(ignore|skip) {0,2} (old|all) rule*", "(skip)? never mind", "skip rule*"),
    "second": ("you are (now|not) {1,3} (free|rules of)", "rules"),
}
FINDER = SignFinder(PHRASES)
MATCHERS = {kind: Matcher([list(phrases)]) for kind, phrases in PHRASES.items()}
WORDS = [
    "ignore",
    "skip",
    "all",
    "old",
    "rule",
    "rules",
    "ruler",
    "never",
    "mind",
    "you",
    "are",
    "now",
    "not",
    "free",
    "of",
    "the",
    "a",
]


def test_the_finder_agrees_with_the_matcher_on_plain_words() -> None:
    rng = random.Random(0)
    seen = set()
    for _ in range(3000):
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))
        expected = [kind for kind, matcher in MATCHERS.items() if matcher.first(text) is not None]
        assert FINDER.find(text) == expected, text
        seen.update(expected or ["none"])
    assert seen == {"first", "second", "none"}


@pytest.mark.parametrize(
    "text",
    ["IGNORE the OLD RULES", "ignore, these: all! ruleset", "skip\u200b rules", "igno\u0433e skip the-old rulebook"],
)
def test_case_punctuation_and_invisible_characters_do_not_hide_a_phrase(text: str) -> None:
    assert "first" in FINDER.find(text)


def test_a_beginning_stands_for_longer_known_words_too() -> None:
    finder = SignFinder({"wide": ("eth* x",), "narrow": ("ethical* x",), "exact": ("ethics x",)})
    assert finder.find("ethics x") == ["wide", "exact"]
    assert finder.find("ethically x") == ["wide", "narrow"]
    assert finder.find("ether x") == ["wide"]


@pytest.mark.parametrize("phrase", ["a+b", "(a", "a) b", "a {3,1} b"])
def test_a_phrase_outside_the_language_is_refused(phrase: str) -> None:
    with pytest.raises(ValueError, match="language of phrases"):
        SignFinder({"k": (phrase,)})
