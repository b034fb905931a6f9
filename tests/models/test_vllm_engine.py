"""The vLLM engine answers as the transformers engine does; needs vLLM (`make vllm-setup`), without it only the rest."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from raysafe.errors import ModelError
from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.rows import Row
from raysafe.models.generate.scheduler import Scheduler
from raysafe.models.generate.text import TextWriter
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.generate.vllm_engine import VLLMEngine, fill
from raysafe.models.generate.vllm_pool import VLLMPool
from raysafe.models.language import load_policy, save_policy
from raysafe.models.presets import Preset, byte_tokenizer, make_policy
from tests.models.test_scheduler import Inbox

GREEDY = SamplingParams(max_tokens=40, temperature=0)
SAMPLED = SamplingParams(max_tokens=30, n=3, seed=5)
PROMPTS = [[10, 20, 30], [40], [50, 60, 70, 80, 90, 100, 110], [33] * 40]


@dataclass
class Logprob:
    """As vllm.logprobs.Logprob."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class Completion:
    """As vllm.outputs.CompletionOutput."""

    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


def written(tokens: list[int], finish_reason: str | None = None) -> Completion:
    return Completion(tokens, [{token: Logprob(-0.5 * token, 1)} for token in tokens], finish_reason)


def row(limit: int = 10, stop: tuple[str, ...] = ()) -> Row:
    return Row(0, (1, 2), SamplingParams(), limit, 0, 0, TextWriter(byte_tokenizer(), stop) if stop else None)


def test_a_token_that_ends_an_answer_is_kept_with_its_logprob() -> None:
    answer = row()
    fill(answer, written([65, 66]), frozenset({99}))
    assert answer.finish is None
    fill(answer, written([67, 99], "stop"), frozenset({99}))
    assert (answer.tokens, answer.logprobs) == ([65, 66, 67, 99], [-32.5, -33.0, -33.5, -49.5])
    assert (answer.finish, answer.ended) == ("stop", True)


def test_an_answer_at_its_limit_says_length() -> None:
    answer = row(limit=2)
    fill(answer, written([65, 66], "length"), frozenset())
    assert (answer.finish, answer.ended) == ("length", False)


def test_a_stop_string_ends_the_answer_before_the_tokens_that_came_too_late() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer("one two three")["input_ids"]
    answer = row(limit=20, stop=("two",))
    fill(answer, written(ids), frozenset())
    assert answer.generation(tokenizer).text == "one "
    assert (answer.finish, answer.tokens) == ("stop", ids[:7])


def test_an_answer_that_vllm_gave_up_is_an_error() -> None:
    with pytest.raises(ModelError, match="ended an answer after 1 tokens with 'abort'"):
        fill(row(), written([65], "abort"), frozenset())


def test_a_logprob_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ModelError, match="not finite"):
        fill(row(), Completion([65], [{65: Logprob(float("nan"))}]), frozenset())


