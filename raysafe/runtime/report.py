"""report.html: one run in one self-contained page. No scripts, no external requests; every text is escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import yaml

from raysafe.records.evidence import Evidence
from raysafe.runtime.plots import Plotted, Series, plot
from raysafe.runtime.run import Run

MAX_CELL_CHARACTERS = 2000
MAX_EVENTS = 200

STYLE = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #5d6673; --line: #dfe3e8; --page: #ffffff; --card: #f6f7f9;
  --good: #17703c; --bad: #b3261e; --accent: #2457a7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #9aa3af; --line: #343a43; --page: #16181c;
  --card: #1f2228; --good: #6fcf97; --bad: #ff8a80; --accent: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 2.5rem 1.5rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.6rem 0 .8rem; }
.soft { color: var(--soft); } .mono, pre, code { font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .93rem; }
th, td { text-align: left; vertical-align: top; padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; } td.number { font-variant-numeric: tabular-nums; }
td { overflow-wrap: break-word; min-width: 4.5rem; max-width: 34rem; }
pre { background: var(--card); border-radius: 8px; padding: 1rem; overflow-x: auto; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.2rem;
  margin-top: 1rem; }
figure { margin: 0; background: var(--card); border-radius: 8px; padding: .8rem; }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem; margin-top: 1rem; }
.strip img { width: 100%; image-rendering: pixelated; }
figure svg { width: 100%; height: auto; }
figcaption { font-size: .9rem; font-weight: 600; padding: 0 0 .3rem .2rem; }
details summary { cursor: pointer; color: var(--accent); }
.passed { color: var(--good); } .failed { color: var(--bad); }
.pill { display: inline-block; border: 1px solid currentColor; border-radius: 99px; padding: 0 .6rem;
  font-size: .82rem; }
"""


@dataclass(frozen=True)
class Section:
    """A titled part of a report: a sentence or two, a table (first row: headings), plots, a strip of PNG pictures."""

    title: str
    text: str = ""
    table: Sequence[Sequence[Any]] = ()
    plots: Mapping[str, Plotted] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """PNG files by what stands below them."""


def write_report(run: Run, *, title: str | None = None, sections: Sequence[Section] = ()) -> None:
    """Write the run's report.html whole: its evidence, the given sections, then all else that it knows."""
    run.folder.write("report.html", render_report(run, title=title, sections=sections))


def render_report(run: Run, *, title: str | None = None, sections: Sequence[Section] = ()) -> str:
    """The page as a string."""
    environment = run.environment
    parts = [_heading(run, title or run.name), _evidence(run.evidence), *(_section(section) for section in sections)]
    parts += [_metrics(run.metrics), _lineage(environment.get("inputs", []))]
    parts += [_config(run.config), _environment(environment), _events(run.events)]
    return _page(title or run.name, parts)


def render_page(title: str, under: str, sections: Sequence[Section]) -> str:
    """A page of sections alone, for what is no run; `under` stands below its title."""
    head = f"<h1>{escape(title)}</h1><p class='soft'>{escape(under)}</p>"
    return _page(title, [head, *(_section(section) for section in sections)])


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        f'img-src data:"><style>{STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
    )


def table_html(rows: Sequence[Sequence[Any]]) -> str:
    """A table whose first row is its headings; numbers are aligned, everything else is escaped."""
    if not rows:
        return ""
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: float) -> str:
    """Four significant digits; whole numbers stay whole."""
    return f"{value:,d}" if isinstance(value, int) else f"{value:.4g}"


def _heading(run: Run, title: str) -> str:
    config = run.config
    kind = "" if run.status == "finished" else " failed" if run.status == "failed" else " soft"
    started = run.events[0]["time"][:19].replace("T", " ") + " UTC" if run.events else ""
    return (
        f"<h1>{escape(title)}</h1><p class='soft'>{escape(str(config.get('job', '')))} · {escape(started)} · "
        f"<span class='pill{kind}'>{escape(run.status)}</span></p><p class='soft mono'>{escape(run.uri)}</p>"
    )


