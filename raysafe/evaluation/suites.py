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
    from raysafe.runtime.report import Section

SuiteName = Literal[
    "preference-accuracy",
    "win-rate",
    "safety-prompts",
    "suffixes",
    "reward-hacking",
    "goal-misgeneralisation",
    "safe-interruptibility",
    "absent-supervisor",
    "distributional-shift",
    "safe-exploration",
    "power-seeking",
    "goal-directedness",
    "emergent-goals",
    "value-divergence",
    "robustness",
    "forgetting",
    "negative-transfer",
    "fairness",
    "shift",
    "calibration",
    "stability",
]


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
    """Other models that took part, such as the reference, and their digests; other data by theirs."""
    sections: list[Section] = field(default_factory=list)
    """What the report says before the cases."""


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
    language: bool = True
    """Whether the model is a language model; others have a function `digest` in their suite's module."""
    families: frozenset[str] = frozenset()
    """Metrics that have one value for each of some setting: robust_accuracy@0.1."""

    def measures(self, metric: str) -> bool:
        """Whether there may be such a metric."""
        family, at, _ = metric.partition("@")
        return metric in self.metrics or (bool(at) and family in self.families)

    def digest(self, model: str) -> str:
        """sha256 of a model's files: what evidence is bound to."""
        if not self.language:
            return import_module(self.module.partition(":")[0]).digest(model)
        from raysafe.models.language import model_digest

        return model_digest(model)

    @property
    def examine(self) -> Callable[[EvaluateJob], Findings]:
        module, _, function = self.module.partition(":")
        return getattr(import_module(module), function or "examine")


_ANSWERING = frozenset({"max_new_tokens", "temperature"})
_PLAYING = frozenset({"episodes", "env_config", "drawn"})
_CHOOSING = frozenset({"env_config", "drawn"})
_GAPS = ("demographic_parity_gap", "equal_opportunity_gap", "equalised_odds_gap", "calibration_gap")
_STRANGE = ("msp", "energy_score", "mahalanobis", "knn")
_PROBABILITIES = ("nll", "brier", "ece", "ece_width", "squared_error")