class FakeEngine:
    """Takes rows; a step ends the first, or fails."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.broken = False

    def add(self, row: Row, sampling: SamplingParams, *, piecewise: bool) -> str:
        assert piecewise and sampling is row.sampling
        self.rows[str(len(self.rows))] = row
        return str(len(self.rows) - 1)

    def drop(self, names: list[str]) -> None:
        for name in names:
            del self.rows[name]

    def advance(self) -> None:
        if self.broken:
            raise RuntimeError("the engine died")
        next(iter(self.rows.values())).finish = "stop"


def test_a_pool_on_vllm_is_bounded_and_a_step_that_fails_fails_its_rows() -> None:
    fake = FakeEngine()
    pool = VLLMPool(fake, 2)  # type: ignore[arg-type]
    rows = [row() for _ in range(3)]
    assert pool.admit(rows) == rows[:2] and pool.admit(rows[2:]) == []
    assert pool.step() == [] and rows[0].finish == "stop"
    assert pool.admit(rows[2:]) == rows[2:]
    pool.drop([rows[0], rows[2]])
    assert list(fake.rows.values())[-1] is rows[1]
    fake.broken = True
    assert [failed for failed, _ in pool.step()] == [rows[1]]
    assert pool.step() == [], "it has left"


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_remedy_is_named() -> None:
    with pytest.raises(ModelError, match=r"pip install 'raysafe\[vllm\]'"):
        VLLMEngine("model", byte_tokenizer())


def restless_policy(seed: int) -> Any:
    """Heads of 32 features, which vLLM's CPU kernels need, and wide weights, so that untrained outputs vary."""
    shape = Preset(layers=2, width=128, heads=4, key_value_heads=2, feedforward=256, context=128)
    model = make_policy(shape, byte_tokenizer(), seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(12)
    return model


@pytest.fixture(scope="module")
def oracle() -> TransformersEngine:
    return TransformersEngine(restless_policy(0), byte_tokenizer())


@pytest.fixture(scope="module")
def engine(oracle: TransformersEngine, tmp_path_factory: pytest.TempPathFactory) -> VLLMEngine:
    pytest.importorskip("vllm", reason="vLLM is not installed here: `make vllm-setup` makes its environment")
    folder = tmp_path_factory.mktemp("model")
    save_policy(oracle.model, oracle.tokenizer, folder)
    return VLLMEngine(folder, oracle.tokenizer, cache_bytes=1 << 28)


def full_logprobs(model: Any, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[torch.arange(len(tokens)), torch.tensor(tokens)]


@pytest.mark.slow
def test_greedy_answers_are_those_of_the_transformers_engine(engine: VLLMEngine, oracle: TransformersEngine) -> None:
    for own, other in zip(engine.generate(PROMPTS, GREEDY), oracle.generate(PROMPTS, GREEDY), strict=True):
        assert (own.prompt, own.tokens, own.text, own.finish_reason) == (
            other.prompt, other.tokens, other.text, other.finish_reason,
        )  # fmt: skip
        torch.testing.assert_close(torch.tensor(own.logprobs), torch.tensor(other.logprobs), rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 5}], ids=["1", "top_p", "top_k"])
def test_logprobs_of_samples_are_the_models_own_at_temperature_one(
    engine: VLLMEngine, oracle: TransformersEngine, change: dict[str, float]
) -> None:
    answers = engine.generate(PROMPTS, SAMPLED.model_copy(update=change))
    assert [a.prompt for a in answers] == [p for p in range(len(PROMPTS)) for _ in range(3)]
    for answer in answers:
        expected = full_logprobs(oracle.model, PROMPTS[answer.prompt], answer.tokens)
        torch.testing.assert_close(torch.tensor(answer.logprobs), expected, rtol=0, atol=1e-3)
    assert len({tuple(a.tokens) for a in answers}) > 2 * len(PROMPTS), "samples of a prompt differ"


@pytest.mark.slow
def test_the_same_seed_and_prompt_draw_the_same_answer_alone(engine: VLLMEngine, oracle: TransformersEngine) -> None:
    together = engine.generate(PROMPTS, SAMPLED)
    alone = [answer for prompt in PROMPTS for answer in engine.generate([prompt], SAMPLED)]
    assert [a.tokens for a in together] == [a.tokens for a in alone]
    other = engine.generate(PROMPTS, SAMPLED.model_copy(update={"seed": 6}))
    assert [a.tokens for a in together] != [a.tokens for a in other]


@pytest.mark.slow
def test_stop_strings_and_streams_are_those_of_the_transformers_engine(
    engine: VLLMEngine, oracle: TransformersEngine
) -> None:
    prompt = PROMPTS[0]
    whole = oracle.generate([prompt], GREEDY)[0].text
    mark = next(c for c in whole[5:] if c.isascii() and c.isprintable())
    sampling = GREEDY.model_copy(update={"stop": (mark,)})
    (expected,) = oracle.generate([prompt], sampling)
    assert expected.finish_reason == "stop" and 0 < len(expected.text) < len(whole)
    (own,) = engine.generate([prompt], sampling)
    assert (own.tokens, own.text, own.finish_reason) == (expected.tokens, expected.text, "stop")
    stream = engine.stream(prompt, GREEDY)
    pieces = list(stream)
    assert "".join(pieces) == whole and len(pieces) > 5
    assert stream.generation is not None and stream.generation.finish_reason == "length"


