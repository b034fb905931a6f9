"""Presets are reproducible; trained tokenizers lose nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.errors import ModelError
from raysafe.models.presets import PRESETS, byte_tokenizer, find_preset, make_policy, train_tokenizer
from tests.examples import examples

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "naïve café \U0001f600"] * 5
TOKENIZER = train_tokenizer(TEXTS, 300)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (make_policy("tiny", TOKENIZER, seed) for seed in (1, 1, 2))
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0, atol=0)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_making_a_policy_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    make_policy("tiny", TOKENIZER, 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("name", "parameters"), [("tiny", 0.11e6), ("small", 2.97e6)])
def test_parameter_counts_are_those_documented(name: str, parameters: float) -> None:
    model = make_policy(name, byte_tokenizer())
    assert model.num_parameters() == pytest.approx(parameters, rel=0.03)
    assert model.config.max_position_embeddings == PRESETS[name].context


@given(st.text())
@settings(max_examples=examples(200), deadline=None)
def test_every_text_comes_back_from_its_tokens(text: str) -> None:
    for tokenizer in (TOKENIZER, byte_tokenizer()):
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_training_a_tokenizer_is_reproducible_and_merges_what_is_frequent() -> None:
    assert train_tokenizer(TEXTS, 300).get_vocab() == TOKENIZER.get_vocab()
    assert 259 < len(TOKENIZER) <= 300
    assert len(TOKENIZER("the cat sat on the mat")["input_ids"]) < 10


def test_vocabulary_too_small_for_all_bytes_is_refused() -> None:
    with pytest.raises(ModelError, match=r"at least 259 .* got 100"):
        train_tokenizer(TEXTS, 100)


def test_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelError, match=r"'giant'.*tiny, small"):
        find_preset("preset:giant")
