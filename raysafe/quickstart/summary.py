"""What the quickstart tells at its end: a short table in the terminal, and a report with plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from raysafe.evaluation.job import ROWS
from raysafe.quickstart.service import Reply
from raysafe.quickstart.stages import Stages
from raysafe.records.evidence import Evidence
from raysafe.runtime.plots import Bars
from raysafe.runtime.report import Section, metric_plots, write_report
from raysafe.runtime.run import Run

if TYPE_CHECKING:
    from raysafe.serving.service import Service

TRAININGS = {"sft": "Fine-tuning (SFT)", "reward": "Reward model", "dpo": "Preference training (DPO)"}
PLOTTED = ("loss", "accuracy", "margin")
EXAMPLES = 10


def figure(run: Run, metric: str) -> Evidence:
    """The run's evidence of that metric."""
    return next(item for item in run.evidence if item.metric == metric)


def headline(stages: Stages) -> list[list[str]]:
    """The table of what was measured: figure, before, after; first row headings."""
    before, after = stages.runs["safety_before"], stages.runs["safety_after"]
    rows = [["on held-out requests", "after SFT", "after DPO"]]
    for metric, name in (
        ("unsafe_rate", "harmful requests answered"),
        ("over_refusal_rate", "benign requests refused"),
        ("neither_rate", "answers off the topic"),
    ):
        rows.append([name, _percent(figure(before, metric)), _percent(figure(after, metric))])
    rows.append(["answers that beat SFT's", "", _percent(figure(stages.runs["win_rate"], "win_rate"))])
    rows.append(["reward model: pairs ranked right", "", _percent(figure(stages.runs["reward_accuracy"], "accuracy"))])
    return rows


def print_summary(stages: Stages, run: Run, replies: Sequence[Reply], service: Service | None) -> None:
    """The table, the service's replies, where the report is, what to run next. service: one that stays up."""
    rows = headline(stages)
    table = Table(*rows[0], box=box.SIMPLE)
    for row in rows[1:]:
        table.add_row(*row)
    console = Console(highlight=False)  # the result: stdout, while the stages' progress goes to stderr
    console.print(table)
    for reply in replies:
        console.print(f"  asked     {reply.prompt}", markup=False, soft_wrap=True)
        console.print(f"  {reply.outcome}: {reply.text}\n", markup=False, soft_wrap=True)
    console.print(f"Report    {run.folder.local_path('report.html')}", markup=False, soft_wrap=True)
    console.print(f"Time      {sum(stages.seconds.values()):.0f} s", markup=False)
    for line in _next_steps(run, service):
        console.print(line, markup=False, soft_wrap=True)


def _next_steps(run: Run, service: Service | None) -> list[str]:
    store = f"sqlite:///{run.folder.local_path().parent / 'raysafe.db'}"
    lines = [
        "Next:",
        f"  export RAYSAFE_STORE={store}",
        "  raysafe review show quickstart      the safety case that was approved",
        "  raysafe serve quickstart            the service again, until Ctrl-C",
        "  raysafe audit verify                every decision and request, checked",
        "  raysafe dpo --help                  your own data and model",
    ]
    if service is not None:
        body = json.dumps(
            {"model": service.model, "messages": [{"role": "user", "content": "how do i bake a lemon cake?"}]}
        )
        lines += [
            f"Serving at {service.url}/v1 until Ctrl-C; API key {service.key}. Try:",
            f"  curl {service.url}/v1/chat/completions -H 'Authorization: Bearer {service.key}' \\",
            f"    -H 'Content-Type: application/json' -d '{body}'",
        ]
    return lines


def write_summary(run: Run, stages: Stages, replies: Sequence[Reply], facts: Sequence[Sequence[Any]]) -> None:
    """report.html of the quickstart's own run."""
    sections = [
        Section("What was measured", _STORY, headline(stages), {"before and after": _bars(stages)}),
        Section(
            "Answers before and after",
            "Held-out requests; first those on which the two models part.",
            _examples(stages),
        ),
        Section("The guarded service", "Sent to the OpenAI-compatible endpoint.", _replies(replies)),
        Section("Review and audit", "", [["what", "result"], *facts]),
    ]
    for name, title in TRAININGS.items():
        plots = {k: v for k, v in metric_plots(stages.runs[name].metrics).items() if k in PLOTTED}
        sections.append(Section(title, stages.runs[name].uri, plots=plots))
    seconds = [["stage", "seconds"], *([name, round(spent, 1)] for name, spent in stages.seconds.items())]
    sections.append(Section("Time", table=seconds))
    write_report(run, title="Quickstart: from preference data to a guarded service", sections=sections)


_STORY = (
    "A small model learned from demonstrations of mixed quality, then from preference pairs. Both models were asked "
    "the same requests, whose tasks occur nowhere in the training data; a judge that knows the grammar read both."
)


def _percent(item: Evidence) -> str:
    interval = f"  ({item.interval[0]:.0%} to {item.interval[1]:.0%})" if item.interval else ""
    return f"{item.value:.1%}{interval}"


def _bars(stages: Stages) -> list[Bars]:
    metrics = ("unsafe_rate", "over_refusal_rate", "neither_rate")
    bars = []
    for name, stage in (("after SFT", "safety_before"), ("after DPO", "safety_after")):
        found = [figure(stages.runs[stage], metric) for metric in metrics]
        labels = ["unsafe", "over-refused", "off-topic"]
        bars.append(Bars(name, labels, [item.value for item in found], [item.interval for item in found]))
    return bars


def _examples(stages: Stages) -> list[list[str]]:
    """Requests with both answers; those on which the two models part come first."""
    before, after = (
        [json.loads(line) for line in stages.runs[stage].folder.read(ROWS).splitlines()]
        for stage in ("safety_before", "safety_after")
    )
    pairs = sorted(zip(before, after, strict=True), key=lambda pair: pair[0]["behaviour"] == pair[1]["behaviour"])
    shown = [*pairs[: EXAMPLES // 2 + 1], *pairs[-EXAMPLES // 2 :]]
    return [
        ["request", "label", "after SFT", "after DPO"],
        *([b["prompt"], b["label"], b["answer"], a["answer"]] for b, a in shown),
    ]


def _replies(replies: Sequence[Reply]) -> list[list[str]]:
    return [["request", "outcome", "answer or reason"], *([r.prompt, r.outcome, r.text] for r in replies)]
