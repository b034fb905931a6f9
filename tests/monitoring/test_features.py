"""Features of texts against plain computations, and on texts of which everybody knows what they are."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.monitoring.features import MOST_WORDS, compression, distinct, longest_repeat, text_features
from raysafe.monitoring.topics import topic_vector

PROSE = (
    "The harbour was quiet when the first boats came in. Gulls followed them, hoping for scraps, and an old man mended "
    "his net beside a wall that still held the warmth of yesterday. Nobody spoke of the storm."
)
FEW_WORDS = st.lists(st.sampled_from("abc"), max_size=24)


def plainly(words: Sequence[str]) -> int:
    """The longest run that occurs at two places, by looking at all of them."""
    count = len(words)
    for length in range(count - 1, 0, -1):
        runs = [tuple(words[at : at + length]) for at in range(count - length + 1)]
        if len(set(runs)) < len(runs):
            return length
    return 0


@given(words=FEW_WORDS)
def test_the_longest_repeat_is_what_looking_everywhere_finds(words: list[str]) -> None:
    assert longest_repeat(words) == plainly(words)


@given(words=FEW_WORDS.filter(lambda words: len(words) > 2))
def test_the_longest_repeat_reads_the_same_from_behind(words: list[str]) -> None:
    assert longest_repeat(words) == longest_repeat(words[::-1])


def test_distinct_runs_on_words_counted_by_hand() -> None:
    words = ["a", "b", "a", "b", "a", "c"]
    assert [distinct(words, order) for order in (1, 2, 3)] == [3 / 6, 3 / 5, 3 / 4]


@pytest.mark.parametrize("order", [0, 4])
def test_distinct_runs_of_more_words_than_there_are_do_not_exist(order: int) -> None:
    with pytest.raises(ValueError, match=f"distinct-{order} needs"):
        distinct(["a", "b", "c"], order)


def test_a_loop_stands_out_of_prose_in_every_measure_of_repetition() -> None:
    prose, loop = text_features(PROSE), text_features("I can help with that. " * 40)
    assert prose["repetition"] == 0 and loop["repetition"] > 0.9
    assert prose["longest_repeat"] < 0.1 and loop["longest_repeat"] > 0.9
    assert prose["compression"] < 2 and loop["compression"] > 10


def test_compression_is_bytes_by_compressed_bytes() -> None:
    assert compression(PROSE) == len(PROSE) / len(zlib.compress(PROSE.encode(), 6))


def test_lengths_are_counted_in_characters_and_words() -> None:
    found = text_features("One  two\nthree é")
    assert (found["characters"], found["words"]) == (16, 4)


@pytest.mark.parametrize(
    ("text", "refused"), [("I'm sorry, but I can't help with that.", 1.0), (PROSE, 0.0), ("", 0.0)]
)
def test_a_refusal_is_told(text: str, refused: float) -> None:
    assert text_features(text)["refusals"] == refused


@pytest.mark.parametrize("text", ["", " ", "Yes.", "one two three"])
def test_a_text_too_short_to_repeat_has_no_repetition(text: str) -> None:
    assert set(text_features(text)) == {"characters", "words", "refusals"}


@given(text=st.lists(st.sampled_from(["a", "I cannot help", " ", "\n", "\u00e9", "\ud800", "\x00", "7."])).map("".join))
def test_any_text_has_features_within_their_bounds(text: str) -> None:
    found = text_features(text)
    assert all(0 <= found.get(name, 0) <= 1 for name in ("repetition", "longest_repeat", "refusals"))
    assert all(np.isfinite(list(found.values())))


def test_repetition_beyond_the_first_words_is_not_looked_at() -> None:
    words = [str(number) for number in range(MOST_WORDS)]
    found = text_features(" ".join([*words, *(["again"] * 1000)]))
    assert found["repetition"] == 0 and found["words"] == MOST_WORDS + 1000


def test_the_longest_repeat_of_long_loops_is_found() -> None:
    shapes = [["a"] * 3000, [*["a"] * 1500, *["b"] * 1500], ["a", "b"] * 1500]
    assert [longest_repeat(words) for words in shapes] == [2999, 1499, 2998]


def test_topic_vectors_have_length_one_and_do_not_mind_case_or_order() -> None:
    one, other = topic_vector("Boats follow gulls"), topic_vector("gulls FOLLOW boats")
    assert one @ one == pytest.approx(1)
    np.testing.assert_allclose(one, other)
    assert not topic_vector("1 2 3").any()


def test_texts_on_one_topic_are_nearer_than_texts_on_two() -> None:
    sea = topic_vector("the boats left the harbour and the sailors mended nets on the shore")
    shore = topic_vector("sailors on the shore watched the boats near the harbour")
    code = topic_vector("compile the module and link the library with optimisation flags")
    assert sea @ shore > sea @ code + 0.2


def test_topic_vectors_are_the_same_on_every_machine() -> None:
    """A word's bucket and sign are XXH32's, whose digest of 'abc' is published: 0x32D153FF."""
    vector = topic_vector("abc")
    assert vector[(0x32D153FF >> 1) % 64] == 1 and np.count_nonzero(vector) == 1
