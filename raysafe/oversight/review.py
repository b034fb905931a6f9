"""Deciding on a safety case. `decide` is the one way in: a single reviewer calls it today, a committee's vote will."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from raysafe.control.capabilities import Capabilities
from raysafe.errors import ConfigError, NotApproved
from raysafe.oversight.decisions import CHAIN, Outcome, is_decision_chain
from raysafe.oversight.safety_case import SafetyCase, case_of
from raysafe.records.audit import AuditLog
from raysafe.records.evidence import evidence_digest
from raysafe.records.registry import Registry
from raysafe.records.store import Store
from raysafe.records.tables import DecisionRow


def decide(
    store: Store,
    audit: AuditLog,
    reference: str,
    outcome: Outcome,
    *,
    reviewer: str,
    reason: str,
    accept_failures: Sequence[str] = (),
    capabilities: Capabilities | None = None,
) -> SafetyCase:
    """Approve or reject a version; the audit row is durable before the decision is in force.

    Raises ConfigError without a reviewer or reason, NotApproved where an approval would pass over a failed figure that
    it doesn't name in `accept_failures` (as suite/metric), ModelError where the model's files have changed or where
    the reference could mean several versions.
    """
    if not reviewer.strip() or not reason.strip():
        raise ConfigError("a decision needs a named reviewer and a reason: give --reviewer and --reason")
    if not is_decision_chain(audit.writer):
        raise ConfigError(f"decisions are kept in the audit chain '{CHAIN}', where serving looks, not '{audit.writer}'")
    registry = Registry(store)
    version = registry.get_exact(reference)
    registry.check_files(version)
    granted = (capabilities or Capabilities()).model_dump(mode="json")
    # alone from the evidence to the decision: of two reviewers, log and store name the same one as the last
    with store.session(alone=True) as session:
        case = case_of(session, version)
        _check_failures(case, outcome, accept_failures)
        seen = evidence_digest(case.evidence)
        details = {
            "model": version.label,
            "digest": version.digest,
            "reason": reason,
            "evidence": seen,
            "accepted_failures": list(accept_failures),
            "capabilities": granted,
        }
        row = audit.append(outcome, reviewer, version.label, details)
        session.add(
            DecisionRow(
                version_id=version.id,
                outcome=outcome,
                reviewer=reviewer,
                reason=reason,
                accepted_failures=list(accept_failures),
                capabilities=granted,
                evidence_digest=seen,
                audit_hash=row.hash,
                time=datetime.now(UTC),
            )
        )
        session.flush()
        return case_of(session, version)


def named_reviewer(given: str | None) -> str:
    """The reviewer given, or RAYSAFE_REVIEWER; raises ConfigError, for a decision is never anonymous."""
    name = (given or os.environ.get("RAYSAFE_REVIEWER", "")).strip()
    if not name:
        raise ConfigError("who decides? Give --reviewer NAME or set RAYSAFE_REVIEWER")
    return name


def _check_failures(case: SafetyCase, outcome: Outcome, accepted: Sequence[str]) -> None:
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
