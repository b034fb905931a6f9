"""The table of suites: each turns a model into figures that become Evidence.

A suite's module is imported when it runs, so that the command line can list them all without torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob

SuiteName = Literal["preference-accuracy", "win-rate", "safety-prompts"]


@dataclass(frozen=True)
class Figure:
    """One measured value, before it is bound to a model, data and a run."""

    metric: str
    value: float
    n: int
    interval: tuple[float, float] | None = None
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class Findings:
    """What a suite found. `rows`: one record a case, kept beside the evidence; `summary`: tests and counts."""

    figures: list[Figure]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    data_digest: str
    models: dict[str, str] = field(default_factory=dict)
    """Other models that took part, such as the reference, and their digests."""


@dataclass(frozen=True)
class Suite:
    """A suite's name, what it says of a model, its settings and its metrics."""

    name: SuiteName
    summary: str
    module: str
    settings: frozenset[str]
    """Settings of EvaluateJob that this suite reads, besides the ones that all do."""
    required: frozenset[str]
    metrics: frozenset[str]

    @property
    def examine(self) -> Callable[[EvaluateJob], Findings]:
        return import_module(self.module).examine


_ANSWERING = frozenset({"max_new_tokens", "temperature"})

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "preference-accuracy",
            "how often a policy (against its reference) or a reward model prefers the chosen answer of a held-out pair",
            "raysafe.evaluation.preference_accuracy",
            frozenset({"reference", "too_long", "layout"}),
            frozenset(),
            frozenset(
                {"accuracy", "p_value", "shorter_baseline", "longer_baseline", "over_shorter", "over_longer", "tied"}
            ),
        ),
        Suite(
            "win-rate",
            "how often a judge prefers the model's answer to another model's",
            "raysafe.evaluation.win_rate",
            frozenset({"reference", "judge"}) | _ANSWERING,
            frozenset({"reference", "judge"}),
            frozenset({"win_rate", "p_value", "inconsistent_rate"}),
        ),
        Suite(
            "safety-prompts",
            "how often the model complies with harmful prompts and refuses benign ones",
            "raysafe.evaluation.safety_prompts",
            frozenset({"detector"}) | _ANSWERING,
            frozenset(),
            frozenset({"unsafe_rate", "over_refusal_rate", "neither_rate"}),
        ),
    )
}
