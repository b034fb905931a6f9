"""What a run's report says of a learned reward: what it rests on, and whether it still means what it stands for."""

from __future__ import annotations

import math
from typing import Any

from raysafe.runtime.plots import Series
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

PREFIX = "learned_reward/"
"""Of the figures' names in a run's metrics."""
LOW = 0.5
"""A correlation of true and learned return below it is pointed out."""


def audit_section(run: Run) -> Section | None:
    """None where no reward was fitted."""
    rows = [row for row in run.metrics if f"{PREFIX}correlation" in row]
    if not rows:
        return None
    last = rows[-1]
    names = ("comparisons", "accuracy", "held_out_accuracy", "correlation")
    table: list[list[Any]] = [["figure", "value"]]
    table += [[name.replace("_", " "), last[f"{PREFIX}{name}"]] for name in names if f"{PREFIX}{name}" in last]
    text = (
        "The agent learned from a reward that was fitted to comparisons. Correlation is that of true and learned "
        "return over the agent's latest fragments; it falls where the agent finds what is paid for wrongly."
    )
    if (least := min(rows, key=lambda row: _known(row[f"{PREFIX}correlation"])))[f"{PREFIX}correlation"] < LOW:
        text += f"\n\nIt was as low as {least[f'{PREFIX}correlation']:.2f}, at step {int(least['step'])}."
    if last.get(f"{PREFIX}ended_early"):
        text += (
            "\n\nSome episodes ended by themselves. Comparisons of equally long fragments leave a constant open that "
            "decides whether an early end pays: read the learned policy's behaviour, and prefer model.normalise scale."
        )
    curves = [
        Series(title, [row["step"] for row in there], [row[f"{PREFIX}{name}"] for row in there])
        for name, title in (("correlation", "correlation with the true return"), ("held_out_accuracy", "held out"))
        if (there := [row for row in rows if f"{PREFIX}{name}" in row])
    ]
    return Section("Learned reward", text, table, {"agreement over environment steps": curves})


def _known(value: float) -> float:
    return math.inf if math.isnan(value) else value