@pytest.mark.slow
def test_cancelled_answers_keep_what_was_written(engine: VLLMEngine, oracle: TransformersEngine) -> None:
    steps = iter(range(100))
    answers = engine.generate(PROMPTS, GREEDY, lambda: next(steps) == 6)
    assert {a.finish_reason for a in answers} == {"cancelled"}
    for own, other in zip(answers, oracle.generate(PROMPTS, GREEDY), strict=True):
        assert 0 < len(own.tokens) < 10
        assert own.tokens == other.tokens[: len(own.tokens)]
    assert engine.generate(PROMPTS, GREEDY)[0].finish_reason == "length", "the next call is not disturbed"


@pytest.mark.slow
def test_a_scheduler_writes_for_many_callers_at_once_and_frees_what_is_cancelled(
    engine: VLLMEngine, oracle: TransformersEngine
) -> None:
    scheduler = Scheduler(engine.pool(3), oracle.tokenizer, context=engine.context, max_waiting=99)
    gone = Inbox()
    ticket = scheduler.submit([7], SamplingParams(max_tokens=120, temperature=0), gone)
    gone.next()
    asks = [(prompt, GREEDY if n else SAMPLED.model_copy(update={"n": 1}), Inbox()) for n, prompt in enumerate(PROMPTS)]
    for prompt, sampling, inbox in asks:
        scheduler.submit(prompt, sampling, inbox)
    scheduler.cancel(ticket)
    for prompt, sampling, inbox in asks:
        end = inbox.end()
        assert len(inbox.updates) > 3 and "".join(update.text for update in inbox.updates) == end.text
        expected = (oracle if sampling is GREEDY else engine).generate([prompt], sampling)[0]
        assert (end.tokens, end.finish_reason) == (expected.tokens, expected.finish_reason)
    assert gone.updates[-1].end is None
    scheduler.close()
    assert not engine._rows


@pytest.mark.slow
def test_updated_weights_answer_as_their_model_and_the_old_ones_as_before(
    engine: VLLMEngine, oracle: TransformersEngine
) -> None:
    before = engine.generate(PROMPTS, GREEDY)
    other = restless_policy(1)
    engine.update_weights(other.state_dict())
    expected = TransformersEngine(other, oracle.tokenizer).generate(PROMPTS, GREEDY)
    changed = engine.generate(PROMPTS, GREEDY)
    assert [a.tokens for a in changed] == [a.tokens for a in expected]
    assert [a.tokens for a in changed] != [a.tokens for a in before]
    # without the tied output layer, and as arrays
    engine.update_weights({k: v.numpy() for k, v in oracle.model.state_dict().items() if "lm_head" not in k})
    assert [a.tokens for a in engine.generate(PROMPTS, GREEDY)] == [a.tokens for a in before]


@pytest.mark.slow
def test_what_does_not_fit_is_refused_and_nothing_changes(engine: VLLMEngine, oracle: TransformersEngine) -> None:
    before = engine.generate(PROMPTS, GREEDY)
    with pytest.raises(ModelError, match="weights don't fit LlamaForCausalLM"):
        engine.update_weights(load_policy("preset:tiny").state_dict())
    with pytest.raises(ModelError, match="prompt 1 has 128 tokens, the model takes 128"):
        engine.generate([[5], [5] * 128], GREEDY)
    with pytest.raises(ModelError, match="prompt 0 holds a token that the model doesn't have: it has 259"):
        engine.generate([[259]], GREEDY)
    stream = engine.stream([5], GREEDY)
    next(stream)
    with pytest.raises(ModelError, match="weights can't change while answers are being written"):
        engine.update_weights(oracle.model.state_dict())
    del stream
    assert engine.generate(PROMPTS, GREEDY) == before
