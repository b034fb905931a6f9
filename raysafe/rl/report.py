"""The report of a training: its curve, what the best policy is worth, and an episode of it in pictures."""

from __future__ import annotations

from typing import Any

from raysafe.runtime.plots import Series
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

FRAMES = "artifacts/frames"


def sections(run: Run) -> list[Section]:
    """The learning curve, and the frame strip where there is one."""
    return [section for section in (_curve(run), _strip(run)) if section is not None]


def _curve(run: Run) -> Section | None:
    rows = run.metrics
    judged = [row for row in rows if "evaluation/return" in row]
    if not judged:
        return None
    trained = next((event for event in reversed(run.events) if event["event"] == "trained"), {})
    best = [("best", row) for row in judged if row["step"] == trained.get("best_step")]
    curves = [Series("evaluation", [row["step"] for row in judged], [row["evaluation/return"] for row in judged])]
    for name, title in (("return", "training"), ("true_return", "training, the environment's own reward")):
        there = [row for row in rows if name in row]
        if there:
            curves.append(Series(title, [row["step"] for row in there], [row[name] for row in there]))
    table: list[list[Any]] = [["evaluation", "step", "mean return", "deviation", "least", "mean length"]]
    for label, row in (("before training", judged[0]), *best, ("last", judged[-1])):
        names = ("return", "return_sd", "return_least", "length")
        table.append([label, int(row["step"]), *(row[f"evaluation/{name}"] for name in names)])
    early = next((e["why"] for e in reversed(run.events) if e["event"] == "stopped-early"), None)
    text = "Evaluations take the likeliest action, in environments and with seeds that nothing is learned from."
    text += f"\n\nStopped early: {early}." if early else ""
    return Section("Learning curve", text, table, {"mean return over environment steps": curves})


def _strip(run: Run) -> Section | None:
    names = run.folder.list(FRAMES)
    lacking = next((event["reason"] for event in run.events if event["event"] == "not-drawn"), None)
    if lacking is not None:
        return Section("An episode of the best policy", f"The environment couldn't draw it: {lacking}.")
    if not names:
        return None
    pictures = {f"{number} of {len(names)}": run.folder.read(f"{FRAMES}/{n}") for number, n in enumerate(names, 1)}
    return Section(
        "An episode of the best policy", "Frames at even distances, from its first to its last.", (), {}, pictures
    )
