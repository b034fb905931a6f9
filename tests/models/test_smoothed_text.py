"""Certificates of masked votes, against every choice of kept words and every replacement of small texts."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, strategies

from raysafe.errors import ConfigError, ModelError
from raysafe.models.smoothed_text import MaskedVote, certified_words, changed_share, kept_words

VOCABULARY = ("a", "b", "c")


def exact_votes(words: Sequence[str], kept: int, salt: int) -> Fraction:
    """The share of all choices of kept words at which an arbitrary classifier says 1: mostly where it sees an a."""
    votes = []
    for places in combinations(range(len(words)), kept):
        shown = " ".join(word if place in places else "_" for place, word in enumerate(words))
        votes.append("a" in shown or zlib.crc32(f"{salt}{shown}".encode()) % 4 == 0)
    return Fraction(sum(votes), len(votes))


@given(strategies.integers(1, 7), strategies.data())
def test_the_changed_share_counts_choices_that_meet_a_replaced_word(words: int, data: strategies.DataObject) -> None:
    kept, replaced = data.draw(strategies.integers(1, words)), data.draw(strategies.integers(0, words))
    choices = list(combinations(range(words), kept))
    met = sum(any(place < replaced for place in places) for places in choices)
    assert changed_share(words, kept, replaced) == Fraction(met, len(choices))


@given(strategies.floats(0, 1), strategies.integers(1, 12), strategies.data())
def test_the_certificate_is_the_largest_that_keeps_the_majority(
    p: float, words: int, data: strategies.DataObject
) -> None:
    kept = data.draw(strategies.integers(1, words))
    holds = [d for d in range(words + 1) if Fraction(p) - changed_share(words, kept, d) > Fraction(1, 2)]
    assert certified_words(p, words, kept) == max(holds, default=0)


@pytest.mark.parametrize("salt", range(4))
@pytest.mark.parametrize("kept", [1, 2])
def test_no_replacement_within_the_certificate_changes_the_majority(salt: int, kept: int) -> None:
    texts = {words: exact_votes(words, kept, salt) for words in product(VOCABULARY, repeat=5)}
    certified = 0
    for words, p in texts.items():
        label = p > Fraction(1, 2)
        d = certified_words(float(max(p, 1 - p)), 5, kept)
        certified += d > 0
        for other, q in texts.items():
            if 0 < sum(x != y for x, y in zip(words, other, strict=True)) <= d:
                assert (q > Fraction(1, 2)) == label
    assert certified > 0


def test_the_bound_is_tight() -> None:
    """A classifier that says 1 unless it sees an x loses exactly the choices that meet a replaced word."""
    words, kept = 8, 2
    for replaced in range(words + 1):
        p = 1 - changed_share(words, kept, replaced)
        shown = ["x"] * replaced + ["a"] * (words - replaced)
        seen = [all(shown[i] == "a" for i in places) for places in combinations(range(words), kept)]
        assert p == Fraction(sum(seen), len(seen))


def says_bad(texts: Sequence[str]) -> np.ndarray:
    return np.array([int("bad" in text) for text in texts])


def test_a_sampled_certificate_is_that_of_the_exact_probability() -> None:
    # of 10 words 3 are kept: one that says so is among them with probability 0.3, one of 8 with 1 - 0 choices of 3
    vote = MaskedVote(says_bad, keep=0.3)
    rng = np.random.default_rng(0)
    few = vote.certify("bad " + "good " * 9, rng=rng, samples=5000)
    many = vote.certify("bad " * 8 + "good " * 2, rng=rng, samples=5000)
    assert (few.label, many.label, few.of) == (0, 1, 10)
    assert 0.67 < few.p_low < 0.7 and many.p_low > 0.99
    assert few.words == certified_words(few.p_low, 10, 3) == 0 and many.words == 1
    assert vote.certify("bad bad " + "good " * 8, rng=rng, samples=500).label is None, "1 - C(8,3)/C(10,3) = 0.53"


def test_as_many_words_as_asked_are_kept_and_each_place_alike() -> None:
    vote, rng, words = MaskedVote(says_bad, keep=0.4), np.random.default_rng(0), [f"w{i}" for i in range(10)]
    texts = [vote.masked(words, rng).split() for _ in range(3000)]
    assert all(len(text) == 10 and text.count("[MASK]") == 6 for text in texts)
    shares = np.mean([[word != "[MASK]" for word in text] for text in texts], axis=0)
    np.testing.assert_allclose(shares, 0.4, atol=0.04)
    assert [kept_words(n, 0.3) for n in (1, 2, 3, 10)] == [1, 1, 1, 3]


def test_a_huge_text_is_certified_in_a_few_steps() -> None:
    assert certified_words(0.999, 5_000_000, 1_500_000) == 1


def test_what_is_no_classifier_is_refused() -> None:
    for votes in (np.zeros(3), np.zeros((2, 2), dtype=int), np.array([-1] * 50)):
        with pytest.raises(ModelError, match="must give each text the number of a class"):
            MaskedVote(lambda texts, v=votes: v[: len(texts)] if len(v) > 3 else v).certify(
                "a b c", rng=np.random.default_rng(0)
            )
    with pytest.raises(ConfigError, match="keep must lie between 0 and 1"):
        MaskedVote(says_bad, keep=1.0)
