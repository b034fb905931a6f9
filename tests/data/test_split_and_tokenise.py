"""Splits never share a prompt; token rows are whole, cached and bounded."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysafe.data.ratings import ratings_to_pairs
from raysafe.data.schema import SCHEMAS
from raysafe.data.split import split_by_prompt
from raysafe.data.tokenise import tokenise
from raysafe.errors import ConfigError, DataError

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
words = st.lists(st.text("abc ", min_size=1, max_size=4), min_size=1, max_size=40)


def table_of(prompts: list[str]) -> pa.Table:
    rows = [
        {"prompt": [{"role": "user", "content": p}], "chosen": "y", "rejected": "n", "margin": None, "row": i}
        for i, p in enumerate(prompts)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["preferences"].arrow)


def contents(table: pa.Table) -> set[str]:
    return {prompt[0]["content"] for prompt in table["prompt"].to_pylist()}


@given(prompts=words, seed=st.integers(0, 3))
def test_no_prompt_is_in_two_parts_and_no_row_is_lost(prompts: list[str], seed: int) -> None:
    parts = split_by_prompt(table_of(prompts), FRACTIONS, seed=seed)
    assert sum(p.num_rows for p in parts.values()) == len(prompts)
    names = list(parts)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not contents(parts[a]) & contents(parts[b])


@given(prompts=words, more=words)
def test_adding_rows_moves_none_that_was_there(prompts: list[str], more: list[str]) -> None:
    before = split_by_prompt(table_of(prompts), FRACTIONS)
    after = split_by_prompt(table_of(prompts + more), FRACTIONS)
    for name in FRACTIONS:
        assert contents(before[name]) <= contents(after[name])


def test_parts_are_near_their_fractions_and_depend_on_the_seed() -> None:
    table = table_of([f"prompt {i}" for i in range(4000)])
    first, second = (split_by_prompt(table, FRACTIONS, seed=s) for s in (0, 1))
    for name, fraction in FRACTIONS.items():
        assert first[name].num_rows == pytest.approx(4000 * fraction, rel=0.12)
    assert contents(first["test"]) != contents(second["test"])


def test_fractions_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        split_by_prompt(table_of(["a"]), {"train": 0.5, "test": 0.2})


class Letters:
    """One token per character; a prompt ends in 0, an answer in 1."""

    fingerprint = "letters"

    def __init__(self) -> None:
        self.calls = 0

    def encode_batch(self, prompts, *completions):
        self.calls += 1
        first = [[*map(ord, p[-1]["content"]), 0] for p in prompts]
        return first, *([[*map(ord, text), 1] for text in column] for column in completions)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYSAFE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_row_costs_its_prompt_once_and_both_answers() -> None:
    row = tokenise(table_of(["ab"]), "preferences", Letters(), longest=10).to_pylist()[0]
    assert (row["prompt_ids"], row["chosen_ids"], row["length"]) == ([97, 98, 0], [121, 1], 7)


def test_the_second_use_comes_from_the_cache(cache: Path) -> None:
    encoder = Letters()
    first, second = (tokenise(table_of(["ab", "c"]), "preferences", encoder, longest=10) for _ in range(2))
    assert encoder.calls == 1
    assert first.equals(second)
    assert [p.suffix for p in cache.iterdir()] == [".arrow"]
    tokenise(table_of(["ab", "d"]), "preferences", encoder, longest=10)
    assert encoder.calls == 2


def test_a_long_row_stops_drops_or_loses_the_front_of_its_prompt() -> None:
    table = table_of(["abcdef", "a"])
    with pytest.raises(DataError, match=r"1 of 2 rows are longer than 5 tokens .*row 0 with 9"):
        tokenise(table, "preferences", Letters(), longest=5)
    dropped = tokenise(table, "preferences", Letters(), longest=5, too_long="drop")
    assert dropped["row"].to_pylist() == [1]
    cut = tokenise(table, "preferences", Letters(), longest=5, too_long="truncate-prompt")
    assert cut["prompt_ids"].to_pylist()[0] == [101, 102, 0]
    assert cut["chosen_ids"].to_pylist()[0] == [121, 1]


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=30, unique=True), st.floats(0.1, 2))
def test_pairs_of_rated_texts_prefer_the_higher_by_at_least_the_gap(ratings: list[float], gap: float) -> None:
    table = pa.table({"text": [f"t{i}" for i in range(len(ratings))], "rating": ratings})
    rating_of = dict(zip(table["text"].to_pylist(), ratings, strict=True))
    try:
        pairs = ratings_to_pairs(table, min_gap=gap, pairs_per_text=3).to_pylist()
    except DataError:
        return
    assert len({(p["chosen"], p["rejected"]) for p in pairs}) == len(pairs)
    for pair in pairs:
        assert rating_of[pair["chosen"]] - rating_of[pair["rejected"]] >= gap
        assert pair["margin"] == rating_of[pair["chosen"]] - rating_of[pair["rejected"]]
