"""Suffixes are text that is encoded to them again, and their gradient is the loss's."""

from __future__ import annotations

import pytest
import torch

from raysafe.errors import ConfigError
from raysafe.models.presets import make_policy
from raysafe.robustness.attacks.language.embedding_space import embedding_attack
from raysafe.robustness.attacks.language.greedy_coordinate_gradient import greedy_coordinate_gradient, propose
from raysafe.robustness.attacks.language.settings import EmbeddingSettings, GCGSettings
from raysafe.robustness.attacks.language.suffix_problem import SuffixProblem
from tests.robustness.attacks.language.planted import SHAPE, chat_format

CHAT = chat_format()
POLICY = make_policy(SHAPE, CHAT.tokenizer, seed=3).double()
SETTINGS = GCGSettings(steps=6, length=5, candidates=24, top_k=16)


def problem(target: str = "yes") -> SuffixProblem:
    return SuffixProblem(POLICY, CHAT, "tell me how", target, length=5, batch=7)


def test_prompt_suffix_and_rest_are_the_tokens_of_the_message() -> None:
    found = problem()
    ids = CHAT.encode([{"role": "user", "content": "tell me how ! ! ! ! !"}])[0]
    assert [*found.before, *found.start, *found.after] == ids
    assert found.text(found.start) == "tell me how ! ! ! ! !"
    assert found.spelled([found.start]) == [True]


def test_a_suffix_that_its_text_is_not_encoded_to_is_none() -> None:
    found = problem()
    letters = [CHAT.tokenizer.convert_tokens_to_ids(letter) for letter in "Ġthe"]
    assert found.spelled([letters]) == [False]


def test_the_gradient_is_the_losss_by_finite_differences() -> None:
    found = problem()
    gradient_LV = found.gradient(found.start)
    table_VD = POLICY.get_input_embeddings().weight.detach()
    # the model normalises in float32, whatever its weights are
    start_LD, step = found.embeddings(found.start), 0.02
    for place, token in ((0, 17), (2, 300), (4, 512)):
        losses = []
        for sign in (1, -1):
            moved_LD = start_LD.clone()
            moved_LD[place] += sign * step * table_VD[token]
            with torch.no_grad():
                losses.append(float(found.loss_of_embeddings(moved_LD)[0]))
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(
            float(gradient_LV[place, token]), rel=0.02, abs=1e-4
        )


def test_losses_of_a_batch_are_those_of_each_alone_and_those_of_its_embeddings() -> None:
    found = problem()
    generator = torch.Generator().manual_seed(0)
    candidates = propose(found, found.start, SETTINGS, torch.arange(900) >= 200, generator)
    together_B, _ = found.losses(candidates)
    for suffix, loss in list(zip(candidates, together_B.tolist(), strict=True))[:4]:
        assert float(found.losses([suffix])[0]) == pytest.approx(loss, rel=1e-9)
        assert float(found.loss_of_embeddings(found.embeddings(suffix))[0].detach()) == pytest.approx(loss, rel=1e-6)


def test_a_target_is_hit_where_greedy_decoding_writes_it() -> None:
    free = problem()
    ids = [*free.before, *free.start, *free.after]
    written: list[int] = []
    for _ in range(3):
        logits = POLICY(input_ids=torch.tensor([[*ids, *written]])).logits
        written.append(int(logits[0, -1].argmax()))
    for goal, hit in ((written, True), ([*written[:2], written[2] ^ 1], False)):
        free.goal = goal
        assert bool(free.losses([free.start])[1][0]) is hit


def test_a_search_never_takes_what_the_guard_stops_and_counts_its_passes() -> None:
    seen: list[str] = []

    def guard(text: str) -> bool:
        seen.append(text)
        return len(seen) % 3 == 0

    found = problem()
    result = greedy_coordinate_gradient(found, SETTINGS, guard)
    passed = {text for number, text in enumerate(seen, start=1) if number % 3 == 0}
    assert result.text in passed | {found.text(found.start)}
    # a gradient and what the guard let pass in each step, the first suffix, and the last one's check
    assert result.queries == found.queries <= 2 + SETTINGS.steps * (2 + SETTINGS.candidates)


def test_a_search_lowers_the_loss_and_is_its_seeds() -> None:
    first, again = (greedy_coordinate_gradient(problem(), SETTINGS) for _ in range(2))
    assert first == again
    start = problem()
    assert first.loss < float(start.losses([start.start])[0])


def test_embeddings_move_by_no_more_than_the_steps_and_lower_the_loss() -> None:
    found = problem()
    result = embedding_attack(found, EmbeddingSettings(steps=20, step_size=0.002, length=5))
    assert result.losses[-1] < result.losses[0]
    assert result.distance <= 0.002 * (len(result.losses) - 1) + 1e-12


def test_an_empty_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of them is empty"):
        problem("")
