"""Windowed perplexity is that of the formula, and a model finds noise odd in a story."""

import numpy as np
import pytest

from raysafe.guards.perplexity import PerplexityConfig, PerplexityGuard, worst_perplexity
from raysafe.guards.pipeline import Pipeline
from tests.real_data import STORIES

STORY = "Once upon a time, there was a little girl named Lily. She loved to play with her toys in the park."
NOISE = " zq}} ]] xkw ;; vvjq (( ##"


def test_the_worst_window_is_found_by_hand() -> None:
    nats = np.log([1.0, 1.0, 100.0, 100.0, 1.0])
    assert worst_perplexity(nats, 2) == pytest.approx(100)
    assert worst_perplexity(nats, 4) == pytest.approx(10)
    assert worst_perplexity(nats, 99) == pytest.approx(np.exp(nats.mean()))
    assert worst_perplexity(np.zeros(0), 4) == 1


@pytest.fixture(scope="module")
def guard() -> PerplexityGuard:
    if not (STORIES / "config.json").is_file():
        pytest.skip(f"{STORIES} isn't there")
    return PerplexityConfig(model=str(STORIES), limit=1000).build()


def test_surprises_are_those_of_the_model(guard: PerplexityGuard) -> None:
    """The mean over a text is the loss that transformers computes."""
    import torch

    ids = guard._tokenizer(STORY, add_special_tokens=False)["input_ids"]
    start = guard._tokenizer.bos_token_id
    tokens = torch.tensor([([] if start is None else [start]) + ids])
    loss = guard._model(tokens, labels=tokens).loss
    assert guard.surprises(STORY).mean() == pytest.approx(float(loss), rel=1e-4)


def test_every_token_of_a_long_text_is_read_once(guard: PerplexityGuard) -> None:
    text = STORY * 40
    ids = guard._tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) > 2 * guard._context
    assert len(ids) - 1 <= guard.surprises(text).size <= len(ids)


def test_noise_behind_a_story_is_blocked_and_the_story_is_not(guard: PerplexityGuard) -> None:
    pipeline = Pipeline([guard])
    assert pipeline.check_text(STORY).action == "allow"
    assert pipeline.check_text(STORY + NOISE).action == "block"
    assert pipeline.check_text("").action == "allow"


def test_it_does_not_run_on_the_event_loop(guard: PerplexityGuard) -> None:
    assert not Pipeline([guard]).inline
