"""What the report of an online run says first: how far the optimisation went, and what the policy writes."""

from __future__ import annotations

from typing import Any

from raysafe.runtime.plots import Series
from raysafe.runtime.report import Section
from raysafe.runtime.run import Run

EXAMPLES = "artifacts/answers.jsonl"
FAR_KL, FAR_PERPLEXITY = 1.0, 2.0
"""What is remarked on, limits or not: nats a token, and the start's perplexity times this; useful runs stay below."""
WATCHED = ("reward", "gold", "kl", "perplexity", "distinct_2", "entropy", "length")


def sections(run: Run) -> list[Section]:
    """Over-optimisation, losses of processes if there were any, and answers before and after."""
    return [section for section in (_watched(run), _losses(run), _answers(run)) if section is not None]


def _watched(run: Run) -> Section | None:
    rows = [row for row in run.metrics if "validation/reward" in row]
    if not rows:
        return None
    names = [name for name in WATCHED if f"validation/{name}" in rows[0]]
    best = next((e.get("best_step") for e in reversed(run.events) if e["event"] == "trained"), None)
    at_best = next((row for row in rows if row["step"] == best), rows[-1])
    table: list[list[Any]] = [["on validation prompts", "start", f"best (step {best})", "last"]]
    # the start's KL to itself is rounding
    table += [[name, *(round(row[f"validation/{name}"], 6) for row in (rows[0], at_best, rows[-1]))] for name in names]
    said = [f"Reward and gold score part: {e['warning']}." for e in run.events if e["event"] == "reward-and-gold-part"][
        -1:
    ]
    said += [f"Stopped early: {e['why']}." for e in run.events if e["event"] == "stopped-early"]
    far = _far(rows[0], rows[-1])
    if far and not any(e["event"] == "stopped-early" for e in run.events):
        said.append(far)
    text = "\n\n".join(said) or "No limit was broken, and the reward did not part from the gold score."
    plots = {}
    for name in ("reward", "gold"):
        if name in names:
            xs = [row["validation/kl"] * row["validation/length"] for row in rows]
            plots[f"{name} over KL (nats an answer)"] = [Series(name, xs, [row[f"validation/{name}"] for row in rows])]
    return Section("Over-optimisation", text, table, plots)


def _far(start: dict[str, float], last: dict[str, float]) -> str | None:
    """A sentence where a run that no limit ended went so far that its reward hardly means what it did."""
    kl, perplexity = last["validation/kl"], last["validation/perplexity"]
    if kl <= FAR_KL and perplexity <= FAR_PERPLEXITY * start["validation/perplexity"]:
        return None
    return (
        f"The policy went far from its reference: KL is {kl:.2f} nats a token, perplexity went from "
        f"{start['validation/perplexity']:.3g} to {perplexity:.3g}, distinct-2 from "
        f"{start['validation/distinct_2']:.2f} to {last['validation/distinct_2']:.2f}. Read its answers below; if "
        "they are no better, raise kl_coefficient, or set limits in watch."
    )


def _losses(run: Run) -> Section | None:
    lost = [e for e in run.events if e["event"] == "lost"]
    if not lost:
        return None
    rebuilt = [e for e in run.events if e["event"] == "rebuilt"]
    table: list[list[Any]] = [["lost", "roles", "rank", "how", "what was said"]]
    table += [[e["group"], ", ".join(e["roles"]), e["rank"], e["kind"], e["detail"]] for e in lost]
    seconds = ", ".join(f"{e['group']} in {e['seconds']:.1f} s" for e in rebuilt)
    return Section("Lost and rebuilt", f"Rebuilt: {seconds}." if seconds else "", table)


def _answers(run: Run) -> Section | None:
    rows = run.examples(EXAMPLES)
    if not rows:
        return None
    steps = sorted({row["step"] for row in rows})
    first, last = ([row for row in rows if row["step"] == step] for step in (steps[0], steps[-1]))
    table: list[list[Any]] = [
        ["prompt", f"answer at step {steps[0]}", "reward", f"answer at step {steps[-1]}", "reward"]
    ]
    table += [
        [a["prompt"], a["answer"], a["reward"], b["answer"], b["reward"]] for a, b in zip(first, last, strict=False)
    ]
    return Section("Answers", f"To the same prompts; more of them are in {EXAMPLES}.", table)
