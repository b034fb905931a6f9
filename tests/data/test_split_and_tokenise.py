"""Splits never share a prompt; token rows are whole, cached and bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysafe.data.places import name_rows
from raysafe.data.ratings import ratings_to_pairs
from raysafe.data.readers import read
from raysafe.data.schema import SCHEMAS
from raysafe.data.split import split_by_prompt
from raysafe.data.tokenise import tokenise
from raysafe.errors import ConfigError, DataError

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
untimed = settings(deadline=None)  # the first call also loads pyarrow.compute: 0.5 s on a busy machine
words = st.lists(st.text("abc ", min_size=1, max_size=4), min_size=1, max_size=40)


def table_of(prompts: list[str]) -> pa.Table:
    rows = [
        {"prompt": [{"role": "user", "content": p}], "chosen": "y", "rejected": "n", "margin": None, "row": i}
        for i, p in enumerate(prompts)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["preferences"].arrow)


def contents(table: pa.Table) -> set[str]:
    return {prompt[0]["content"] for prompt in table["prompt"].to_pylist()}


@untimed
@given(prompts=words, seed=st.integers(0, 3))
def test_no_prompt_is_in_two_parts_and_no_row_is_lost(prompts: list[str], seed: int) -> None:
    parts = split_by_prompt(table_of(prompts), FRACTIONS, seed=seed)
    assert sum(p.num_rows for p in parts.values()) == len(prompts)
    names = list(parts)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not contents(parts[a]) & contents(parts[b])


@untimed
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
    for fractions in ({"train": 0.5, "test": 0.2}, {"train": 1.5, "test": -0.5}, {"train": float("nan")}, {}):
        with pytest.raises(ConfigError, match="add up to 1"):
            split_by_prompt(table_of(["a"]), fractions)


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


def test_an_answer_longer_than_the_context_is_never_cut() -> None:
    table = table_of(["ab", "a"]).set_column(1, "chosen", pa.array(["yyyyyyyyy", "y"]))
    with pytest.raises(DataError, match="1 of 2 rows are longer than 6 tokens"):
        tokenise(table, "preferences", Letters(), longest=6)
    for policy in ("drop", "truncate-prompt"):
        kept = tokenise(table, "preferences", Letters(), longest=6, too_long=policy)
        assert kept["row"].to_pylist() == [1]


@untimed
@given(
    st.lists(st.tuples(st.text("ab", min_size=1, max_size=9), st.text("cd", min_size=1, max_size=9)), min_size=1),
    st.integers(2, 14),
)
def test_cut_rows_fit_keep_their_answers_and_end_as_their_prompts_did(
    rows: list[tuple[str, str]], longest: int
) -> None:
    table = table_of([p for p, _ in rows]).set_column(1, "chosen", pa.array([c for _, c in rows]))
    encoder = Letters()
    whole = [
        p + c for p, c in zip(*encoder.encode_batch(table["prompt"].to_pylist(), [c for _, c in rows]), strict=True)
    ]
    kept = tokenise(table, "preferences", encoder, longest=longest, too_long="truncate-prompt").to_pylist()
    for row in kept:
        ids = row["prompt_ids"] + row["chosen_ids"]
        assert len(row["prompt_ids"]) >= 1
        assert ids == whole[row["row"]][-len(ids) :]
        assert len(ids) == min(
            len(whole[row["row"]]), longest - max(0, len(row["rejected_ids"]) - len(row["chosen_ids"]))
        )
        assert row["length"] == len(ids) + len(row["rejected_ids"])
    assert {r["row"] for r in kept} == {i for i, (_, c) in enumerate(rows) if len(c) + 1 < longest and longest > 2}


def test_demonstrations_are_encoded_with_their_completion() -> None:
    rows = [{"prompt": [{"role": "user", "content": "ab"}], "completion": "c", "row": 0}]
    table = pa.Table.from_pylist(rows, schema=SCHEMAS["demonstrations"].arrow)
    encoded = tokenise(table, "demonstrations", Letters(), longest=9)
    assert encoded.schema.field("prompt_ids").type == pa.list_(pa.int32())
    [row] = encoded.to_pylist()
    assert row == {"prompt_ids": [97, 98, 0], "completion_ids": [99, 1], "length": 5, "row": 0}


@untimed
@given(st.lists(st.floats(-4, 4), min_size=2, max_size=30, unique=True), st.floats(0.1, 2))
def test_pairs_of_rated_texts_prefer_the_higher_by_at_least_the_gap(ratings: list[float], gap: float) -> None:
    table = pa.table({"text": [f"t{i}" for i in range(len(ratings))], "rating": ratings})
    rating_of = dict(zip(table["text"].to_pylist(), ratings, strict=True))
    try:
        pairs = ratings_to_pairs(table, min_gap=gap, pairs_per_text=3).to_pylist()
    except DataError:
        assert max(ratings) - min(ratings) < gap
        return
    assert len({(p["chosen"], p["rejected"]) for p in pairs}) == len(pairs)
    for pair in pairs:
        assert rating_of[pair["chosen"]] - rating_of[pair["rejected"]] >= gap
        assert pair["margin"] == rating_of[pair["chosen"]] - rating_of[pair["rejected"]]


def test_a_text_is_in_at_most_twice_as_many_pairs_as_partners_were_drawn_and_in_one_part() -> None:
    table = pa.table({"text": [f"t{i}" for i in range(300)], "rating": [i % 7 / 2 for i in range(300)]})
    parts = split_by_prompt(table, FRACTIONS)
    pairs = {name: ratings_to_pairs(p, min_gap=0.5, pairs_per_text=3).to_pylist() for name, p in parts.items()}
    used = {name: [t for row in rows for t in (row["chosen"], row["rejected"])] for name, rows in pairs.items()}
    assert all(max(map(texts.count, texts)) <= 6 for texts in used.values())
    assert not set(used["train"]) & (set(used["test"]) | set(used["validation"]))
    assert all(row["prompt"] == [] for row in pairs["train"])


@pytest.mark.parametrize(("gap", "partners"), [(0.0, 1), (float("nan"), 1), (0.5, 0)])
def test_a_gap_or_number_of_partners_that_makes_no_pair_is_refused(gap: float, partners: int) -> None:
    with pytest.raises(ConfigError, match="min_gap must be above 0"):
        ratings_to_pairs(pa.table({"text": ["a", "b"], "rating": [1.0, 2.0]}), min_gap=gap, pairs_per_text=partners)


def test_pairs_of_rated_texts_survive_a_file(tmp_path: Path) -> None:
    pairs = ratings_to_pairs(pa.table({"text": ["a", "b"], "rating": [1.0, 2.0]}), min_gap=0.5, pairs_per_text=1)
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs.to_pylist()))
    found = read(str(tmp_path / "pairs.jsonl"), "preferences").table
    assert found.drop_columns("row").equals(pairs.drop_columns("row"))


def test_a_pair_of_rated_texts_is_named_by_the_line_of_the_longer() -> None:
    table = pa.table({"text": ["a", "a longer text"], "rating": [2.0, 1.0], "row": [7, 9]})
    assert ratings_to_pairs(table, min_gap=0.5, pairs_per_text=1)["row"].to_pylist() == [9]


def long_file(folder: Path) -> Path:
    rows = [{"prompt": "a", "completion": "b"}, "{oops", {"prompt": "long one", "completion": "b"}]
    folder.mkdir(exist_ok=True)
    path = folder / "rows.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_a_long_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = long_file(tmp_path / "data")
    table = read(str(path), "demonstrations", skip_bad_rows=True).table
    with pytest.raises(DataError) as raised:
        tokenise(table, "demonstrations", Letters(), longest=5)
    assert f"(first: row {path}:3 with 11)" in str(raised.value)


def test_tokenised_rows_keep_their_files_while_the_cache_does_not_depend_on_where_they_lie(tmp_path: Path) -> None:
    encoder = Letters()
    for folder in (tmp_path / "one", tmp_path / "two"):
        path = long_file(folder)
        table = read(str(path), "demonstrations", skip_bad_rows=True).table
        assert name_rows(tokenise(table, "demonstrations", encoder, longest=20)) == f"{path}:1, 3"
    assert encoder.calls == 1


def test_nobody_is_told_to_raise_max_length_above_the_context() -> None:
    for is_context in (False, True):
        with pytest.raises(DataError) as raised:
            tokenise(table_of(["abcdef"]), "preferences", Letters(), longest=5, longest_is_context=is_context)
        assert ("raise max_length" in str(raised.value)) is not is_context
        assert "set too_long to drop or truncate-prompt" in str(raised.value)
