"""Experience: every answer in one micro-batch, every figure at its token, the same numbers in every layout."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.alignment.experience import Samples, answer_lengths, collate, minibatches, plan, token_places
from raysafe.alignment.policy_gradient import PolicyGradientLearner
from raysafe.models.logprobs import token_logprobs
from raysafe.models.packing import Layout
from tests.alignment.online_parts import Case, make_exact, make_samples
from tests.examples import examples

LAYOUTS = [Layout(pack=pack, share_prompt=share) for pack, share in product((True, False), repeat=2)]
lengths = st.lists(
    st.tuples(st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=6)), min_size=1, max_size=8
)


def table(groups: list[tuple[int, list[int]]]) -> pa.Table:
    """Rows whose groups have a prompt of so many tokens, and answers."""
    answers = [np.arange(n, dtype=np.int32) for _, several in groups for n in several]
    return Samples(
        prompts=[list(range(prompt)) for prompt, _ in groups],
        group_C=np.repeat(np.arange(len(groups)), [len(several) for _, several in groups]),
        answers=answers,
        texts=[""] * len(answers),
        complete_C=np.ones(len(answers), dtype=bool),
        rollout_logps_N=np.zeros(sum(map(len, answers))),
        version=0,
    ).table()


@settings(max_examples=examples(60))
@given(lengths, st.integers(1, 5), st.integers(10, 120), st.sampled_from(LAYOUTS))
def test_every_row_is_in_one_micro_batch_and_each_batch_is_within_the_budget(
    groups: list[tuple[int, list[int]]], ranks: int, budget: int, layout: Layout
) -> None:
    rows = table(groups)
    plans = plan(rows, ranks=ranks, budget=budget, layout=layout)
    assert len(plans) == ranks
    batches = [micro for mine in plans for micro in mine]
    assert sorted(np.concatenate(batches).tolist()) == list(range(rows.num_rows))
    for micro in batches:
        laid_out = collate(rows.take(pa.array(micro)), layout).tokens.input_ids_RT.numel()
        assert laid_out <= budget or len(micro) == 1


def test_pieces_of_a_group_that_meet_in_a_padded_batch_stay_within_the_budget() -> None:
    # on the second rank two pieces of 5 + 6 tokens and a row of 2 cost 3 x 11, but 2 x 17 once the pieces are one row
    rows = table([(5, [6, 6, 6, 6]), (1, [1])])
    layout = Layout(pack=False)
    batches = [micro for mine in plan(rows, ranks=2, budget=33, layout=layout) for micro in mine]
    assert max(collate(rows.take(pa.array(micro)), layout).tokens.input_ids_RT.numel() for micro in batches) <= 33


@settings(max_examples=examples(30))
@given(lengths, st.integers(1, 4), st.integers(60, 120))
def test_shared_prompts_never_cost_more_tokens(groups: list[tuple[int, list[int]]], ranks: int, budget: int) -> None:
    rows = table(groups)
    tokens = []
    for layout in (Layout(share_prompt=True), Layout(share_prompt=False)):
        plans = plan(rows, ranks=ranks, budget=budget, layout=layout)
        batches = [collate(rows.take(pa.array(micro)), layout) for mine in plans for micro in mine]
        tokens.append(sum(batch.tokens.input_ids_RT.numel() for batch in batches))
    assert tokens[0] <= tokens[1]


def test_a_rank_has_no_more_tokens_than_another_but_for_the_longest_piece() -> None:
    rows = table([(3, [7, 2, 9]), (8, [4, 4, 4, 1]), (2, [12, 1]), (5, [6, 6, 6])] * 5)
    for layout in LAYOUTS:
        plans = plan(rows, ranks=3, budget=30, layout=layout)
        costs = [sum(int(answer_lengths(rows)[micro].sum()) for micro in mine) for mine in plans]
        assert max(costs) - min(costs) <= 40


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_figures_stand_in_the_order_of_the_target_tokens(layout: Layout) -> None:
    samples = make_samples(4, 3, seed=2)
    ids = np.concatenate(samples.answers).astype(np.float64)
    rows = samples.table(token=ids)
    for ranks in (1, 3):
        for mine in plan(rows, ranks=ranks, budget=50, layout=layout):
            for micro in mine:
                batch = collate(rows.take(pa.array(micro)), layout)
                assert batch.figures["token"].tolist() == batch.tokens.target_N.tolist()
                assert batch.weight == batch.tokens.tokens == len(batch.figures["token"])
                expected = np.repeat(np.arange(len(micro)), answer_lengths(rows)[micro])
                assert batch.tokens.completion_N.tolist() == expected.tolist()


def test_token_places_find_the_tokens_of_answers_in_any_order() -> None:
    samples = make_samples(3, 2)
    flat = np.concatenate(samples.answers)
    for order in ([4, 0, 2], [], [5]):
        found = flat[token_places(samples.lengths_C, order)]
        assert found.tolist() == [token for i in order for token in samples.answers[i].tolist()]


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=str)
def test_every_layout_has_the_same_log_probabilities_loss_and_gradient(
    tmp_path: Path, dtype: torch.dtype, limit: float
) -> None:
    """One answer a row, padded, is the reference."""
    model = "preset:tiny"
    if dtype == torch.float64:
        make_exact(tmp_path)
        model = str(tmp_path)
    rows, _ = Case("l").experience()
    figures, losses, gradients = [], [], []
    for layout in (Layout(pack=False, share_prompt=False, completion_logits=False), *LAYOUTS):
        learner = Case("l", fields={"model": model, "layout": layout.model_dump()}).job.learners()["policy"]
        assert isinstance(learner, PolicyGradientLearner)
        module, batch = learner.build().to(dtype), learner.collate(rows)
        figures.append(token_logprobs(module, batch.tokens).detach())
        loss, _ = learner.loss(module, batch)
        (loss / batch.weight).backward()
        losses.append(loss.detach() / batch.weight)
        gradients.append(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]))
    for i in range(1, len(figures)):
        torch.testing.assert_close(figures[i], figures[0], rtol=0, atol=limit)
        torch.testing.assert_close(losses[i], losses[0], rtol=0, atol=limit)
        assert float((gradients[i] - gradients[0]).norm()) <= limit * float(gradients[0].norm())


@settings(max_examples=examples(60))
@given(lengths, st.integers(1, 6), st.integers(0, 3))
def test_minibatches_hold_every_row_once_in_whole_groups_of_nearly_equal_tokens(
    groups: list[tuple[int, list[int]]], count: int, seed: int
) -> None:
    rows = table(groups)
    parts = minibatches(rows, count, seed=(seed, 1))
    assert len(parts) == min(count, len(groups))
    assert sorted(np.concatenate(parts).tolist()) == list(range(rows.num_rows))
    ids = rows["group"].to_numpy()
    assert sum(len(set(ids[part])) for part in parts) == len(groups)
    tokens = [int(answer_lengths(rows)[part].sum()) for part in parts]
    assert max(tokens) - min(tokens) <= max(sum(several) for _, several in groups)


def test_minibatches_are_drawn_anew_by_the_seed_and_the_same_for_the_same() -> None:
    rows = table([(3, [4, 4])] * 12)
    drawn = [[part.tolist() for part in minibatches(rows, 3, seed=(0, step))] for step in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(any))
def test_padding_and_flattening_give_back_what_they_took(sizes: list[int]) -> None:
    samples = make_samples(len(sizes), 1)
    samples.answers = [np.arange(size, dtype=np.int32) for size in sizes]
    flat = np.arange(1.0, sum(sizes) + 1)
    padded = samples.padded(flat)
    assert padded.shape == (len(sizes), max(sizes))
    assert samples.flat(padded).tolist() == flat.tolist()
    assert not padded[~samples.mask_CT].any()
    assert samples.mask_CT.sum(1).tolist() == sizes


def test_rows_carry_the_prompt_of_their_group_and_their_own_figures() -> None:
    samples = make_samples(2, 2)
    rows = samples.table(np.array([1.0, 2, 3, 4]), logps=samples.rollout_logps_N).to_pylist()
    start = 0
    for i, row in enumerate(rows):
        assert row["prompt_ids"] == samples.prompts[i // 2]
        assert row["answer_ids"] == samples.answers[i].tolist()
        assert (row["group"], row["units"]) == (i // 2, i + 1)
        assert row["logps"] == samples.rollout_logps_N[start : start + len(samples.answers[i])].tolist()
        start += len(samples.answers[i])
