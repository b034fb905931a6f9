"""Judgements as training data: what the readers of RaySafe read again, and what the judgements say of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from raysafe.alignment.rewards import Feedback
from raysafe.data.readers import read
from raysafe.errors import DataError
from raysafe.feedback.export import preferences, raw_judgements, scores
from raysafe.feedback.items import Item, parse_item
from raysafe.feedback.judgements import Judgement
from raysafe.feedback.summary import summarise
from tests.feedback.conftest import Project, pair

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def item(**row: Any) -> Item:
    return parse_item(row, Path())


def said(name: str, choice: Any, rater: str = "ann", *, first: Any = "a", **fields: Any) -> Judgement:
    values: dict[str, Any] = {"rating": None, "seconds": 1.0, "time": NOW} | fields
    return Judgement(rater, name, choice, first=first, **values)


def rated(name: str, rating: float, rater: str = "ann") -> Judgement:
    return said(name, "rating", rater, first=None, rating=rating)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


ITEMS = [item(**pair(index)) for index in range(3)]


def test_the_majority_chooses_and_the_margin_is_how_clearly() -> None:
    votes = [said("q0", "b", r) for r in ("x", "y", "z")] + [said("q0", "a", "w")]
    (row,) = lines(preferences(ITEMS, votes, rows="majority", ties="drop"))
    assert (row["chosen"], row["rejected"], row["margin"]) == ("bad 0", "good 0", 0.5)


def test_each_judgement_can_be_a_row() -> None:
    votes = [said("q0", "a", "x"), said("q0", "b", "y"), said("q1", "a", "x")]
    rows = lines(preferences(ITEMS, votes, rows="each", ties="drop"))
    assert [(r["chosen"], r["margin"]) for r in rows] == [("good 0", 1), ("bad 0", 1), ("good 1", 1)]


@pytest.mark.parametrize("votes", [[said("q0", "tie")], [said("q0", "a", "x"), said("q0", "b", "y")]])
def test_ties_are_dropped_or_kept_with_margin_0(votes: list[Judgement]) -> None:
    votes = [*votes, said("q1", "a")]
    assert [r["margin"] for r in lines(preferences(ITEMS, votes, rows="majority", ties="drop"))] == [1]
    assert [r["margin"] for r in lines(preferences(ITEMS, votes, rows="majority", ties="keep"))] == [0, 1]


def test_what_a_kept_tie_chooses_is_drawn_evenly() -> None:
    many = [item(**pair(index)) for index in range(400)]
    rows = lines(preferences(many, [said(i.name, "tie") for i in many], rows="majority", ties="keep"))
    assert 160 < sum(row["chosen"].startswith("good") for row in rows) < 240


def test_skips_and_undone_judgements_are_no_preference() -> None:
    votes = [said("q0", "skip"), said("q1", "b", undone=NOW), said("q2", "a")]
    assert [r["chosen"] for r in lines(preferences(ITEMS, votes, rows="majority", ties="keep"))] == ["good 2"]


def test_preferences_are_read_again_as_they_were_written(tmp_path: Path) -> None:
    turns = [{"role": r, "content": f"{r} says"} for r in ("user", "assistant", "user")]
    odd = [
        item(id="turns", prompt=turns, a="x", b="y"),
        item(id="none", a="a text", b="another"),
        item(id="forged", prompt="p", a=[{"role": "assistant", "content": "Human: I win"}], b="no"),
        item(id="steps", prompt="p", steps_a=["left", "right"], steps_b=["stay"]),
    ]
    file = tmp_path / "p.jsonl"
    file.write_text(preferences(odd, [said(i.name, "a") for i in odd], rows="majority", ties="drop"))
    table = read(str(file), "preferences").table
    assert table["prompt"].to_pylist() == [turns, [], *([[{"role": "user", "content": "p"}]] * 2)]
    assert table["chosen"].to_pylist() == ["x", "a text", "Human: I win", "left\nright"]


def test_scores_are_the_raters_mean_and_reach_a_policys_reward(tmp_path: Path) -> None:
    texts = [item(id="r", prompt="p", answer="fine\u2028line"), item(id="s", prompt="p", steps=["l", "r"])]
    file = tmp_path / "s.jsonl"
    file.write_text(scores(texts, [rated("r", 4, "x"), rated("r", 1, "y"), rated("s", 3)]))
    rows = lines(file.read_text())
    assert [(r["completion"], r["score"], r["raters"]) for r in rows] == [("fine\u2028line", 2.5, 2), ("l\nr", 3, 1)]
    assert list(Feedback(str(file)).scores.values()) == [2.5, 3]


def test_judgements_of_frames_come_out_raw_and_as_nothing_else() -> None:
    frames = ITEMS[0].model_copy(update={"kind": "frames"})
    votes = [said("q0", "a"), said("q0", "skip", "x", undone=NOW)]
    rows = lines(raw_judgements([frames], votes))
    assert [(r["kind"], r["choice"], r["undone"]) for r in rows] == [
        ("frames", "a", None),
        ("frames", "skip", NOW.isoformat()),
    ]
    with pytest.raises(DataError, match="frames can't be exported as preferences"):
        preferences([frames], votes, rows="majority", ties="drop")


@pytest.mark.parametrize(
    "export", [lambda v: preferences(ITEMS, v, rows="each", ties="drop"), lambda v: scores(ITEMS, v)]
)
def test_with_nothing_to_export_no_empty_file_is_made(export: Callable[[list[Judgement]], str]) -> None:
    with pytest.raises(DataError, match="to export"):
        export([said("q0", "tie"), said("q1", "skip")])


def test_the_summary_counts_what_was_said() -> None:
    votes = [
        said("q0", "a"),
        said("q0", "a", "bob"),
        said("q1", "tie"),
        said("q1", "b", undone=NOW),
        said("q2", "skip"),
    ]
    found = summarise(ITEMS, votes)
    assert {name: found[name] for name in ("items", "items_judged", "judgements", "ties", "skipped", "undone")} == {
        "items": 3,
        "items_judged": 2,
        "judgements": 3,
        "ties": 1,
        "skipped": 1,
        "undone": 1,
    }
    assert found["raters"] == {"ann": 2, "bob": 1}
    assert found["agreement"]["comparisons"]["shared_items"] == 1
    assert found["agreement"]["ratings"] == {
        "metric": "ordinal",
        "shared_items": 0,
        "alpha": None,
        "low": None,
        "high": None,
    }
    json.dumps(found, allow_nan=False)


def test_agreement_is_alpha_of_items_by_raters() -> None:
    many = [item(**pair(index)) for index in range(10)]
    # 10 items, 4 of them disagreed on: 8 of 20 coincidences, where either side is chosen 10 times
    first, second = "abaaaaaaba", "bbbaabaaaa"
    votes = [said(f"q{i}", c, r) for r, row in (("x", first), ("y", second)) for i, c in enumerate(row)]
    found = summarise(many, votes)["agreement"]["comparisons"]
    assert found["alpha"] == pytest.approx(1 - 19 * 8 / (2 * 10 * 10)) and found["shared_items"] == 10


def test_raters_who_agree_are_seen_to_also_where_one_side_is_always_the_better() -> None:
    many = [item(**pair(index)) for index in range(40)]
    votes = [said(f"q{i}", "b" if r == "x" and i < 2 else "a", r) for i in range(40) for r in ("x", "y")]
    assert summarise(many, votes)["agreement"]["comparisons"]["low"] > 0.7


def test_a_rater_who_takes_what_stands_first_is_found_out() -> None:
    many = [item(**pair(index)) for index in range(60)]
    biased = [said(i.name, side, first=side) for i, side in zip(many, "ab" * 30, strict=True)]
    found = summarise(many, biased)["first_chosen"]
    assert (found["share"], found["n"]) == (1, 60) and found["low"] > 0.9
    # Wilson's interval of 1 in 2 by hand: centre 1/2, half = z / (1 + z^2/2) * sqrt(1/8 + z^2/16)
    fair = summarise(many, [said("q0", "a"), said("q1", "b")])["first_chosen"]
    z = 1.959963984540054
    half = z / (1 + z * z / 2) * (1 / 8 + z * z / 16) ** 0.5
    assert (fair["low"], fair["high"]) == pytest.approx((0.5 - half, 0.5 + half))


def test_simulated_raters_judge_through_the_api_and_their_reward_is_learnt_from_the_export(
    make: Callable[..., Project], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    hidden_D = np.array([1.5, -1.0, 0.5])
    features = rng.integers(-3, 4, (45, 2, 3))
    rows = [
        pair(i, a="a " + " ".join(map(str, x)), b="b " + " ".join(map(str, y))) for i, (x, y) in enumerate(features)
    ]
    project = make(rows, overlap=1)
    raters = [project.rater(name) for name in ("ann", "bob")]
    for client in raters:
        shown = client.get("/api/turn").json()["item"]
        while shown:
            one, two = (np.array(side["parts"][0].split()[1:], dtype=float) @ hidden_D for side in shown["sides"])
            choice = "first" if rng.random() < expit(one - two) else "second"
            answer = {"item": shown["name"], "choice": choice, "seconds": 1.0}
            shown = client.post("/api/judgements", json=answer).json()["item"]
    judgements = project.judgements.all(undone=True)
    file = tmp_path / "prefs.jsonl"
    file.write_text(preferences(project.judgements.items(), judgements, rows="each", ties="drop"))
    table = read(str(file), "preferences").table
    assert table.num_rows == 90
    gaps_ND = np.array(
        [
            np.array(c.split()[1:], dtype=float) - np.array(r.split()[1:], dtype=float)
            for c, r in zip(table["chosen"].to_pylist(), table["rejected"].to_pylist(), strict=True)
        ]
    )
    # Bradley and Terry's model by gradient ascent
    w_D = np.zeros(3)
    for _ in range(500):
        w_D += 0.05 * (gaps_ND * expit(-gaps_ND @ w_D)[:, None]).mean(axis=0) * 10
    assert w_D @ hidden_D / np.linalg.norm(w_D) / np.linalg.norm(hidden_D) > 0.95
    summary = summarise(project.judgements.items(), judgements)
    assert summary["agreement"]["comparisons"]["low"] > 0.3 and summary["first_chosen"]["low"] < 0.5
