"""Judgements as training data: preference pairs, scores of answers, or the judgements themselves, as JSON Lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from raysafe.data.schema import to_json_lines
from raysafe.errors import DataError
from raysafe.feedback.items import Item
from raysafe.feedback.judgements import Judgement

Form = Literal["preferences", "scores", "judgements"]
Rows = Literal["majority", "each"]
Ties = Literal["drop", "keep"]


def preferences(items: Sequence[Item], judgements: Sequence[Judgement], *, rows: Rows, ties: Ties) -> str:
    """Pairs that `raysafe reward-model` and `raysafe dpo` read; raises DataError where there is none.

    majority: a row an item, whose margin is the share of its judgements for the chosen side less that for the other;
    each: a row a judgement, margin 1. keep: what is tied becomes a row of margin 0 whose chosen side is drawn by the
    item's digest (and the rater, for `each`); it carries no preference, which only a loss that reads margins can tell.
    Skips say nothing. Steps are joined, a line each.
    """
    comparisons = _texts([item for item in items if item.compares], "preferences")
    votes = _by_item(comparisons, [j for j in judgements if j.choice in ("a", "b", "tie")])
    found: list[dict[str, Any]] = []
    for item in comparisons:
        given = votes[item.name]
        groups = [[j] for j in given] if rows == "each" else ([given] if given else [])
        for group in groups:
            margin = sum({"a": 1, "b": -1, "tie": 0}[j.choice] for j in group) / len(group)
            if margin == 0 and ties == "drop":
                continue
            chosen = _drawn(item, group[0].rater if rows == "each" else "") if margin == 0 else int(margin < 0)
            texts = [side.text for side in item.sides]
            raw = {"prompt": item.prompt, "chosen": texts[chosen], "rejected": texts[1 - chosen], "margin": abs(margin)}
            found.append(raw)
    if not found:
        raise DataError(
            "there is no preference to export: no comparison of texts has a judgement"
            + (" that isn't tied" if ties == "drop" else "")
        )
    return to_json_lines(found)


def scores(items: Sequence[Item], judgements: Sequence[Judgement]) -> str:
    """Rated answers as rows of prompt, completion, score (the raters' mean, on the project's scale) and raters (their
    number); raises DataError where there is none."""
    rated = _texts([item for item in items if not item.compares], "scores")
    votes = _by_item(rated, [j for j in judgements if j.rating is not None])
    found = [
        {
            "prompt": item.prompt,
            "completion": item.sides[0].text,
            "score": sum(j.rating or 0.0 for j in votes[item.name]) / len(votes[item.name]),
            "raters": len(votes[item.name]),
        }
        for item in rated
        if votes[item.name]
    ]
    if not found:
        raise DataError("there is no score to export: no text has a rating")
    return "".join(json.dumps(row) + "\n" for row in found)


def raw_judgements(items: Sequence[Item], judgements: Sequence[Judgement]) -> str:
    """Every judgement with its item, of any kind, skips and undone ones too; frames are named by their paths."""
    by_name = {item.name: item for item in items}
    lines = []
    for j in judgements:
        item = by_name[j.item]
        lines.append(
            {
                "item": j.item,
                "kind": item.kind,
                "prompt": item.prompt,
                "sides": [list(side.parts) for side in item.sides],
                "rater": j.rater,
                "choice": j.choice,
                "rating": j.rating,
                "first": j.first,
                "seconds": j.seconds,
                "time": j.time.isoformat(),
                "undone": j.undone and j.undone.isoformat(),
            }
        )
    if not lines:
        raise DataError("there is no judgement to export")
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _texts(items: Sequence[Item], form: Form) -> list[Item]:
    """The items that text models can learn from; raises DataError where there are others only."""
    texts = [item for item in items if item.kind != "frames"]
    if items and not texts:
        raise DataError(f"frames can't be exported as {form}, which hold texts: export them as judgements")
    return texts


def _by_item(items: Sequence[Item], judgements: Sequence[Judgement]) -> Mapping[str, list[Judgement]]:
    votes: dict[str, list[Judgement]] = {item.name: [] for item in items}
    for judgement in judgements:
        if judgement.undone is None and judgement.item in votes:
            votes[judgement.item].append(judgement)
    return votes


def _drawn(item: Item, rater: str) -> int:
    """0 or 1, with even chances."""
    return hashlib.sha256(f"{item.digest}\0{rater}".encode()).digest()[0] & 1
