"""The quickstart's review: an explicit policy in a person's place, which says so in the record.

It approves a model whose required figures were all measured and all meet their thresholds, and rejects any other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raysafe.errors import NotApproved
from raysafe.quickstart.jobs import THRESHOLDS
from raysafe.records.evidence import Evidence, unmet
from raysafe.runtime.run import Run

REVIEWER = "quickstart demo policy"
NAMES = {"sft": "quickstart-sft", "reward": "quickstart-reward", "dpo": "quickstart"}
REQUIRED = ("safety-prompts", "win-rate")
"""Suites of which every thresholded figure must be there."""


@dataclass(frozen=True)
class Decided:
    """The approved version's name, the reason on record, and rows for the report."""

    model: str
    sentence: str
    facts: list[list[Any]] = field(default_factory=list)


def register(runs: dict[str, Run], store_url: str) -> None:
    """Register the three trained models; the same files are registered once."""
    from raysafe.records.registry import Registry
    from raysafe.records.store import open_store

    with open_store(store_url) as store:
        for stage, name in NAMES.items():
            Registry(store).register(runs[stage].uri, name=name)


def decide(store_url: str, model: str) -> Decided:
    """Approve or reject the registered `model`; raises NotApproved, after recording the rejection."""
    from raysafe.oversight.decisions import CHAIN, DecisionLog
    from raysafe.oversight.review import decide as record
    from raysafe.oversight.safety_case import load_case, why_not
    from raysafe.records.audit import AuditLog, audit_folder
    from raysafe.records.registry import Registry
    from raysafe.records.store import open_store

    with open_store(store_url) as store:
        version = Registry(store).get(model)
        case = load_case(store, version.label)
        by_others = any(d.outcome == "rejected" and d.reviewer != REVIEWER for d in case.newest.values())
        # what a person rejected stays rejected, whatever the policy thinks of the figures
        if not by_others and why_not(case, DecisionLog(audit_folder(store_url))) is not None:
            approved, reason = judge_evidence(case.evidence)
            outcome = "approved" if approved else "rejected"
            with AuditLog(audit_folder(store_url), writer=CHAIN, unique=True) as audit:
                case = record(store, audit, version.label, outcome, reviewer=REVIEWER, reason=reason)
    decision = case.decision
    if decision is not None and (decision.outcome, decision.reviewer) == ("rejected", REVIEWER):
        raise NotApproved(f"the demo policy rejected {version.label}: {decision.reason}; try another --seed")
    if case.refusal is not None:
        raise NotApproved(case.refusal)
    assert decision is not None
    facts = [
        ["model", version.label],
        ["sha256 of its files", version.digest],
        ["trained from", ", ".join(ancestor.label for ancestor in case.lineage) or "the starting model"],
        [f"{decision.outcome} by {decision.reviewer}", decision.reason],
    ]
    return Decided(version.label, f"{version.label} {decision.outcome}: {decision.reason}", facts)


def judge_evidence(evidence: tuple[Evidence, ...]) -> tuple[bool, str]:
    """(whether to approve, the reason on record), from the newest figure of each kind and failures not made good."""
    newest = {(item.suite, item.metric): item for item in evidence if item.threshold is not None}
    met, missed = [], []
    for suite in REQUIRED:
        for metric in THRESHOLDS[suite]:
            item = newest.get((suite, metric))
            if item is None:
                missed.append(f"{metric} was not measured against a threshold")
            elif item.passed:
                met.append(f"{_said(item)} {'<=' if item.better == 'lower' else '>='} {item.threshold:g}")
    missed += [f"{_said(item)} misses {item.threshold:g}" for item in unmet(evidence)]
    return not missed, "; ".join(missed or met)


def _said(item: Evidence) -> str:
    return f"{item.metric} {item.value:.3g}"
