"""Which rows a step sees, and how ranks and micro-batches share them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raysafe.runtime.batches import deal, micro_batches, step_rows, steps_per_epoch

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=60)


@given(rows=st.integers(1, 200), batch=st.integers(1, 50), seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_an_epoch_shows_every_row_once(rows: int, batch: int, seed: int, epoch: int) -> None:
    steps = steps_per_epoch(rows, batch)
    seen = np.concatenate([step_rows(rows, batch, seed=seed, step=epoch * steps + i) for i in range(steps)])
    assert sorted(seen.tolist()) == list(range(rows))


def test_epochs_and_seeds_differ_in_order() -> None:
    first = step_rows(100, 100, seed=0, step=0)
    assert not np.array_equal(first, step_rows(100, 100, seed=0, step=1))
    assert not np.array_equal(first, step_rows(100, 100, seed=1, step=0))
    assert np.array_equal(first, step_rows(100, 100, seed=0, step=0))


@given(lengths=lengths, ranks=st.integers(1, 5))
def test_every_row_is_dealt_to_one_rank(lengths: list[int], ranks: int) -> None:
    hands = deal(lengths, ranks)
    assert sorted(p for hand in hands for p in hand) == list(range(len(lengths)))


@given(lengths=lengths, ranks=st.integers(1, 5))
def test_ranks_differ_by_at_most_one_row_of_tokens(lengths: list[int], ranks: int) -> None:
    totals = [sum(lengths[p] for p in hand) for hand in deal(lengths, ranks)]
    assert max(totals) - min(totals) <= max(lengths)


@given(lengths=lengths, budget=st.integers(1, 600), padded=st.booleans())
def test_micro_batches_keep_every_row_within_the_budget(lengths: list[int], budget: int, padded: bool) -> None:
    groups = micro_batches(lengths, budget, padded=padded)
    assert sorted(p for group in groups for p in group) == list(range(len(lengths)))
    for group in groups:
        cost = max(lengths[p] for p in group) * len(group) if padded else sum(lengths[p] for p in group)
        assert cost <= budget or len(group) == 1
