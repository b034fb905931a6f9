"""Rows that come and go at any time are written as they are alone, by the oracle of the engine's own `generate`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.joining import JoiningPool
from raysafe.models.generate.rows import Row, make_rows
from raysafe.models.generate.transformers_engine import TransformersEngine
from raysafe.models.language import load_policy, load_tokenizer
from tests.examples import examples
from tests.models.test_engine import TOKENIZER, full_logprobs, gpt2, restless_policy, sliding_window_mistral
from tests.real_data import STORIES

ENGINE = TransformersEngine(restless_policy(), TOKENIZER)


GREEDY = SamplingParams(max_tokens=20, temperature=0)


def make_row(prompt: list[int], sampling: SamplingParams, engine: TransformersEngine = ENGINE) -> Row:
    return make_rows([prompt], sampling, TOKENIZER, context=engine.context, watch=True)[0]


def run(pool: JoiningPool, arrivals: list[tuple[int, Row]]) -> int:
    """Step until all are written, admitting each row at its step at the earliest; the most batches at a time."""
    waiting, step, most = sorted(arrivals, key=lambda arrival: arrival[0]), 0, 0
    while waiting or pool._held:
        due = [row for at, row in waiting if at <= step]
        taken = pool.admit(due)
        waiting = [(at, row) for at, row in waiting if row not in taken]
        assert pool.step() == []
        most = max(most, len(pool._writing))
        step += 1
        assert step < 2000
    return most


@pytest.mark.parametrize("build", [restless_policy, gpt2, sliding_window_mistral])
def test_rows_that_join_a_running_batch_are_written_as_alone(build: Any) -> None:
    engine = TransformersEngine(build(), TOKENIZER)
    engine.stop_ids = frozenset({7, 100, 180})
    prompts = [[10, 20, 30], [40], [50, 60, 70, 80, 90, 100, 110], [10, 20], [33] * 20, [3, 4, 5] * 4]
    arrivals = [
        (at, make_row(prompt, SamplingParams(max_tokens=24, seed=at, temperature=at % 3, top_k=5 * (at % 2)), engine))
        for at, prompt in zip((0, 0, 3, 4, 9, 14), prompts, strict=True)
    ]
    assert run(engine.pool(16), arrivals) == 1, "all are written in one batch"
    for _, row in arrivals:
        (alone,) = engine.generate([row.prompt], row.sampling)
        assert (row.tokens, row.finish) == (alone.tokens, alone.finish_reason)
        expected = full_logprobs(engine.model, list(row.prompt), row.tokens)
        torch.testing.assert_close(torch.tensor(row.logprobs), expected, rtol=1e-4, atol=1e-4)


ARRIVAL = st.tuples(
    st.integers(0, 40), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.0, 0.7, 1.0]), st.integers(0, 3)
)


@settings(max_examples=examples(10))
@given(st.lists(ARRIVAL, min_size=1, max_size=8), st.integers(1, 4), st.integers(3, 200))
def test_any_order_of_arrivals_and_any_bounds_write_the_same_answers(
    asks: list[tuple[int, int, int, float, int]], max_rows: int, max_tokens: int
) -> None:
    pool = JoiningPool(ENGINE.model, ENGINE.stop_ids, max_rows=max_rows, max_tokens=max_tokens)
    pool._chunk = 8
    arrivals = [
        (at, make_row([at + 3] * width, SamplingParams(max_tokens=limit, temperature=temperature, seed=seed)))
        for at, width, limit, temperature, seed in asks
    ]
    run(pool, arrivals)
    for _, row in arrivals:
        assert row.tokens == ENGINE.generate([row.prompt], row.sampling)[0].tokens


def test_padding_that_costs_more_than_the_weights_keeps_batches_apart() -> None:
    pool = ENGINE.pool(8)
    pool._weight_bytes = 0
    greedy = SamplingParams(max_tokens=20, temperature=0)
    rows = [make_row([5] * 40, greedy), make_row([6], greedy)]
    assert run(pool, [(0, rows[0]), (2, rows[1])]) == 2
    assert [row.tokens for row in rows] == [ENGINE.generate([row.prompt], greedy)[0].tokens for row in rows]


def test_a_long_prompt_is_read_between_the_tokens_of_those_that_run() -> None:
    pool = ENGINE.pool(8)
    pool._chunk = 8
    runs, reads = (make_row([5] * width, SamplingParams(max_tokens=12, temperature=0)) for width in (4, 40))
    pool.admit([runs])
    pool.step()
    pool.admit([reads])
    counts = []
    while reads.writer is not None and not reads.writer.count:
        before = runs.writer.count  # type: ignore[union-attr]
        pool.step()
        counts.append(runs.writer.count - before)  # type: ignore[union-attr]
    assert counts == [1] * 5, "five parts of eight, and a token of the other row beside each"


def test_a_short_prompt_is_read_before_a_long_one_that_came_first_but_does_not_keep_it_waiting_for_ever() -> None:
    pool = ENGINE.pool(16)
    pool._chunk = 4
    greedy = SamplingParams(max_tokens=1, temperature=0)
    long = make_row([9] * 12, greedy)
    pool.admit([long])
    shorts, done = 0, []
    while long.finish is None:
        short = make_row([5] * 3, greedy)
        pool.admit([short])
        pool.step()
        shorts += 1
        done.append(short.finish is not None)
    assert done[:3] == [True, True, True]
    assert shorts == 12, "one part in four is of the oldest: three parts in twelve steps"


def test_prompts_that_arrive_together_are_read_together_as_far_as_one_part_goes() -> None:
    pool = ENGINE.pool(16)
    pool._chunk = 64
    pool.admit([make_row([n + 3] * 16, GREEDY) for n in range(6)])
    assert sorted(len(batch.live) for batch in pool._reading) == [2, 4]


def test_a_dropped_row_leaves_at_the_next_step_whether_it_is_read_or_written() -> None:
    pool = ENGINE.pool(8)
    pool._chunk = 4
    greedy = SamplingParams(max_tokens=30, temperature=0)
    kept, written, unread = make_row([5, 6], greedy), make_row([7], greedy), make_row([9] * 30, greedy)
    pool.admit([kept, written])
    pool.step()
    pool.admit([unread])
    pool.step()
    pool.drop([written, unread])
    pool.step()
    assert pool._held == [kept] and not pool._dropped
    while pool._held:
        pool.step()
    assert kept.tokens == ENGINE.generate([kept.prompt], greedy)[0].tokens
    assert written.tokens == ENGINE.generate([written.prompt], greedy)[0].tokens[: len(written.tokens)]


def test_a_batch_that_fails_takes_its_own_rows_only() -> None:
    pool = ENGINE.pool(8)
    pool._weight_bytes = 0
    greedy = SamplingParams(max_tokens=20, temperature=0)
    good, bad = make_row([5] * 30, greedy), make_row([6], greedy)
    pool.admit([good])
    pool.step()
    pool.admit([bad])
    bad.writer.write = lambda token: 1 / 0  # type: ignore[union-attr, method-assign]
    failures = pool.step()
    assert [(row, type(error)) for row, error in failures] == [(bad, ZeroDivisionError)]
    while pool._held:
        assert pool.step() == []
    assert good.tokens == ENGINE.generate([good.prompt], greedy)[0].tokens


@pytest.mark.skipif(not STORIES.exists(), reason=f"{STORIES} is not here")
def test_a_real_model_tells_each_joined_story_as_transformers_tells_it() -> None:
    model, tokenizer = load_policy(STORIES), load_tokenizer(STORIES)
    engine, greedy = TransformersEngine(model, tokenizer), SamplingParams(max_tokens=40, temperature=0)
    texts = ["Once upon a time", "The cat", "Lily and Tom went to the park and saw", "One day"]
    arrivals = [(7 * n, make_row(tokenizer(text)["input_ids"], greedy, engine)) for n, text in enumerate(texts)]
    assert run(engine.pool(8), arrivals) == 1
    for _, row in arrivals:
        prompt = torch.tensor([row.prompt])
        expected = model.generate(prompt, max_new_tokens=40, do_sample=False)[0, len(row.prompt) :]  # type: ignore[operator]
        assert row.tokens == expected.tolist()
