"""What a project's judgements say of themselves: how many, how far raters agree, and whether order sways them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from raysafe.feedback.agreement import Metric, agreement
from raysafe.feedback.items import Item
from raysafe.feedback.judgements import Judgement

SIGNS = {"a": 1.0, "tie": 0.0, "b": -1.0}


def summarise(items: Sequence[Item], judgements: Sequence[Judgement]) -> dict[str, Any]:
    """A mapping for JSON. judgements: undone ones too, which are counted and otherwise left out.

    Agreement on comparisons takes a, tie and b as names (nominal), and chance as that of either side alike, for which
    one is called a is the file's choice; on ratings it takes their order (ordinal). Figures that are not defined, for
    want of judgements, are None.
    """
    live = [j for j in judgements if j.undone is None]
    seconds = [j.seconds for j in live if j.choice != "skip"]
    raters = sorted({j.rater for j in judgements})
    return {
        "items": len(items),
        "items_judged": len({j.item for j in live if j.choice != "skip"}),
        "judgements": len(seconds),
        "ties": sum(j.choice == "tie" for j in live),
        "skipped": sum(j.choice == "skip" for j in live),
        "undone": len(judgements) - len(live),
        "raters": {name: sum(j.rater == name and j.choice != "skip" for j in live) for name in raters},
        "median_seconds": float(np.median(seconds)) if seconds else None,
        "agreement": {
            "comparisons": _agreement([(j, SIGNS[j.choice]) for j in live if j.choice in SIGNS], "nominal"),
            "ratings": _agreement([(j, j.rating) for j in live if j.rating is not None], "ordinal"),
        },
        "first_chosen": first_chosen(live),
    }


def first_chosen(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """How often the side shown first was preferred, ties and skips aside, with Wilson's 95% interval (1927).

    The order is random, so an interval without 0.5 means that order sways the raters.
    """
    from scipy.stats import binomtest

    decided = [j for j in judgements if j.choice in ("a", "b") and j.first is not None]
    if not decided:
        return {"share": None, "low": None, "high": None, "n": 0}
    chosen = sum(j.choice == j.first for j in decided)
    interval = binomtest(chosen, len(decided)).proportion_ci(0.95, method="wilson")
    return {
        "share": chosen / len(decided),
        "low": float(interval.low),
        "high": float(interval.high),
        "n": len(decided),
    }


def _agreement(judged: Sequence[tuple[Judgement, float]], metric: Metric) -> dict[str, Any]:
    """Krippendorff's alpha of items by raters."""
    units = {name: row for row, name in enumerate(dict.fromkeys(j.item for j, _ in judged))}
    raters = {name: column for column, name in enumerate(dict.fromkeys(j.rater for j, _ in judged))}
    values_UR = np.full((len(units), len(raters)), np.nan)
    for judgement, value in judged:
        values_UR[units[judgement.item], raters[judgement.rater]] = value
    found = agreement(values_UR, metric, mirrored=metric == "nominal")
    figures = {"alpha": found.alpha, "low": found.low, "high": found.high}
    shown = {name: None if math.isnan(value) else value for name, value in figures.items()}
    return {"metric": metric, "shared_items": found.units} | shown
