"""Answers written on a GPU: those of the CPU where the likeliest token is taken, alone, in batches and as they join."""

from __future__ import annotations

import threading

import pytest
import torch

from raysafe.models.generate.engine import SamplingParams
from raysafe.models.generate.load import load_engine
from raysafe.models.generate.scheduler import Scheduler, Update
from raysafe.models.generate.transformers_engine import TransformersEngine
from tests.real_data import STORIES

TEXTS = [
    "Once upon a time",
    "Lily went to the park. She",
    "The dog",
    "One day, a big bear saw a little bird and",
    "Tom",
]
GREEDY = SamplingParams(max_tokens=60, temperature=0)


@pytest.fixture(scope="module")
def engines() -> dict[str, TransformersEngine]:
    if not STORIES.is_dir():
        pytest.skip(f"there is no trained model in {STORIES}")
    return {device: load_engine(STORIES, device=device) for device in ("cpu", "cuda")}


def prompts(engine: TransformersEngine) -> list[list[int]]:
    return [list(engine.tokenizer(text)["input_ids"]) for text in TEXTS]  # type: ignore[arg-type]


def test_greedy_answers_are_the_cpus_and_so_are_their_log_probabilities(engines: dict[str, TransformersEngine]) -> None:
    expected, found = (engines[device].generate(prompts(engines[device]), GREEDY) for device in ("cpu", "cuda"))
    assert len({answer.text for answer in expected}) == len(TEXTS)
    for one, other in zip(expected, found, strict=True):
        assert other.tokens == one.tokens
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"top_k": 20, "temperature": 0.7}, {"top_p": 0.9}], ids=str)
def test_the_same_seed_draws_the_same_tokens_as_on_the_cpu(
    engines: dict[str, TransformersEngine], settings: dict[str, float]
) -> None:
    sampling = SamplingParams.parse({"max_tokens": 40, "temperature": 1.0, "seed": 7, "n": 4} | settings)
    expected, found = (engines[device].generate(prompts(engines[device]), sampling) for device in ("cpu", "cuda"))
    same = [one.tokens == other.tokens for one, other in zip(expected, found, strict=True)]
    # a draw that falls between two tokens' shares to the last digit may go either way
    assert sum(same) >= 19


def test_answers_that_join_a_running_batch_are_those_written_alone(engines: dict[str, TransformersEngine]) -> None:
    engine = engines["cuda"]
    alone = [engine.generate([prompt], GREEDY)[0] for prompt in prompts(engine)]
    scheduler = Scheduler(engine.pool(3), engine.tokenizer, context=engine.context, max_waiting=16)
    texts, ends, over = [""] * len(TEXTS), [None] * len(TEXTS), threading.Event()

    def sink_of(place: int):
        def sink(update: Update) -> None:
            texts[place] += update.text
            if update.end is not None:
                ends[place] = update.end  # type: ignore[call-overload]
                if all(end is not None for end in ends):
                    over.set()

        return sink

    for place, prompt in enumerate(prompts(engine)):
        scheduler.submit(prompt, GREEDY, sink_of(place))
    assert over.wait(60)
    scheduler.close()
    for one, end, text in zip(alone, ends, texts, strict=True):
        assert end.tokens == one.tokens  # type: ignore[union-attr]
        assert text == one.text


def test_weights_from_the_cpu_are_taken_over_in_place(engines: dict[str, TransformersEngine]) -> None:
    engine = load_engine(STORIES, device="cuda", dtype="bfloat16")
    engine.update_weights({n: torch.zeros_like(p, device="cpu") for n, p in engine.model.named_parameters()})
    assert all(p.is_cuda and p.dtype == torch.bfloat16 and not p.any() for p in engine.model.parameters())
