"""The safety case of a model version: lineage, evidence, capabilities, and the decision on them.

The rule of serving. Evidence is on files, and counts under every name that they are registered under. A decision is on
a version: an approval lets that version be served and no other, as its name and lineage were reviewed with it; a
rejection keeps the files from being served under any name, until the newest decision on the rejected version is an
approval. An approval rests on the evidence that the reviewer saw: it ends where that is no longer all in the store, and
where any figure fails that the reviewer didn't see and accept. What is in force must be the audit log's last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field
from sqlalchemy.orm import Session

from raysafe.config import Config
from raysafe.control.capabilities import Capabilities
from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.decisions import Decision, DecisionLog, Outcome, decisions_on
from raysafe.records.audit import audit_folder
from raysafe.records.evidence import Evidence, evidence_digests, unmet
from raysafe.records.registry import Registry
from raysafe.records.store import Store, store_now
from raysafe.records.versions import ModelVersion, evidence_on, lineage_of


class SafetyCase(Config):
    """All that a reviewer, and later a committee, decides on."""

    version: ModelVersion
    lineage: tuple[ModelVersion, ...] = Field(description="Registered ancestors, nearest first.")
    evidence: tuple[Evidence, ...] = Field(description="On the version's files, in the order in which it came.")
    history: tuple[Decision, ...] = Field(description="Decisions on the version's files under any name, oldest first.")
    time: datetime = Field(description="By the store's clock: whether an approval has expired is as of then.")

    @property
    def newest(self) -> dict[str, Decision]:
        """The newest decision on each version that holds these files, by label."""
        return {decision.label: decision for decision in self.history}

    @property
    def decision(self) -> Decision | None:
        """The decision in force on this version."""
        return self.newest.get(self.version.label)

    @property
    def capabilities(self) -> Capabilities:
        """What the decision in force grants; nothing without one."""
        return self.decision.capabilities if self.decision else Capabilities()

    @property
    def failures(self) -> tuple[str, ...]:
        """Figures with evidence that failed and wasn't made good, as suite/metric."""
        return _names(unmet(self.evidence))

    @property
    def refusal(self) -> str | None:
        """Why the model may not be served; None where nothing in the store is against it."""
        decision, label = self.decision, self.version.label
        if decision is not None and decision.outcome == "rejected":
            return f"{label} was rejected by {decision.reviewer}: {decision.reason}"
        other = next((d for d in self.newest.values() if d.outcome == "rejected"), None)
        if other is not None:
            return (
                f"{label} holds the files of {other.label}, which was rejected by {other.reviewer}: {other.reason}; "
                f"neither is served until {other.label} is approved too"
            )
        if decision is None:
            return f"{label} has not been reviewed: see `raysafe review show {label}`, then approve or reject it"
        expires = decision.terms.expires
        if expires is not None and expires <= self.time:
            return f"the approval of {label} expired at {expires:%Y-%m-%d %H:%M} UTC: review the model again"
        seen = self._seen(decision)
        if seen is None:
            return (
                f"the evidence on {label} that {decision.reviewer} approved it on isn't all in the store any more: "
                "review the model again"
            )
        accepted = [e for e in seen if f"{e.suite}/{e.metric}" in decision.accepted_failures]
        fresh = _names([e for e in unmet(self.evidence) if e not in accepted])
        if fresh:
            return f"the approval of {label} is stale: {', '.join(fresh)} failed after it; review the model again"
        return None

    def _seen(self, decision: Decision) -> tuple[Evidence, ...] | None:
        """The evidence that was there at a decision: the first part of today's; None where no part is that."""
        for count, digest in enumerate(evidence_digests(self.evidence)):
            if digest == decision.evidence_digest:
                return self.evidence[:count]
        return None


def load_case(store: Store, reference: str) -> SafetyCase:
    """The safety case of a registered version; raises ModelError where there is none."""
    version = Registry(store).get(reference)
    with store.reading() as session:
        return case_of(session, version)


def case_of(session: Session, version: ModelVersion) -> SafetyCase:
    """A version's safety case as of one moment."""
    return SafetyCase(
        version=version,
        lineage=tuple(lineage_of(session, version)),
        evidence=tuple(evidence_on(session, version.digest)),
        history=tuple(decisions_on(session, version.digest)),
        time=store_now(session),
    )


def why_not(case: SafetyCase, log: DecisionLog) -> str | None:
    """Why the model may not be served; None where it may."""
    objection = case.refusal or log.objection(case.version.digest, case.newest)
    if objection is not None or case.decision is None:
        return objection
    return log.mandate(case.version.digest, case.decision)


def approved_case(store: Store, reference: str) -> SafetyCase:
    """The case of a version that may be served; raises NotApproved with the reason, ModelError for an unknown one."""
    case = load_case(store, reference)
    reason = why_not(case, DecisionLog(audit_folder(store.url)))
    if reason is not None:
        raise NotApproved(reason)
    return case


def check_failures(case: SafetyCase, outcome: Outcome, accepted: Sequence[str]) -> None:
    """Raise NotApproved where an approval would pass over a failed figure, ConfigError for one that didn't fail."""
    strange = sorted(set(accepted) - set(case.failures))
    if strange:
        failed = ", ".join(case.failures) or "none"
        raise ConfigError(f"accept_failures names {', '.join(strange)}, which didn't fail; failed: {failed}")
    ignored = [name for name in case.failures if name not in accepted]
    if outcome == "approved" and ignored:
        raise NotApproved(
            f"{case.version.label} can't be approved: {', '.join(ignored)} failed; "
            "reject it, or name each with --accept-failed"
        )


def _names(evidence: list[Evidence]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{e.suite}/{e.metric}" for e in evidence))
