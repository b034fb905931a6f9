"""The states read are those that transformers returns, of the right tokens, and no text is read in part."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from raysafe.errors import ModelError
from raysafe.models.activations import ActivationReader
from raysafe.models.chat import ChatFormat
from raysafe.models.language import load_tokenizer
from tests.models.test_engine import gpt2, sliding_window_mistral
from tests.real_data import STORIES

PROMPT = [{"role": "user", "content": "What is bread?"}]
STORIES_MARK = pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not here")


def hidden_states(reader: ActivationReader, ids: list[int]) -> list[np.ndarray]:
    with torch.no_grad():
        output = reader.policy(torch.tensor([ids]), output_hidden_states=True)
    return [state[0].double().numpy() for state in output.hidden_states]


def readers() -> list[ActivationReader]:
    chat = ChatFormat(load_tokenizer("preset:tiny"))
    return [ActivationReader(build(), chat, "model") for build in (gpt2, sliding_window_mistral)]


@pytest.mark.parametrize("which", ["preset:tiny", pytest.param(str(STORIES), marks=STORIES_MARK), "gpt2", "mistral"])
def test_states_are_transformers_hidden_states(which: str) -> None:
    others = {"gpt2": 0, "mistral": 1}
    reader = readers()[others[which]] if which in others else ActivationReader.load(which, chat_template="plain")
    ids = reader.chat.encode(PROMPT)[0]
    expected = hidden_states(reader, ids)
    for layer in range(len(reader.blocks)):
        np.testing.assert_allclose(reader.states(PROMPT, None, layer), expected[layer], atol=1e-5)
    norm = next(m for n, m in reader.policy.base_model.named_children() if n in ("norm", "ln_f"))
    last = reader.states(PROMPT, None, len(reader.blocks))
    with torch.no_grad():
        normalised = norm(torch.tensor(last, dtype=torch.float32))
    np.testing.assert_allclose(normalised, expected[-1], atol=1e-4)


def test_blocks_are_found_inside_a_decoder() -> None:
    from transformers import OPTConfig, OPTForCausalLM

    config = OPTConfig(
        vocab_size=259, hidden_size=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=16,
        max_position_embeddings=64,
    )  # fmt: skip
    reader = ActivationReader(OPTForCausalLM(config).eval(), ChatFormat(load_tokenizer("preset:tiny")), "opt")
    prompt = [{"role": "user", "content": "Hi"}]
    expected = hidden_states(reader, reader.chat.encode(prompt)[0])
    for layer in range(2):
        np.testing.assert_allclose(reader.states(prompt, None, layer), expected[layer], atol=1e-5)


def test_an_answers_states_are_its_own_tokens_after_the_prompt() -> None:
    reader = ActivationReader.load("preset:tiny")
    prompt_ids, answer_ids = reader.chat.encode(PROMPT, "Flour.")
    expected_TD = hidden_states(reader, prompt_ids + answer_ids)[1][len(prompt_ids) :]
    np.testing.assert_allclose(reader.states(PROMPT, "Flour.", 1), expected_TD, atol=1e-5)


def test_an_untrained_reader_has_other_weights_and_the_same_shape() -> None:
    reader = ActivationReader.load("preset:tiny")
    one, again, other = (ActivationReader.untrained("preset:tiny", seed).states(PROMPT, None, 1) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, again)
    assert one.shape == reader.states(PROMPT, None, 1).shape and not np.allclose(one, other)


@pytest.mark.parametrize("length", [3000, 3_000_000])
def test_a_text_beyond_the_context_is_an_error_and_is_not_cut(length: int) -> None:
    reader = ActivationReader.load("preset:tiny")
    with pytest.raises(ModelError, match=r"exceeds the context of preset:tiny, 2048 tokens"):
        reader.states([{"role": "user", "content": "a" * length}], None, 1)


@pytest.mark.parametrize("layer", [-1, 3])
def test_a_layer_that_is_not_there_is_named(layer: int) -> None:
    with pytest.raises(ModelError, match=f"layer must lie within 0 and 2, the blocks of preset:tiny, got {layer}"):
        ActivationReader.load("preset:tiny").states(PROMPT, None, layer)


def test_threads_read_their_own_texts() -> None:
    reader = ActivationReader.load("preset:tiny")
    prompts = [[{"role": "user", "content": "ab" * n}] for n in range(1, 9)]
    alone = [reader.states(prompt, None, 1) for prompt in prompts]
    found: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: reader.states(prompts[i], None, 1)})) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, states_TD in enumerate(alone):
        np.testing.assert_array_equal(found[i], states_TD)