def _conditions(name: SuiteName, summary: str, first: str, second: str, *events: str) -> Suite:
    """A suite of agents/conditions.py."""
    means = {f"{what}_{where}" for what in ("performance", "return") for where in (first, second)}
    metrics = frozenset({*means, *events, "performance_lost"})
    return Suite(name, summary, "raysafe.evaluation.agents.conditions", _PLAYING, frozenset(), metrics)


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
        Suite(
            "suffixes",
            "how often suffixes that gradients find make a model begin its answer as an attacker wants, guarded or not",
            "raysafe.evaluation.suffixes",
            frozenset({"gcg", "policy"}),
            frozenset(),
            frozenset({"attack_success_rate", "guarded_success_rate", "adaptive_success_rate"}),
        ),
        Suite(
            "reward-hacking",
            "whether what an agent is paid for is what was wanted, and how unlike a trusted policy it acts",
            "raysafe.evaluation.agents.reward_hacking",
            frozenset({"reference"}) | _PLAYING,
            frozenset(),
            frozenset({"mean_return", "performance", "hidden_loss", "divergence", "detector_auroc"}),
        ),
        _conditions(
            "goal-misgeneralisation",
            "whether an agent that kept its capability has kept its goal, where the coin lies elsewhere",
            *("training", "shifted", "goal_kept_rate", "capability_kept_rate", "old_goal_rate"),
        ),
        _conditions(
            "safe-interruptibility",
            "whether an agent keeps people from interrupting it",
            *("uninterrupted", "interrupted", "button_rate"),
        ),
        _conditions(
            "absent-supervisor",
            "whether an agent does the same when nobody looks",
            *("watched", "unwatched", "violation_rate"),
        ),
        _conditions(
            "distributional-shift",
            "whether an agent still performs on levels that it hasn't seen",
            *("training", "shifted", "finished_rate"),
        ),
        Suite(
            "safe-exploration",
            "what a training itself cost, from the recording of its episodes",
            "raysafe.evaluation.agents.exploration",
            frozenset(),
            frozenset(),
            frozenset(
                {
                    "violation_rate",
                    "violation_rate_at_the_end",
                    "violations_per_1000_steps",
                    "hidden_loss_per_1000_steps",
                }
            ),
        ),
        Suite(
            "power-seeking",
            "whether an agent goes to states from which more could be had, whatever one wanted (POWER)",
            "raysafe.evaluation.agents.purpose:examine_power",
            _CHOOSING,
            frozenset(),
            frozenset({"power_gain", "power_visited", "power_by_lot"}),
        ),
        Suite(
            "goal-directedness",
            "how well an agent's choices are predicted by supposing a goal: the reward, or some tile (MEG)",
            "raysafe.evaluation.agents.purpose:examine_goals",
            _CHOOSING,
            frozenset(),
            frozenset({"reward_share", "best_tile_share"}),
        ),
        Suite(
            "emergent-goals",
            "what a policy came to pursue over its training: goal-directedness at each checkpoint that its run kept",
            "raysafe.evaluation.agents.emergent",
            _CHOOSING,
            frozenset(),
            frozenset({"reward_share", "best_tile_share", "goal_changes", "emerged_step"}),
        ),
        Suite(
            "value-divergence",
            "how far an agent's reward and what it leads to lie from a human's, in a table's problem",
            "raysafe.evaluation.value_divergence",
            frozenset({"problem", "gamma"}),
            frozenset({"problem"}),
            frozenset({"regret", "disagreement", "value_distance", "epic", "dard"}),
            language=False,
        ),
        Suite(
            "robustness",
            "how much of a classifier's accuracy attacks leave, and whether that can be believed",
            "raysafe.evaluation.robustness",
            frozenset({"reference", "robustness"}),
            frozenset(),
            frozenset({"clean_accuracy", "robust_accuracy", "worst_class_robust_accuracy", "masking_warnings"}),
            language=False,
            families=frozenset({"robust_accuracy", "accuracy_under"}),
        ),
        Suite(
            "forgetting",
            "how much a classifier has forgotten of what it could do before, on an earlier task's held-out examples",
            "raysafe.evaluation.generalization.forgetting",
            frozenset({"reference"}),
            frozenset({"reference"}),
            frozenset({"accuracy", "accuracy_before", "forgotten", "p_value"}),
            language=False,
        ),
        Suite(
            "negative-transfer",
            "whether a fine-tuned classifier does better than one trained from scratch on the same rows",
            "raysafe.evaluation.generalization.forgetting:examine_transfer",
            frozenset({"reference"}),
            frozenset({"reference"}),
            frozenset({"accuracy", "accuracy_from_scratch", "transfer_gain", "p_value"}),
            language=False,
        ),
        Suite(
            "fairness",
            "how a classifier of a table's rows treats groups: both gaps, calibration, and what the data say of them",
            "raysafe.evaluation.fairness",
            frozenset({"label", "groups", "favourable", "smallest_group", "permutations"}),
            frozenset({"groups", "favourable"}),
            frozenset(
                {"accuracy", "worst_group_accuracy", "worst_group_calibration_error"}
                | {f"{where}{gap}" for where in ("", "intersectional_") for gap in _GAPS}
                | {"smallest_group_share", "label_gap", "leakage", "leakage_above_chance"}
            ),
            language=False,
        ),
        Suite(
            "shift",
            "whether data differ from those of a classifier's training, and which examples look strange to it",
            "raysafe.evaluation.generalization.shift",
            frozenset({"source", "shift"}),
            frozenset({"source"}),
            frozenset(
                {f"{test}_p_value" for test in ("mmd", "energy_distance", "ks", "psi", *_STRANGE)}
                | {f"{score}_flagged" for score in _STRANGE}
                | {"accuracy", "accuracy_lost", "false_positives"}
            ),
            language=False,
        ),
        Suite(
            "calibration",
            "whether a classifier's probabilities mean what they say, before and after a temperature; sets of labels",
            "raysafe.evaluation.generalization.calibration",
            frozenset({"calibration"}),
            frozenset(),
            frozenset(
                {f"{name}{when}" for name in _PROBABILITIES for when in ("", "_scaled")}
                | {f"{method}_{what}" for method in ("lac", "aps", "raps") for what in ("coverage", "set_size")}
                | {"accuracy", "ece_of_chance", "temperature"}
            ),
            language=False,
        ),
        Suite(
            "stability",
            "whether a classifier's predictions hold under other seeds and small changes, and where it is worst",
            "raysafe.evaluation.generalization.stability",
            frozenset({"stability"}),
            frozenset(),
            frozenset(
                {"accuracy", "churn", "ambiguity", "discrepancy", "accuracy_of_seeds", "changed", "bad_slices"}
                | {"worst_slice_error"}
            ),
            language=False,
        ),
    )
}
