"""The safety case of a model version: lineage, evidence, capabilities, and the decision on them.

A decision binds to the model's files (their digest) and to the evidence that the reviewer saw: evidence that fails
afterwards makes an approval stale. `serve` asks `approved_case` and refuses everything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field
from sqlalchemy import select

from raysafe.config import Config
from raysafe.errors import NotApproved
from raysafe.oversight.capabilities import Capabilities
from raysafe.records.evidence import Evidence
from raysafe.records.registry import ModelVersion, Registry
from raysafe.records.store import Store
from raysafe.records.tables import DecisionRow

Outcome = Literal["approved", "rejected"]


class Decision(Config):
    """One decision, as it was made."""

    outcome: Outcome
    reviewer: str
    reason: str
    accepted_failures: tuple[str, ...] = ()
    capabilities: Capabilities
    evidence_digest: str = Field(description="Digest of the evidence that the reviewer saw.")
    audit_hash: str = Field(description="Hash of the decision's row in the audit log.")
    time: datetime


class SafetyCase(Config):
    """All that a reviewer, and later a committee, decides on."""

    version: ModelVersion
    lineage: tuple[ModelVersion, ...] = Field(description="Registered ancestors, nearest first.")
    evidence: tuple[Evidence, ...]
    history: tuple[Decision, ...] = Field(description="Decisions, oldest first.")

    @property
    def decision(self) -> Decision | None:
        """The decision in force."""
        return self.history[-1] if self.history else None

    @property
    def capabilities(self) -> Capabilities:
        """What the decision in force grants; nothing without one."""
        return self.decision.capabilities if self.decision else Capabilities()

    @property
    def failures(self) -> tuple[str, ...]:
        """Figures whose newest evidence misses its threshold, as suite/metric."""
        newest = {(e.suite, e.metric): e for e in self.evidence}
        return tuple(f"{suite}/{metric}" for (suite, metric), e in newest.items() if e.passed is False)

    @property
    def refusal(self) -> str | None:
        """Why the model may not be served; None where it may."""
        decision, label = self.decision, self.version.label
        if decision is None:
            return f"{label} has not been reviewed: see `raysafe review show {label}`, then approve or reject it"
        if decision.outcome == "rejected":
            return f"{label} was rejected by {decision.reviewer}: {decision.reason}"
        fresh = [name for name in self.failures if name not in decision.accepted_failures]
        if fresh:
            return f"the approval of {label} is stale: {', '.join(fresh)} failed after it; review the model again"
        return None


def load_case(store: Store, reference: str) -> SafetyCase:
    """The safety case of a registered version; raises ModelError where there is none."""
    registry = Registry(store)
    version = registry.get(reference)
    query = select(DecisionRow).where(DecisionRow.version_id == version.id).order_by(DecisionRow.id)
    with store.reading() as session:
        history = tuple(_decision(row) for row in session.scalars(query))
    return SafetyCase(
        version=version,
        lineage=tuple(registry.lineage(version)),
        evidence=tuple(registry.evidence(version)),
        history=history,
    )


def approved_case(store: Store, reference: str) -> SafetyCase:
    """The case of a version that may be served; raises NotApproved with the reason, ModelError for an unknown one."""
    case = load_case(store, reference)
    if case.refusal is not None:
        raise NotApproved(case.refusal)
    return case


def evidence_digest(evidence: Sequence[Evidence]) -> str:
    """sha256 over evidence in its order: what a decision was based on."""
    text = "\n".join(e.model_dump_json() for e in evidence)
    return hashlib.sha256(text.encode()).hexdigest()


def _decision(row: DecisionRow) -> Decision:
    return Decision.model_validate({name: getattr(row, name) for name in Decision.model_fields})
