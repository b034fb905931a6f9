"""Plots as inline SVG that take their colours from the page, so that they read well on a light and on a dark one."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_POINTS = 400
COLOURS = ("#3f7fd1", "#e08a2c", "#3a9d6b", "#b35aa8")
_INK = "#123456"  # stands for the page's own text colour until the SVG is written


@dataclass(frozen=True)
class Series:
    """One curve: y over x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_plot(series: Sequence[Series]) -> str:
    """An SVG element of the curves, with a legend where there are several; long curves are thinned to MAX_POINTS."""
    from matplotlib.figure import Figure  # a Figure without pyplot draws by Agg and keeps no global state

    figure = Figure(figsize=(4.4, 2.6), layout="constrained")
    axes = figure.subplots()
    for index, curve in enumerate(series):
        stride = max(1, len(curve.x) // MAX_POINTS)
        marker = "o" if len(curve.x) < 12 else None
        axes.plot(
            curve.x[::stride],
            curve.y[::stride],
            label=curve.name,
            color=COLOURS[index % 4],
            marker=marker,
            markersize=3,
        )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(alpha=0.18)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK)
    return _svg(figure)


def _svg(figure: object) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "raysafe"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})  # type: ignore[attr-defined]
    svg = re.sub(r"^.*?(?=<svg)", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace(_INK, "currentColor").strip()
