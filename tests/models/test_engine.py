"""Batched generation equals transformers' own, prompt by prompt, with log-probabilities of a full forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from raysafe.errors import ConfigError, ModelError
from raysafe.models.chat import ChatFormat
from raysafe.models.generate import transformers_engine
from raysafe.models.generate.decoding import Decoding
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.language import load_policy, load_tokenizer
from raysafe.models.presets import Preset, byte_tokenizer, make_policy
from tests.real_data import STORIES

PROMPTS = [[10, 20, 30], [40], [50, 60, 70, 80, 90, 100, 110], [10, 20], [33] * 20]
GREEDY = SamplingParams(max_tokens=12, temperature=0)
SAMPLED = SamplingParams(max_tokens=12, temperature=1.3, top_p=0.95, seed=4)


def restless_policy() -> LlamaForCausalLM:
    """A tiny Llama whose untrained outputs vary: wide initial weights."""
    model = make_policy(Preset(layers=2, width=32, heads=4, key_value_heads=2, feedforward=64, context=64), TOKENIZER)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(12)
    return model


TOKENIZER = byte_tokenizer()
ENGINE = TransformersEngine(restless_policy(), TOKENIZER)


def full_logprobs(model: torch.nn.Module, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[torch.arange(len(tokens)), torch.tensor(tokens)]


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4)).eval()


def sliding_window_mistral() -> MistralForCausalLM:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=6, initializer_range=0.4,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


@pytest.mark.parametrize("build", [restless_policy, gpt2, sliding_window_mistral])
def test_greedy_answers_to_ragged_prompts_are_those_of_transformers_generate(build) -> None:
    model = build()
    model.generation_config.eos_token_id = None
    engine = TransformersEngine(model, TOKENIZER)
    engine.stop_ids = frozenset()
    answers = engine.generate(PROMPTS, GREEDY)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        expected = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert answer.tokens == expected[0, len(prompt) :].tolist()
    assert len({token for answer in answers for token in answer.tokens}) > 10, "the answers vary"


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_logprobs_are_those_of_a_full_forward_pass_at_temperature_one(sampling: SamplingParams) -> None:
    for prompt, answer in zip(PROMPTS, ENGINE.generate(PROMPTS, sampling), strict=True):
        expected = full_logprobs(ENGINE.model, prompt, answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logprobs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, SAMPLED.model_copy(update={"n": 3})], ids=["0", "1", "n3"])
@pytest.mark.parametrize("limits", [{"batch_rows": 2}, {"batch_tokens": 50}, {}], ids=["rows", "tokens", "one"])
def test_answers_do_not_depend_on_the_batch(sampling: SamplingParams, limits: dict) -> None:
    together = TransformersEngine(ENGINE.model, TOKENIZER, **limits).generate(PROMPTS, sampling)
    alone = [answer for prompt in PROMPTS for answer in ENGINE.generate([prompt], sampling)]
    assert [a.tokens for a in together] == [a.tokens for a in alone]
    assert [a.prompt for a in together] == [p for p in range(len(PROMPTS)) for _ in range(sampling.n)]


def test_samples_of_one_prompt_and_repeats_of_it_differ() -> None:
    several = ENGINE.generate([[10, 20]], SAMPLED.model_copy(update={"n": 4}))
    repeats = ENGINE.generate([[10, 20]] * 4, SAMPLED)
    other_seed = ENGINE.generate([[10, 20]], SAMPLED.model_copy(update={"seed": 5}))
    for answers in (several, repeats, [several[0], *other_seed]):
        assert len({tuple(a.tokens) for a in answers}) == len(answers)


def test_sampled_first_tokens_follow_the_models_distribution() -> None:
    probabilities_V = ENGINE.model(torch.tensor([[10, 20]])).logits[0, -1].detach().double().softmax(-1)
    answers = ENGINE.generate([[10, 20]], SamplingParams(max_tokens=1, n=4000, seed=8))
    drawn_V = torch.bincount(torch.tensor([a.tokens[0] for a in answers]), minlength=259)
    frequent = probabilities_V * len(answers) >= 5
    observed = [*drawn_V[frequent].tolist(), int(drawn_V[~frequent].sum())]
    expected = [*probabilities_V[frequent].tolist(), float(probabilities_V[~frequent].sum())]
    assert stats.chisquare(observed, np.array(expected) * len(answers)).pvalue > 1e-4


def test_of_a_narrow_nucleus_the_likeliest_is_drawn() -> None:
    narrow = SamplingParams(max_tokens=12, temperature=1.0, top_p=1e-9, seed=4)
    drawn, greedy = (ENGINE.generate(PROMPTS, sampling) for sampling in (narrow, GREEDY))
    assert [answer.tokens for answer in drawn] == [answer.tokens for answer in greedy]


@pytest.mark.parametrize(
    ("limits", "sizes"), [({"batch_rows": 3}, [3, 2]), ({"batch_tokens": 44}, [2, 2, 1])], ids=["rows", "tokens"]
)
def test_a_batch_is_within_its_bounds(
    limits: dict[str, int], sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[int]] = []

    class Noted(Decoding):
        def __init__(self, model: Any, rows: list[Any], *settings: Any) -> None:
            batches.append([row.longest for row in rows])
            super().__init__(model, rows, *settings)

    monkeypatch.setattr(transformers_engine, "Decoding", Noted)
    engine = TransformersEngine(ENGINE.model, TOKENIZER, **limits)
    engine.generate([[5] * length for length in (10, 9, 8, 7, 6)], GREEDY)
    assert [len(batch) for batch in batches] == sizes


def test_end_of_sequence_stops_and_is_kept_among_the_tokens_only() -> None:
    greedy = ENGINE.generate([[10, 20, 30]], GREEDY)[0]
    engine = TransformersEngine(ENGINE.model, TOKENIZER)
    engine.stop_ids = frozenset({greedy.tokens[4]})
    cut = engine.generate([[10, 20, 30]], GREEDY)[0]
    end = greedy.tokens.index(greedy.tokens[4])
    assert cut.tokens == greedy.tokens[: end + 1]
    assert len(cut.logprobs) == end + 1
    assert cut.finish_reason == "stop"
    assert cut.text == TOKENIZER.decode(greedy.tokens[:end])
    assert greedy.finish_reason == "length"


def test_rows_that_end_early_leave_the_others_as_they_were() -> None:
    plain = ENGINE.generate(PROMPTS, SAMPLED)
    engine = TransformersEngine(ENGINE.model, TOKENIZER)
    engine.stop_ids = frozenset({plain[0].tokens[2], plain[3].tokens[5]})
    for answer, whole in zip(engine.generate(PROMPTS, SAMPLED), plain, strict=True):
        assert answer.tokens == whole.tokens[: len(answer.tokens)]
        assert (answer.finish_reason == "stop") == (answer.tokens[-1] in engine.stop_ids)


@pytest.mark.parametrize("build", [restless_policy, gpt2, sliding_window_mistral])
def test_rows_that_leave_a_ragged_batch_take_nothing_along(build) -> None:
    model = build()
    engine = TransformersEngine(model, TOKENIZER)
    engine.stop_ids = frozenset()
    sampling = SamplingParams(max_tokens=40, seed=3, n=2)
    endless = engine.generate(PROMPTS, sampling)
    # the longest prompt ends first, and with it the padding that the others had
    engine.stop_ids = frozenset({endless[8].tokens[4], endless[9].tokens[6], endless[0].tokens[20]})
    together = engine.generate(PROMPTS, sampling)
    alone = [answer for prompt in PROMPTS for answer in engine.generate([prompt], sampling)]
    assert [a.tokens for a in together] == [a.tokens for a in alone]
    assert len({len(a.tokens) for a in together}) > 4, "the rows end at different times"
    for answer in together:
        expected = full_logprobs(model, PROMPTS[answer.prompt], answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logprobs), expected, rtol=1e-4, atol=1e-4)


def test_stop_string_ends_the_row_that_wrote_it() -> None:
    sampling = SamplingParams(max_tokens=40, temperature=1, seed=1)
    whole = ENGINE.generate([[65, 66]], sampling)[0]
    mark = next(c for c in whole.text if c.isascii() and c.isprintable())
    answer = ENGINE.generate([[65, 66]], sampling.model_copy(update={"stop": (mark,)}))[0]
    assert answer.text == whole.text[: whole.text.index(mark)]
    assert answer.finish_reason == "stop"
    assert answer.tokens == whole.tokens[: len(answer.tokens)] and len(answer.tokens) < 40


@pytest.mark.parametrize("stop", [(), ("e", "qz")])
def test_streamed_pieces_add_up_to_the_generated_text(stop: tuple[str, ...]) -> None:
    for seed in range(5):
        sampling = SamplingParams(max_tokens=40, seed=seed, stop=stop)
        expected = ENGINE.generate([[65, 66]], sampling)[0]
        stream = ENGINE.stream([65, 66], sampling)
        assert stream.generation is None
        assert "".join(stream) == expected.text
        assert stream.generation == expected


def test_cancelled_answers_keep_what_was_written() -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    whole = ENGINE.generate(PROMPTS, GREEDY)
    answers = TransformersEngine(ENGINE.model, TOKENIZER, batch_rows=2).generate(PROMPTS, GREEDY, cancelled)
    assert {a.finish_reason for a in answers} == {"cancelled"}
    assert sorted(len(a.tokens) for a in answers) == [0, 0, 0, 3, 3]
    for answer, full in zip(answers, whole, strict=True):
        assert answer.tokens == full.tokens[: len(answer.tokens)]


def test_a_cancelled_stream_ends_and_says_so() -> None:
    written: list[str] = []
    stream = ENGINE.stream([65], SamplingParams(max_tokens=60, seed=2), lambda: len(written) >= 2)
    for piece in stream:
        written.append(piece)
    assert stream.generation is not None and stream.generation.finish_reason == "cancelled"
    assert "".join(written) == stream.generation.text


def test_the_context_limits_the_answer_and_refuses_a_longer_prompt() -> None:
    answer = ENGINE.generate([[5] * 60], SamplingParams(max_tokens=50, temperature=0))[0]
    assert len(answer.tokens) == 4 and answer.finish_reason == "length"
    with pytest.raises(ModelError, match="prompt 1 has 64 tokens, the model takes 64"):
        ENGINE.generate([[5], [5] * 64], GREEDY)
    with pytest.raises(ModelError, match="prompt 0 is empty"):
        ENGINE.generate([[]], GREEDY)


def test_updated_weights_answer_as_the_model_they_came_from() -> None:
    engine = TransformersEngine(load_policy("preset:tiny", seed=1), TOKENIZER)
    other = load_policy("preset:tiny", seed=2)
    engine.update_weights(
        {name: weight.numpy() for name, weight in other.state_dict().items() if "lm_head" not in name}
    )
    expected = TransformersEngine(other, TOKENIZER).generate(PROMPTS, SAMPLED)
    assert engine.generate(PROMPTS, SAMPLED) == expected


def test_weights_of_another_model_are_refused() -> None:
    engine = TransformersEngine(load_policy("preset:tiny"), TOKENIZER)
    with pytest.raises(ModelError, match="weights don't fit LlamaForCausalLM"):
        engine.update_weights(load_policy("preset:small").state_dict())
    with pytest.raises(ModelError, match=r"names differ, as model\.norm\.weight"):
        engine.update_weights({k: v for k, v in engine.model.state_dict().items() if "model.norm" not in k})


def test_damaged_weights_are_an_error_not_an_answer() -> None:
    model = load_policy("preset:tiny")
    with torch.no_grad():
        model.base_model.norm.weight.fill_(np.nan)
    with pytest.raises(ModelError, match="not finite"):
        TransformersEngine(model, TOKENIZER).generate([[5]], SAMPLED)


def test_answers_end_at_the_chat_templates_end_of_turn() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "</s>"})
    model = make_policy("tiny", tokenizer)
    chat = ChatFormat(tokenizer)
    assert set(chat.stop_ids) <= TransformersEngine(model, chat.tokenizer).stop_ids


@pytest.mark.parametrize(
    ("field", "value"), [("temperature", -0.1), ("top_p", 0.0), ("max_tokens", 0), ("stop", ["a", ""]), ("n", 0)]
)
def test_impossible_sampling_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field):
        SamplingParams.parse({field: value})


@pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not here")
def test_a_real_model_tells_the_story_that_transformers_tells() -> None:
    model, tokenizer = load_policy(STORIES), load_tokenizer(STORIES)
    prompts = [tokenizer(text)["input_ids"] for text in ("Once upon a time", "The cat", "Lily and Tom went to the")]
    answers = TransformersEngine(model, tokenizer).generate(prompts, SamplingParams(max_tokens=50, temperature=0))
    for prompt, answer in zip(prompts, answers, strict=True):
        expected = model.generate(torch.tensor([prompt]), max_new_tokens=50, do_sample=False)[0, len(prompt) :]
        assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
