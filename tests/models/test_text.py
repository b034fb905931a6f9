"""Streamed text: whole characters, never a part of a stop string, in sum the text of all the tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.models.generate.text import TextWriter, plain_text
from raysafe.models.presets import byte_tokenizer, train_tokenizer
from tests.examples import examples

BYTES = byte_tokenizer()
MERGED = train_tokenizer(["the cat sat \U0001f600\U0001f600 naïve " * 5], 280)


def pieces(tokenizer, tokens: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], TextWriter]:
    """What each token lets out, and what closing lets out."""
    writer, shown, out = TextWriter(tokenizer, stop), 0, []
    for token in tokens:
        if writer.stopped:
            break
        writer.write(token)
        out.append(writer.text[shown:])
        shown = len(writer.text)
    writer.close()
    return [*out, writer.text[shown:]], writer


@given(st.text(), st.sampled_from([BYTES, MERGED]))
@settings(max_examples=examples(200), deadline=None)
def test_pieces_are_whole_characters_that_add_up_to_the_text(text: str, tokenizer) -> None:
    out, _ = pieces(tokenizer, tokenizer(text, split_special_tokens=True)["input_ids"])
    assert "".join(out) == text
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in out)


@given(st.lists(st.integers(0, len(MERGED) - 1), max_size=40))
@settings(max_examples=examples(200), deadline=None)
def test_any_tokens_even_broken_bytes_add_up_to_their_plain_text(tokens: list[int]) -> None:
    assert "".join(pieces(MERGED, tokens)[0]) == plain_text(MERGED, tokens)


@given(st.text("ab\U0001f600", max_size=12), st.lists(st.text("ab\U0001f600", min_size=1, max_size=4), max_size=3))
@settings(max_examples=examples(300), deadline=None)
def test_text_ends_where_the_first_stop_string_completes(text: str, stop: list[str]) -> None:
    out, writer = pieces(BYTES, BYTES(text)["input_ids"], tuple(stop))
    expected = text
    for end in range(len(text) + 1):
        met = [s for s in stop if text[:end].endswith(s)]
        if met:
            expected = text[: end - max(map(len, met))]
            break
    assert "".join(out) == expected
    assert writer.stopped == (expected != text)


def test_an_unfinished_stop_string_is_held_back_until_it_is_decided() -> None:
    out, _ = pieces(BYTES, BYTES("a<en>b<end>c")["input_ids"], ("<end>",))
    assert out == ["a", "", "", "", "<en>", "b", "", "", "", "", "", ""]


def test_a_character_of_several_tokens_comes_out_at_once() -> None:
    out, _ = pieces(BYTES, BYTES("é\U0001f600")["input_ids"])
    assert out == ["", "é", "", "", "", "\U0001f600", ""]


def test_special_tokens_are_not_text() -> None:
    out, _ = pieces(BYTES, BYTES("a<|im_start|>b")["input_ids"])
    assert "".join(out) == "ab"
