"""Plots as inline SVG that take their colours from the page, so that they read well on a light and on a dark one."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 400
COLOURS = ("#3f7fd1", "#e08a2c", "#3a9d6b", "#b35aa8")
_INK = "#123456"  # stands for the page's own text colour until the SVG is written


@dataclass(frozen=True)
class Series:
    """One curve: y over x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Bars:
    """One bar a label, with a whisker where an interval is known."""

    name: str
    labels: Sequence[str]
    values: Sequence[float]
    intervals: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Heatmap:
    """A number a cell of a grid, row by row from the top; nan where there is none."""

    values: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Points:
    """Labelled points of two figures; marked ones, such as those of a Pareto front, are filled and joined."""

    x: Sequence[float]
    y: Sequence[float]
    labels: Sequence[str]
    marked: Sequence[bool]
    x_name: str
    y_name: str


Plotted = Sequence[Series] | Sequence[Bars] | Heatmap | Points


def plot(items: Plotted) -> str:
    """An SVG element of curves, of grouped bars, of a grid's cells, or of points."""
    if isinstance(items, Heatmap):
        return heat_map(items)
    if isinstance(items, Points):
        return _svg(_scatter(items))
    curves = [item for item in items if isinstance(item, Series)]
    return line_plot(curves) if curves else bar_plot([item for item in items if isinstance(item, Bars)])


def png(points: Points) -> bytes:
    """The same points as a PNG file, dark on white."""
    content = io.BytesIO()
    _scatter(points).savefig(content, format="png", dpi=180, metadata={"Software": None})
    return content.getvalue()


def line_plot(series: Sequence[Series]) -> str:
    """An SVG element of the curves, with a legend where there are several; long curves are thinned to MAX_POINTS."""
    figure, axes = _figure()
    for index, curve in enumerate(series):
        stride = max(1, len(curve.x) // MAX_POINTS)
        marker = "o" if len(curve.x) < 12 else None
        x, y = curve.x[::stride], curve.y[::stride]
        axes.plot(x, y, label=curve.name, color=COLOURS[index % len(COLOURS)], marker=marker, markersize=3)
    _finish(axes, legend=len(series) > 1)
    return _svg(figure)


def bar_plot(groups: Sequence[Bars]) -> str:
    """An SVG element of bars side by side, one colour a group."""
    figure, axes = _figure()
    width = 0.8 / len(groups)
    for index, bars in enumerate(groups):
        places = [at + (index - (len(groups) - 1) / 2) * width for at in range(len(bars.labels))]
        axes.bar(places, bars.values, width * 0.92, label=bars.name, color=COLOURS[index % len(COLOURS)])
        for place, interval in zip(places, bars.intervals, strict=False):
            if interval is not None:
                axes.plot([place, place], interval, color=_INK, linewidth=1)
    axes.set_xticks(range(len(groups[0].labels)), groups[0].labels)
    _finish(axes, legend=len(groups) > 1)
    return _svg(figure)


def heat_map(heat: Heatmap) -> str:
    """An SVG element of coloured cells, light for high and dark for low, with a scale beside them."""
    import numpy as np

    figure, axes = _figure()
    # vector cells: an image would be scaled with blurred edges
    mesh = axes.pcolormesh(np.ma.masked_invalid(np.asarray(heat.values, dtype=float)), cmap="viridis", linewidth=0)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_axis_off()
    scale = figure.colorbar(mesh, ax=axes)
    scale.ax.tick_params(colors=_INK, labelsize=8)
    scale.outline.set_visible(False)  # type: ignore[operator]
    return _svg(figure)


def _scatter(points: Points) -> Figure:
    figure, axes = _figure()
    for x, y, text, marked in zip(points.x, points.y, points.labels, points.marked, strict=True):
        axes.scatter([x], [y], s=26, color=COLOURS[0], facecolors=COLOURS[0] if marked else "none", zorder=3)
        axes.annotate(text, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8, color=_INK)
    front = sorted((x, y) for x, y, marked in zip(points.x, points.y, points.marked, strict=True) if marked)
    axes.plot([x for x, _ in front], [y for _, y in front], color=COLOURS[0], linewidth=1, alpha=0.6)
    axes.set_xlabel(points.x_name, fontsize=8, color=_INK)
    axes.set_ylabel(points.y_name, fontsize=8, color=_INK)
    axes.margins(0.12)
    _finish(axes, legend=False)
    return figure


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # a Figure without pyplot draws by Agg and keeps no global state

    figure = Figure(figsize=(4.4, 2.6), layout="constrained")
    return figure, figure.subplots()


def _finish(axes: Axes, *, legend: bool) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(alpha=0.18)
    axes.set_axisbelow(True)
    if legend:
        axes.legend(frameon=False, fontsize=8, labelcolor=_INK)


def _svg(figure: Figure) -> str:
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "raysafe"}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"^.*?(?=<svg)", "", text.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace(_INK, "currentColor").strip()