def _section(section: Section) -> str:
    text = "".join(f"<p>{escape(part)}</p>" for part in section.text.split("\n\n") if part)
    parts = f"{text}{table_html(section.table)}{_plots(section.plots)}{_pictures(section.pictures)}"
    return f"<h2>{escape(section.title)}</h2>{parts}"


def _pictures(pictures: Mapping[str, bytes]) -> str:
    if not pictures:
        return ""
    figures = (
        f'<figure><img src="data:image/png;base64,{b64encode(content).decode()}" alt="{escape(name)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, content in pictures.items()
    )
    return f'<div class="strip">{"".join(figures)}</div>'


def _evidence(evidence: Sequence[Evidence]) -> str:
    if not evidence:
        return ""
    rows: list[list[Any]] = [["suite", "figure", "value", "95% interval", "cases", "threshold", "passed"]]
    for item in evidence:
        interval = "" if item.interval is None else f"{item.interval[0]:.4g} to {item.interval[1]:.4g}"
        sign = ">=" if item.better == "higher" else "<="
        threshold = "" if item.threshold is None else f"{sign} {number(item.threshold)}"
        rows.append([item.suite, item.metric, item.value, interval, item.n, threshold, item.passed])
    return "<h2>Evidence</h2>" + table_html(rows)


def _metrics(rows: Sequence[Mapping[str, float]]) -> str:
    plots = metric_plots(rows)
    return f"<h2>Metrics</h2>{_plots(plots)}" if plots else ""


def metric_plots(rows: Sequence[Mapping[str, float]]) -> dict[str, list[Series]]:
    """One plot a figure; `train/loss`, `validation/loss` and `loss` share the plot named loss."""
    plots: dict[str, list[Series]] = {}
    for name in dict.fromkeys(key for row in rows for key in row if key != "step"):
        points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
        plot = name.split("/", 1)[-1].removeprefix("validation_").removeprefix("train_")
        if len(points) > 1:
            plots.setdefault(plot, []).append(Series(name, [x for x, _ in points], [y for _, y in points]))
    return plots


def _plots(plots: Mapping[str, Plotted]) -> str:
    if not plots:
        return ""
    figures = (f"<figure><figcaption>{escape(n)}</figcaption>{plot(items)}</figure>" for n, items in plots.items())
    return f'<div class="plots">{"".join(figures)}</div>'


def _lineage(inputs: Sequence[Mapping[str, Any]]) -> str:
    if not inputs:
        return ""
    rows = [["made from", "where", "sha256"], *([i["kind"], i["uri"], i["sha256"]] for i in inputs)]
    return "<h2>Lineage</h2>" + table_html(rows)


def _config(config: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return f"<h2>Settings</h2><pre>{escape(text)}</pre>"


def _environment(environment: Mapping[str, Any]) -> str:
    rows: list[list[Any]] = [["ran on", ""]]
    rows += [[k, v] for k, v in environment.items() if k not in ("versions", "inputs") and v is not None]
    rows += [[k, v] for k, v in environment.get("versions", {}).items()]
    return f"<h2>Environment</h2>{table_html(rows)}"


def _events(events: Sequence[Mapping[str, Any]]) -> str:
    rows: list[list[Any]] = [["time", "event", "details"]]
    for event in events[-MAX_EVENTS:]:
        details = ", ".join(f"{k}: {v}" for k, v in event.items() if k not in ("time", "event"))
        rows.append([event["time"][:19].replace("T", " "), event["event"], details])
    left_out = f" (the last {MAX_EVENTS} of {len(events)})" if len(events) > MAX_EVENTS else ""
    return f"<h2>Events{left_out}</h2><details><summary>show</summary>{table_html(rows)}</details>"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return f'<td><span class="{"passed" if value else "failed"}">{"passed" if value else "failed"}</span></td>'
    if isinstance(value, int | float):
        return f'<td class="number">{number(value)}</td>'
    text = "" if value is None else str(value)
    if len(text) > MAX_CELL_CHARACTERS:
        text = f"{text[:MAX_CELL_CHARACTERS]} … ({len(text):,d} characters)"
    return f"<td>{escape(text)}</td>"
