"""Choices read together, their prompt encoded once, are as likely as each is alone in a plain forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies

from raysafe.errors import ModelError
from raysafe.models.attention import PACKED
from raysafe.models.generate.choices import choice_logprobs, exclusive, telling_ids
from raysafe.models.language import load_policy, load_tokenizer
from tests.models.test_engine import gpt2, restless_policy, sliding_window_mistral
from tests.real_data import STORIES

PROMPTS = [[10, 20, 30], [40], [50, 60, 70, 80, 90, 100, 110] * 4, [10, 20]]
CHOICES = [[7], [8, 9], [8, 10, 11, 12], [9]]


def one_by_one(model: torch.nn.Module, prompts: list[list[int]], choices: list[list[list[int]]]) -> np.ndarray:
    """Each prompt with each choice alone, through transformers and log_softmax only."""
    rows = []
    for prompt, several in zip(prompts, choices, strict=True):
        for choice in several:
            with torch.no_grad():
                logps = model(torch.tensor([prompt + choice])).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
            rows.append(float(logps[torch.arange(len(choice)), torch.tensor(choice)].sum()))
    return np.array(rows).reshape(len(prompts), -1)


@pytest.mark.parametrize("build", [restless_policy, lambda: load_policy("preset:tiny"), gpt2, sliding_window_mistral])
@pytest.mark.parametrize("batch_tokens", [1, 80, 8192])
def test_choices_together_are_as_likely_as_alone(build, batch_tokens: int) -> None:
    model, choices = build(), [CHOICES] * len(PROMPTS)
    expected_NK = one_by_one(model, PROMPTS, choices)
    found_NK = choice_logprobs(model, PROMPTS, choices, batch_tokens=batch_tokens)
    np.testing.assert_allclose(found_NK, expected_NK, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected_NK) > 1e-3, "the choices differ"


@pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not here")
def test_a_real_models_choices_are_those_of_one_sequence_at_a_time() -> None:
    model, tokenizer = load_policy(STORIES), load_tokenizer(STORIES)
    prompts = [tokenizer(text)["input_ids"] for text in ("Once upon a time there was a", "Lily was", "The dog and the")]
    words = [
        tokenizer(word, add_special_tokens=False)["input_ids"] for word in ("cat", "little girl", "happy", "zebra")
    ]
    choices = [telling_ids(words)] * len(prompts)
    expected_NK = one_by_one(model, prompts, choices)
    np.testing.assert_allclose(choice_logprobs(model, prompts, choices), expected_NK, rtol=1e-5, atol=1e-4)


def test_all_one_token_choices_share_out_the_whole_probability() -> None:
    logps_1V = choice_logprobs(restless_policy(), [[10, 20]], [[[token] for token in range(259)]])
    assert np.exp(logps_1V).sum() == pytest.approx(1, abs=1e-6)


@given(strategies.lists(strategies.lists(strategies.integers(0, 2), max_size=4), min_size=2, max_size=4))
def test_telling_ids_tell_choices_apart_whenever_their_ends_do(bare: list[list[int]]) -> None:
    ended = telling_ids([[*ids, 9] for ids in bare])
    assert exclusive(ended) == (len({tuple(ids) for ids in bare}) == len(bare))


def test_a_shared_end_is_left_out_unless_a_choice_begins_another() -> None:
    assert telling_ids([[5, 9], [6, 9]]) == [[5], [6]]
    assert telling_ids([[5, 9], [5, 6, 9]]) == [[5, 9], [5, 6, 9]]


@pytest.mark.parametrize(
    ("prompt", "choices", "message"),
    [
        ([], [[1], [2]], "prompt 0 is empty"),
        ([5] * 63, [[1], [2, 3]], "prompt 0 has 65 tokens with its longest choice, the model takes 64"),
        ([5], [[1], [1, 2]], "must differ"),
        ([5], [[1], []], "must differ"),
    ],
)
def test_what_cannot_be_weighed_is_refused(prompt: list[int], choices: list[list[int]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        choice_logprobs(restless_policy(), [prompt], [choices])


def test_damaged_weights_are_an_error_not_a_verdict() -> None:
    model = load_policy("preset:tiny")
    with torch.no_grad():
        model.base_model.norm.weight.fill_(np.nan)
    with pytest.raises(ModelError, match="not finite"):
        choice_logprobs(model, [[5]], [[[1], [2]]])


def test_a_model_set_to_packed_attention_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="sdpa"):
        choice_logprobs(load_policy("preset:tiny", attention=PACKED), [[5]], [[[1], [2]]])
